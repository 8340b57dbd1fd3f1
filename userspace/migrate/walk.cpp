// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/walk.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <thread>

#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
using memcached::Answer;

Error strange(const memcached::Connection &c, std::string_view line) {
  return {c.server().text(),
          "does not answer a read as memcached does: " + memcached::quoted_answer(line), "",
          Exit::failure};
}

// Which keys of `keys` a request names; the others cannot be named.
using Named = std::vector<size_t>;

// The request that reads all of them, and the end mark, so that it has an answer in any case.
std::string request_for(const std::vector<std::string> &keys, Named &named) {
  std::string request;
  request.reserve(keys.size() * 64);
  for (size_t i = 0; i < keys.size(); i++)
    if (memcached::add_command(request, "mg", keys[i], "f t c v u O" + std::to_string(i)))
      named.push_back(i);
  return request + "mn\r\n";
}

// Hands out the answers of one server.
class Reader {
public:
  Reader(const Reading &reading, const std::vector<std::string> &keys, const Named &named)
      : reading_(reading), keys_(keys), named_(named) {}

  // False: the end, or what makes no sense (strange()).
  bool take(const Answer &a) {
    if (at_ == named_.size()) {
      ended_ = a.line == "MN";
      line_ = a.line;
      return false;
    }
    const size_t index = named_[at_++];
    Seen seen;
    seen.meta = memcached::parse_meta(a.line);
    if (a.has_value) {
      seen.state = Seen::State::present;
      seen.value = a.value;
    } else if (a.line.starts_with("SERVER_ERROR") || knows_no_base64(a.line, index)) {
      seen.state = Seen::State::unreadable;
    } else if (seen.meta.code != "EN") {
      line_ = a.line;
      return false;
    }
    // A miss has no opaque on older servers (1.6.18).
    if (!seen.meta.O.empty() && seen.meta.O != std::to_string(index)) {
      line_ = a.line;
      return false;
    }
    reading_.take(index, seen);
    return true;
  }

  Status status() const {
    if (!ended_)
      return strange(*reading_.connection, line_);
    return Unit{};
  }

private:
  // The flag b is younger than `mg` (1.6.10).
  bool knows_no_base64(std::string_view line, size_t index) const {
    if (!line.starts_with("CLIENT_ERROR"))
      return false;
    return !memcached::is_plain_key(keys_[index]);
  }

  const Reading &reading_;
  const std::vector<std::string> &keys_;
  const Named &named_;
  size_t at_ = 0;
  bool ended_ = false;
  std::string line_;
};

} // namespace

bool Batch::add(std::string key, uint64_t size) {
  if (!keys_.empty() && (keys_.size() >= limit_ || bytes_ + size > most_bytes_))
    return false;
  bytes_ += size;
  keys_.push_back(std::move(key));
  return true;
}

void Batch::clear(uint64_t took_ns) {
  const size_t had = keys_.size();
  keys_.clear();
  bytes_ = 0;
  if (took_ns > kSlowNs) {
    limit_ = std::max<size_t>(1, had / 2);
    most_bytes_ = std::max<uint64_t>(1, most_bytes_ / 2);
  } else if (took_ns < kSlowNs / 4) {
    limit_ = std::min(2 * limit_, most_);
    most_bytes_ = std::min(2 * most_bytes_, kMostBytes);
  }
}

Status read_items(const std::vector<Reading> &readings, const std::vector<std::string> &keys) {
  Named named;
  const std::string request = request_for(keys, named);
  size_t next = 0;
  for (size_t i = 0; i < keys.size(); i++) {
    if (next < named.size() && named[next] == i) {
      next++;
      continue;
    }
    Seen seen;
    seen.state = Seen::State::unreadable;
    for (const Reading &r : readings)
      r.take(i, seen);
  }
  std::vector<std::unique_ptr<Reader>> readers;
  std::vector<memcached::Exchange> exchanges;
  for (const Reading &r : readings) {
    readers.push_back(std::make_unique<Reader>(r, keys, named));
    exchanges.push_back({r.connection, request, [reader = readers.back().get()](const Answer &a) {
                           return reader->take(a);
                         }});
  }
  TRY(memcached::converse_all(exchanges));
  for (const auto &reader : readers)
    TRY(reader->status());
  return Unit{};
}

