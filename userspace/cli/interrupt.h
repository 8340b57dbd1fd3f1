// SPDX-License-Identifier: Apache-2.0
// A command that goes on until a signal ends it, and has something to say then.
#pragma once

#include <atomic>
#include <initializer_list>

namespace doppel {

// Whether a signal came since interrupt_by_signals().
extern std::atomic<bool> interrupted;

// From now on SIGINT, SIGTERM and `more` end what this process sleeps or waits in, and not the
// process.
void interrupt_by_signals(std::initializer_list<int> more = {});

} // namespace doppel
