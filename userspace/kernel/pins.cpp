// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/pins.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "doppel/abi.h"
#include "doppel/names.h"
#include "userspace/kernel/process.h"
#include "userspace/util/direction.h"

namespace doppel {
namespace fs = std::filesystem;

namespace {
constexpr char kDefaultBpffs[] = "/sys/fs/bpf";
constexpr char kStopped[] = ", which is stopped";
constexpr auto kLockPatience = std::chrono::seconds(5);
constexpr auto kLockPoll = std::chrono::milliseconds(50);

std::string chosen_bpffs;

bool is_bpffs(const std::string &path) {
  struct statfs st;
  return ::statfs(path.c_str(), &st) == 0 && st.f_type == BPF_FS_MAGIC;
}

// Those that nothing else was mounted over, as it seems.
std::vector<std::string> mounted() {
  std::vector<std::string> found;
  std::ifstream mounts("/proc/self/mounts");
  std::string line, device, dir, type;
  while (std::getline(mounts, line)) {
    std::istringstream words(line);
    if (words >> device >> dir >> type && type == "bpf" && is_bpffs(dir))
      found.push_back(dir);
  }
  return found;
}

// "bpffs 0:31"; empty: there is none.
std::string name_of_file_system(const std::string &mount_point) {
  struct stat st;
  if (::stat(mount_point.c_str(), &st))
    return {};
  return "bpffs " + std::to_string(major(st.st_dev)) + ":" + std::to_string(minor(st.st_dev));
}

std::vector<std::string> entries(const std::string &dir) {
  std::vector<std::string> paths;
  std::error_code ec;
  for (fs::directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec))
    paths.push_back(it->path());
  return paths;
}

// True if the directory behind `fd` still has that name: the holder before us may have removed it.
bool still_there(int fd, const std::string &path) {
  struct stat held, named;
  return ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
         held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

} // namespace

void use_bpffs(std::string dir) { chosen_bpffs = std::move(dir); }

Result<std::string> find_bpffs() {
  std::string wish = chosen_bpffs;
  if (const char *env = std::getenv("DOPPEL_BPFFS"); wish.empty() && env)
    wish = env;
  std::string path = wish.empty() ? kDefaultBpffs : wish;
  if (is_bpffs(path))
    return path;
  if (wish.empty())
    if (const auto others = mounted(); !others.empty())
      return others.front();
  return Error{"bpffs " + path, "no BPF file system is mounted there",
               "mount -t bpf bpf " + path +
                   " (`ip netns exec` hides it: use nsenter --net=/run/netns/NAME instead)"};
}

std::string mount_of(const std::string &file_system) {
  for (const std::string &dir : mounted())
    if (!file_system.empty() && name_of_file_system(dir) == file_system)
      return dir;
  return {};
}

Pins::Pins(const std::string &bpffs)
    : top_(bpffs + "/" DP_PIN_DIR), dir_(top_ + "/v" + std::to_string(DP_ABI)) {}

Result<Pins> Pins::locate() {
  auto bpffs = TRY(find_bpffs());
  Pins pins(bpffs);
  TRY(pins.check_owner());
  return pins;
}

Status Pins::check_owner() const {
  struct stat st;
  if (::lstat(top_.c_str(), &st))
    return Unit{}; // nothing there yet, or not for our eyes: who opens it will say so
  if (S_ISDIR(st.st_mode) && (st.st_uid == 0 || st.st_uid == ::geteuid()) && !(st.st_mode & 022))
    return Unit{};
  return Error{top_,
               "belongs to user " + std::to_string(st.st_uid) +
                   " or is writable by others, who could put anything there",
               "look what it is, then rm -r " + top_};
}

std::string Pins::file_system() const { return name_of_file_system(fs::path(top_).parent_path()); }

std::string Pins::link(const std::string &prog, uint32_t ifindex, dp_direction direction) const {
  return dir_ + "/" DP_PIN_LINKS "/" + prog + "-" + std::to_string(ifindex) + "-" +
         direction_name(direction);
}

bool Pins::exist() const {
  std::error_code ec;
  return fs::exists(dir_, ec);
}

Status Pins::require_sight() const {
  struct stat st;
  if (::stat(dir_.c_str(), &st) == 0 || errno == ENOENT)
    return Unit{};
  return Error{top_, std::string("cannot be looked into: ") + std::strerror(errno),
               "a mirror is for who attached it, and for root"};
}

bool Pins::are_read_only() const {
  return ::faccessat(AT_FDCWD, fs::path(top_).parent_path().c_str(), W_OK, AT_EACCESS) != 0 &&
         errno == EROFS;
}

std::vector<std::string> Pins::links() const { return entries(dir_ + "/" DP_PIN_LINKS); }
std::vector<std::string> Pins::progs() const { return entries(dir_ + "/" DP_PIN_PROGS); }
std::vector<std::string> Pins::maps() const { return entries(dir_ + "/" DP_PIN_MAPS); }

std::vector<std::string> Pins::other_versions() const {
  std::vector<std::string> names;
  for (const std::string &path : entries(top_))
    if (path != dir_ && path != keeper())
      names.push_back(fs::path(path).filename());
  return names;
}

Pins Pins::of_version(const std::string &name) const {
  Pins pins = *this;
  pins.dir_ = top_ + "/" + name;
  return pins;
}

Result<Fd> Pins::lock(const Pause &pause) const {
  auto until = std::chrono::steady_clock::now() + kLockPatience;
  for (;;) {
    if (::mkdir(top_.c_str(), 0700) && errno != EEXIST)
      return sys_error(top_, "cannot be created", errno);
    Fd dir(::open(top_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir && errno != ENOENT)
      return sys_error(top_, "cannot be opened", errno);
    if (dir && ::flock(dir.get(), LOCK_EX | LOCK_NB) == 0) {
      if (!still_there(dir.get(), top_))
        continue;
      if (auto s = check_owner(); !s) // since locate()
        return s.errors();
      return dir;
    }
    if (dir && errno != EWOULDBLOCK && errno != EINTR)
      return sys_error(top_, "cannot be locked", errno);
    if (std::chrono::steady_clock::now() >= until)
      return locked_by(lock_holder());
    pause_for(pause, kLockPoll);
  }
}

Error Pins::locked_by(const std::string &holder) const {
  return {top_, "another doppel is changing the data plane" + (holder.empty() ? "" : ": " + holder),
          holder.ends_with(kStopped) ? "kill -CONT lets it go on" : "wait until it is done"};
}

// A line of /proc/locks: "1: FLOCK  ADVISORY  WRITE 123 00:1c:45 0 EOF", the device in hexadecimal
// (fs/locks.c, lock_get_status()).
std::string Pins::lock_holder() const {
  struct stat st;
  if (::stat(top_.c_str(), &st))
    return {};
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, kind, how, access, where;
    pid_t pid = 0;
    words >> number >> kind >> how >> access >> pid >> where;
    unsigned device_major = 0, device_minor = 0;
    unsigned long inode = 0;
    if (kind != "FLOCK" || pid <= 0 ||
        std::sscanf(where.c_str(), "%x:%x:%lu", &device_major, &device_minor, &inode) != 3)
      continue;
    if (device_major == major(st.st_dev) && device_minor == minor(st.st_dev) && inode == st.st_ino)
      return "process " + std::to_string(pid) + (process_is_stopped(pid) ? kStopped : "");
  }
  return {};
}

bool Pins::is_locked() const {
  Fd dir(::open(top_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return dir && ::flock(dir.get(), LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
}

Status Pins::make_directories() const {
  for (const std::string &dir :
       {dir_, dir_ + "/" DP_PIN_MAPS, dir_ + "/" DP_PIN_PROGS, dir_ + "/" DP_PIN_LINKS})
    if (::mkdir(dir.c_str(), 0700))
      return sys_error(dir, "cannot be created", errno);
  return Unit{};
}

Status Pins::pin(int fd, const std::string &path) const {
  if (bpf_obj_pin(fd, path.c_str()))
    return sys_error(path, "cannot be pinned", errno);
  return Unit{};
}

Status Pins::remove() const {
  std::error_code ec;
  fs::remove_all(dir_, ec);
  if (ec)
    return Error{dir_, "cannot be removed: " + ec.message(), "rm -r " + dir_};
  remove_top_if_empty();
  return Unit{};
}

void Pins::remove_top_if_empty() const {
  if (exist() || !other_versions().empty())
    return;
  Fd dir(::open(keeper().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (dir && ::flock(dir.get(), LOCK_EX | LOCK_NB) == 0)
    ::rmdir(keeper().c_str());
  ::rmdir(top_.c_str());
}

void Pins::remove_top_if_idle() const {
  const Fd dir(::open(top_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (dir && ::flock(dir.get(), LOCK_EX | LOCK_NB) == 0)
    remove_top_if_empty();
}

Fd open_pin(const std::string &path) {
  int fd = bpf_obj_get(path.c_str());
  if (fd >= 0)
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return Fd(fd);
}

// libbpf has no such call before 1.2.
Fd open_pin_to_read(const std::string &path) {
  bpf_attr attr{};
  attr.pathname = reinterpret_cast<uint64_t>(path.c_str());
  attr.file_flags = BPF_F_RDONLY;
  return Fd(
      static_cast<int>(::syscall(SYS_bpf, BPF_OBJ_GET, &attr, sizeof(attr)))); // close-on-exec
}

} // namespace doppel
