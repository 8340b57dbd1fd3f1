// SPDX-License-Identifier: Apache-2.0
// Which network namespace this is.
#pragma once

#include <cstdint>
#include <string>

namespace doppel {

struct NetnsId {
  uint64_t cookie = 0; // 0: kernel older than 5.14
  uint64_t inode = 0;
};

// The same namespace. An inode may be used again, a cookie is not: it decides where both have one.
bool operator==(const NetnsId &a, const NetnsId &b);

NetnsId current_netns();

// Whether that path, such as /proc/1/ns/net, is the object with that number.
bool has_inode(const std::string &path, uint64_t inode);

// How to enter the network namespace with that inode: a path for nsenter --net. Empty: it has no
// name, and none of the processes that may be looked at has it (CAP_SYS_PTRACE for those of
// others).
std::string way_into(uint64_t inode);

} // namespace doppel
