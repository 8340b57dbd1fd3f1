// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/verify.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>

#include "userspace/migrate/key_list.h"
#include "userspace/migrate/same_server.h"
#include "userspace/migrate/suspects.h"
#include "userspace/migrate/walk.h"
#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
// Between two saves, each of which waits for what is not certain yet: a tenth of the time, at most.
constexpr uint64_t kSaveNs = 1'000'000'000;
constexpr uint64_t kSettles = 10;

class Verify {
public:
  Verify(memcached::Connection &source, memcached::Connection &target, const VerifyOptions &options,
         const VerifyHooks &hooks, VerifyFile &file)
      : source_(source), target_(target), options_(options), hooks_(hooks), file_(file),
        pace_(options.rate),
        suspects_(source, target, options.settle_ms * 1'000'000ULL, pace_, !options.stale_ok,
                  [this](const Suspect &s, Verdict v, bool won, bool target_won) {
                    target_tokens_ += target_won ? 1 : 0;
                    return judged(s, v, won);
                  }) {}

  Result<VerifyCounts> run() {
    begin_ns_ = saved_ns_ = monotonic_ns();
    TRY(check_servers());
    if (file_.progress()) {
      at_ = *file_.progress();
      counts_ = at_.counts;
      seen_ = at_.seen;
    }
    if (options_.sample) {
      TRY(walk_sample(TRY(list_keys(source_))));
      if (options_.both_ways)
        TRY(walk_extra_sample(TRY(list_keys(target_))));
    } else {
      TRY(walk_all());
    }
    TRY(suspects_.finish());
    TRY(status_of_token());
    tell_target_tokens();
    counts_.seconds = seconds();
    file_.remove();
    return counts_;
  }

private:
  Status check_servers() {
    for (memcached::Connection *c : {&source_, &target_}) {
      const auto features = TRY(readable(*c));
      if (!features.cas && c == &source_ && hooks_.warning)
        hooks_.warning(c->server().text() + ": has no CAS (-C), so what was stored again with the "
                                            "same value between two looks is not seen");
    }
    return differ(source_, target_);
  }

  Status walk_all() {
    const auto list = TRY(file_.source_list(source_, !file_.progress()));
    of_ = at_.source_keys = list.keys;
    at_.source_bytes = list.sum.bytes;
    at_.source_crc = list.sum.crc;
    if (!at_.at_extra) {
      TRY(save(at_.offset));
      TRY(walk(list));
    }
    const auto targets = TRY(file_.target_list(target_, !at_.at_extra));
    of_ += targets.keys;
    if (!at_.at_extra) {
      at_.at_extra = true;
      at_.target_keys = targets.keys;
      at_.target_bytes = targets.sum.bytes;
      at_.target_crc = targets.sum.crc;
      TRY(settle());
      TRY(save(0));
    }
    TRY(walk_extra(targets));
    return count_unnamed(list, targets);
  }

  // Nobody can be asked for a key that no line of text can name. What the source's list has of them
  // counts already.
  Status count_unnamed(const KeyList &source, const KeyList &target) {
    const auto wanted = [this](const std::string &key) { return is_unnamed(key); };
    if (at_.unnamed > 0)
      counts_.unreadable += TRY(count_absent(target, source, wanted));
    return Unit{};
  }

  bool is_unnamed(const std::string &key) const {
    return key.starts_with(options_.prefix) && !memcached::has_name(key);
  }

  // Those that differed at the first look are judged: what is saved is certain.
  Status settle() {
    if (!file_.is_kept())
      return Unit{};
    TRY(suspects_.finish());
    return status_of_token();
  }

  // The next line is at that offset.
  Status save(uint64_t offset) {
    saved_ns_ = monotonic_ns();
    if (!file_.is_kept())
      return Unit{};
    at_.offset = offset;
    at_.counts = counts_;
    at_.counts.seconds = seconds();
    at_.seen = seen_;
    at_.listed = hooks_.listed ? hooks_.listed() : 0;
    return file_.save(at_);
  }

  bool is_save_due() const {
    const uint64_t settle_ns = options_.settle_ms * 1'000'000ULL;
    return file_.is_kept() && monotonic_ns() - saved_ns_ >= std::max(kSaveNs, kSettles * settle_ns);
  }

  double seconds() const {
    const double before = file_.progress() ? file_.progress()->counts.seconds : 0;
    return before + static_cast<double>(monotonic_ns() - begin_ns_) / 1e9;
  }

  Status walk_sample(const KeyList &list) {
    const auto offsets = TRY(
        sample_of(list, options_.prefix, *options_.sample, std::random_device{}(), counts_.keys));
    of_ = offsets.size();
    counts_.unseen = counts_.keys - of_;
    Batch batch(pace_.most_keys());
    for (const uint64_t offset : offsets) {
      auto line = TRY(line_at(list, offset));
      TRY(add(batch, line));
    }
    return look(batch);
  }

