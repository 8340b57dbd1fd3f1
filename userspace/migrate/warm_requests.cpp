// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_requests.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <thread>

#include "userspace/memcached/meta.h"
#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
using memcached::add_command;
using memcached::Answer;
using memcached::MetaFlags;
using memcached::parse_meta;

constexpr int64_t kLongestTtl = 2'592'000; // REALTIME_MAXDELTA of memcached

void put_number(std::string &to, std::string_view name, uint64_t n) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof(digits), n).ptr;
  to.append(name).append(digits, end);
}

bool is_error(std::string_view line) {
  return line.starts_with("SERVER_ERROR") || line.starts_with("CLIENT_ERROR") || line == "ERROR";
}

bool has_opaque(const MetaFlags &m, uint32_t opaque) { return m.O == std::to_string(opaque); }

bool opaque_command(std::string &to, std::string_view command, std::string_view key,
                    std::string flags, uint32_t opaque) {
  put_number(flags, " O", opaque);
  return add_command(to, command, key, flags);
}

} // namespace

WarmClock::WarmClock(const memcached::Stats &target)
    : start_ns_(monotonic_ns()),
      target_time_(static_cast<int64_t>(memcached::number(target, "time"))) {}

Result<WarmClock> clock_of(memcached::Connection &target) {
  constexpr uint64_t kPatienceNs = 1'500'000'000; // of a clock that stands still
  constexpr auto kPoll = std::chrono::milliseconds(5);
  const uint64_t until_ns = monotonic_ns() + kPatienceNs;
  auto stats = TRY(memcached::stats(target));
  const uint64_t first = memcached::number(stats, "time");
  while (memcached::number(stats, "time") == first && monotonic_ns() < until_ns) {
    std::this_thread::sleep_for(kPoll);
    stats = TRY(memcached::stats(target));
  }
  return WarmClock(stats);
}

