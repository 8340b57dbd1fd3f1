// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "userspace/memcached/stats.h"
#include "userspace/migrate/key_list.h"
#include "userspace/migrate/same_server.h"
#include "userspace/migrate/side.h"
#include "userspace/migrate/walk.h"
#include "userspace/migrate/warm_context.h"
#include "userspace/migrate/warm_engine.h"
#include "userspace/migrate/warm_extra.h"
#include "userspace/migrate/warm_lock.h"
#include "userspace/util/clock.h"
#include "userspace/util/text.h"

namespace doppel::migrate {
namespace {
using memcached::Connection;
using memcached::flushes_since;
using memcached::number;

// What cannot be guaranteed is said before anything is written.
Status check_cas(const Side &source, const Side &target, const WarmOptions &o, const Tell &tell) {
  if (source.has_cas() && target.has_cas())
    return Unit{};
  const Side &without = source.has_cas() ? target : source;
  const std::string name = without.connection->server().text();
  if (o.repair)
    return Error{name, "runs without CAS (-C), by which --repair sees that nobody writes meanwhile",
                 "leave out --repair", Exit::failure};
  if (!o.without_cas)
    return Error{name,
                 "runs without CAS (-C): a key that is deleted or changed while it is copied may "
                 "come back as it was",
                 "--without-cas copies all the same", Exit::failure};
  tell(name + " runs without CAS (-C): sizes and times to live alone tell whether a key changed "
              "while it was copied; let nobody write meanwhile, or verify afterwards");
  return Unit{};
}

void tell_fit(const Side &source, const Side &target, const Tell &tell) {
  const uint64_t source_max = source.item_size_max();
  const uint64_t target_max = target.item_size_max();
  if (target_max && target_max < source_max)
    tell("the target takes items of up to " + std::to_string(target_max) +
         " bytes only, the source of " + std::to_string(source_max) +
         " (-I): larger ones are not copied, and a mirrored set of one deletes it on the target");
  if (target.most_flags() < source.most_flags())
    tell("the target keeps client flags of 32 bits only, the source of 64 "
         "(--enable-large-client-flags): items with larger ones are not copied, and a mirrored set "
         "of one loses their upper half on the target");
  const uint64_t bytes = number(source.stats, "bytes");
  const uint64_t memory = number(target.stats, "limit_maxbytes");
  const uint64_t flash = memcached::flash_limit(target.stats);
  if (memory && bytes > memory + flash)
    tell("the target has " + std::to_string(memory) + " bytes of memory" +
         (flash ? " and " + std::to_string(flash) + " of flash" : "") + " for the " +
         std::to_string(bytes) + " that the source holds: warm stops when it begins to evict");
}

std::string identity(const WarmOptions &o) {
  return o.source.text() + " to " + o.target.text() + " keys " + in_quotes(o.prefix) +
         (o.repair ? " repair" : "");
}

// A source that is nearly empty has lost what it had: its target is the better one of the two. So
// it is for the part that --prefix chooses.
Status check_extra(const Side &source, const Side &target, const WarmOptions &o) {
  constexpr uint64_t kFew = 1000;
  uint64_t extra = number(target.stats, "curr_items");
  if (!o.delete_extra || extra < kFew)
    return Unit{};
  uint64_t has = number(source.stats, "curr_items");
  if (!o.prefix.empty()) {
    extra = TRY(count_keys(*target.connection, o.prefix));
    has = extra < kFew ? extra : TRY(count_keys(*source.connection, o.prefix));
  }
  if (extra < kFew || has >= extra / 2)
    return Unit{};
  const std::string part = o.prefix.empty() ? "" : " that begin with " + in_quotes(o.prefix);
  return Error{o.source.text(),
               "has " + std::to_string(has) + " items" + part + " only, and " + o.target.text() +
                   " " + std::to_string(extra) + ": --delete-extra would delete most of them",
               o.prefix.empty() ? "if the target is to be emptied, flush_all does it"
                                : "if they are to go, the application deletes them on the target",
               Exit::failure};
}

void nap(uint64_t ns, const std::atomic<bool> &stop) {
  for (const uint64_t until = monotonic_ns() + ns; monotonic_ns() < until && !stop;)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

// Another connection to a server, where one broke.
struct Reopened {
  Result<std::unique_ptr<Connection>> connection;
  bool is_anew = false; // the server was started since warm began
};

Reopened reopen(const memcached::Server &server, const memcached::Access &access,
                const std::string &start) {
  Reopened r{Connection::open(server, access)};
  if (r.connection) {
    const auto now = incarnation(**r.connection);
    r.is_anew = now && *now != start;
  }
  return r;
}

Error started_anew(const memcached::Server &server, const std::string &lost, const WarmOptions &o) {
  const std::string remove = o.resume.empty() ? "" : "remove " + o.resume + ", ";
  return {server.text(), "was started anew meanwhile: " + lost + " is gone",
          remove + "warm anew, and verify afterwards", Exit::failure};
}

// Copies whose confirmation failed with a connection. With a file that is whole the next warm drops
// them; else they are deleted here, if the target can be reached. A target that was started anew
// has none of them.
Errors give_back(Errors errors, WarmEngine &engine, const WarmContext &c) {
  const WarmOptions &o = c.options;
  const auto n = engine.unconfirmed();
  if (n > 0)
    nap(c.settle_ns, c.stop); // what the broken connection still holds arrives first
  auto [target, target_anew] = reopen(o.target, memcached::to_write(o.access), c.target_start);
  auto [source, source_anew] = reopen(o.source, o.access, c.source_start);
  if (source_anew)
    errors.push_back(started_anew(o.source, "what it had", o));
  if (target_anew)
    errors.push_back(started_anew(o.target, "what was copied to it", o));
  if (n == 0 || target_anew)
    return errors;
  if (!o.resume.empty() && !c.list.is_damaged() && !source_anew) {
    errors.push_back({o.resume, std::to_string(n) + " copies are not confirmed yet",
                      "the same command goes on where this one ended", Exit::failure});
    return errors;
  }
  if (target) {
    // One that was started anew knows of nothing that its clients deleted.
    const bool can_tell = source && !source_anew;
    const auto deleted = engine.give_back(can_tell ? source->get() : nullptr, **target);
    if (deleted) {
      errors.push_back({o.target.text(),
                        std::to_string(*deleted) + " of " + std::to_string(n) +
                            " copies that were not confirmed are deleted again" +
                            (can_tell ? ": those that the source has changed" : ""),
                        "doppel verify --all tells which keys differ", Exit::failure});
      return errors;
    }
  }
  errors.push_back({o.target.text(),
                    std::to_string(n) +
                        " copies are there that were not confirmed: what the source "
                        "deleted meanwhile may be among them",
                    "doppel verify --all tells which differ", Exit::failure});
  return errors;
}

Status run(WarmEngine &engine, const WarmContext &c) {
  if (auto done = engine.run(); !done)
    return give_back(done.errors(), engine, c);
  return c.list.settle(c.report.undone == 0);
}

// Keys that were removed from the target, and are at the source again: what the mirror brings of
// them met the removal in another order than it would have met the source's item. A signal does not
// end it.
Status repair_returned(const WarmContext &c, std::vector<std::string> keys) {
  if (keys.empty())
    return Unit{};
  WarmOptions options = c.options;
  options.repair = c.has_cas;
  options.resume.clear();
  auto none = TRY(WarmList::open("", "", ""));
  const std::atomic<bool> never = false;
  const WarmContext rest = c.with(options, none, never);
  WarmEngine engine(rest);
  for (std::string &key : keys)
    engine.take(std::move(key));
  return run(engine, rest);
}

// A flush_all that the mirror brought was the source's as well, which may be about to execute it.
Status note_flushes(WarmContext &c) {
  const uint64_t here = flushes_since(TRY(memcached::stats(c.target)), c.target_flushes);
  if (here == 0)
    return Unit{};
  TRY(KeepAlive({&c.source, &c.target}).rest(monotonic_ns() + c.settle_ns, &c.stop));
  c.report.flushed = here > flushes_since(TRY(memcached::stats(c.source)), c.source_flushes);
  return Unit{};
}

// Where a warm goes on that began earlier: what clients did meanwhile is on the target.
Status check_mirror(Barrier &barrier, const WarmOrigin &origin, const WarmOptions &o) {
  const std::string what = barrier.go_on_from(origin.barrier);
  if (what.empty())
    return Unit{};
  return Error{o.resume,
               "cannot be gone on with: " + what +
                   ", so that what clients have written since need not be on the target",
               "remove it, warm anew, and then doppel verify --all, or doppel warm --repair "
               "--delete-extra",
               Exit::failure};
}

// So is what that one copied.
Status check_copies(WarmContext &c) {
  const auto lost = [&](const std::string &how) {
    return Error{c.options.target.text(), how + " since the warm of " + c.options.resume + " began",
                 "remove " + c.options.resume + ", and warm anew", Exit::failure};
  };
  TRY(note_flushes(c));
  if (c.report.flushed)
    return lost("was flushed (flush_all), so that what was copied is gone,");
  const uint64_t evicted = note_evictions(c, TRY(memcached::stats(c.target)));
  if (evicted > 0)
    return lost("has evicted " + std::to_string(evicted) + " items, copies among them perhaps,");
  return Unit{};
}

Status copy(WarmContext &c, const Tell &tell) {
  if (c.options.dry_run)
    return dry_run(c);
  if (c.list.is_resumed()) {
    tell("goes on where the last one ended: what that one had begun is copied anew");
    TRY(KeepAlive({&c.source, &c.target}).rest(monotonic_ns() + c.settle_ns, &c.stop));
    TRY(check_copies(c));
  }
  WarmEngine engine(c);
  return run(engine, c);
}

// Keys of the source of which it is known what came of them.
uint64_t judged(const WarmReport &r) {
  return r.added + r.present + r.repaired + r.gone + r.stale + r.moving + r.undone + r.too_large +
         r.wide_flags + r.failed;
}

// A server that was started anew after all was copied took with it what it had.
Errors note_restarts(Errors errors, const WarmContext &c) {
  const WarmOptions &o = c.options;
  const auto note = [&](const memcached::Server &server, const std::string &start,
                        const char *lost) {
    const Error anew = started_anew(server, lost, o);
    const bool told = std::any_of(errors.begin(), errors.end(),
                                  [&](const Error &e) { return e.what == anew.what; });
    if (!told && reopen(server, o.access, start).is_anew)
      errors.push_back(anew);
  };
  note(o.source, c.source_start, "what it had");
  note(o.target, c.target_start, "what was copied to it");
  return errors;
}

// What is told once nothing is copied any more.
Status look_once_more(WarmContext &c) {
  (void)TRY(pass(c));
  c.report.missed_bytes = TRY(c.barrier.missed_bytes());
  note_evictions(c, TRY(memcached::stats(c.target)));
  TRY(note_flushes(c));
  c.report.evicting = c.report.evicting || (c.report.evicted > 0 && !c.options.dry_run);
  c.report.interrupted = c.stop;
  return Unit{};
}

Status finish(WarmContext &c) {
  if (c.options.delete_extra && !c.is_stopping())
    TRY(repair_returned(c, TRY(delete_extra_keys(c))));
  return look_once_more(c);
}

} // namespace

Result<WarmReport> warm(const WarmOptions &o, const Tell &tell, const std::atomic<bool> &stop) {
  auto target = TRY(open_side(o.target, memcached::to_write(o.access)));
  const auto lock = TRY(lock_target(*target.connection));
  auto source = TRY(open_side(o.source, o.access));
  TRY(differ(*source.connection, *target.connection));
  TRY(not_against_mirror(o.source, o.target, o.access));
  for (const Side *side : {&source, &target})
    TRY(memcached::no_pending_flush(*side->connection, side->stats, side->settings));
  TRY(check_cas(source, target, o, tell));
  TRY(check_extra(source, target, o));
  tell_fit(source, target, tell);
  auto found = find_barrier(o.source, o.target, o.access);
  if (!found.note.empty())
    tell(found.note);

  const uint64_t begin_ns = monotonic_ns();
  const std::string source_start = TRY(incarnation(*source.connection));
  const std::string target_start = TRY(incarnation(*target.connection));
  // A file of before one of them was started anew is about items that are not there any more.
  auto list = TRY(
      WarmList::open(o.dry_run ? "" : o.resume, identity(o), source_start + " to " + target_start));
  // A file of which nothing was stored begins anew.
  if (list.is_resumed())
    TRY(check_mirror(*found.barrier, list.origin(), o));
  else
    TRY(list.fill(*source.connection,
                  {found.barrier->start(), number(source.stats, "cmd_flush"),
                   number(target.stats, "cmd_flush"), memcached::evictions(target.stats)}));
  const WarmClock clock = TRY(clock_of(*target.connection));
  WarmReport report;
  report.keys = o.prefix.empty() ? list.keys() : 0;
  report.dry_run = o.dry_run;
  WarmContext c{o,   *source.connection, *target.connection, clock, list, *found.barrier, report,
                stop};
  c.has_cas = source.has_cas() && target.has_cas();
  c.copies_cas = c.has_cas && target.features.set_cas;
  c.has_me = source.features.me;
  c.target_has_me = target.features.me;
  c.target_item_max = target.item_size_max();
  c.target_most_flags = target.most_flags();
  c.target_evictions = list.origin().target_evictions;
  c.source_flushes = list.origin().source_flushes;
  c.target_flushes = list.origin().target_flushes;
  const auto full = target.settings.find("evictions");
  c.refuses_when_full = full != target.settings.end() && full->second == "off";
  c.settle_ns = static_cast<uint64_t>(o.settle_s * 1e9);
  c.source_start = source_start;
  c.target_start = target_start;

  const bool is_resumed = list.is_resumed();
  TRY(copy(c, tell));
  if (auto done = finish(c); !done)
    return note_restarts(done.errors(), c);
  if (!c.is_stopping())
    list.remove();
  report.seconds = static_cast<double>(monotonic_ns() - begin_ns) / 1e9;
  report.keys_per_s = static_cast<double>(judged(report)) / std::max(report.seconds, 1e-3);
  report.no_key =
      !o.prefix.empty() && !is_resumed && !c.is_stopping() && report.keys + report.deleted == 0;
  return report;
}

} // namespace doppel::migrate
