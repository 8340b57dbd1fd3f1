// SPDX-License-Identifier: Apache-2.0
// What a server wants to see before it answers.
#pragma once

#include <cstdint>
#include <string>

#include "userspace/util/error.h"

namespace doppel::memcached {

struct Access {
  std::string user, password; // empty: none
  bool tls = false;
  std::string ca;        // file of the authorities that are trusted; empty: the system's
  std::string cert, key; // files of our own certificate and its key; `key` empty: inside `cert`
  uint32_t timeout_ms = 5000; // to connect, and between two signs of life
  // A mirror of the server copies the connection as any client's: who writes there wants that, and
  // who only reads does not (DP_OWN_MSS).
  bool mirrored = false;
};

// The same of a connection that writes.
inline Access to_write(Access access) {
  access.mirrored = true;
  return access;
}

// A sign of life is a whole answer, or so many bytes of one a second: a hundredth of what a path of
// 100 kbit/s brings. Else a server that drips would be waited for as long as it likes.
constexpr uint64_t kLeastRate = 128;

// Fills in user and password from a file with one line, USER:PASSWORD, as memcached's -Y has it.
Status read_auth_file(const std::string &file, Access &access);

} // namespace doppel::memcached
