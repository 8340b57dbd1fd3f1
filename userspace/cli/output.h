// SPDX-License-Identifier: Apache-2.0
// How commands print what they have to say.
#pragma once

#include <iostream>
#include <string>
#include <vector>

#include "userspace/util/error.h"
#include "userspace/view/render.h"

namespace doppel {

constexpr int exit_code(Exit e) { return static_cast<int>(e); }

// The worst of theirs.
int exit_code(const Errors &errors);

// Prints the errors on standard error, with `json` on standard output too; returns the exit code.
int fail(const Errors &errors, bool json);

void warn(const std::vector<std::string> &warnings);

// Prints the value, or its errors; returns the exit code.
template <typename T> int show(const Result<T> &value, bool json) {
  if (!value)
    return fail(value.errors(), json);
  std::cout << (json ? json_text(*value) : to_text(*value));
  return exit_code(Exit::ok);
}

} // namespace doppel
