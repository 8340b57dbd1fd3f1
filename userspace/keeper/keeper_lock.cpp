// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/keeper_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>

namespace doppel {
namespace {
constexpr int kTries = 10; // against a keeper that ends at this moment and removes the directory
constexpr auto kAsks = std::chrono::milliseconds(20); // between two tries

Fd open_directory(const std::string &path) {
  return Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

// proc_locks(5): "1: FLOCK  ADVISORY  WRITE 4711 00:1f:12345 0 EOF", the inode in decimal.
pid_t holder_of(const struct stat &st) {
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    long pid = 0;
    unsigned major_no = 0, minor_no = 0;
    unsigned long inode = 0;
    if (std::sscanf(line.c_str(), "%*s FLOCK %*s WRITE %ld %x:%x:%lu", &pid, &major_no, &minor_no,
                    &inode) == 4 &&
        inode == st.st_ino && makedev(major_no, minor_no) == st.st_dev)
      return pid > 0 ? static_cast<pid_t>(pid) : -1;
  }
  return -1;
}

} // namespace

Result<KeeperLock> KeeperLock::take(const Pins &pins) {
  const std::string path = pins.keeper();
  for (int i = 0; i < kTries; i++) {
    for (const std::string &dir : {pins.top(), path})
      if (::mkdir(dir.c_str(), 0700) && errno != EEXIST)
        return sys_error(dir, "cannot be created", errno);
    TRY(pins.check_owner());
    Fd dir = open_directory(path);
    struct stat held, named;
    if (!dir || ::fstat(dir.get(), &held))
      continue;
    if (::flock(dir.get(), LOCK_EX | LOCK_NB)) {
      if (errno != EWOULDBLOCK)
        return sys_error(path, "cannot be locked", errno);
      const pid_t pid = holder_of(held);
      if (pid < 0 && i + 1 < kTries) { // who only asks whether there is a keeper is gone at once
        std::this_thread::sleep_for(kAsks);
        continue;
      }
      return Error{"doppel run",
                   pid > 0 ? "a keeper runs already: process " + std::to_string(pid)
                           : "a keeper runs already",
                   pid > 0 ? "kill " + std::to_string(pid) +
                                 " ends it and its mirror; "
                                 "doppel reload changes what it mirrors"
                           : "it belongs to another pid namespace"};
    }
    if (::stat(path.c_str(), &named) == 0 && named.st_ino == held.st_ino)
      return KeeperLock(pins, std::move(dir));
  }
  return Error{path, "cannot be locked: others take and remove it all the time", {}};
}

KeeperLock::~KeeperLock() {
  if (!dir_)
    return;
  dir_ = Fd();
  pins_.remove_top_if_idle();
}

pid_t find_keeper(const Pins &pins) {
  Fd dir = open_directory(pins.keeper());
  struct stat st;
  if (!dir || ::fstat(dir.get(), &st) || ::flock(dir.get(), LOCK_SH | LOCK_NB) == 0)
    return 0;
  return holder_of(st);
}

} // namespace doppel
