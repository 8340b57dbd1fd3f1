// SPDX-License-Identifier: Apache-2.0
// What the commands share. Each returns the exit code.
#pragma once

#include "userspace/cli/cli.h"
#include "userspace/config/config.h"

namespace doppel {

// Prints the errors as --json or not; the exit code is the worst of theirs.
int fail(const Errors &errors, bool json);
void warn(const std::vector<std::string> &warnings);

// What -x, --device, --config and --attach-mode say.
Result<Config> configuration(const Options &options);

// commands_keep.cpp
int keep_command(const Options &options);
int reload_command(const Options &options);

} // namespace doppel
