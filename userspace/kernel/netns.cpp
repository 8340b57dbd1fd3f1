// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/netns.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include "userspace/kernel/compat.h"
#include "userspace/util/fd.h"

namespace doppel {
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

} // namespace doppel
