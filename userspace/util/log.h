// SPDX-License-Identifier: Apache-2.0
// What the keeper says, on standard error: as the other commands do, or, where that leads to the
// journal, a line each with its priority (sd-daemon(3)). It waits 100 ms at most for a reader that
// does not read: the mirror must not stand still for that. Lines that would have to wait longer are
// left out, and the next one that is read tells how many. Not for several threads.
#pragma once

#include <string>

#include "userspace/util/error.h"

namespace doppel {

enum class Priority { error = 3, warning = 4, notice = 5, info = 6 };

void log_line(Priority priority, const std::string &text);
void log_errors(const Errors &errors, Priority priority = Priority::error);
// Tells how many lines were left out, if somebody reads by now.
void log_lost_lines();

} // namespace doppel
