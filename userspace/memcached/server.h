// SPDX-License-Identifier: Apache-2.0
// Where a memcached listens.
#pragma once

#include <cstdint>
#include <string>

#include "userspace/util/error.h"

namespace doppel::memcached {

constexpr uint16_t kDefaultPort = 11211;

struct Server {
  std::string host; // name or address, IPv6 without brackets; empty with `path`
  uint16_t port = kDefaultPort;
  std::string path;         // of a Unix socket; empty: TCP
  std::string text() const; // "cache1:11211", "[2001:db8::1]:11211", "/run/memcached.sock"
};

// HOST, HOST:PORT, [V6], [V6]:PORT, V6 or /PATH. The name is not looked up. Errors have
// Exit::usage.
Result<Server> parse_server(const std::string &text, uint16_t default_port = kDefaultPort);

} // namespace doppel::memcached
