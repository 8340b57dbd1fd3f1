// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_extra.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "userspace/memcached/meta.h"
#include "userspace/migrate/warm_repair.h"
#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
constexpr size_t kKeys = 4096;      // looked at together
constexpr size_t kSuspects = 65536; // that wait for the second look together

struct Suspect {
  std::string key;
  KeyRemoval removal;
};

// How the item of each key stands, by `me` where the server knows it and repeats the key as it was
// asked for, which 1.6.18 does only for plain ones.
Status look(memcached::Connection &c, const WarmClock &clock, bool has_me,
            const std::vector<Suspect *> &keys,
            const std::function<void(Suspect &, const Look &)> &take) {
  std::string request, bad;
  std::vector<uint32_t> asked;
  for (uint32_t i = 0; i < keys.size(); i++)
    if (has_me && memcached::is_plain_key(keys[i]->key) ? request_look(request, keys[i]->key)
                                                        : request_peek(request, keys[i]->key, i))
      asked.push_back(i);
  if (asked.empty())
    return Unit{};
  size_t at = 0;
  TRY(c.converse(request, [&](const memcached::Answer &answer) {
    Suspect &s = *keys[asked[at]];
    if (has_me && memcached::is_plain_key(s.key)) {
      if (const auto a = look_answer(answer, s.key, clock); a && !a->failed)
        take(s, a->look);
      else
        bad = answer.line;
    } else if (const auto a = read_answer(answer, asked[at], clock); a && !a->failed) {
      take(s, a->look);
    } else {
      bad = answer.line;
    }
    return bad.empty() && ++at < asked.size();
  }));
  if (!bad.empty())
    return no_answer(c, bad);
  return Unit{};
}

std::vector<Suspect *> at_step(std::vector<Suspect> &all, Step step) {
  std::vector<Suspect *> chosen;
  for (Suspect &s : all)
    if (s.removal.step() == step)
      chosen.push_back(&s);
  return chosen;
}

// One look at both: the source first, so that what comes there later is not deleted.
Status look_at_both(const WarmContext &c, std::vector<Suspect> &all) {
  TRY(look(c.source, c.clock, c.has_me, at_step(all, Step::read),
           [](Suspect &s, const Look &l) { s.removal.read(l); }));
  if (!TRY(pass(c)))
    return Unit{};
  for (Suspect *s : at_step(all, Step::drain))
    s->removal.drained();
  return look(c.target, c.clock, false, at_step(all, Step::compare), [](Suspect &s, const Look &l) {
    s.removal.compared({l.there, l.cas, false});
  });
}

Status remove(const WarmContext &c, std::vector<Suspect> &all) {
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
      Suspect &s = *chosen[at];
      s.removal.undone(delete_answer(answer).value_or(Deleted::changed));
      c.report.deleted += s.removal.removed();
      return ++at < first + n;
    }));
  }
  return Unit{};
}

void settle(const WarmContext &c, std::vector<Suspect> &suspects) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(c.settle_ns);
  while (!c.stop && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  for (Suspect &s : suspects)
    s.removal.settled();
}

// Until each of them is there to stay, or gone for good. When it is interrupted, it ends with those
// that it has deleted.
Status decide(const WarmContext &context, std::vector<Suspect> &suspects,
              std::vector<std::string> &returned) {
  const std::atomic<bool> never = false;
  const WarmContext after = context.with(context.options, context.list, never);
  for (bool begun = false; !suspects.empty(); begun = true) {
    const WarmContext &c = begun ? after : context;
    settle(c, suspects);
    TRY(look_at_both(c, suspects));
    TRY(remove(c, suspects));
    for (Suspect &s : suspects)
      if (s.removal.returned())
        returned.push_back(s.key);
    std::erase_if(suspects, [](const Suspect &s) { return s.removal.step() != Step::settle; });
  }
  return Unit{};
}

} // namespace

Result<std::vector<std::string>> delete_extra_keys(const WarmContext &c) {
  auto list = TRY(WarmList::open("", "", ""));
  TRY(list.fill(c.target));
  std::vector<Suspect> batch, suspects;
  std::vector<std::string> returned;
  WarmList::Key key;
  for (bool more = true; more && !c.stop;) {
    batch.clear();
    while (batch.size() < kKeys && (more = TRY(list.next(c.options.prefix, key))))
      if (memcached::has_name(key.key))
        batch.push_back({key.key, {}});
      else
        c.report.unnamed++;
    TRY(look_at_both(c, batch));
    for (Suspect &s : batch)
      if (s.removal.step() == Step::settle)
        suspects.push_back(std::move(s));
    if (!more || suspects.size() >= kSuspects)
      TRY(decide(c, suspects, returned));
  }
  return returned;
}

namespace {
// What it would do by now, or with `end` all.
Status look_for_repairs(const WarmContext &c, WarmRepair &repair, bool end) {
  for (;;) {
    std::vector<RepairKey> absent;
    TRY(repair.step(monotonic_ns(), end, absent));
    c.report.added += absent.size();
    if (!end || repair.is_idle() || c.stop)
      return Unit{};
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

} // namespace

Status dry_run(const WarmContext &c) {
  WarmRepair repair(c);
  std::vector<Suspect> batch;
  WarmList::Key key;
  for (bool more = true; more && !c.stop;) {
    batch.clear();
    uint64_t unnamed = 0;
    while (batch.size() < kKeys && (more = TRY(c.list.next(c.options.prefix, key))))
      if (memcached::has_name(key.key))
        batch.push_back({key.key, {}});
      else
        unnamed++;
    c.report.keys += c.options.prefix.empty() ? 0 : batch.size() + unnamed;
    c.report.failed += unnamed;
    uint64_t there = 0, present = 0;
    std::vector<Suspect *> all, found;
    for (Suspect &s : batch)
      all.push_back(&s);
    TRY(look(c.source, c.clock, c.has_me, all, [&](Suspect &s, const Look &l) {
      there += l.there;
      if (l.there)
        found.push_back(&s);
    }));
    TRY(look(c.target, c.clock, false, found, [&](Suspect &s, const Look &l) {
      present += l.there;
      if (l.there && c.options.repair)
        repair.take(s.key, 0);
    }));
    c.report.gone += batch.size() - there;
    c.report.present += c.options.repair ? 0 : present; // else those that prove equal
    c.report.added += there - present;
    TRY(look_for_repairs(c, repair, false));
  }
  return look_for_repairs(c, repair, true);
}

} // namespace doppel::migrate
