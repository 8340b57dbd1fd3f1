// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/key_list.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <random>
#include <unordered_set>

#include "userspace/migrate/spool.h"

namespace doppel::migrate {
namespace {
constexpr size_t kBlock = 1 << 20; // holds several of the longest lines

// Takes away what is in `list`.
Status remove_those_of(const KeyList &list, std::unordered_set<std::string> &keys) {
  ListReader reader(list.file.get(), list.start);
  memcached::DumpLine line;
  while (!keys.empty() && reader.next(line))
    keys.erase(line.key);
  return reader.status();
}

} // namespace

Result<KeyList> list_keys(memcached::Connection &c) {
  KeyList list;
  list.file = TRY(open_spool());
  TRY(memcached::dump_keys(c, list.file.get(), list.keys));
  return list;
}

Result<uint64_t> count_keys(memcached::Connection &c, const std::string &prefix) {
  const auto list = TRY(list_keys(c));
  ListReader reader(list.file.get(), list.start);
  memcached::DumpLine line;
  uint64_t n = 0;
  while (reader.next(line))
    n += line.key.starts_with(prefix) ? 1 : 0;
  TRY(reader.status());
  return n;
}

ListReader::ListReader(int fd, uint64_t offset)
    : fd_(fd), next_at_(offset), block_(std::make_unique_for_overwrite<char[]>(kBlock)) {}

Status ListReader::status() const {
  if (err_ != 0)
    return sys_error("list of keys", "cannot be read", err_);
  return Unit{};
}

// False: nothing more comes.
bool ListReader::fill() {
  std::memmove(block_.get(), block_.get() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  ssize_t n = 0;
  do
    n = ::pread(fd_, block_.get() + end_, kBlock - end_, static_cast<off_t>(next_at_ + end_));
  while (n < 0 && errno == EINTR);
  if (n < 0)
    err_ = errno;
  end_ += n > 0 ? static_cast<size_t>(n) : 0;
  return n > 0;
}

bool ListReader::next(memcached::DumpLine &line) {
  for (;;) {
    const char *at = block_.get() + begin_;
    const void *newline = std::memchr(at, '\n', end_ - begin_);
    if (!newline) {
      if (fill())
        continue;
      unreadable_ += begin_ != end_; // a line without an end
      next_at_ += end_ - begin_;
      begin_ = end_;
      return false;
    }
    const auto size = static_cast<size_t>(static_cast<const char *>(newline) - at);
    line_at_ = next_at_;
    begin_ += size + 1;
    next_at_ += size + 1;
    if (auto parsed = memcached::parse_dump_line({at, size})) {
      line = std::move(*parsed);
      return true;
    }
    unreadable_++;
  }
}

Result<std::vector<uint64_t>> sample_of(const KeyList &list, const std::string &prefix,
                                        uint64_t most, uint64_t seed, uint64_t &matching) {
  std::mt19937_64 random(seed);
  std::vector<uint64_t> chosen;
  ListReader reader(list.file.get(), list.start);
  memcached::DumpLine line;
  matching = 0;
  while (reader.next(line)) { // a reservoir (Knuth, TAOCP 3.4.2, R)
    if (!line.key.starts_with(prefix))
      continue;
    matching++;
    if (chosen.size() < most) {
      chosen.push_back(reader.offset());
      continue;
    }
    const uint64_t place = std::uniform_int_distribution<uint64_t>(0, matching - 1)(random);
    if (place < most)
      chosen[place] = reader.offset();
  }
  TRY(reader.status());
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

Result<uint64_t> count_absent(const KeyList &list, const KeyList &other,
                              const std::function<bool(const std::string &)> &wanted, size_t most) {
  uint64_t absent = 0;
  std::unordered_set<std::string> keys;
  ListReader reader(list.file.get(), list.start);
  memcached::DumpLine line;
  for (bool more = true; more;) {
    more = reader.next(line);
    if (more && wanted(line.key))
      keys.insert(std::move(line.key));
    if (more ? keys.size() < most : keys.empty())
      continue;
    TRY(remove_those_of(other, keys));
    absent += keys.size();
    keys.clear();
  }
  TRY(reader.status());
  return absent;
}

Result<memcached::DumpLine> line_at(const KeyList &list, uint64_t offset) {
  std::array<char, memcached::kLongestLine> text{};
  const auto n = ::pread(list.file.get(), text.data(), text.size(), static_cast<off_t>(offset));
  if (n < 0)
    return sys_error("list of keys", "cannot be read", errno);
  const std::string_view read(text.data(), static_cast<size_t>(n));
  auto line = memcached::parse_dump_line(read.substr(0, read.find('\n')));
  if (!line)
    return Error{"list of keys", "is not what was written", "", Exit::failure};
  return *std::move(line);
}

std::string key_text(std::string_view key) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string text;
  for (const unsigned char c : key) {
    if (std::isalnum(c) != 0 || (c != 0 && std::strchr("-._~", c) != nullptr)) {
      text += static_cast<char>(c);
      continue;
    }
    text += '%';
    text += kHex[c >> 4];
    text += kHex[c & 15];
  }
  return text;
}

} // namespace doppel::migrate
