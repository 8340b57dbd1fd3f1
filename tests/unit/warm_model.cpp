// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/warm_model.h"

#include <array>
#include <unordered_set>
#include <utility>

namespace doppel::migrate::model {
namespace {
class Explorer {
public:
  explicit Explorer(const World &world) : world_(world) {
    for (unsigned i = 0; world_.alphabet.empty() && i < static_cast<unsigned>(Op::count); i++)
      all_.push_back(static_cast<Op>(i));
    if (!world_.alphabet.empty())
      all_ = world_.alphabet;
  }
  Found run();

private:
  void visit(const State &s, const char *what, const char *command = "");
  void next(const State &s);
  void next_commands(const State &s, unsigned c);
  void next_steps(const State &s);
  void next_copy(const State &s);
  void next_repair(const State &s);
  void crash(const State &s);
  void judge(const State &s);

  void execute(State &s, unsigned c, Pending p, bool captured_before);
  void apply(State &s, const Pending &p);
  Stored store(State &s, const Item &what, bool only_absent, uint64_t cas) const;
  Deleted remove(State &s, uint64_t cas) const;
  Look look(const State &s) const;
  bool is_over(const State &s) const {
    return (s.repairing ? s.repair.step() : s.copy.step()) == Step::done;
  }
  std::string key_of(const State &s) const;
  unsigned agreements(const State &s, const Item &copy) const;

