// SPDX-License-Identifier: Apache-2.0
// The oracle of the session fuzzer: what must hold between any two acts of a play.
#pragma once

#include <cstdint>

#include "tests/fuzz/host/kernel.h"

namespace doppel::fuzz {

dp_shadow &shadow_at(uint32_t slot);
bool is_open(const dp_shadow &sh);

// Fails at the first invariant that does not hold: of what was sent, every shadow, the store, the
// flows and the ledger. bytes: also every byte of the store (slow). spoilt: a client's bytes were
// changed on the way, so that content() tells nothing.
void check_books(bool bytes, bool spoilt);

} // namespace doppel::fuzz
