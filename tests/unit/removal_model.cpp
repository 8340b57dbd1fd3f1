// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/removal_model.h"

#include <array>
#include <utility>

namespace doppel::migrate::model {
namespace {
struct State : Mirror {
  Item kept; // at a target that nobody removes from
  uint32_t next_kept_cas = 1;
  KeyRemoval removal;
};

class Explorer {
public:
  explicit Explorer(const RemovalWorld &world) : world_(world), all_(kinds_of(world.alphabet)) {}
  RemovalFound run();

private:
  void visit(State s, const char *what, const char *command = "");
  void next(const State &s);
  void next_commands(const State &s, unsigned c);
  void next_step(const State &s);
  void judge(const State &s);
  std::string key_of(const State &s) const;

  const RemovalWorld &world_;
  std::vector<Op> all_;
  Seen seen_;
  Path path_;
  RemovalFound found_;
};

// As warm's model has it: of CAS values which are equal, of times to live which are the same.
std::string Explorer::key_of(const State &s) const {
  StateKey k(s);
  for (const Item *i : {&s.source, &s.target, &s.kept}) {
    k.put(i->there | k.name(i->there ? i->ends : 0) << 3);
    k.put(i->there ? i->value : 0);
  }
  k.put(static_cast<unsigned>(s.removal.step()) | s.removal.removed() << 4 |
        s.removal.is_second() << 5 | (s.target.cas == s.removal.target_cas()) << 6 |
        s.removal.returned() << 7 | s.ops << 8 | s.inverted << 11 | (s.removal.times() & 3u) << 12);
  k.put_connections(s.kept.token, true);
  return k.text();
}

void Explorer::judge(const State &s) {
  s.removal.removed() ? found_.removed++ : found_.kept++;
  found_.returned += s.removal.returned();
  if (s.removal.returned() && world_.method.confirms)
    return; // it is repaired
  if (s.inverted)
    return; // as it would be without a removal
  const auto is_right = [&](const Item &i) {
    return i.there == s.source.there &&
           (!i.there || (i.value == s.source.value && i.ends == s.source.ends));
  };
  if (is_right(s.target) || !is_right(s.kept))
    return;
  found_.wrong = true;
  found_.trace = text_of(path_);
  found_.trace += s.target.there ? "the target has another value" : "the target has none";
}

void Explorer::visit(State s, const char *what, const char *command) {
  s.over = s.removal.step() == Step::done;
  if (found_.wrong || !seen_.insert(key_of(s)))
    return;
  found_.states++;
  path_.emplace_back(what, command);
  next(s);
  path_.pop_back();
}

void Explorer::next_commands(const State &s, unsigned c) {
  const auto keep = [](State &n, const Pending &p) {
    change(n.kept, p, n.next_kept_cas, n.expired, false);
  };
  if (s.connection[c].pending) {
    State n = s;
    const uint8_t op = s.connection[c].queue[0].op;
    const Pending *at_target = n.deliver(c);
    if (at_target)
      keep(n, *at_target);
    visit(n, at_target ? "target gets " : "source executes ", name_of(op));
  }
  if (s.over || s.ops == world_.ops)
    return;
  for (const Op op : all_) {
    const char *name = name_of(static_cast<uint8_t>(op));
    if (State n = s; n.execute_new(c, op))
      visit(n, "source executes new ", name);
    if (State n = s; const Pending *p = n.capture_new(c, op)) {
      keep(n, *p);
      visit(n, "target gets new ", name);
    }
  }
}

// The target has what the source will have, when it has executed what the target has already.
bool is_being_written(const State &s) {
  Item source = s.source;
  uint32_t cas = s.next_source_cas;
  for (const Connection &c : s.connection)
    for (unsigned i = 0; c.at_target && i < c.pending; i++)
      change(source, c.queue[i], cas, s.expired, true);
  return source.there && source.value == s.target.value && source.ends == s.target.ends;
}

void Explorer::next_step(const State &s) {
  State n = s;
  switch (s.removal.step()) {
  case Step::read:
    n.removal.read({s.source.there != 0, s.source.cas, kSizeUnknown, kNever});
    n.owe_copies();
    return visit(n, "the source is looked at");
  case Step::drain:
    if (world_.method.drains && !s.is_drained())
      return;
    n.owe_nothing();
    n.removal.drained();
    return visit(n, "the copies are there");
  case Step::compare:
    n.removal.compared({s.target.there != 0, s.target.there ? s.target.cas : 0, false});
    if (n.removal.step() == Step::settle && !world_.method.looks_twice)
      n.removal.compared({true, s.target.cas, false});
    n.owe_executions();
    return visit(n, "the target is looked at");
  case Step::settle:
    if (world_.method.settles && !s.is_settled())
      return;
    n.owe_nothing();
    n.removal.settled();
    return visit(n, "it has settled");
  case Step::undo: {
    const bool same = s.target.there && s.target.cas == s.removal.target_cas();
    found_.spoiled += same && is_being_written(s);
    if (same)
      n.target = {};
    n.removal.undone(same ? Deleted::deleted : s.target.there ? Deleted::changed : Deleted::absent);
    if (same && !world_.method.confirms)
      n.removal.read({true, 0, kSizeUnknown, kNever});
    n.owe_executions();
    return visit(n, "it is removed, if it is the same");
  }
  default:
    return;
  }
}

void Explorer::next(const State &s) {
  if (s.over && !s.is_pending())
    return judge(s);
  for (unsigned c = 0; c < world_.connections; c++)
    next_commands(s, c);
  if (s.over)
    return;
  next_step(s);
  for (const Item *item : {&s.source, &s.target})
    if (s.may_expire(*item) && s.ops < world_.ops) {
      State n = s;
      n.expire(item->ends);
      if (n.kept.ends == item->ends)
        n.kept = {};
      visit(n, "it expires");
    }
}

RemovalFound Explorer::run() {
  // The source has none, or both have the same, or the source another one.
  for (const unsigned source : {0, 1, 2}) {
    State s;
    s.target.there = 1;
    s.target.value = 1;
    s.target.cas = s.next_target_cas++;
    s.kept = s.target;
    if (source) {
      s.source.there = 1;
      s.source.value = static_cast<uint16_t>(source);
      s.source.cas = s.next_source_cas++;
    }
    visit(s, source ? source == 1 ? "an item" : "two items" : "an item of the target's alone");
  }
  return std::move(found_);
}

} // namespace

RemovalFound explore(const RemovalWorld &world) { return Explorer(world).run(); }

} // namespace doppel::migrate::model
