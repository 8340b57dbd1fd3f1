// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_list.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <ctime>

#include "userspace/memcached/dump.h"
#include "userspace/migrate/spool.h"
#include "userspace/util/file.h"

namespace doppel::migrate {
namespace {
constexpr size_t kReadBytes = 1 << 20;
constexpr uint64_t kReserveBytes = 4 << 20; // on disk ahead of what is begun
constexpr uint64_t kFinishBytes = 1 << 20;  // what may be finished and not written down
constexpr const char *kBootId = "/proc/sys/kernel/random/boot_id";
constexpr std::array<off_t, 2> kRecordPlaces = {2048, 3072};
constexpr size_t kPlaceBytes = 128;
constexpr std::string_view kHeadEnd = "\nend\n";
constexpr std::string_view kWarmMagic = "doppel warm 4";
constexpr std::time_t kOldest = 3600; // s, that a file may have been left

OwnKind own_kind() {
  return {"file of doppel warm", kWarmMagic, "name one that does not exist yet"};
}

Status write_at(int fd, const std::string &text, off_t at, const std::string &file) {
  const auto n = ::pwrite(fd, text.data(), text.size(), at);
  if (n == static_cast<ssize_t>(text.size()))
    return Unit{};
  return sys_error(file, "cannot be written", n < 0 ? errno : ENOSPC);
}

uint64_t checksum(std::string_view text) {
  uint64_t sum = 14695981039346656037ULL; // FNV-1a
  for (const char c : text)
    sum = (sum ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return sum;
}

uint32_t this_boot() {
  char id[64] = {};
  const Fd fd(::open(kBootId, O_RDONLY | O_CLOEXEC));
  const auto n = fd ? ::read(fd.get(), id, sizeof(id)) : 0;
  return static_cast<uint32_t>(checksum({id, static_cast<size_t>(std::max<ssize_t>(n, 0))}));
}

uint64_t number_after(std::string_view line, std::string_view name) {
  const size_t at = line.find(name);
  uint64_t n = 0;
  if (at != std::string_view::npos)
    std::from_chars(line.data() + at + name.size(), line.data() + line.size(), n);
  return n;
}

bool is_fetched(std::string_view line) { return line.find(" fetch=yes") != std::string_view::npos; }

} // namespace

Result<WarmList> WarmList::open(const std::string &file, const std::string &what,
                                const std::string &since) {
  WarmList list;
  list.file_ = file.empty() ? "list of keys" : file;
  list.name_ = file;
  list.what_ = what;
  list.since_ = since;
  list.boot_ = this_boot();
  if (file.empty()) {
    list.fd_ = TRY(open_spool());
    return list;
  }
  auto own = TRY(open_own(file, own_kind()));
  list.fd_ = std::move(own.fd);
  list.is_ours_ = own.is_ours;
  if (::flock(list.fd_.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{file, "another doppel warm goes by it", "wait until it is done", Exit::failure};
  TRY(list.read_head());
  return list;
}

// An empty file is a new one; one whose list did not get to its end holds nothing worth keeping.
Status WarmList::check_age() const {
  struct stat st {};
  if (::fstat(fd_.get(), &st) != 0)
    return sys_error(file_, "cannot be read", errno);
  const std::time_t age = std::time(nullptr) - st.st_mtime;
  if (age <= kOldest)
    return Unit{};
  return Error{file_,
               "was left " + std::to_string(age) +
                   " s ago: what it had begun may be what clients wrote to the target since",
               "remove it, warm anew, and verify afterwards", Exit::failure};
}

Status WarmList::read_head() {
  std::string head(kListStart, '\0');
  const auto n = ::pread(fd_.get(), head.data(), head.size(), 0);
  if (n < 0)
    return sys_error(file_, "cannot be read", errno);
  if (n < static_cast<ssize_t>(kWarmMagic.size()))
    return Unit{};
  const std::string_view text(head.data(), static_cast<size_t>(n));
  if (text.find("\nof " + what_ + "\n") == std::string_view::npos)
    return Error{file_, "is of other servers, or of other options",
                 "the command must be the one that was interrupted", Exit::usage};
  if (text.find("\nsince " + since_ + "\n") == std::string_view::npos)
    return Error{file_, "is of before one of the servers was started anew",
                 "remove it, warm anew, and verify afterwards", Exit::failure};
  TRY(check_age());
  if (text.find(kHeadEnd) == std::string_view::npos)
    return damaged("it has " + std::to_string(n) + " bytes");
  keys_ = number_after(text, "\nkeys ");
  sum_ = {number_after(text, "\nbytes "), number_after(text, "\ncrc ")};
  newest_ = number_after(text, "\nnewest ");
  hot_age_ = number_after(text, "\nhot ");
  read_progress(text);
  TRY(read_origin(text));
  return check_list();
}

// Files of before that was noted tell nothing of what has happened since.
Status WarmList::read_origin(std::string_view head) {
  constexpr std::string_view kName = "\nmirror ";
  const size_t at = head.find(kName);
  if (at == std::string_view::npos) {
    if (!is_resumed())
      return Unit{};
    return Error{file_, "is of an earlier doppel, which did not note which mirror it began with",
                 "remove it, warm anew, and verify afterwards", Exit::failure};
  }
  const size_t from = at + kName.size();
  origin_ = {
      {std::string(head.substr(from, head.find('\n', from) - from)),
       number_after(head, "\nmissed ")},
      number_after(head, "\nsource_flushes "),
      number_after(head, "\ntarget_flushes "),
      {number_after(head, "\ntarget_evictions "), number_after(head, "\ntarget_flash_evictions ")}};
  return Unit{};
}

// The later of those that are as they were written.
void WarmList::read_progress(std::string_view head) {
  for (const off_t place : kRecordPlaces) {
    if (head.size() < kListStart)
      break;
    Progress p;
    const std::string slot(head.substr(static_cast<size_t>(place), kPlaceBytes));
    if (std::sscanf(slot.c_str(), "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu32,
                    &p.number, &p.done, &p.begun, &p.reserved, &p.boot) == 5 &&
        slot.starts_with(progress_text(p)) && p.number > progress_.number)
      progress_ = p;
  }
  if (progress_.boot != boot_)
    progress_.begun = progress_.reserved; // what was written last may not have got to the disk
  progress_.boot = boot_;
  written_ = progress_;
  position_ = progress_.done;
  unsettled_end_ = progress_.begun;
}

Error WarmList::damaged(const std::string &how) {
  is_damaged_ = true;
  return {file_, "is damaged: " + how,
          is_unnamed() ? "" : "remove it, warm anew, and verify afterwards", Exit::failure};
}

// A list that did not get to its end has neither a length nor a progress: it is filled anew.
Status WarmList::check_list() {
  if (!is_filled())
    return sum_.bytes == 0 ? Status(Unit{}) : damaged("it does not tell how far that warm got");
  const auto now = TRY(list_sum(fd_.get(), kListStart, file_));
  if (const std::string how = how_it_differs(sum_, now); !how.empty())
    return damaged(how);
  return Unit{};
}

std::string WarmList::progress_text(const Progress &p) const {
  const std::string text = std::to_string(p.number) + " " + std::to_string(p.done) + " " +
                           std::to_string(p.begun) + " " + std::to_string(p.reserved) + " " +
                           std::to_string(p.boot) + " ";
  return text + std::to_string(checksum(text)) + "\n";
}

Status WarmList::write_progress() {
  progress_.number++;
  std::string text = progress_text(progress_);
  text.resize(kPlaceBytes, ' ');
  TRY(write_at(fd_.get(), text, kRecordPlaces[progress_.number % 2], file_));
  written_ = progress_;
  return Unit{};
}

// At once, with the first progress where the list is whole: a list of some length has one.
Status WarmList::write_head() {
  std::string head(kWarmMagic);
  head += "\nof " + what_ + "\nsince " + since_ + "\nkeys " + std::to_string(keys_) + "\nbytes " +
          std::to_string(sum_.bytes) + "\ncrc " + std::to_string(sum_.crc) + "\nnewest " +
          std::to_string(newest_) + "\nhot " + std::to_string(hot_age_) + "\nmirror " +
          origin_.barrier.mirror + "\nmissed " + std::to_string(origin_.barrier.missed) +
          "\nsource_flushes " + std::to_string(origin_.source_flushes) + "\ntarget_flushes " +
          std::to_string(origin_.target_flushes) + "\ntarget_evictions " +
          std::to_string(origin_.target_evictions.memory) + "\ntarget_flash_evictions " +
          std::to_string(origin_.target_evictions.flash);
  head += kHeadEnd;
  if (head.size() > static_cast<size_t>(kRecordPlaces[0]))
    return Error{file_,
                 "the names of servers and prefix, or the ways of the mirror, are too long",
                 {},
                 Exit::usage};
  head.resize(kListStart, ' ');
  if (is_filled()) {
    const std::string text = progress_text(progress_);
    head.replace(static_cast<size_t>(kRecordPlaces[progress_.number % 2]), text.size(), text);
  }
  return write_at(fd_.get(), head, 0, file_);
}

Status WarmList::fill(memcached::Connection &source, const WarmOrigin &origin) {
  origin_ = origin;
  auto status = make_list(source);
  if (!status)
    remove(); // a part of a list is of no use
  return status;
}

Status WarmList::make_list(memcached::Connection &source) {
  if (::ftruncate(fd_.get(), 0) != 0 || ::lseek(fd_.get(), kListStart, SEEK_SET) < 0)
    return sys_error(file_, "cannot be written", errno);
  keys_ = 0;
  sum_ = {};
  progress_ = {};
  TRY(write_head()); // who finds it without a progress knows it for ours
  is_ours_ = true;
  TRY(memcached::dump_keys(source, fd_.get(), keys_));
  sum_ = TRY(list_sum(fd_.get(), kListStart, file_));
  TRY(classify());
  if (::fdatasync(fd_.get()) != 0) // before the head, which says that the list is whole
    return sys_error(file_, "cannot be written", errno);
  written_ = progress_ = {1, 0, 0, 0, boot_};
  return write_head();
}

// The age by which those that were read since they were stored fall into halves, to a power of two.
Status WarmList::classify() {
  std::array<uint64_t, 65> by_age{};
  newest_ = 0;
  for (const int round : {0, 1}) {
    position_ = 0;
    buffer_.clear();
    used_ = 0;
    for (std::string_view l; position_ < sum_.bytes && TRY(line(l));) {
      const uint64_t la = number_after(l, " la=");
      if (round == 0)
        newest_ = std::max(newest_, la);
      else if (is_fetched(l))
        by_age[static_cast<size_t>(std::bit_width(newest_ - la))]++;
    }
  }
  uint64_t fetched = 0, sum = 0;
  for (const uint64_t n : by_age)
    fetched += n;
  for (size_t i = 0; i < by_age.size(); i++)
    if ((sum += by_age[i]) * 2 >= fetched) {
      hot_age_ = i >= 63 ? UINT64_MAX : (uint64_t{1} << i) - 1;
      break;
    }
  position_ = 0;
  buffer_.clear();
  used_ = 0;
  return Unit{};
}

// The line at position_, which moves behind it.
Result<bool> WarmList::line(std::string_view &line) {
  if (sum_.bytes == 0 || position_ >= kPasses * sum_.bytes)
    return false;
  for (;;) {
    const uint64_t offset = position_ % sum_.bytes;
    if (offset < buffer_at_ || offset > buffer_at_ + buffer_.size())
      buffer_.clear();
    used_ = buffer_.empty() ? 0 : static_cast<size_t>(offset - buffer_at_);
    const size_t end = buffer_.find('\n', used_);
    if (!buffer_.empty() && end != std::string::npos) {
      line = std::string_view(buffer_).substr(used_, end - used_);
      position_ += line.size() + 1;
      return true;
    }
    buffer_.resize(kReadBytes);
    const auto want = std::min<uint64_t>(kReadBytes, sum_.bytes - offset);
    const auto n =
        ::pread(fd_.get(), buffer_.data(), want, static_cast<off_t>(kListStart + offset));
    if (n < 0)
      return sys_error(file_, "cannot be read", errno);
    if (n == 0)
      return damaged("it ends too early");
    buffer_.resize(static_cast<size_t>(n));
    buffer_at_ = offset;
    if (buffer_.find('\n') == std::string::npos)
      return damaged("a line without an end");
  }
}

Result<bool> WarmList::next(const std::string &prefix, Key &key) {
  for (std::string_view l;;) {
    key.from = position_;
    if (!TRY(line(l)))
      return false;
    const bool fetched = is_fetched(l);
    const bool recent = fetched && newest_ - std::min(newest_, number_after(l, " la=")) <= hot_age_;
    if (key.from / sum_.bytes != (recent ? 0u : fetched ? 1u : 2u))
      continue;
    auto parsed = memcached::parse_dump_line(l);
    if (!parsed || !parsed->key.starts_with(prefix))
      continue;
    key.key = std::move(parsed->key);
    key.size = parsed->size;
    key.unsettled = key.from < unsettled_end_;
    return true;
  }
}

Status WarmList::begin(uint64_t position) {
  if (position <= progress_.begun)
    return Unit{};
  progress_.begun = position;
  if (is_unnamed())
    return Unit{};
  const bool on_disk = position <= progress_.reserved;
  if (!on_disk)
    progress_.reserved = position + kReserveBytes;
  TRY(write_progress());
  if (on_disk)
    return Unit{};
  if (::fdatasync(fd_.get()) != 0)
    return sys_error(file_, "cannot be written", errno);
  return Unit{};
}

Status WarmList::finish(uint64_t position) {
  progress_.done = std::max(progress_.done, position);
  if (is_unnamed() || progress_.done - written_.done < kFinishBytes)
    return Unit{};
  return write_progress();
}

Status WarmList::settle(bool all_confirmed) {
  // What a warm that was killed had begun is open until all of it is done.
  if (all_confirmed)
    progress_.begun = progress_.reserved = std::max(progress_.done, unsettled_end_);
  if (is_unnamed() || (progress_.done == written_.done && progress_.begun == written_.begun &&
                       progress_.reserved == written_.reserved))
    return Unit{};
  return write_progress();
}

void WarmList::remove() {
  if (!is_unnamed() && is_ours_)
    remove_own(fd_.get(), name_);
}

} // namespace doppel::migrate
