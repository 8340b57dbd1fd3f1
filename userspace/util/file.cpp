// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>

namespace doppel {

namespace {
// A FIFO does not hang, a terminal does not become the one of this process.
constexpr int kHarmless = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

std::string in_seconds(uint32_t ms) {
  const uint32_t tenths = (ms + 50) / 100;
  return std::to_string(tenths / 10) + (tenths % 10 ? "." + std::to_string(tenths % 10) : "") +
         " s";
}

Error wrong(const std::string &name, std::string what, std::string hint) {
  return {name, std::move(what), std::move(hint), Exit::usage};
}

Status check_regular(const struct stat &st, const std::string &name, const OwnKind &kind) {
  if (S_ISREG(st.st_mode))
    return Unit{};
  return wrong(name,
               S_ISLNK(st.st_mode)   ? "is a symbolic link"
               : S_ISDIR(st.st_mode) ? "is a directory"
                                     : "is no regular file",
               kind.hint);
}

// Before it is opened, which alone may do something to a device.
Status check_what_is_there(const std::string &name, const OwnKind &kind) {
  struct stat st {};
  if (::lstat(name.c_str(), &st) == 0)
    return check_regular(st, name, kind);
  return errno == ENOENT ? Status(Unit{}) : sys_error(name, "cannot be opened", errno);
}

// Whether it begins with the magic; one that was killed may have written a part of it.
Result<bool> is_begun(int fd, const std::string &name, const OwnKind &kind) {
  struct stat st {};
  if (::fstat(fd, &st) != 0)
    return sys_error(name, "cannot be read", errno);
  TRY(check_regular(st, name, kind));
  if (st.st_uid != ::geteuid()) // who may have written into it whatever he likes
    return wrong(name, "belongs to another user", kind.hint);
  std::string begin(kind.magic.size(), '\0');
  const auto n = ::pread(fd, begin.data(), begin.size(), 0);
  if (n < 0)
    return sys_error(name, "cannot be read", errno);
  begin.resize(static_cast<size_t>(n));
  if (!kind.magic.starts_with(begin))
    return wrong(name, std::string("is no ") + kind.what, kind.hint);
  return n > 0;
}

} // namespace

Fd open_to_read(const std::string &name) { return Fd(::open(name.c_str(), O_RDONLY | kHarmless)); }

Result<std::string> read_file(int fd, const std::string &name, const FileKind &kind,
                              uint32_t patience_ms) {
  struct stat st {};
  if (::fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
    return Error{name, "is a directory", std::string(kind.option) + " takes the path of a file",
                 Exit::usage};
  const auto is_silent = [&] {
    pollfd p{fd, POLLIN, 0};
    return ::poll(&p, 1, ::isatty(fd) == 1 ? -1 : static_cast<int>(patience_ms)) == 0;
  };
  const Error silent = {name,
                        "is a pipe from which nothing has come for " + in_seconds(patience_ms), "",
                        Exit::usage};
  // A FIFO that no writer has opened yet reads as if it had ended.
  if (S_ISFIFO(st.st_mode) && is_silent())
    return silent;
  std::string text;
  std::array<char, 4096> part{};
  for (;;) {
    const ssize_t n = ::read(fd, part.data(), part.size());
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN) {
      if (is_silent())
        return silent;
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

Status check_regular(const std::string &name) {
  struct stat st {};
  if (::stat(name.c_str(), &st) != 0 || S_ISREG(st.st_mode))
    return Unit{};
  return wrong(name, "is no regular file, and is read anew for each connection",
               "write it into a file");
}

Result<Fd> open_to_write(const std::string &name, bool append, uint32_t patience_ms) {
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + std::chrono::milliseconds(patience_ms);
  const int how = append ? O_APPEND : O_CREAT | O_TRUNC;
  for (;; std::this_thread::sleep_for(std::chrono::milliseconds(20))) {
    Fd fd(::open(name.c_str(), O_WRONLY | kHarmless | how, 0666));
    if (fd) {
      ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
      return fd;
    }
    const int err = errno;
    struct stat st {};
    if (err != ENXIO || ::stat(name.c_str(), &st) != 0 || !S_ISFIFO(st.st_mode))
      return sys_error(name, append ? "cannot be gone on with" : "cannot be written", err);
    if (Clock::now() >= until)
      return wrong(name, "is a pipe that nobody has read from for " + in_seconds(patience_ms), "");
  }
}

Result<OwnFile> open_own(const std::string &name, const OwnKind &kind) {
  TRY(check_what_is_there(name, kind));
  constexpr int kHow = O_RDWR | O_CREAT | O_NOFOLLOW | kHarmless;
  OwnFile file;
  file.fd = Fd(::open(name.c_str(), kHow | O_EXCL, 0600));
  if (file.fd) {
    file.is_ours = true;
    return file;
  }
  // O_CREAT also where it is there: fs.protected_regular then refuses what another user laid into
  // /var/tmp (proc_sys_fs(5)).
  if (errno == EEXIST)
    file.fd = Fd(::open(name.c_str(), kHow, 0600));
  if (!file.fd)
    return sys_error(name, "cannot be opened", errno);
  file.is_ours = TRY(is_begun(file.fd.get(), name, kind));
  return file;
}

Result<OwnFile> find_own(const std::string &name, const OwnKind &kind) {
  TRY(check_what_is_there(name, kind));
  OwnFile file;
  file.fd = Fd(::open(name.c_str(), O_RDONLY | O_NOFOLLOW | kHarmless));
  if (file.fd)
    file.is_ours = TRY(is_begun(file.fd.get(), name, kind));
  else if (errno != ENOENT)
    return sys_error(name, "cannot be opened", errno);
  return file;
}

void remove_own(int fd, const std::string &name) {
  struct stat own {
  }, named{};
  (void)!::ftruncate(fd, 0);
  if (::fstat(fd, &own) == 0 && ::lstat(name.c_str(), &named) == 0 && own.st_dev == named.st_dev &&
      own.st_ino == named.st_ino)
    ::unlink(name.c_str());
}

void remove_own(const std::string &name, const OwnKind &kind) {
  if (!check_what_is_there(name, kind))
    return;
  const Fd fd(::open(name.c_str(), O_RDWR | O_NOFOLLOW | kHarmless));
  if (!fd)
    return;
  if (const auto begun = is_begun(fd.get(), name, kind); begun && *begun)
    remove_own(fd.get(), name);
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

bool is_same_file(const std::string &a, const std::string &b) {
  namespace fs = std::filesystem;
  std::error_code err;
  if (fs::equivalent(a, b, err))
    return true;
  const auto named = [&](const std::string &name) {
    fs::path path = fs::absolute(name, err);
    for (int i = 0; i < 40 && fs::is_symlink(path, err); i++) // also to what is not there yet
      path = path.parent_path() / fs::read_symlink(path, err);
    const fs::path found = fs::weakly_canonical(path, err);
    return err ? path : found;
  };
  return named(a) == named(b);
}

} // namespace doppel
