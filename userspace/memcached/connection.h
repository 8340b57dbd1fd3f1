// SPDX-License-Identifier: Apache-2.0
// A conversation with one memcached: requests go out while answers come in.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "userspace/memcached/access.h"
#include "userspace/memcached/answers.h"
#include "userspace/memcached/server.h"
#include "userspace/memcached/transport.h"
#include "userspace/util/error.h"

namespace doppel::memcached {

// Sees each answer; false: that was the last. It must not throw, and not use the connection.
using Take = std::function<bool(const Answer &)>;

class Connection;

// What one of several connections is to say and hear.
struct Exchange {
  Connection *connection = nullptr;
  std::string request;
  Take take;
};

class Connection {
public:
  // Connected, found to be a memcached that speaks text, and authenticated where it asks for that.
  // A server that does not ask is not sent the password.
  static Result<std::unique_ptr<Connection>> open(const Server &server, const Access &access);

  const Server &server() const { return server_; }
  const std::string &version() const { return version_; } // "1.6.18"
  uint32_t timeout_ms() const { return timeout_ms_; }
  Result<sockaddr_storage> peer() const; // that it is connected to

  // Sends `request` while it reads, and hands each answer to `take` until that returns false.
  // Errors: closed; no progress for Access::timeout_ms (see kLeastRate); no language of memcached.
  // After an error, and after a `take` that ended before all was sent, the connection is of no use.
  Status converse(std::string_view request, const Take &take);

  // From the first byte sent to the first answer of the last converse(); 0: there was none.
  uint64_t last_answer_us() const { return last_answer_us_; }

private:
  friend Status converse_all(std::vector<Exchange> &all);
  // One request that is under way.
  struct Turn;
  static Status run(std::vector<Turn> &turns);

  Connection(const Server &server, const Access &access, Transport transport)
      : server_(server), timeout_ms_(access.timeout_ms), transport_(std::move(transport)) {}
  Error error(const std::string &what, const std::string &hint = {}) const;
  static Result<std::unique_ptr<Connection>> dial(const Server &server, const Access &access);
  Status greet(bool &wants_password);
  Status authenticate(const Access &access);
  Status begin(Turn &turn);
  Status move(Turn &turn, short events);
  // Nothing had come in time at `now`, nor has since.
  Status overdue(const Turn &turn, uint64_t now) const;
  Status send(Turn &turn);
  Status receive(Turn &turn);
  void moved(Turn &turn, size_t bytes) const;
  Status hand_out(Turn &turn);
  Error closed() const;

  Server server_;
  uint32_t timeout_ms_;
  Transport transport_;
  Answers answers_;
  std::string version_;
  uint64_t last_answer_us_ = 0;
  bool closed_ = false; // by the server
  bool broken_ = false; // what comes next would answer something else
};

// The same on several connections at once, a request each, so that their servers work at the same
// moment. Ends when all have their last answer, or with the first error.
Status converse_all(std::vector<Exchange> &all);

} // namespace doppel::memcached
