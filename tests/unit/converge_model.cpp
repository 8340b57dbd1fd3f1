// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/converge_model.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace doppel::migrate::converge_model {
namespace {
using Act = KeyConvergence::Act;
using End = KeyConvergence::End;

bool writes(Act act) { return act == Act::add || act == Act::replace || act == Act::remove; }

class Explorer {
public:
  explicit Explorer(const World &world) : world_(world), all_(world.alphabet) {
    for (unsigned i = 0; world.alphabet.empty() && i < static_cast<unsigned>(Op::flush); i++)
      all_.push_back(static_cast<Op>(i));
  }
  Found run();

private:
  void visit(const State &s, const char *what, const char *command = "");
  void next(const State &s);
  void next_commands(const State &s, unsigned c);
  void next_look(const State &s);
  void next_step(const State &s, unsigned i);
  void next_expiry(const State &s);
  void next_warm(const State &s);
  void crash(const State &s);
  void judge(const State &s);
  void fail(const char *why);

  const char *write(State &s, unsigned i);
  Stored store(State &s, const Item &what, Act act, uint64_t cas) const;
  Deleted remove(State &s, uint64_t cas) const;
  void leave(State &s, unsigned i);

  const World &world_;
  std::vector<Op> all_;
  std::unordered_set<uint64_t> seen_; // hashes: two of millions are the same once in a million runs
  model::Path path_;
  Found found_;
};

bool is_pending(const State &s) { return s.connection[0].captured || s.connection[1].captured; }

void note(State &s) {
  s.missed = false;
  const unsigned which = s.waiting ? 1 : 0;
  s.waiting = static_cast<uint8_t>(which + 1);
  for (Connection &c : s.connection)
    c.unrested[which] = static_cast<uint8_t>(c.captured - c.executed);
}

void put_back(State &s) {
  if (!s.waiting)
    note(s);
}

void stir(State &s) {
  for (Work &w : s.work)
    w.quiet = false;
}

void capture(State &s, unsigned c, Pending p) {
  Connection &me = s.connection[c];
  me.queue[me.captured++] = p;
  const auto op = static_cast<Op>(p.op);
  const bool depends = op != Op::set && op != Op::set_ttl && op != Op::del;
  if (depends || s.connection[1 - c].last_wrote)
    note(s);
  me.last_wrote = 1;
  s.connection[1 - c].last_wrote = 0;
  stir(s);
}

// What both have is forgotten.
void trim(Connection &c) {
  if (!c.executed || !c.delivered)
    return;
  std::copy(c.queue.begin() + 1, c.queue.end(), c.queue.begin());
  c.queue.back() = {};
  c.captured--, c.executed--, c.delivered--;
}

void execute(State &s, Connection &c) {
  model::change(s.source, c.queue[c.executed++], s.next_source_cas, s.expired, true);
  for (auto *waits : {&c.unrested, &c.unsettled})
    for (uint8_t &n : *waits)
      n -= n > 0;
  c.warm_unsettled -= c.warm_unsettled > 0;
  trim(c);
}

void deliver(State &s, Connection &c) {
  model::change(s.target, c.queue[c.delivered++], s.next_target_cas, s.expired, false);
  for (uint8_t &n : c.owed)
    n -= n > 0;
  c.warm_owed -= c.warm_owed > 0;
  trim(c);
}

Look look(const Item &source) {
  Look l;
  l.there = source.there;
  l.cas = source.there ? source.cas : 0;
  l.size = kSizeUnknown;
  l.ends = source.ends ? source.ends * 100 : kNever;
  return l;
}

bool equal(const Item &a, const Item &b) {
  return a.there == b.there && (!a.there || (a.value == b.value && a.ends == b.ends));
}

uint64_t hashed(uint64_t hash, uint64_t v) {
  hash = (hash ^ v) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

// Times to live are named in the order in which they are met.
class Names {
public:
  explicit Names(uint8_t expired) : expired_(expired) {}
  unsigned operator()(uint8_t ends) {
    if (!ends)
      return 0;
    if (!names_[ends])
      names_[ends] = next_++;
    return names_[ends] | (expired_ >> ends & 1u) << 3;
  }
  unsigned operator()(const Item &i) {
    return i.there ? 1u | (*this)(i.ends) << 1 | static_cast<unsigned>(i.value) << 8 : 0;
  }

private:
  uint8_t expired_, next_ = 1;
  std::array<uint8_t, 16> names_{};
};

uint64_t hash_of(const State &s, const Connection &c, Names &names) {
  uint64_t hash = hashed(1, c.captured | c.executed << 3 | c.delivered << 6 | c.last_wrote << 9);
  hash = hashed(hash, c.unrested[0] | c.unrested[1] << 3 | c.owed[0] << 6 | c.owed[1] << 9 |
                          c.unsettled[0] << 12 | c.unsettled[1] << 15 | c.warm_owed << 18 |
                          c.warm_unsettled << 21);
  for (unsigned n = 0; n < c.captured; n++) {
    const Pending &p = c.queue[n];
    hash =
        hashed(hash, p.op | p.number << 4 | (p.token == s.source.cas) << 8 |
                         (p.token == s.target.token) << 9 | (p.token == s.work[0].taken.cas) << 10 |
                         (p.token == s.work[1].taken.cas) << 11 |
                         (s.warming && p.token == s.copied.cas) << 12 | names(p.number) << 13);
  }
  return hash;
}

// What matters of a state, so that states which only differ in names are one: of CAS values, which
// are equal; of times to live, which are the same; of connections, nothing.
uint64_t hash_of(const State &s) {
  Names names(s.expired);
  uint64_t hash = hashed(hashed(2, names(s.source)), names(s.target));
  hash = hashed(hash, static_cast<unsigned>(s.sent_act) | s.waiting << 4 | s.crashes << 6 |
                          s.missed << 8 | s.ops << 9 | (s.source.cas == s.target.token) << 13 |
                          (s.target.cas == s.sent_cas) << 14);
  if (s.sent_act != Act::done)
    hash = hashed(hash, names(s.sent));
  for (const Work &w : s.work) {
    if (!w.busy)
      break;
    const Look &seen = w.way.seen();
    const auto ends = static_cast<uint8_t>(seen.ends == kNever ? 0 : seen.ends / 100);
    hash = hashed(hash, static_cast<unsigned>(w.way.act()) | w.quiet << 4 | seen.there << 5 |
                            (seen.cas == s.source.cas) << 6 |
                            (w.way.target_cas() == s.target.cas) << 7 |
                            (w.compared_cas == s.target.cas) << 8 |
                            (w.taken.cas == s.target.token) << 9 | names(ends) << 10);
    hash = hashed(hash, names(w.taken));
  }
  if (s.warming) {
    const Look &seen = s.copy.seen();
    const auto ends = static_cast<uint8_t>(seen.ends == kNever ? 0 : seen.ends / 100);
    hash = hashed(
        hash, static_cast<unsigned>(s.copy.step()) | seen.there << 4 |
                  (seen.cas == s.source.cas) << 5 | (s.copy.stored_cas() == s.target.cas) << 6 |
                  (s.copied.cas == s.target.token) << 7 | s.copy.tries() << 8 | names(ends) << 16);
    hash = hashed(hash, names(s.copied));
  }
  Names same = names; // equal states may count as two, if names are given otherwise: no harm
  uint64_t a = hash_of(s, s.connection[0], names), b = hash_of(s, s.connection[1], same);
  if (b < a)
    std::swap(a, b);
  return hashed(hashed(hash, a), b);
}

Stored Explorer::store(State &s, const Item &what, Act act, uint64_t cas) const {
  if (world_.method.names_cas) {
    if (act == Act::add && s.target.there)
      return Stored::there;
    if (act == Act::replace && !s.target.there)
      return Stored::absent;
    if (act == Act::replace && s.target.cas != cas)
      return Stored::changed;
  }
  s.target = what;
  s.target.token = world_.method.copies_cas ? static_cast<uint16_t>(what.cas) : 0;
  s.target.cas = s.next_target_cas++;
  if (s.target.ends && (s.expired >> s.target.ends & 1))
    s.target = {}; // stored, and over at once
  return Stored::stored;
}

Deleted Explorer::remove(State &s, uint64_t cas) const {
  if (!s.target.there)
    return Deleted::absent;
  if (s.target.cas != cas && world_.method.names_cas)
    return Deleted::changed;
  s.target = {};
  return Deleted::deleted;
}

void Explorer::fail(const char *why) {
  found_.wrong = true;
  found_.trace = model::text_of(path_) + why;
}

void Explorer::judge(const State &s) {
  found_.ends++;
  if (!equal(s.source, s.target))
    fail(!s.source.there   ? "the source has none"
         : !s.target.there ? "the target has none"
                           : "the source has another value or time to live");
}

void Explorer::visit(const State &s, const char *what, const char *command) {
  if (found_.wrong || !seen_.insert(hash_of(s)).second)
    return;
  found_.states++;
  path_.emplace_back(what, command);
  next(s);
  path_.pop_back();
}

void Explorer::next_commands(const State &s, unsigned c) {
  const Connection &me = s.connection[c];
  if (me.executed < me.captured) {
    State n = s;
    execute(n, n.connection[c]);
    visit(n, c ? "source executes B's " : "source executes A's ",
          model::name_of(me.queue[me.executed].op));
  }
  if (me.delivered < me.captured) {
    State n = s;
    deliver(n, n.connection[c]);
    visit(n, c ? "target gets B's " : "target gets A's ",
          model::name_of(me.queue[me.delivered].op));
  }
  if (s.ops == world_.ops)
    return;
  for (const Op op : all_) {
    Pending p;
    p.op = static_cast<uint8_t>(op);
    p.number = static_cast<uint8_t>(s.ops + 1);
    p.token = op == Op::cas ? static_cast<uint16_t>(s.source.cas) : 0;
    State n = s;
    n.ops++;
    capture(n, c, p);
    visit(n, c ? "capture sees B's " : "capture sees A's ", model::name_of(p.op));
  }
}

void Explorer::next_look(const State &s) {
  const unsigned i = s.work[0].busy ? 1 : 0;
  if (!s.waiting || i >= world_.looks || s.work[i].busy)
    return;
  const auto rested = [&](unsigned which) {
    return !s.connection[0].unrested[which] && !s.connection[1].unrested[which];
  };
  if ((world_.method.rests && !rested(0)) || (world_.method.awaits && s.sent_act != Act::done))
    return;
  State n = s;
  const bool both = s.waiting == 2 && !rested(1);
  n.waiting = both ? 1 : 0;
  Work &w = n.work[i];
  w.busy = true;
  w.way.read(look(s.source));
  w.taken = s.source;
  w.quiet = !is_pending(s);
  for (Connection &c : n.connection) {
    c.unrested = {both ? c.unrested[1] : uint8_t{0}, 0};
    c.owed[i] = static_cast<uint8_t>(c.captured - c.delivered);
  }
  visit(n, "who converges reads");
}

// The look is over, or begins anew.
void Explorer::leave(State &s, unsigned i) {
  const Work w = s.work[i];
  if (w.way.act() == Act::done) {
    found_.outcomes.insert(w.way.ended());
  } else {
    if (w.quiet)
      fail("nothing has happened, and it begins anew");
    put_back(s);
  }
  for (; i < 2; i++) {
    s.work[i] = i ? Work{} : s.work[1];
    for (Connection &c : s.connection) {
      c.owed[i] = i ? uint8_t{0} : c.owed[1];
      c.unsettled[i] = i ? uint8_t{0} : c.unsettled[1];
    }
  }
}

const char *Explorer::write(State &s, unsigned i) {
  Work &w = s.work[i];
  const uint32_t before = s.target.cas;
  const Act act = w.way.act();
  if (act == Act::remove) {
    const Deleted answer = remove(s, w.way.target_cas());
    w.way.removed(answer);
    if (answer == Deleted::deleted && before != w.compared_cas)
      fail("it deletes what it has not compared");
    return answer == Deleted::changed ? "its delete finds it changed" : "it deletes";
  }
  const Stored answer = store(s, w.taken, act, w.way.target_cas());
  w.way.stored(answer);
  if (answer == Stored::stored && before != w.compared_cas)
    fail("it stores over what it has not compared");
  return answer == Stored::stored ? "it stores" : "its store finds it changed";
}

void Explorer::next_step(const State &s, unsigned i) {
  State n = s;
  Work &w = n.work[i];
  const char *what;
  const Act act = w.way.act();
  if (act == Act::drain) {
    if (world_.method.drains && (s.connection[0].owed[i] || s.connection[1].owed[i]))
      return;
    const bool same = equal(s.target, w.taken);
    w.compared_cas = s.target.cas;
    w.way.drained();
    w.way.compared({s.target.there != 0, s.target.cas, same});
    what = same ? "it has drained and finds it equal" : "it has drained and finds a difference";
    if (same && !world_.method.confirms_equal)
      w.way.end(End::equal);
  } else if (writes(act)) {
    what = write(n, i);
  } else {
    if (i || s.connection[0].unsettled[i] || s.connection[1].unsettled[i])
      return; // batches are confirmed in order
    w.way.settled();
    w.way.confirmed(world_.method.confirms ? look(s.source) : w.way.seen());
    what = w.way.act() == Act::done ? "it confirms" : "it finds the source changed";
  }
  for (Connection &c : n.connection) {
    c.owed[i] = 0;
    if (w.way.act() == Act::settle)
      c.unsettled[i] = static_cast<uint8_t>(c.captured - c.executed);
  }
  if (w.way.act() == Act::done || w.way.act() == Act::read)
    leave(n, i);
  visit(n, what);
}

IfChanged if_changed(const World &world) {
  return world.method.warm_knows ? IfChanged::leave : IfChanged::drop;
}

// It reads whenever it likes. What it does is nothing that clients do: a look that was quiet is not
// any more.
void Explorer::next_warm(const State &s) {
  State n = s;
  const char *what;
  const Connection &a = s.connection[0], &b = s.connection[1];
  switch (s.copy.step()) {
  case Step::drop:
    n.target = {};
    n.copy.dropped();
    what = "warm drops it";
    break;
  case Step::read:
    n.copy.read(look(s.source));
    n.copied = s.source;
    for (Connection &c : n.connection)
      c.warm_owed = static_cast<uint8_t>(c.captured - c.delivered);
    what = "warm reads";
    break;
  case Step::drain:
    if (a.warm_owed || b.warm_owed)
      return;
    n.copy.drained();
    what = "warm has drained";
    break;
  case Step::add: {
    const Stored answer = store(n, s.copied, Act::add, 0);
    n.copy.added(answer, n.target.cas);
    for (Connection &c : n.connection)
      c.warm_unsettled = static_cast<uint8_t>(c.captured - c.executed);
    what = answer == Stored::stored ? "warm adds" : "warm's add finds it there";
    break;
  }
  case Step::settle:
    if (a.warm_unsettled || b.warm_unsettled)
      return;
    n.copy.settled();
    n.copy.confirmed(look(s.source), if_changed(world_));
    what = n.copy.step() == Step::done ? "warm confirms" : "warm finds the source changed";
    break;
  case Step::undo: {
    const Deleted answer = remove(n, s.copy.stored_cas());
    n.copy.undone(answer, if_changed(world_));
    what = answer == Deleted::changed ? "warm's undo finds it changed" : "warm undoes";
    break;
  }
  default:
    return;
  }
  if (n.copy.step() == Step::done) {
    found_.warm_outcomes.insert(n.copy.outcome());
    n.copied = {};
    for (Connection &c : n.connection)
      c.warm_owed = c.warm_unsettled = 0;
  }
  stir(n);
  visit(n, what);
}

void Explorer::crash(const State &s) {
  if (s.crashes == world_.crashes || (!s.waiting && !s.work[0].busy))
    return;
  State n = s;
  n.crashes++;
  n.work = {};
  for (Connection &c : n.connection)
    c.owed = c.unsettled = {};
  State dead = n;
  dead.missed = true;
  dead.waiting = 0;
  for (Connection &c : dead.connection)
    c.unrested = {};
  put_back(n);
  visit(dead, "who converges dies");
  visit(n, "who converges loses a server");
  for (const Work &w : s.work)
    if (w.busy && writes(w.way.act()))
      for (State *after : {&dead, &n}) {
        after->sent = w.taken;
        after->sent_cas = w.way.target_cas();
        after->sent_act = w.way.act();
        visit(*after, after == &n ? "who converges loses a server as it has sent a write"
                                  : "who converges dies as it has sent a write");
      }
}

void Explorer::next_expiry(const State &s) {
  for (const Item *item : {&s.source, &s.target})
    if (item->there && item->ends && s.ops < world_.ops) {
      State n = s;
      n.ops++;
      n.expired = static_cast<uint8_t>(n.expired | 1u << item->ends);
      for (Item *gone : {&n.source, &n.target})
        if (gone->ends == item->ends)
          *gone = {};
      stir(n);
      visit(n, "it expires");
    }
}

void Explorer::next(const State &s) {
  const bool warms = s.warming && s.copy.step() != Step::done;
  if (!is_pending(s) && !s.waiting && !s.work[0].busy && !s.missed && !warms)
    judge(s);
  if (warms)
    next_warm(s);
  for (unsigned c = 0; c < world_.connections; c++)
    next_commands(s, c);
  next_look(s);
  // The younger look is a batch behind.
  if (s.work[0].busy)
    next_step(s, 0);
  if (s.work[1].busy && s.work[0].way.act() == Act::settle)
    next_step(s, 1);
  crash(s);
  if (s.sent_act != Act::done) {
    State n = s;
    if (s.sent_act == Act::remove)
      (void)remove(n, s.sent_cas);
    else
      (void)store(n, s.sent, s.sent_act, s.sent_cas);
    n.sent_act = Act::done;
    stir(n);
    visit(n, "what was sent arrives");
  }
  if (s.missed) {
    State n = s;
    note(n);
    visit(n, "the key is noted again");
  }
  next_expiry(s);
}

Found Explorer::run() {
  constexpr uint8_t kTtl = 7;
  for (const uint8_t source : {0, 1})
    for (const uint8_t target : {0, 1, 2})
      for (const uint8_t ends : {uint8_t{0}, kTtl}) {
        if (!source && ends)
          continue;
        State s;
        s.source.there = source;
        s.source.value = source;
        s.source.ends = ends;
        s.source.cas = source ? s.next_source_cas++ : 0;
        s.target.there = target > 0;
        s.target.value = target;
        s.target.ends = target == 1 ? ends : 0;
        s.target.cas = target ? s.next_target_cas++ : 0;
        s.warming = world_.warms;
        if (!equal(s.source, s.target) && (target || !s.warming))
          note(s);
        visit(s,
              !source ? "the source has none"
              : ends  ? "the source has an item that ends"
                      : "the source has an item",
              !target       ? ", the target none"
              : target == 1 ? ", the target one"
                            : ", the target another");
      }
  return found_;
}

} // namespace

Found explore(const World &world) { return Explorer(world).run(); }

} // namespace doppel::migrate::converge_model
