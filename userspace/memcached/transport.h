// SPDX-License-Identifier: Apache-2.0
// A connection as a stream of bytes that does not block: TCP or a Unix socket, with TLS or without.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "userspace/memcached/access.h"
#include "userspace/memcached/server.h"
#include "userspace/memcached/tls.h"
#include "userspace/util/error.h"
#include "userspace/util/fd.h"

namespace doppel::memcached {

class Transport {
public:
  // Looks the name up, connects to its addresses one after the other, and shakes hands; all of it
  // within Access::timeout_ms.
  static Result<Transport> open(const Server &server, const Access &access);

  int fd() const { return fd_.get(); }
  Moved read(char *to, size_t room);
  Moved write(const char *from, size_t size);
  // What poll() is to wait for, with something left to write or without.
  short events(bool unsent) const;
  bool pending() const { return tls_ && tls_->pending(); }
  const std::string &why() const { return why_; } // of the last failure

private:
  Fd fd_;
  std::unique_ptr<Tls> tls_;
  short read_wants_, write_wants_;
  std::string why_;
  Transport();
};

} // namespace doppel::memcached
