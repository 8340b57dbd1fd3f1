// SPDX-License-Identifier: Apache-2.0
// TLS over a connected socket that does not block, by OpenSSL.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "userspace/memcached/access.h"
#include "userspace/memcached/server.h"
#include "userspace/util/error.h"

struct ssl_st;
struct ssl_ctx_st;

namespace doppel::memcached {

// What one read or write came to.
struct Moved {
  enum class How { done, again, closed, failed } how = How::failed;
  size_t bytes = 0; // of done
  short wants = 0;  // of again: POLLIN or POLLOUT
};

class Tls {
public:
  // Shakes hands until `deadline_ns` (monotonic). The certificate must name the host that was asked
  // for; over a Unix socket only its signature counts.
  static Result<std::unique_ptr<Tls>> start(int fd, const Server &server, const Access &access,
                                            uint64_t deadline_ns);
  ~Tls();
  Tls(const Tls &) = delete;
  Tls &operator=(const Tls &) = delete;

  Moved read(char *to, size_t room);
  Moved write(const char *from, size_t size);
  bool pending() const;    // there is more to read, though the socket is silent
  std::string why() const; // of the last failure

private:
  Tls() = default;
  Status prepare(int fd, const Server &server, const Access &access);
  void wait_for_ticket(int fd) const;
  Status shake_hands(int fd, const Server &server, uint64_t deadline_ns);
  Moved moved(int result, size_t bytes);

  ssl_ctx_st *context_ = nullptr;
  ssl_st *ssl_ = nullptr;
  std::string why_;
};

} // namespace doppel::memcached
