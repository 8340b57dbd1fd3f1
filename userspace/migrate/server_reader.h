// SPDX-License-Identifier: Apache-2.0
// Samples of a memcached, one after the other or while others are asked.
#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <optional>

#include "userspace/memcached/connection.h"
#include "userspace/migrate/server_sample.h"

namespace doppel::migrate {

// One look: the general statistics, and the round trip of a command that does nothing.
Result<ServerSample> read_sample(memcached::Connection &connection);
// The same, by a connection of its own.
Result<ServerSample> read_sample(const memcached::Server &server, const memcached::Access &access);

// Asks a server time and again, by one connection as long as that works. A server that is away
// holds nobody up: it is asked in a thread of its own.
class ServerWatch {
public:
  ServerWatch(const memcached::Server &server, const memcached::Access &access);

  // Nothing happens where the last question has no answer yet.
  void ask();
  // Of the last question, once. Nothing: there is none until then.
  std::optional<Result<ServerSample>> answer(std::chrono::steady_clock::time_point until);
  bool waits() const { return asked_.valid(); }

private:
  struct Reader;
  std::shared_ptr<Reader> reader_; // used by one thread at a time
  std::future<Result<ServerSample>> asked_;
};

} // namespace doppel::migrate
