// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/warm_model.h"

#include <array>
#include <utility>

namespace doppel::migrate::model {
namespace {
class Explorer {
public:
  explicit Explorer(const World &world) : world_(world), all_(kinds_of(world.alphabet)) {}
  Found run();

private:
  void visit(State s, const char *what, const char *command = "");
  void next(const State &s);
  void next_commands(const State &s, unsigned c);
  void next_steps(const State &s);
  void next_copy(const State &s);
  void next_repair(const State &s);
  void crash(const State &s);
  static void contest(State &s);
  void judge(const State &s);

  Stored store(State &s, const Item &what, bool only_absent, uint64_t cas) const;
  Deleted remove(State &s, uint64_t cas) const;
  Look look(const State &s) const;
  std::string key_of(const State &s) const;
  unsigned equalities(const State &s) const;
  unsigned agreements(const State &s, const Item &copy) const;

  const World &world_;
  std::vector<Op> all_;
  Seen seen_;
  Path path_;
  Found found_;
};

// What matters of a state, so that states which only differ in names are one:
// * Of CAS values, which are equal: a new one is equal to none that was.
// * Of times to live, which are the same.
// * Of values on one connection, whether a copy is what the source has, once both are through with
//   what is pending: from each place of the queue on, since it may come to the target at any.
std::string Explorer::key_of(const State &s) const {
  StateKey k(s);
  const bool one = world_.connections == 1 && !world_.repair && !s.repairing;
  const auto put_item = [&](const Item &i) {
    k.put(i.there | i.warm << 1 | i.exact << 2 | k.name(i.there ? i.ends : 0) << 3);
    if (!one)
      k.put(i.there && (i.warm || &i != &s.target || world_.repair || s.repairing) ? i.value : 0);
  };
  const auto &seen = s.repairing ? s.repair.seen() : s.copy.seen();
  put_item(s.source);
  put_item(s.target);
  put_item(s.taken);
  put_item(s.in_flight);
  k.put((s.source.cas == seen.cas) | (s.source.cas == s.target.token) << 1 |
        (s.source.cas == s.taken.cas) << 2 | (s.target.cas == s.repair.target_cas()) << 3 |
        (s.target.cas == s.repair.stored_cas()) << 4 | (s.target.cas == s.copy.stored_cas()) << 5 |
        (s.copy.stored_cas() != 0) << 6 | seen.there << 7 | s.inverted << 8 | s.excused << 9 |
        s.repairing << 10 | s.repair.is_second() << 11 | (s.repair.stored_cas() != 0) << 12);
  k.put(static_cast<unsigned>(s.copy.step()) | static_cast<unsigned>(s.repair.step()) << 4 |
        s.copy.tries() << 8 | s.crashes << 10 | s.ops << 12);
  k.put(k.name(static_cast<uint8_t>(seen.ends == kNever ? 0 : seen.ends / 100)));
  k.put_connections(static_cast<uint16_t>(s.taken.cas), !one);
  if (one)
    for (const Item *item : {&s.target, &s.taken, &s.in_flight})
      k.put(agreements(s, *item));
  if (one)
    k.put(equalities(s));
  k.put(s.repair.bits());
  return k.text();
}

// Bit n: with the commands from place n of the queue on the copy becomes what the source has then.
unsigned Explorer::agreements(const State &s, const Item &copy) const {
  const Connection &c = s.connection[0];
  uint32_t cas = UINT32_MAX / 2;
  Item source = s.source;
  for (unsigned i = 0; c.at_target && i < c.pending; i++)
    change(source, c.queue[i], cas, s.expired, true);
  unsigned bits = 0;
  for (unsigned from = 0; from <= (c.at_target ? 0u : c.pending); from++) {
    Item item = copy;
    for (unsigned i = from; !c.at_target && i < c.pending; i++)
      change(item, c.queue[i], cas, s.expired, false);
    const bool same = item.there == source.there &&
                      (!item.there || (item.value == source.value && item.ends == source.ends));
    bits |= same << from;
  }
  return bits;
}

// Bit n: what the target has is what the source has when it has executed n more commands.
unsigned Explorer::equalities(const State &s) const {
  const Connection &c = s.connection[0];
  uint32_t cas = UINT32_MAX / 2;
  Item source = s.source;
  unsigned bits = 0;
  for (unsigned i = 0; i <= (c.at_target ? c.pending : 0u); i++) {
    bits |= static_cast<unsigned>(source.there && s.target.there &&
                                  source.value == s.target.value && source.ends == s.target.ends)
            << i;
    if (i < c.pending)
      change(source, c.queue[i], cas, s.expired, true);
  }
  return bits;
}

Stored Explorer::store(State &s, const Item &what, bool only_absent, uint64_t cas) const {
  if (only_absent && s.target.there)
    return Stored::there;
  if (!only_absent && !s.target.there)
    return Stored::absent;
  if (!only_absent && s.target.cas != cas)
    return Stored::changed;
  s.target = what;
  s.target.warm = s.target.exact = 1;
  s.target.token = world_.method.copies_cas ? static_cast<uint16_t>(what.cas) : 0;
  s.target.cas = s.next_target_cas++;
  if (!world_.method.keeps_ends)
    s.target.ends = 0;
  if (s.target.ends && (s.expired >> s.target.ends & 1))
    s.target.there = 0; // stored, and over at once
  return Stored::stored;
}

Deleted Explorer::remove(State &s, uint64_t cas) const {
  if (!s.target.there)
    return Deleted::absent;
  if (s.target.cas != cas)
    return Deleted::changed;
  s.target = {};
  return Deleted::deleted;
}

Look Explorer::look(const State &s) const {
  Look l;
  l.there = s.source.there;
  l.cas = s.source.there ? s.source.cas : 0;
  l.size = kSizeUnknown;
  l.ends = s.source.ends && world_.method.sees_ends ? s.source.ends * 100 : kNever;
  return l;
}

void Explorer::judge(const State &s) {
  found_.ends++;
  const Item &t = s.target, &o = s.source;
  found_.lacking += o.there && !t.there;
  if (!t.there || !t.warm)
    return;
  if (o.there && o.value == t.value && o.ends == t.ends)
    return;
  if (s.excused || (s.inverted && !t.exact))
    return;
  found_.wrong = true;
  found_.trace = text_of(path_);
  found_.trace += o.there ? "the source has another value" : "the source has none";
}

void Explorer::visit(State s, const char *what, const char *command) {
  s.over = (s.repairing ? s.repair.step() : s.copy.step()) == Step::done;
  if (found_.wrong || !seen_.insert(key_of(s)))
    return;
  found_.states++;
  path_.emplace_back(what, command);
  next(s);
  path_.pop_back();
}

void Explorer::next_commands(const State &s, unsigned c) {
  if (s.connection[c].pending) {
    State n = s;
    const uint8_t op = s.connection[c].queue[0].op;
    const bool at_target = n.deliver(c);
    visit(n, at_target ? "target gets " : "source executes ", name_of(op));
  }
  if (s.over || s.ops == world_.ops)
    return;
  for (const Op op : all_) {
    const char *name = name_of(static_cast<uint8_t>(op));
    if (State n = s; n.execute_new(c, op))
      visit(n, "source executes new ", name);
    if (State n = s; n.capture_new(c, op))
      visit(n, "target gets new ", name);
  }
}

void Explorer::crash(const State &s) {
  const Step step = s.repairing ? s.repair.step() : s.copy.step();
  if (s.crashes == world_.crashes || step == Step::done)
    return;
  State n = s;
  n.crashes++;
  n.taken = {};
  n.repairing = false;
  n.repair = {};
  n.copy = KeyCopy(world_.method.unsettled);
  n.owe_nothing();
  visit(n, "warm dies");
  if (step == Step::add && !s.in_flight.there) {
    n.in_flight = s.taken;
    visit(n, "warm dies as it has sent its add");
  }
}

void Explorer::contest(State &s) {
  if (s.copy.outcome() != Outcome::contested)
    return;
  s.repairing = true;
  s.repair = KeyRepair(static_cast<uint8_t>(s.copy.tries() + 1));
  s.taken = {};
}

void Explorer::next_copy(const State &s) {
  State n = s;
  switch (s.copy.step()) {
  case Step::await:
    if (world_.method.awaits && s.in_flight.there)
      return;
    n.copy.awaited();
    return visit(n, "warm has awaited what the dead one sent");
  case Step::drop:
    n.target = {};
    n.copy.dropped();
    return visit(n, "warm drops it");
  case Step::read:
    n.copy.read(look(s));
    n.taken = s.source;
    n.taken.warm = n.taken.exact = 0;
    n.owe_copies();
    return visit(n, "warm reads");
  case Step::drain:
    if (world_.method.drains && !s.is_drained())
      return;
    n.owe_nothing();
    n.copy.drained();
    return visit(n, "warm has drained");
  case Step::add: {
    const auto answer = store(n, s.taken, true, 0);
    n.copy.added(answer, n.target.cas);
    n.owe_executions();
    return visit(n, answer == Stored::stored ? "warm adds" : "warm's add finds it there");
  }
  case Step::settle:
    if (world_.method.settles && !s.is_settled())
      return;
    n.owe_nothing();
    n.copy.settled();
    return visit(n, "warm has settled");
  case Step::confirm:
    n.copy.confirmed(world_.method.confirms ? look(s) : s.copy.seen(), IfChanged::compare);
    contest(n);
    return visit(n, "warm confirms");
  case Step::undo: {
    auto answer = remove(n, s.copy.stored_cas());
    if (answer == Deleted::changed && !world_.method.compares)
      answer = Deleted::deleted;
    n.copy.undone(answer, IfChanged::compare);
    contest(n);
    return visit(n, answer == Deleted::changed ? "warm's undo finds it changed" : "warm undoes");
  }
  default:
    return;
  }
}

void Explorer::next_repair(const State &s) {
  State n = s;
  switch (s.repair.step()) {
  case Step::read:
    n.repair.read(look(s));
    n.taken = s.source;
    n.owe_copies();
    return visit(n, "repair reads");
  case Step::drain:
    if (world_.method.drains && !s.is_drained())
      return;
    n.owe_nothing();
    n.repair.drained();
    return visit(n, "repair has drained");
  case Step::compare: {
    const bool equal =
        s.taken.there && s.target.value == s.taken.value && s.target.ends == s.taken.ends;
    n.repair.compared({s.target.there != 0, s.target.cas, equal});
    n.owe_executions();
    break;
  }
  case Step::replace: {
    const auto answer = store(n, s.taken, false, s.repair.target_cas());
    n.repair.replaced(answer, n.target.cas);
    n.owe_executions();
    break;
  }
  case Step::settle:
    if (world_.method.settles && !s.is_settled())
      return;
    n.owe_nothing();
    n.repair.settled();
    return visit(n, "repair has settled");
  case Step::confirm:
    n.repair.confirmed(world_.method.confirms ? look(s) : s.repair.seen(), IfChanged::compare);
    return visit(n, "repair confirms");
  case Step::undo:
    n.repair.undone(remove(n, s.repair.undo_cas()), IfChanged::compare);
    break;
  default:
    return;
  }
  if (n.repair.outcome() == Outcome::absent) {
    n.repairing = false; // a copy follows
    n.copy = KeyCopy(false, s.repair.tries());
    n.repair = {};
  }
  visit(n, "repair compares, replaces or undoes");
}

void Explorer::next(const State &s) {
  if (s.over) {
    found_.outcomes.insert(s.repairing ? s.repair.outcome() : s.copy.outcome());
    if (!s.is_pending())
      return judge(s);
  }
  for (unsigned c = 0; c < world_.connections; c++)
    next_commands(s, c);
  if (s.over)
    return;
  s.repairing ? next_repair(s) : next_copy(s);
  crash(s);
  if (s.in_flight.there) {
    State n = s;
    (void)store(n, s.in_flight, true, 0);
    n.in_flight = {};
    visit(n, "the dead warm's add arrives");
  }
  for (const Item *item : {&s.source, &s.target})
    if (s.may_expire(*item) && s.ops < world_.ops) {
      State n = s;
      n.expire(item->ends);
      visit(n, "it expires");
    }
}

Found Explorer::run() {
  for (const uint8_t there : {0, 1})
    for (const uint8_t ends : {0, 7}) {
      if (!there && ends)
        continue;
      State s;
      s.source.there = there;
      s.source.value = there;
      s.source.ends = ends;
      s.source.cas = there ? s.next_source_cas++ : 0;
      s.repairing = world_.repair;
      if (world_.repair) {
        s.target.there = 1;
        s.target.value = 2;
        s.target.cas = s.next_target_cas++;
      }
      visit(s, there ? ends ? "an item that ends" : "an item" : "no item");
    }
  return found_;
}

} // namespace

Found explore(const World &world) { return Explorer(world).run(); }

} // namespace doppel::migrate::model
