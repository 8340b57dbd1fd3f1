// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/key_misses.h"

#include <arpa/inet.h>

#include <algorithm>
#include <utility>

#include "userspace/memcached/meta.h"
#include "userspace/memcached/stats.h"
#include "userspace/migrate/ends.h"
#include "userspace/migrate/walk.h"
#include "userspace/plan/plan.h"
#include "userspace/util/clock.h"
#include "userspace/util/text.h"

namespace doppel::migrate {
namespace {
constexpr size_t kMostRows = 200;    // more than a screen has lines
constexpr size_t kMostSources = 100; // a forged packet names any address
constexpr uint64_t kAgainNs = 10'000'000'000;

} // namespace

std::optional<uint64_t> misses_of(const KeyRow &row, bool is_there) {
  const bool may_have_come = row.stores + row.others > 0;
  const bool may_have_gone = row.deletes + row.others > 0;
  if (is_there ? may_have_come : may_have_gone || row.stores > 0)
    return std::nullopt;
  return is_there ? 0 : row.reads;
}

KeyMisses::KeyMisses(memcached::Access access) : access_(std::move(access)) {
  access_.timeout_ms = std::min(access_.timeout_ms, kPatienceMs);
}

void KeyMisses::look(KeyModel &model) {
  written_.clear();
  for (const KeyRow &row : model.rows)
    if (row.is_written())
      written_.emplace(row.key, &row);
  BySource by_source;
  for (size_t i = 0; i < model.rows.size() && i < kMostRows; i++)
    if (KeyRow &row = model.rows[i]; row.reads > 0 && memcached::is_plain_key(row.key))
      by_source[row.server_text()].push_back(&row);
  for (auto &[text, source] : sources_)
    source.is_asked = by_source.count(text) > 0;
  // All before one is asked, so that it is known which of them are one.
  each_in_time(by_source, &KeyMisses::connect);
  each_in_time(by_source, &KeyMisses::ask);
  written_.clear();
}

// Those that are left come up in a later interval, as one that did not answer waits for kAgainNs.
void KeyMisses::each_in_time(const BySource &by_source,
                             void (KeyMisses::*what)(const std::string &, const Rows &)) {
  const uint64_t until = monotonic_ns() + kPatienceMs * kMsNs;
  for (const auto &[source, rows] : by_source)
    if (monotonic_ns() < until)
      (this->*what)(source, rows);
}

void KeyMisses::connect(const std::string &text, const Rows &rows) {
  const KeyRow &row = *rows.front();
  if (!sources_.count(text) && sources_.size() >= kMostSources)
    return;
  Source &s = sources_[text];
  s.is_asked = true;
  if (s.connection || monotonic_ns() < s.again_ns)
    return;
  s.again_ns = monotonic_ns() + kAgainNs;
  memcached::Server server;
  server.host = Address{row.server}.text();
  server.port = ntohs(row.server_port);
  if (!is_here(server))
    return;
  auto opened = memcached::Connection::open(server, access_);
  if (!opened || !readable(**opened))
    return;
  auto general = memcached::stats(**opened);
  if (!general)
    return;
  s.process = (*general)["pid"];
  s.connection = std::move(*opened);
}

// As far as is known. A connection that is not used now may be to a process that is gone.
bool KeyMisses::may_be_one_server(const KeyRow &a, const KeyRow &b) const {
  const auto process = [this](const KeyRow &row) {
    const auto found = sources_.find(row.server_text());
    return found != sources_.end() && found->second.is_asked ? found->second.process : "";
  };
  const std::string x = process(a), y = process(b);
  return x.empty() || y.empty() || x == y;
}

// Also those that came by other addresses and ports of its server.
KeyRow KeyMisses::with_all_writes(const KeyRow &row) const {
  KeyRow all = row;
  const auto [first, last] = written_.equal_range(row.key);
  for (auto other = first; other != last; ++other)
    if (other->second != &row && may_be_one_server(row, *other->second)) {
      all.stores += other->second->stores;
      all.deletes += other->second->deletes;
      all.others += other->second->others;
    }
  return all;
}

void KeyMisses::ask(const std::string &source, const Rows &rows) {
  const auto found = sources_.find(source);
  if (found == sources_.end() || !found->second.connection)
    return;
  memcached::Connection &c = *found->second.connection;
  std::vector<std::string> keys;
  keys.reserve(rows.size());
  for (const KeyRow *row : rows)
    keys.push_back(row->key);
  const auto done = read_standings(c, keys, [&](size_t i, const memcached::Standing *s) {
    rows[i]->misses = misses_of(with_all_writes(*rows[i]), s != nullptr);
  });
  if (done)
    return;
  found->second.connection.reset();
  found->second.process.clear();
  for (KeyRow *row : rows) // some answers may be those of other questions
    row->misses.reset();
}

} // namespace doppel::migrate
