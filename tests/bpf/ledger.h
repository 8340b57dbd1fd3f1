// SPDX-License-Identifier: Apache-2.0
// The ledger as names and numbers, so that a test can say exactly which of them moved.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "doppel/abi.h"

namespace doppel::bpftest {

// "observed", "lost.target_reset", "excluded.loop", "event.malformed", "opened", ... Zeros are left
// out.
using Counts = std::map<std::string, int64_t>;

Counts counts_of(const dp_ledger &cell);

// After less before.
Counts difference(const Counts &after, const Counts &before);

// Only what is bytes or has a reason: observed, delivered, in_flight, lost.*, excluded.*, event.*.
Counts account(const Counts &all);
// Only flows: opened, joined, closed, broken, open, waiting, slots.
Counts flow_counts(const Counts &all);

std::string text(const Counts &counts);

// Empty if observed = delivered + in_flight + lost + excluded, and no gauge is negative.
std::string identity_broken(const dp_ledger &cell);

} // namespace doppel::bpftest
