// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/mirror_model.h"

#include <functional>
#include <string_view>

namespace doppel::migrate::model {
namespace {
Pending taken_from(Connection &c) {
  const Pending p = c.queue[0];
  for (unsigned i = 1; i < c.pending; i++)
    c.queue[i - 1] = c.queue[i];
  c.queue[--c.pending] = {};
  return p;
}

} // namespace

void Mirror::owe_copies() {
  for (Connection &c : connection)
    c.owed = c.at_target ? 0 : c.pending;
}

void Mirror::owe_executions() {
  for (Connection &c : connection)
    c.unexecuted = c.at_target ? c.pending : 0;
}

void Mirror::owe_nothing() {
  for (Connection &c : connection)
    c.owed = c.unexecuted = 0;
}

// `captured_before`: the target had it already, and it was the first of the queue.
void Mirror::execute(unsigned c, Pending p, bool captured_before) {
  Connection &me = connection[c];
  const Connection &other = connection[1 - c];
  const bool success = executes(source, p, true);
  if (p.op == static_cast<uint8_t>(Op::cas) && success && over)
    p.late = 1;
  change(source, p, next_source_cas, expired, true);
  if (captured_before) {
    // Executed after what the other connection has executed and the target has not had yet.
    if (other.pending && (!other.at_target || other.queue[0].rank < p.rank))
      inverted = true;
    me.unexecuted -= me.unexecuted > 0;
    if (p.late) // it failed at the target, but for a CAS that was copied: see apply()
      excused = true;
  } else {
    if (other.at_target && other.pending)
      inverted = true;
    p.rank = next_rank++;
    me.at_target = 0;
    me.queue[me.pending++] = p;
  }
}

void Mirror::apply(const Pending &p) {
  if (p.late && !executes(target, p, false))
    excused = true;
  change(target, p, next_target_cas, expired, false);
}

const Pending *Mirror::deliver(unsigned c) {
  Connection &me = connection[c];
  const Pending p = taken_from(me);
  if (me.at_target) {
    execute(c, p, true);
    return nullptr;
  }
  const Connection &other = connection[1 - c];
  if (other.pending && !other.at_target && other.queue[0].rank < p.rank)
    inverted = true;
  apply(p);
  me.owed -= me.owed > 0;
  delivered_ = p;
  return &delivered_;
}

Pending Mirror::made(Op op) {
  Pending p;
  p.op = static_cast<uint8_t>(op);
  p.number = ++ops;
  p.token = op == Op::cas ? static_cast<uint16_t>(source.cas) : 0;
  return p;
}

bool Mirror::execute_new(unsigned c, Op op) {
  if (connection[c].pending && connection[c].at_target)
    return false;
  execute(c, made(op), false);
  return true;
}

const Pending *Mirror::capture_new(unsigned c, Op op) {
  Connection &me = connection[c];
  const Connection &other = connection[1 - c];
  if (me.pending && !me.at_target)
    return nullptr;
  if (other.pending && !other.at_target)
    inverted = true;
  Pending p = made(op);
  apply(p);
  p.rank = next_rank++;
  me.at_target = 1;
  me.queue[me.pending++] = p;
  delivered_ = p;
  return &delivered_;
}

void Mirror::expire(uint8_t ends) {
  ops++;
  expired = static_cast<uint8_t>(expired | 1u << ends);
  for (Item *gone : {&source, &target})
    if (gone->ends == ends)
      *gone = {};
}

void StateKey::put(unsigned v) {
  bytes_.at(length_++) = static_cast<char>(v);
  bytes_.at(length_++) = static_cast<char>(v >> 8);
}

unsigned StateKey::name(uint8_t ends) {
  if (!ends)
    return 0;
  if (!names_[ends])
    names_[ends] = next_name_++;
  return names_[ends] | (mirror_.expired >> ends & 1u) << 3;
}

void StateKey::put_connections(uint16_t token, bool values) {
  for (const Connection &c : mirror_.connection) {
    put(c.pending | c.at_target << 4 | c.owed << 5 | c.unexecuted << 8);
    for (unsigned i = 0; i < c.pending; i++) {
      const Pending &p = c.queue[i];
      put(p.op | p.late << 4 | (p.token == mirror_.source.cas) << 5 |
          (p.token == mirror_.target.token) << 6 | (p.token == token) << 7 | name(p.number) << 8);
      if (values)
        put(p.number | p.rank << 8);
    }
  }
}

bool Seen::insert(std::string key) {
  const std::hash<std::string_view> hash;
  const uint64_t a = hash(key);
  key.insert(key.begin(), 'b');
  return names_.insert({a, hash(key)}).second;
}

std::vector<Op> kinds_of(const std::vector<Op> &alphabet) {
  if (!alphabet.empty())
    return alphabet;
  std::vector<Op> all;
  for (unsigned i = 0; i < static_cast<unsigned>(Op::count); i++)
    all.push_back(static_cast<Op>(i));
  return all;
}

} // namespace doppel::migrate::model
