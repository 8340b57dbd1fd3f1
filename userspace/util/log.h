// SPDX-License-Identifier: Apache-2.0
// What the keeper says, on standard error: as the other commands do, or, where that leads to the
// journal, a line each with its priority (sd-daemon(3)).
#pragma once

#include <string>

#include "userspace/util/error.h"

namespace doppel {

enum class Priority { error = 3, warning = 4, notice = 5, info = 6 };

void log_line(Priority priority, const std::string &text);
void log_errors(const Errors &errors, Priority priority = Priority::error);

} // namespace doppel