Status read_standings(memcached::Connection &c, const std::vector<std::string> &keys,
                      const TakeStanding &take) {
  // `me` writes a key that was stored by the binary protocol as it is, line feeds included
  // (1.6.18). So what is no plain key is asked for by `mg` without its value.
  std::string request;
  Named named;
  std::vector<bool> by_mg(keys.size());
  for (size_t i = 0; i < keys.size(); i++) {
    by_mg[i] = !memcached::is_plain_key(keys[i]);
    if (memcached::add_command(request, by_mg[i] ? "mg" : "me", keys[i], by_mg[i] ? "c t u" : ""))
      named.push_back(i);
    else
      take(i, nullptr);
  }
  request += "mn\r\n";
  size_t at = 0;
  std::string wrong;
  TRY(c.converse(request, [&](const Answer &a) {
    if (at == named.size()) {
      wrong = a.line == "MN" ? "" : a.line;
      return false;
    }
    const size_t index = named[at++];
    const auto code = a.line.substr(0, 2);
    if (code == "EN") {
      take(index, nullptr);
      return true;
    }
    auto standing = memcached::parse_standing(a.line);
    if (!standing && by_mg[index] && code == "HD") {
      const auto meta = memcached::parse_meta(a.line);
      standing.emplace();
      standing->cas = meta.c.value_or(0);
      standing->exp = meta.t.value_or(memcached::kNoExpiry);
      standing->won = meta.W;
    }
    if (!standing) {
      wrong = a.line.empty() ? "an empty line" : a.line;
      return false;
    }
    take(index, &*standing);
    return true;
  }));
  if (!wrong.empty())
    return strange(c, wrong);
  return Unit{};
}

Result<memcached::Features> readable(memcached::Connection &c) {
  auto features = TRY(memcached::find_features(c));
  if (!features.meta || !features.me)
    return Error{c.server().text(), "has no meta commands, which read without a trace",
                 "memcached has them since 1.6.0", Exit::failure};
  return features;
}

Error token_error(const memcached::Connection &c) {
  return {c.server().text(),
          "an item is marked as stale by its application (md with I), and reading it took the "
          "token to renew it",
          "that client waits for a renewal which does not come, until the item is stored again; "
          "--stale-ok goes on all the same",
          Exit::failure};
}

Status KeepAlive::look() {
  constexpr uint64_t kQuietNs = 400'000'000;
  const uint64_t now = monotonic_ns();
  if (now < next_ns_)
    return Unit{};
  next_ns_ = now + kQuietNs;
  for (memcached::Connection *c : all_)
    TRY(c->converse("mn\r\n", [](const Answer &) { return false; }));
  return Unit{};
}

Status KeepAlive::rest(uint64_t until_ns, const std::atomic<bool> *stop) {
  constexpr uint64_t kNapNs = 20'000'000;
  for (uint64_t now; (now = monotonic_ns()) < until_ns && !(stop && *stop);) {
    TRY(look());
    std::this_thread::sleep_for(std::chrono::nanoseconds(std::min(kNapNs, until_ns - now)));
  }
  return Unit{};
}

Pace::Pace(uint64_t keys_per_s) : keys_per_s_(keys_per_s) {}

size_t Pace::most_keys() const {
  if (keys_per_s_ == 0)
    return Batch::kMostKeys;
  return std::clamp<size_t>(keys_per_s_ / 10, 1, Batch::kMostKeys);
}

void Pace::wait(uint64_t keys) {
  if (keys_per_s_ == 0)
    return;
  const uint64_t now = monotonic_ns();
  if (next_ns_ > now)
    std::this_thread::sleep_for(std::chrono::nanoseconds(next_ns_ - now));
  next_ns_ = std::max(next_ns_, now) + keys * 1'000'000'000 / keys_per_s_;
}

} // namespace doppel::migrate