int32_t WarmClock::now() const {
  return static_cast<int32_t>((monotonic_ns() - start_ns_) / 1'000'000'000);
}

int64_t WarmClock::end_for(int64_t left) const {
  const int64_t end = std::min(target_time_ + now() + left, memcached::kLastTime);
  return end > kLongestTtl ? end : left; // a clock that was never set
}

int32_t WarmClock::end_of(int64_t left) const {
  return static_cast<int32_t>(std::min(now() + left, memcached::last_ttl(target_time_)));
}

bool request_read(std::string &to, std::string_view key, uint32_t opaque) {
  return opaque_command(to, "mg", key, "c f t v u", opaque);
}

bool request_peek(std::string &to, std::string_view key, uint32_t opaque) {
  return opaque_command(to, "mg", key, "c s t u", opaque);
}

bool request_look(std::string &to, std::string_view key) { return add_command(to, "me", key, ""); }

bool request_delete(std::string &to, std::string_view key, uint64_t cas) {
  std::string flags;
  if (cas)
    put_number(flags, "C", cas);
  return add_command(to, "md", key, flags);
}

bool request_store(std::string &to, const StoreRequest &s) {
  bool base64 = false;
  const std::string key = memcached::meta_key(s.key, base64);
  if (key.empty())
    return false;
  to.append("ms ").append(key);
  put_number(to, " ", s.value.size());
  to.append(base64 ? " b c" : " c");
  if (s.compare)
    put_number(to, " C", s.compare);
  else
    to.append(" ME");
  if (s.flags)
    put_number(to, " F", s.flags);
  if (s.ends)
    put_number(to, " T", static_cast<uint64_t>(s.ends));
  if (s.source_cas)
    put_number(to, " E", s.source_cas);
  put_number(to, " O", s.opaque);
  to.append("\r\n").append(s.value).append("\r\n");
  return true;
}

KeptItem kept(const ReadItem &item) {
  return {std::string(item.value), item.flags, item.ttl, monotonic_ns()};
}

// Rounded, not shortened to be sure: the clocks of both count whole seconds by a timer that drifts,
// so that what is told of one item varies by two seconds as it is.
StoreRequest store_of(std::string_view key, const KeptItem &reading, const WarmClock &clock) {
  StoreRequest s{key, reading.value};
  s.flags = reading.flags;
  if (reading.ttl >= 0) {
    const uint64_t passed = (monotonic_ns() - reading.read_ns + kSecondNs / 2) / kSecondNs;
    s.ends = clock.end_for(std::max<int64_t>(1, reading.ttl - static_cast<int64_t>(passed)));
  }
  return s;
}

Compared compared(const Look &seen, const KeptItem &reading, const ReadItem &target,
                  int32_t slack) {
  Look there = target.look, here = seen;
  there.cas = here.cas = 0; // of two servers
  if (target.claimed)       // an add would find it
    return {seen.there, *target.claimed, !seen.there};
  return {target.look.there, target.look.cas,
          !target.stale && is_same(here, there, slack) && target.value == reading.value &&
              target.flags == reading.flags};
}

std::optional<ReadItem> read_answer(const Answer &answer, uint32_t opaque, const WarmClock &clock) {
  ReadItem item;
  if (is_error(answer.line)) {
    item.failed = true;
    return item;
  }
  const MetaFlags m = parse_meta(answer.line);
  if (m.code == "EN")
    return item;
  if ((m.code != "VA" && m.code != "HD") || !has_opaque(m, opaque))
    return {};
  const uint64_t size = m.s.value_or(answer.value.size());
  if (m.is_claimed() && size == 0) {
    item.claimed = m.c.value_or(0);
    return item;
  }
  item.look.there = true;
  item.look.cas = m.c.value_or(0);
  item.look.size = static_cast<uint32_t>(size);
  item.ttl = m.t.value_or(memcached::kNoExpiry);
  if (item.ttl >= 0)
    item.look.ends = clock.end_of(item.ttl);
  item.value = answer.value;
  item.flags = m.f.value_or(0);
  item.won = m.W;
  item.stale = m.is_stale();
  return item;
}

std::optional<LookAnswer> look_answer(const Answer &answer, std::string_view key,
                                      const WarmClock &clock) {
  LookAnswer l;
  if (is_error(answer.line)) {
    l.failed = true;
    return l;
  }
  if (answer.line == "EN")
    return l;
  const auto s = memcached::parse_standing(answer.line);
  if (!s || !memcached::names(s->key, key))
    return {};
  l.look.there = true;
  l.look.cas = s->cas;
  l.look.size = kSizeUnknown; // of the whole item, which is another measure
  if (s->exp != memcached::kNoExpiry)
    l.look.ends = clock.end_of(s->exp);
  // Of 2^31 s and more the sign is lost (the binary protocol's 0xffffffff).
  if (s->exp > memcached::kLastTime / 2)
    return l;
  const bool negative = answer.line.find(" exp=-") != std::string_view::npos;
  l.signed_right = !negative;
  l.signed_wrong = negative && s->exp != memcached::kNoExpiry;
  return l;
}

std::optional<StoreAnswer> store_answer(const Answer &answer, uint32_t opaque) {
  StoreAnswer a;
  if (is_error(answer.line)) {
    a.stored = answer.line.find("too large") != std::string_view::npos ? Stored::too_large
                                                                       : Stored::failed;
    a.out_of_memory = answer.line.find("out of memory") != std::string_view::npos;
    return a;
  }
  const MetaFlags m = parse_meta(answer.line);
  if (!has_opaque(m, opaque))
    return {};
  a.cas = m.c.value_or(0);
  if (m.code == "HD")
    a.stored = Stored::stored;
  else if (m.code == "NS")
    a.stored = Stored::there;
  else if (m.code == "EX")
    a.stored = Stored::changed;
  else if (m.code == "NF")
    a.stored = Stored::absent;
  else
    return {};
  return a;
}

std::optional<Deleted> delete_answer(const Answer &answer) {
  const std::string_view code = answer.line.substr(0, 2);
  if (code == "HD")
    return Deleted::deleted;
  if (code == "NF")
    return Deleted::absent;
  if (code == "EX")
    return Deleted::changed;
  return {};
}

} // namespace doppel::migrate
