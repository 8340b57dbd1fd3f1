// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/file.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "userspace/util/fd.h"

namespace doppel {

namespace {
constexpr int kPipePatienceMs = 5000;
} // namespace

Result<std::string> read_file(int fd, const std::string &name, const FileKind &kind) {
  struct stat st {};
  if (::fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
    return Error{name, "is a directory", std::string(kind.option) + " takes the path of a file",
                 Exit::usage};
  std::string text;
  std::array<char, 4096> part{};
  for (;;) {
    const ssize_t n = ::read(fd, part.data(), part.size());
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN) { // a pipe that was opened with O_NONBLOCK
      pollfd p{fd, POLLIN, 0};
      if (::poll(&p, 1, kPipePatienceMs) == 0)
        return Error{name, "is a pipe from which nothing has come for 5 s", "", Exit::usage};
      continue;
    }
    if (n < 0)
      return sys_error(name, "cannot be read", errno);
    if (n == 0)
      return text;
    text.append(part.data(), static_cast<size_t>(n));
    if (text.size() > kind.most_mib << 20)
      return Error{name, "is larger than " + std::to_string(kind.most_mib) + " MiB",
                   std::string("this is no ") + kind.what, Exit::usage};
  }
}

int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno != EINTR)
      return errno;
    text.remove_prefix(n > 0 ? static_cast<size_t>(n) : 0);
  }
  return 0;
}

} // namespace doppel
