// SPDX-License-Identifier: Apache-2.0
// Owner of one file descriptor, and errors that carry errno.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "userspace/util/error.h"

namespace doppel {

class Fd {
public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd &&o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Fd &operator=(Fd &&o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0)
      ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

private:
  int fd_ = -1;
};

// What to do where a process, or the host, has no descriptor left, and where a file system cannot
// be written: that stands in the way, whatever was tried. Null: it is something else.
inline const char *hint_of(int err) {
  return err == EMFILE   ? "raise the limit of open files (ulimit -n)"
         : err == ENFILE ? "raise the host's limit of open files (sysctl fs.file-max)"
         : err == EROFS  ? "mount -o remount,rw makes its file system writable again"
                         : nullptr;
}

// `err`: positive errno. The text of `what` gets ": <strerror>" appended.
inline Error sys_error(std::string where, std::string what, int err, std::string hint = {}) {
  if (const char *better = hint_of(err))
    hint = better;
  return {std::move(where), std::move(what) + ": " + std::strerror(err), std::move(hint),
          Exit::failure};
}

} // namespace doppel
