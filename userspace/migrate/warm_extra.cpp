// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_extra.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "userspace/memcached/meta.h"
#include "userspace/migrate/ask.h"
#include "userspace/migrate/placeholders.h"
#include "userspace/migrate/warm_pace.h"
#include "userspace/migrate/warm_repair.h"
#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
constexpr size_t kKeys = 4096;      // looked at together
constexpr size_t kSuspects = 65536; // that wait for the second look together

struct ExtraKey {
  std::string key;
  KeyRemoval removal;
};

// How the item of each key stands, by `me` where the server knows it and repeats the key as it was
// asked for, which 1.6.18 does only for plain ones; else by `mg`, which may take a token.
bool is_peeked(bool has_me, const std::string &key) {
  return !has_me || !memcached::is_plain_key(key);
}

using TakeLook = std::function<void(ExtraKey &, const Look &, bool won)>;
Status look(memcached::Connection &c, const WarmClock &clock, bool has_me,
            const std::vector<ExtraKey *> &keys, const TakeLook &take) {
  std::string request, bad;
  std::vector<uint32_t> asked;
  for (uint32_t i = 0; i < keys.size(); i++)
    if (is_peeked(has_me, keys[i]->key) ? request_peek(request, keys[i]->key, i)
                                        : request_look(request, keys[i]->key))
      asked.push_back(i);
  if (asked.empty())
    return Unit{};
  size_t at = 0;
  TRY(c.converse(request, [&](const memcached::Answer &answer) {
    ExtraKey &s = *keys[asked[at]];
    if (!is_peeked(has_me, s.key)) {
      if (const auto a = look_answer(answer, s.key, clock); a && !a->failed)
        take(s, a->look, false);
      else
        bad = answer.line;
    } else if (const auto a = read_answer(answer, asked[at], clock); a && !a->failed) {
      take(s, a->look, a->won);
    } else {
      bad = answer.line;
    }
    return bad.empty() && ++at < asked.size();
  }));
  if (!bad.empty())
    return no_answer(c, bad);
  return Unit{};
}

// Looks at the source no faster than was told, and than it takes; the first that takes a token is
// the last.
class SourceLooks {
public:
  explicit SourceLooks(const WarmContext &c) : c_(c), pace_(c) {}
  // False: it was interrupted, and the rest was not looked at.
  Result<bool> look_at(const std::vector<ExtraKey *> &keys, const TakeLook &take);
  // Neither a token nor a signal is a reason to leave something out.
  void must(bool all) { must_ = all; }
  SourcePace &pace() { return pace_; }
  size_t most_keys() const { return std::min<uint64_t>(kKeys, pace_.pressure().most_keys()); }

private:
  const WarmContext &c_;
  SourcePace pace_;
  bool must_ = false;
};

Result<bool> SourceLooks::look_at(const std::vector<ExtraKey *> &keys, const TakeLook &take) {
  size_t few = c_.options.stale_ok ? kKeys : 1;
  for (size_t at = 0; at < keys.size();) {
    const bool is_stopping = c_.is_stopping() || !TRY(pace_.wait());
    if (is_stopping && !must_)
      return false;
    const size_t most = is_stopping ? kKeys : most_keys();
    std::vector<ExtraKey *> some;
    for (size_t peeked = 0; at < keys.size() && some.size() < most && peeked < few; at++) {
      peeked += is_peeked(c_.has_me, keys[at]->key) ? 1 : 0;
      some.push_back(keys[at]);
    }
    pace_.pressure().took(some.size(), monotonic_ns());
    TRY(look(c_.source, c_.clock, c_.has_me, some, [&](ExtraKey &s, const Look &l, bool won) {
      c_.report.source_gets += l.there && is_peeked(c_.has_me, s.key) ? 1 : 0;
      if (won)
        note_token(c_);
      take(s, l, won);
    }));
    few = c_.options.stale_ok ? kKeys : more_at_risk(few);
  }
  return must_ || !c_.is_stopping();
}

std::vector<ExtraKey *> at_step(std::vector<ExtraKey> &all, Step step) {
  std::vector<ExtraKey *> chosen;
  for (ExtraKey &s : all)
    if (s.removal.step() == step)
      chosen.push_back(&s);
  return chosen;
}

// One look at both: the source first, so that what comes there later is not deleted. What was not
// looked at, as it was interrupted, is left where it is.
Status look_at_both(const WarmContext &c, SourceLooks &looks, std::vector<ExtraKey> &all) {
  if (!TRY(looks.look_at(at_step(all, Step::read),
                         [](ExtraKey &s, const Look &l, bool) { s.removal.read(l); })) ||
      !TRY(pass(c)))
    return Unit{};
  for (ExtraKey *s : at_step(all, Step::drain))
    s->removal.drained();
  return look(c.target, c.clock, c.target_has_me, at_step(all, Step::compare),
              [](ExtraKey &s, const Look &l, bool) {
                s.removal.compared({l.there, l.cas, false});
              });
}

Status remove(const WarmContext &c, std::vector<ExtraKey> &all) {
  const auto chosen = at_step(all, Step::undo);
  if (c.options.dry_run) {
    c.report.deleted += chosen.size();
    return Unit{};
  }
  for (size_t first = 0; first < chosen.size(); first += kKeys) {
    const size_t n = std::min(kKeys, chosen.size() - first);
    std::string request;
    for (size_t i = first; i < first + n; i++)
      request_delete(request, chosen[i]->key, chosen[i]->removal.target_cas());
    size_t at = first;
    TRY(c.target.converse(request, [&](const memcached::Answer &answer) {
      ExtraKey &s = *chosen[at];
      const bool before = s.removal.removed();
      s.removal.undone(delete_answer(answer).value_or(Deleted::changed));
      c.report.deleted += s.removal.removed() && !before ? 1 : 0;
      return ++at < first + n;
    }));
  }
  return Unit{};
}