  Status walk_extra_sample(const KeyList &list) {
    uint64_t keys = 0;
    const auto offsets =
        TRY(sample_of(list, options_.prefix, *options_.sample, std::random_device{}(), keys));
    of_ += offsets.size();
    Batch batch(pace_.most_keys());
    for (const uint64_t offset : offsets) {
      auto line = TRY(line_at(list, offset));
      if (is_unnamed(line.key) || batch.add(line.key, 0))
        continue;
      TRY(look_for_extra(batch));
      batch.add(std::move(line.key), 0);
    }
    return look_for_extra(batch);
  }

  bool with_prefix(const memcached::DumpLine &line) {
    const bool wanted = line.key.starts_with(options_.prefix);
    counts_.keys += wanted ? 1 : 0;
    seen_ += wanted ? 0 : 1;
    return wanted;
  }

  // Lines that are none of a dump since this was asked.
  uint64_t strange_lines(ListReader &reader) {
    const uint64_t n = reader.take_unreadable();
    counts_.unreadable += n;
    seen_ += n;
    return n;
  }

  Status walk(const KeyList &list) {
    ListReader reader(list.file.get(), std::max(at_.offset, list.start));
    Batch batch(pace_.most_keys());
    memcached::DumpLine line;
    while (reader.next(line)) {
      if (is_save_due()) {
        TRY(look(batch));
        TRY(settle());
        counts_.keys += strange_lines(reader);
        TRY(save(reader.offset()));
      }
      if (with_prefix(line))
        TRY(add(batch, line));
    }
    TRY(reader.status());
    counts_.keys += strange_lines(reader);
    return look(batch);
  }

  Status add(Batch &batch, memcached::DumpLine &line) {
    if (batch.add(line.key, line.size))
      return Unit{};
    TRY(look(batch));
    batch.add(std::move(line.key), line.size);
    return Unit{};
  }

  // The first look at a batch, which is empty then.
  Status look(Batch &batch) {
    if (batch.empty())
      return Unit{};
    const auto &keys = batch.keys();
    pace_.wait(keys.size());
    sources_.assign(keys.size(), {});
    targets_.assign(keys.size(), {});
    const uint64_t now = monotonic_ns();
    TRY(read_items({{&source_, [&](size_t i, const Seen &s) { sources_[i] = print_of(s, now); }},
                    {&target_, [&](size_t i, const Seen &s) { targets_[i] = print_of(s, now); }}},
                   keys));
    const uint64_t took = monotonic_ns() - now;
    for (size_t i = 0; i < keys.size(); i++) {
      target_tokens_ += targets_[i].won ? 1 : 0;
      looked(keys[i], sources_[i], compare(sources_[i], targets_[i]));
    }
    seen_ += keys.size();
    batch.clear(took);
    TRY(status_of_token());
    TRY(suspects_.look_again());
    tell();
    return Unit{};
  }

  void looked(const std::string &key, const Print &source, Difference difference) {
    token_taken_ = token_taken_ || source.won;
    switch (difference) {
    case Difference::none:
      counts_.equal++;
      counts_.compared++;
      break;
    case Difference::absent:
      counts_.gone++;
      break;
    case Difference::stale:
      counts_.stale++;
      break;
    case Difference::unreadable:
      counts_.unreadable++;
      break;
    case Difference::extra: // deleted, evicted or expired since the list was made
      if (options_.sample)
        suspects_.add(key, source, difference);
      else
        counts_.gone++; // the target's list, which is made later, has it if it stays
      break;
    default:
      suspects_.add(key, source, difference);
    }
  }

  // The other direction: what only the target has. The source is asked by `me`.
  Status walk_extra(const KeyList &list) {
    ListReader reader(list.file.get(), std::max(at_.offset, list.start));
    Batch batch(pace_.most_keys());
    memcached::DumpLine line;
    while (reader.next(line)) {
      if (is_save_due()) {
        TRY(look_for_extra(batch));
        TRY(settle());
        strange_lines(reader);
        TRY(save(reader.offset()));
      }
      const bool unnamed = is_unnamed(line.key);
      at_.unnamed += unnamed ? 1 : 0;
      if (unnamed || !line.key.starts_with(options_.prefix)) {
        seen_++;
      } else if (!batch.add(line.key, 0)) {
        TRY(look_for_extra(batch));
        batch.add(std::move(line.key), 0);
      }
    }
    TRY(reader.status());
    strange_lines(reader);
    return look_for_extra(batch);
  }