  const World &world_;
  std::vector<Op> all_;
  std::unordered_set<std::string> seen_;
  std::vector<std::pair<const char *, const char *>> path_;
  Found found_;
};

// What matters of a state, so that states which only differ in names are one:
// * Of CAS values, which are equal: a new one is equal to none that was.
// * Of times to live, which are the same.
// * Of values on one connection, whether a copy is what the source has, once both are through with
//   what is pending: from each place of the queue on, since it may come to the target at any.
std::string Explorer::key_of(const State &s) const {
  std::array<char, 256> k; // a std::string would take half of the time of all
  size_t length = 0;
  const auto put = [&](unsigned v) {
    k.at(length++) = static_cast<char>(v);
    k.at(length++) = static_cast<char>(v >> 8);
  };
  std::array<uint8_t, 16> names{};
  uint8_t next_name = 1;
  const auto name = [&](uint8_t ends) -> unsigned {
    if (!ends)
      return 0;
    if (!names[ends])
      names[ends] = next_name++;
    return names[ends] | (s.expired >> ends & 1u) << 3;
  };
  const bool one = world_.connections == 1 && !world_.repair;
  const auto put_item = [&](const Item &i) {
    put(i.there | i.warm << 1 | i.exact << 2 | name(i.there ? i.ends : 0) << 3);
    if (!one)
      put(i.there && (i.warm || &i != &s.target || world_.repair) ? i.value : 0);
  };
  const auto &seen = s.repairing ? s.repair.seen() : s.copy.seen();
  put_item(s.source);
  put_item(s.target);
  put_item(s.taken);
  put_item(s.in_flight);
  put((s.source.cas == seen.cas) | (s.source.cas == s.target.token) << 1 |
      (s.source.cas == s.taken.cas) << 2 | (s.target.cas == s.repair.target_cas()) << 3 |
      (s.target.cas == s.repair.stored_cas()) << 4 | (s.target.cas == s.copy.stored_cas()) << 5 |
      (s.copy.stored_cas() != 0) << 6 | seen.there << 7 | s.inverted << 8 | s.excused << 9 |
      s.repairing << 10 | s.repair.is_second() << 11 | (s.repair.stored_cas() != 0) << 12);
  put(static_cast<unsigned>(s.copy.step()) | static_cast<unsigned>(s.repair.step()) << 4 |
      s.copy.tries() << 8 | s.crashes << 10 | s.ops << 12);
  put(name(static_cast<uint8_t>(seen.ends == kNever ? 0 : seen.ends / 100)));
  for (const Connection &c : s.connection) {
    put(c.pending | c.at_target << 4 | c.owed << 5 | c.unexecuted << 8);
    for (unsigned i = 0; i < c.pending; i++) {
      const Pending &p = c.queue[i];
      put(p.op | p.late << 4 | (p.token == s.source.cas) << 5 | (p.token == s.target.token) << 6 |
          (p.token == s.taken.cas) << 7 | name(p.number) << 8);
      if (!one)
        put(p.number | p.rank << 8);
    }
  }
  if (one)
    for (const Item *item : {&s.target, &s.taken, &s.in_flight})
      put(agreements(s, *item));
  return {k.data(), length};
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

// `captured_before`: the target had it already, and it is the first of the queue.
void Explorer::execute(State &s, unsigned c, Pending p, bool captured_before) {
  Connection &me = s.connection[c];
  const Connection &other = s.connection[1 - c];
  const bool success = executes(s.source, p, true);
  if (p.op == static_cast<uint8_t>(Op::cas) && success && is_over(s))
    p.late = 1;
  change(s.source, p, s.next_source_cas, s.expired, true);
  if (captured_before) {
    // Executed after what the other connection has executed and the target has not had yet.
    if (other.pending && (!other.at_target || other.queue[0].rank < p.rank))
      s.inverted = true;
    for (unsigned i = 1; i < me.pending; i++)
      me.queue[i - 1] = me.queue[i];
    me.queue[--me.pending] = {};
    me.unexecuted -= me.unexecuted > 0;
    if (p.late) // it failed at the target, but for a CAS that was copied: see apply()
      s.excused = true;
  } else {
    if (other.at_target && other.pending)
      s.inverted = true;
    p.rank = s.next_rank++;
    me.at_target = 0;
    me.queue[me.pending++] = p;
  }
}

void Explorer::apply(State &s, const Pending &p) {
  if (p.late && !executes(s.target, p, false))
    s.excused = true;
  change(s.target, p, s.next_target_cas, s.expired, false);
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
  if (!t.there || !t.warm)
    return;
  if (o.there && o.value == t.value && o.ends == t.ends)
    return;
  if (s.excused || (s.inverted && !t.exact))
    return;
  found_.wrong = true;
  for (const auto &[what, command] : path_)
    found_.trace += std::string(what) + command + "\n";
  found_.trace += o.there ? "the source has another value" : "the source has none";
}

void Explorer::visit(const State &s, const char *what, const char *command) {
  if (found_.wrong || !seen_.insert(key_of(s)).second)
    return;
  found_.states++;
  path_.emplace_back(what, command);
  next(s);
  path_.pop_back();
}

void Explorer::next_commands(const State &s, unsigned c) {
  const Connection &me = s.connection[c];
  if (me.pending) {
    // The other of the two gets the oldest.
    State n = s;
    const Pending p = me.queue[0];
    if (me.at_target) {
      execute(n, c, p, true);
    } else {
      const Connection &other = s.connection[1 - c];
      if (other.pending && !other.at_target && other.queue[0].rank < p.rank)
        n.inverted = true;
      apply(n, p);
      Connection &q = n.connection[c];
      for (unsigned i = 1; i < q.pending; i++)
        q.queue[i - 1] = q.queue[i];
      q.queue[--q.pending] = {};
      q.owed -= q.owed > 0;
    }
    visit(n, me.at_target ? "source executes " : "target gets ", name_of(p.op));
  }
  if (is_over(s) || s.ops == world_.ops)
    return;
  for (const Op op : all_) { // a new one, at the source first, or at the target
    Pending p;
    p.op = static_cast<uint8_t>(op);
    p.number = static_cast<uint8_t>(s.ops + 1);
    p.token = op == Op::cas ? static_cast<uint16_t>(s.source.cas) : 0;
    State n = s;
    n.ops++;
    if (!me.pending || !me.at_target) {
      State e = n;
      execute(e, c, p, false);
      visit(e, "source executes new ", name_of(p.op));
    }
    if (!me.pending || me.at_target) {
      State a = n;
      const Connection &other = s.connection[1 - c];
      if (other.pending && !other.at_target)
        a.inverted = true;
      apply(a, p);
      Connection &q = a.connection[c];
      q.at_target = 1;
      q.queue[q.pending] = p;
      q.queue[q.pending++].rank = a.next_rank++;
      visit(a, "target gets new ", name_of(p.op));
    }
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
  for (Connection &c : n.connection)
    c.owed = c.unexecuted = 0;
  visit(n, "warm dies");
  if (step == Step::add && !s.in_flight.there) {
    n.in_flight = s.taken;
    visit(n, "warm dies as it has sent its add");
  }
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
    for (Connection &c : n.connection)
      c.owed = c.at_target ? 0 : c.pending;
    return visit(n, "warm reads");
  case Step::drain:
    if (world_.method.drains && (s.connection[0].owed || s.connection[1].owed))
      return;
    for (Connection &c : n.connection)
      c.owed = 0;
    n.copy.drained();
    return visit(n, "warm has drained");
  case Step::add: {
    const auto answer = store(n, s.taken, true, 0);
    n.copy.added(answer, n.target.cas);
    for (Connection &c : n.connection)
      c.unexecuted = c.at_target ? c.pending : 0;
    return visit(n, answer == Stored::stored ? "warm adds" : "warm's add finds it there");
  }
  case Step::settle:
    if (world_.method.settles && (s.connection[0].unexecuted || s.connection[1].unexecuted))
      return;
    for (Connection &c : n.connection)
      c.unexecuted = 0;
    n.copy.settled();
    return visit(n, "warm has settled");
  case Step::confirm:
    n.copy.confirmed(world_.method.confirms ? look(s) : s.copy.seen());
    return visit(n, "warm confirms");
  case Step::undo: {
    auto answer = remove(n, s.copy.stored_cas());
    if (answer == Deleted::changed && !world_.method.drops)
      answer = Deleted::deleted;
    n.copy.undone(answer);
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
    for (Connection &c : n.connection)
      c.owed = c.at_target ? 0 : c.pending;
    return visit(n, "repair reads");
  case Step::drain:
    if (world_.method.drains && (s.connection[0].owed || s.connection[1].owed))
      return;
    for (Connection &c : n.connection)
      c.owed = 0;
    n.repair.drained();
    return visit(n, "repair has drained");
  case Step::compare: {
    const bool equal = s.target.value == s.taken.value && s.target.ends == s.taken.ends;
    n.repair.compared({s.target.there != 0, s.target.cas, equal});
    break;
  }
  case Step::replace: {
    const auto answer = store(n, s.taken, false, s.repair.target_cas());
    n.repair.replaced(answer, n.target.cas);
    for (Connection &c : n.connection)
      c.unexecuted = c.at_target ? c.pending : 0;
    break;
  }
  case Step::settle:
    if (world_.method.settles && (s.connection[0].unexecuted || s.connection[1].unexecuted))
      return;
    for (Connection &c : n.connection)
      c.unexecuted = 0;
    n.repair.settled();
    return visit(n, "repair has settled");
  case Step::confirm:
    n.repair.confirmed(world_.method.confirms ? look(s) : s.repair.seen());
    return visit(n, "repair confirms");
  case Step::undo:
    n.repair.undone(remove(n, s.repair.stored_cas()));
    return visit(n, "repair undoes");
  case Step::drop:
    n.target = {};
    n.repair.dropped();
    return visit(n, "repair drops it");
  default:
    return;
  }
  if (n.repair.outcome() == Outcome::absent) {
    n.repairing = false; // a copy follows
    n.repair = {};
    n.copy = KeyCopy(false);
  }
  visit(n, "repair compares or replaces");
}

void Explorer::next(const State &s) {
  const bool pending = s.connection[0].pending || s.connection[1].pending;
  if (is_over(s)) {
    found_.outcomes.insert(s.repairing ? s.repair.outcome() : s.copy.outcome());
    if (!pending)
      return judge(s);
  }
  for (unsigned c = 0; c < world_.connections; c++)
    next_commands(s, c);
  if (is_over(s))
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
    if (item->there && item->ends && !(s.expired >> item->ends & 1) && s.ops < world_.ops) {
      State n = s;
      n.ops++;
      n.expired = static_cast<uint8_t>(n.expired | 1u << item->ends);
      for (Item *gone : {&n.source, &n.target})
        if (gone->ends == item->ends)
          *gone = {};
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
