// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/dump.h"

#include <chrono>
#include <thread>

#include "userspace/memcached/stats.h"
#include "userspace/util/clock.h"
#include "userspace/util/fd.h"
#include "userspace/util/file.h"
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
    if (err_ == 0)
      err_ = write_all(fd_, buffer_);
    buffer_.clear();
  }

  Result<Ended> judge(const std::string &last) const {
    const auto failed = [&](const std::string &what, const std::string &hint) {
      return Error{c_.server().text(), what + ": it answers " + quoted_answer(last), hint,
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

Error busy(const Connection &c) {
  return {c.server().text(), "does not list its keys, as its crawler is busy",
          "does another list run? --timeout gives it more time", Exit::failure};
}

// Asks for nothing while another list runs: where that one's reader is slow, the question would
// stop a thread of the server and all of its clients (lru_crawler_lock in 1.6.18). Nor while the
// hash table grows: 1.6.18 stands still then, later ones refuse.
Status wait_for_crawler(Connection &c, const Patience &patience) {
  for (;; Patience::pause()) {
    const auto now = TRY(stats(c));
    const bool grows = number(now, "hash_is_expanding") != 0;
    if (!grows && number(now, "lru_crawler_running") == 0)
      return Unit{};
    if (!patience.is_over())
      continue;
    if (!grows)
      return busy(c);
    return Error{c.server().text(), "does not list its keys while its hash table grows",
                 "--timeout gives it more time", Exit::failure};
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
  const char *what = "hash";
  for (const Patience patience(c);; Patience::pause()) {
    TRY(wait_for_crawler(c, patience));
    Ended ended = TRY(Dump(c, fd, keys).run(what));
    if (ended == Ended::unknown_class && std::string_view(what) == "hash")
      ended = TRY(Dump(c, fd, keys).run(what = "all"));
    if (ended == Ended::whole)
      return Unit{};
    if (ended == Ended::unknown_class)
      return Error{c.server().text(), "does not list its keys", "", Exit::failure};
    if (patience.is_over())
      return busy(c);
  }
}

} // namespace doppel::memcached
