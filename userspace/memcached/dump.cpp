// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/dump.h"

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <thread>

#include "userspace/memcached/stats.h"
#include "userspace/util/clock.h"
#include "userspace/util/fd.h"
#include "userspace/util/text.h"

namespace doppel::memcached {
namespace {
constexpr size_t kWriteBytes = 1 << 20;

int hex(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool decode_key(std::string_view text, std::string &key) {
  key.reserve(text.size());
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] != '%') {
      key += text[i];
      continue;
    }
    if (i + 2 >= text.size() || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0)
      return false;
    key += static_cast<char>(hex(text[i + 1]) << 4 | hex(text[i + 2]));
    i += 2;
  }
  return !key.empty();
}

template <typename T> bool read_number(std::string_view text, T &value) {
  return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc();
}

// Sorted into one of these, or an error.
enum class Ended { whole, unknown_class, busy };

class Dump {
public:
  Dump(Connection &c, int fd, uint64_t &keys) : c_(c), fd_(fd), keys_(keys) {}

  Result<Ended> run(const char *what) {
    std::string last;
    TRY(c_.converse("lru_crawler metadump " + std::string(what) + "\r\n", [&](const Answer &a) {
      if (a.line.starts_with("key=")) {
        add(a.line);
        return err_ == 0;
      }
      if (a.line == "OK") // since 1.6.44
        return true;
      last = a.line;
      return false;
    }));
    flush();
    if (err_ != 0)
      return sys_error("list of keys", "cannot be written", err_);
    return judge(last);
  }

private:
  void add(std::string_view line) {
    buffer_.append(line).push_back('\n');
    keys_++;
    if (buffer_.size() >= kWriteBytes)
      flush();
  }

  void flush() {
    for (size_t at = 0; at < buffer_.size() && err_ == 0;) {
      const auto n = ::write(fd_, buffer_.data() + at, buffer_.size() - at);
      if (n < 0 && errno != EINTR)
        err_ = errno;
      at += n > 0 ? static_cast<size_t>(n) : 0;
    }
    buffer_.clear();
  }

  Result<Ended> judge(const std::string &last) const {
    const auto failed = [&](const std::string &what, const std::string &hint) {
      return Error{c_.server().text(), what + ": it answers " + in_quotes(last), hint,
                   Exit::failure};
    };
    if (last == "END" || last.starts_with("NOTSTARTED")) // no items at all
      return Ended::whole;
    if (last.starts_with("BADCLASS"))
      return Ended::unknown_class;
    if (last.starts_with("BUSY"))
      return Ended::busy;
    if (last == "ERROR metadump not allowed")
      return failed("does not list its keys", "it was started with -X, which forbids that");
    if (last == "CLIENT_ERROR lru crawler disabled")
      return failed("does not list its keys", "`lru_crawler enable` starts its crawler");
    if (last.starts_with("ERROR locked"))
      return failed("does not list its keys, as its hash table grows", "try again in a minute");
    return failed("does not list its keys", "lists are made since memcached 1.4.31");
  }

  Connection &c_;
  int fd_;
  uint64_t &keys_;
  std::string buffer_;
  int err_ = 0;
};

// What waits is over after the connection's timeout.
class Patience {
public:
  explicit Patience(const Connection &c)
      : until_ns_(monotonic_ns() + c.timeout_ms() * 1'000'000ULL) {}
  bool is_over() const { return monotonic_ns() >= until_ns_; }
  static void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(100)); }

private:
  uint64_t until_ns_;
};

// 1.6.18 hangs where it is asked for `hash` while its table grows; later ones refuse.
Status wait_for_table(Connection &c) {
  for (const Patience patience(c);; Patience::pause()) {
    if (number(TRY(stats(c)), "hash_is_expanding") == 0)
      return Unit{};
    if (patience.is_over())
      return Error{c.server().text(), "does not list its keys while its hash table grows",
                   "try again in a minute", Exit::failure};
  }
}

} // namespace

std::optional<DumpLine> parse_dump_line(std::string_view line) {
  DumpLine d;
  bool has_key = false;
  while (!line.empty()) {
    const size_t blank = line.find(' ');
    const auto word = line.substr(0, blank);
    line.remove_prefix(blank == std::string_view::npos ? line.size() : blank + 1);
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos)
      continue;
    const auto name = word.substr(0, equals), value = word.substr(equals + 1);
    bool good = true;
    if (name == "key")
      good = has_key = decode_key(value, d.key);
    else if (name == "exp")
      good = read_number(value, d.exp);
    else if (name == "la")
      good = read_number(value, d.la);
    else if (name == "cas")
      good = read_number(value, d.cas);
    else if (name == "fetch")
      d.fetch = value == "yes";
    else if (name == "cls")
      good = read_number(value, d.cls);
    else if (name == "size")
      good = read_number(value, d.size);
    if (!good)
      return std::nullopt;
  }
  if (!has_key)
    return std::nullopt;
  return d;
}

Status dump_keys(Connection &c, int fd, uint64_t &keys) {
  keys = 0;
  TRY(wait_for_table(c));
  const char *what = "hash";
  for (const Patience patience(c);; Patience::pause()) {
    Ended ended = TRY(Dump(c, fd, keys).run(what));
    if (ended == Ended::unknown_class && std::string_view(what) == "hash")
      ended = TRY(Dump(c, fd, keys).run(what = "all"));
    if (ended == Ended::whole)
      return Unit{};
    if (ended == Ended::unknown_class)
      return Error{c.server().text(), "does not list its keys", "", Exit::failure};
    if (patience.is_over())
      return Error{c.server().text(), "does not list its keys, as its crawler is busy",
                   "does another list run? Try again in a minute", Exit::failure};
  }
}

} // namespace doppel::memcached
