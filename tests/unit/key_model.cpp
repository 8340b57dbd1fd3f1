// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/key_model.h"

namespace doppel::migrate::model {
namespace {
constexpr std::array kNames = {"set",  "set_ttl", "add",   "replace", "delete",
                               "incr", "append",  "touch", "cas",     "flush"};

// Two histories of a value have the same hash only if they are the same, as far as 6 commands go.
uint16_t mixed(unsigned value, unsigned number, unsigned how) {
  return static_cast<uint16_t>((value * 33 + number * 7 + how + 1) * 40503u);
}

} // namespace

const char *name_of(uint8_t op) { return kNames[op]; }

bool executes(const Item &item, const Pending &p, bool at_source) {
  switch (static_cast<Op>(p.op)) {
  case Op::add:
    return !item.there;
  case Op::replace:
  case Op::incr:
  case Op::append:
  case Op::touch:
    return item.there;
  case Op::cas:
    return item.there && (at_source ? item.cas : item.token) == p.token;
  default:
    return true;
  }
}

void change(Item &item, const Pending &p, uint32_t &next_cas, uint8_t expired, bool at_source) {
  const auto op = static_cast<Op>(p.op);
  if (!executes(item, p, at_source))
    return;
  if (op == Op::del || op == Op::flush) {
    item = {};
    return;
  }
  if (op == Op::touch) {
    item.ends = p.number;
    item.exact = 0;
  } else if (op == Op::incr || op == Op::append) {
    item.value = mixed(item.value, p.number, op == Op::incr ? 1 : 2);
    item.exact = 0;
  } else {
    item = {};
    item.there = 1;
    item.value = mixed(0, p.number, 3);
    item.ends = op == Op::set_ttl ? p.number : 0;
  }
  if (op != Op::touch) {
    item.cas = next_cas++;
    item.token = 0;
  }
  if (item.ends && (expired >> item.ends & 1))
    item = {};
}

std::string text_of(const Path &path) {
  std::string text;
  for (const auto &[what, command] : path)
    text += std::string(what) + command + "\n";
  return text;
}

} // namespace doppel::migrate::model