Status settle(const WarmContext &c, SourcePace &pace, std::vector<ExtraKey> &suspects) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(c.settle_ns);
  while (!c.stop && std::chrono::steady_clock::now() < until) {
    TRY(pace.measure(monotonic_ns()));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  for (ExtraKey &s : suspects)
    s.removal.settled();
  return Unit{};
}

// Until each of them is there to stay, or gone for good. When it is interrupted, it ends with those
// that it has deleted.
Status decide(const WarmContext &context, SourceLooks &looks, std::vector<ExtraKey> &suspects,
              std::vector<std::string> &returned) {
  const std::atomic<bool> never = false;
  const WarmContext after = context.with(context.options, context.list, never);
  for (bool begun = false; !suspects.empty(); begun = true) {
    const WarmContext &c = begun ? after : context;
    TRY(settle(c, looks.pace(), suspects));
    looks.must(begun);
    TRY(look_at_both(c, looks, suspects));
    TRY(remove(c, suspects));
    for (ExtraKey &s : suspects)
      if (s.removal.returned())
        returned.push_back(s.key);
    std::erase_if(suspects, [](const ExtraKey &s) { return s.removal.step() != Step::settle; });
  }
  looks.must(false);
  return Unit{};
}

} // namespace

Result<std::vector<std::string>> delete_extra_keys(const WarmContext &c) {
  auto list = TRY(WarmList::open("", "", ""));
  TRY(list.fill(c.target));
  SourceLooks looks(c);
  TRY(looks.pace().begin());
  std::vector<ExtraKey> batch, suspects;
  std::vector<std::string> returned;
  WarmList::Key key;
  for (bool more = true; more && !c.is_stopping();) {
    batch.clear();
    while (batch.size() < looks.most_keys() && (more = TRY(list.next(c.options.prefix, key))))
      if (memcached::has_name(key.key))
        batch.push_back({key.key, {}});
      else
        c.report.unnamed++;
    TRY(look_at_both(c, looks, batch));
    for (ExtraKey &s : batch)
      if (s.removal.step() == Step::settle)
        suspects.push_back(std::move(s));
    if (!more || suspects.size() >= kSuspects)
      TRY(decide(c, looks, suspects, returned));
  }
  return returned;
}

namespace {
// What it would do by now, or with `end` all.
Status look_for_repairs(const WarmContext &c, SourcePace &pace, WarmRepair &repair, bool end) {
  for (;;) {
    std::vector<RepairKey> absent;
    TRY(pace.measure(monotonic_ns()));
    TRY(repair.step(monotonic_ns(), end, absent));
    c.report.added += absent.size();
    if (repair.is_idle() || c.is_stopping() || (!end && repair.held() < WarmRepair::kMostHeld))
      return Unit{};
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// The next keys of the list, and how long their items are.
Result<bool> next_keys(const WarmContext &c, size_t most, std::vector<ExtraKey> &batch,
                       std::vector<uint32_t> &sizes) {
  WarmList::Key key;
  uint64_t unnamed = 0;
  bool more = true;
  while (batch.size() < most && (more = TRY(c.list.next(c.options.prefix, key)))) {
    if (!memcached::has_name(key.key)) {
      unnamed++;
      continue;
    }
    batch.push_back({key.key, {}});
    sizes.push_back(key.size);
  }
  c.report.keys += c.options.prefix.empty() ? 0 : batch.size() + unnamed;
  c.report.failed += unnamed;
  return more;
}

// A copy replaces placeholders, by their CAS.
Status count_present(const WarmContext &c, const std::vector<std::string> &keys) {
  if (!c.has_cas) {
    c.report.present += keys.size();
    return Unit{};
  }
  for (const InPlace stands : TRY(find_placeholders(c.target, c.target_has_me, c.clock, keys)))
    ++(stands == InPlace::item ? c.report.present : c.report.added);
  return Unit{};
}

} // namespace

Status dry_run(const WarmContext &c) {
  SourceLooks looks(c);
  TRY(looks.pace().begin());
  WarmRepair repair(c, looks.pace().pressure());
  for (bool more = true; more && !c.is_stopping();) {
    std::vector<ExtraKey> batch;
    std::vector<uint32_t> sizes;
    more = TRY(next_keys(c, looks.most_keys(), batch, sizes));
    std::vector<ExtraKey *> all, found;
    for (ExtraKey &s : batch)
      all.push_back(&s);
    TRY(looks.look_at(all, [&](ExtraKey &s, const Look &l, bool won) {
      if (won)
        c.report.stale++;
      else if (l.there)
        found.push_back(&s);
      else
        c.report.gone++;
    }));
    std::vector<std::string> present;
    TRY(look(c.target, c.clock, c.target_has_me, found, [&](ExtraKey &s, const Look &l, bool) {
      if (!l.there)
        c.report.added++;
      else if (c.options.repair) // it counts if it proves equal
        repair.take({s.key, {}, 0, 0, sizes[static_cast<size_t>(&s - batch.data())]});
      else
        present.push_back(s.key);
    }));
    TRY(count_present(c, present));
    TRY(look_for_repairs(c, looks.pace(), repair, false));
  }
  return look_for_repairs(c, looks.pace(), repair, true);
}

} // namespace doppel::migrate
