// SPDX-License-Identifier: Apache-2.0
// Which network namespace this is.
#pragma once

#include <cstdint>

namespace doppel {

struct NetnsId {
  uint64_t cookie = 0; // 0: kernel older than 5.14
  uint64_t inode = 0;
};

// The same namespace. An inode may be used again, a cookie is not: it decides where both have one.
bool operator==(const NetnsId &a, const NetnsId &b);

NetnsId current_netns();

} // namespace doppel
