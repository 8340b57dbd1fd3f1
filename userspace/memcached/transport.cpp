// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "doppel/abi.h"
#include "userspace/memcached/resolve.h"
#include "userspace/util/clock.h"

namespace doppel::memcached {
namespace {

Error cannot_connect(const Server &server, int err) {
  return sys_error(server.text(), "cannot be connected to", err,
                   err == ECONNREFUSED || err == ENOENT ? "does a memcached listen there?" : "");
}

// A socket connected to `to`, by `deadline_ns`.
Result<Fd> connect_to(const Server &server, const Endpoint &to, bool mirrored,
                      uint64_t deadline_ns) {
  Fd fd(::socket(to.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd)
    return sys_error(server.text(), "no socket", errno);
  const int one = 1;
  if (to.address.ss_family != AF_UNIX)
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  const int own = DP_OWN_MSS;
  if (to.address.ss_family != AF_UNIX && !mirrored)
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_MAXSEG, &own, sizeof own);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr *>(&to.address), to.size) == 0)
    return fd;
  if (errno != EINPROGRESS) // a Unix socket whose backlog is full: EAGAIN
    return cannot_connect(server, errno);
  for (;;) {
    const uint64_t now = monotonic_ns();
    if (now >= deadline_ns)
      return cannot_connect(server, ETIMEDOUT);
    pollfd p{fd.get(), POLLOUT, 0};
    if (::poll(&p, 1, static_cast<int>((deadline_ns - now) / kMsNs) + 1) > 0)
      break;
  }
  int err = 0;
  socklen_t size = sizeof err;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &err, &size);
  if (err != 0)
    return cannot_connect(server, err);
  return fd;
}

Endpoint unix_endpoint(const std::string &path) {
  Endpoint e;
  auto *to = reinterpret_cast<sockaddr_un *>(&e.address);
  to->sun_family = AF_UNIX;
  std::memcpy(to->sun_path, path.c_str(), path.size() + 1); // parse_server() has measured it
  e.size = sizeof *to;
  return e;
}

// Each address has its share of the time that is left, so that a silent one does not eat it all.
Result<Fd> connect_any(const Server &server, bool mirrored, uint64_t deadline_ns) {
  std::vector<Endpoint> all;
  if (server.path.empty())
    all = TRY(resolve(server, deadline_ns));
  else
    all.push_back(unix_endpoint(server.path));
  Errors last;
  for (size_t i = 0; i < all.size(); i++) {
    const uint64_t now = monotonic_ns();
    const uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    auto fd = connect_to(server, all[i], mirrored, now + left / (all.size() - i));
    if (fd)
      return fd;
    last = fd.errors();
  }
  return last;
}

} // namespace

Transport::Transport() : read_wants_(POLLIN), write_wants_(POLLOUT) {}

Result<Transport> Transport::open(const Server &server, const Access &access) {
  const uint64_t deadline_ns = monotonic_ns() + access.timeout_ms * kMsNs;
  Transport t;
  t.fd_ = TRY(connect_any(server, access.mirrored, deadline_ns));
  if (access.tls)
    t.tls_ = TRY(Tls::start(t.fd_.get(), server, access, deadline_ns));
  return t;
}

short Transport::events(bool unsent) const {
  return static_cast<short>(read_wants_ | (unsent ? write_wants_ : 0));
}

Moved Transport::read(char *to, size_t room) {
  if (tls_) {
    const Moved m = tls_->read(to, room);
    read_wants_ = m.how == Moved::How::again ? m.wants : POLLIN;
    if (m.how == Moved::How::failed)
      why_ = tls_->why();
    return m;
  }
  const auto n = ::recv(fd_.get(), to, room, 0);
  if (n > 0)
    return {Moved::How::done, static_cast<size_t>(n), 0};
  if (n == 0)
    return {Moved::How::closed, 0, 0};
  if (errno == EAGAIN || errno == EINTR)
    return {Moved::How::again, 0, POLLIN};
  why_ = std::strerror(errno);
  return {};
}

Moved Transport::write(const char *from, size_t size) {
  if (tls_) {
    const Moved m = tls_->write(from, size);
    write_wants_ = m.how == Moved::How::again ? m.wants : POLLOUT;
    if (m.how == Moved::How::failed)
      why_ = tls_->why();
    return m;
  }
  const auto n = ::send(fd_.get(), from, size, MSG_NOSIGNAL);
  if (n >= 0)
    return {Moved::How::done, static_cast<size_t>(n), 0};
  if (errno == EAGAIN || errno == EINTR)
    return {Moved::How::again, 0, POLLOUT};
  why_ = std::strerror(errno);
  return {};
}

} // namespace doppel::memcached
