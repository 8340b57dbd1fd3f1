// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/netns.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>

#include "userspace/kernel/compat.h"
#include "userspace/util/fd.h"

namespace doppel {
namespace fs = std::filesystem;

bool has_inode(const std::string &path, uint64_t inode) {
  struct stat st;
  return ::stat(path.c_str(), &st) == 0 && st.st_ino == inode;
}

bool operator==(const NetnsId &a, const NetnsId &b) {
  return a.cookie && b.cookie ? a.cookie == b.cookie : a.inode == b.inode;
}

NetnsId current_netns() {
  NetnsId id;
  struct stat st;
  if (::stat("/proc/thread-self/ns/net", &st) == 0)
    id.inode = st.st_ino;
  Fd s(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  socklen_t len = sizeof(id.cookie);
  if (!s || ::getsockopt(s.get(), SOL_SOCKET, compat::kSoNetnsCookie, &id.cookie, &len))
    id.cookie = 0;
  return id;
}

std::string way_into(uint64_t inode) {
  std::error_code ec;
  for (fs::directory_iterator it("/run/netns", ec), end; !ec && it != end; it.increment(ec))
    if (has_inode(it->path(), inode))
      return it->path();
  for (fs::directory_iterator it("/proc", ec), end; !ec && it != end; it.increment(ec))
    if (fs::path net = it->path() / "ns/net"; has_inode(net, inode))
      return net;
  return {};
}

} // namespace doppel