  Status look_for_extra(Batch &batch) {
    if (batch.empty())
      return Unit{};
    const auto &keys = batch.keys();
    pace_.wait(keys.size());
    counts_.target_keys += keys.size();
    TRY(keep_open(target_));
    TRY(read_standings(source_, keys, [&](size_t i, const memcached::Standing *s) {
      if (!s)
        suspects_.add(keys[i], {}, Difference::extra);
      token_taken_ = token_taken_ || (s && s->won);
    }));
    TRY(status_of_token());
    seen_ += keys.size();
    batch.clear();
    TRY(suspects_.look_again());
    tell();
    return Unit{};
  }

  // The target is asked for nothing else meanwhile, and may close what is quiet (-o idle_timeout).
  Status keep_open(memcached::Connection &c) {
    constexpr uint64_t kQuietNs = 500'000'000;
    const uint64_t now = monotonic_ns();
    if (now - kept_ns_ < kQuietNs)
      return Unit{};
    kept_ns_ = now;
    return c.converse("mn\r\n", [](const memcached::Answer &) { return false; });
  }

  Status judged(const Suspect &s, Verdict verdict, bool won) {
    token_taken_ = token_taken_ || won;
    TRY(status_of_token());
    switch (verdict) {
    case Verdict::equal:
      counts_.equal++;
      counts_.compared++;
      return Unit{};
    case Verdict::moving:
      counts_.moving++;
      return Unit{};
    case Verdict::gone:
      counts_.gone++;
      return Unit{};
    case Verdict::stale:
      counts_.stale++;
      return Unit{};
    case Verdict::unreadable:
      counts_.unreadable++;
      return Unit{};
    case Verdict::differs:
      break;
    }
    counts_.compared += s.difference == Difference::extra ? 0 : 1;
    counter_of(s.difference)++;
    return hooks_.differs ? hooks_.differs(s.key, s.difference) : Unit{};
  }

  uint64_t &counter_of(Difference d) {
    switch (d) {
    case Difference::missing:
      return counts_.missing;
    case Difference::different:
      return counts_.different;
    case Difference::flags:
      return counts_.flags;
    case Difference::ttl:
      return counts_.ttl;
    default:
      return counts_.extra;
    }
  }

  Status status_of_token() const {
    if (!token_taken_ || options_.stale_ok)
      return Unit{};
    return token_error(source_);
  }

  void tell_target_tokens() const {
    if (target_tokens_ > 0 && hooks_.warning)
      hooks_.warning(target_.server().text() + ": " + std::to_string(target_tokens_) +
                     " items are marked as stale there (md with I), and reading them took the "
                     "tokens by which its own clients would renew them");
  }

  void tell() const {
    if (hooks_.progress)
      hooks_.progress(counts_, seen_, of_);
  }

  memcached::Connection &source_, &target_;
  const VerifyOptions &options_;
  const VerifyHooks &hooks_;
  VerifyFile &file_;
  VerifyProgress at_; // as saved last
  uint64_t begin_ns_ = 0, saved_ns_ = 0, kept_ns_ = 0;
  Pace pace_;
  VerifyCounts counts_;
  Suspects suspects_;
  std::vector<Print> sources_, targets_; // of one batch
  uint64_t seen_ = 0, of_ = 0;           // lines of lists
  bool token_taken_ = false;
  uint64_t target_tokens_ = 0;
};

} // namespace

Interval wilson95(uint64_t good, uint64_t of, uint64_t population) {
  if (of == 0)
    return {};
  const double p = static_cast<double>(good) / static_cast<double>(of);
  if (population <= of)
    return {p, p};
  constexpr double z = 1.959964; // 97.5 % of the normal distribution
  const auto all = static_cast<double>(population);
  // Its variance is p (1 - p) / of * (all - of) / (all - 1): that of a sample of n with putting
  // back.
  const double n = static_cast<double>(of) * (all - 1) / static_cast<double>(population - of);
  const double middle = (p + z * z / (2 * n)) / (1 + z * z / n);
  const double half = z / (1 + z * z / n) * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  // Keys are whole, and what was seen is certain: a single one that differs may be among few that
  // were not looked at.
  const double least = std::max(std::floor((middle - half) * all), static_cast<double>(good));
  const double most =
      std::min(std::ceil((middle + half) * all), all - static_cast<double>(of - good));
  return {good == 0 ? 0 : least / all, good == of ? 1 : most / all};
}

std::string identity(const memcached::Connection &source, const memcached::Connection &target,
                     const VerifyOptions &o) {
  return source.server().text() + " to " + target.server().text() + ", keys " + o.prefix +
         (o.stale_ok ? ", stale ones as well" : "");
}

Result<VerifyCounts> verify(memcached::Connection &source, memcached::Connection &target,
                            const VerifyOptions &options, const VerifyHooks &hooks,
                            VerifyFile &file) {
  return Verify(source, target, options, hooks, file).run();
}

} // namespace doppel::migrate
