// SPDX-License-Identifier: Apache-2.0
// The oracle of the session fuzzer: what must hold between any two acts of a play.
#pragma once

#include <cstdint>
#include <functional>

#include "tests/fuzz/host/kernel.h"

namespace doppel::fuzz {

dp_shadow &shadow_at(uint32_t slot);
bool is_open(const dp_shadow &sh);
// The slot of that address of this host, and that place in the range of shadow ports.
uint32_t slot_of(uint32_t own, uint32_t place);

// May the shadow in that slot have this byte at that sequence number?
using Judge = std::function<bool(uint32_t slot, uint32_t seq, uint8_t byte)>;

// Fails at the first invariant that does not hold: of what was sent, every shadow, the store, the
// flows and the ledger. bytes: also every byte of the store (slow). spoilt: a client's bytes were
// changed on the way, so that nobody can judge them.
void check_books(bool bytes, bool spoilt, const Judge &judge);

// Bytes that the ledger says it has observed for that target.
uint64_t observed(uint32_t target);
// Keys that the ledger says were noted, and missed.
uint64_t noted(uint32_t target);
uint64_t missed(uint32_t target);

} // namespace doppel::fuzz
