// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_lock.h"

#include <openssl/sha.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "userspace/kernel/socket_address.h"

namespace doppel::migrate {
namespace {
// The same for each name of a target: a host may have several addresses, and the first one that the
// name stands for need not be the one that answers.
Result<std::string> name_of(const memcached::Connection &target) {
  const memcached::Server &server = target.server();
  if (server.path.empty())
    return endpoint_text(end_in(TRY(target.peer())).address, server.port);
  char *real = ::realpath(server.path.c_str(), nullptr);
  const std::string path = real ? real : server.path;
  std::free(real);
  return path;
}

// An abstract name has 107 bytes (unix(7)), which a path may fill alone.
std::string digest(const std::string &text) {
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char *>(text.data()), text.size(), hash);
  std::string hex;
  for (const unsigned char byte : hash)
    for (const int half : {byte >> 4, byte & 15})
      hex += "0123456789abcdef"[half];
  return hex;
}

// Who holds it accepts nobody: where others have filled its queue, nobody waits for that. 0: not
// known.
pid_t holder_of(const sockaddr_un &address, socklen_t size) {
  const Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ucred peer{};
  socklen_t peer_size = sizeof(peer);
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr *>(&address), size) != 0 ||
      ::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) != 0)
    return 0;
  return peer.pid;
}

} // namespace

Result<Fd> lock_target(const memcached::Connection &connection) {
  const memcached::Server &target = connection.server();
  const std::string name = "doppel-warm/" + digest(TRY(name_of(connection)));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd)
    return sys_error("lock of " + target.text(), "no socket", errno);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr *>(&address), size) == 0 &&
      ::listen(fd.get(), 16) == 0)
    return fd;
  if (errno != EADDRINUSE)
    return sys_error("lock of " + target.text(), "cannot be taken", errno);
  const pid_t pid = holder_of(address, size);
  return Error{target.text(),
               "another doppel warm is filling it" +
                   (pid > 0 ? ": process " + std::to_string(pid) : std::string()),
               "wait until it is done", Exit::failure};
}

} // namespace doppel::migrate
