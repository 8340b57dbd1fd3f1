// SPDX-License-Identifier: Apache-2.0
// What tells whether a list of keys that a command left on disk is still the one that it wrote.
#pragma once

#include <cstdint>
#include <string>

#include "userspace/util/error.h"

namespace doppel::migrate {

struct ListSum {
  uint64_t bytes = 0; // the list's length
  uint64_t crc = 0;   // CRC-32 of all of it (zlib)
};

// Of the file's bytes from `start` on. Reads them all, some gigabyte in a second.
Result<ListSum> list_sum(int fd, uint64_t start, const std::string &name);

// What is wrong with a list that was `kept`; empty: nothing.
std::string how_it_differs(const ListSum &kept, const ListSum &now);

} // namespace doppel::migrate
