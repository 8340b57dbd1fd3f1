// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/key_misses.h"

#include <arpa/inet.h>

#include <algorithm>
#include <utility>

#include "userspace/memcached/meta.h"
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

std::string source_of(const KeyRow &row) {
  return endpoint_text(Address{row.server}, ntohs(row.server_port));
}

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
  std::map<std::string, std::vector<KeyRow *>> by_source;
  for (size_t i = 0; i < model.rows.size() && i < kMostRows; i++)
    if (KeyRow &row = model.rows[i]; row.reads > 0 && memcached::is_plain_key(row.key))
      by_source[source_of(row)].push_back(&row);
  for (const auto &[source, rows] : by_source)
    ask(source, rows);
}

memcached::Connection *KeyMisses::connected(const std::string &text, const KeyRow &row) {
  if (!sources_.count(text) && sources_.size() >= kMostSources)
    return nullptr;
  Source &s = sources_[text];
  if (s.connection || monotonic_ns() < s.again_ns)
    return s.connection.get();
  s.again_ns = monotonic_ns() + kAgainNs;
  memcached::Server server;
  server.host = Address{row.server}.text();
  server.port = ntohs(row.server_port);
  if (!is_here(server))
    return nullptr;
  auto opened = memcached::Connection::open(server, access_);
  if (opened && readable(**opened))
    s.connection = std::move(*opened);
  return s.connection.get();
}

void KeyMisses::ask(const std::string &source, const std::vector<KeyRow *> &rows) {
  memcached::Connection *c = connected(source, *rows.front());
  if (!c)
    return;
  std::vector<std::string> keys;
  keys.reserve(rows.size());
  for (const KeyRow *row : rows)
    keys.push_back(row->key);
  const auto done = read_standings(*c, keys, [&](size_t i, const memcached::Standing *s) {
    rows[i]->misses = misses_of(*rows[i], s != nullptr);
  });
  if (done)
    return;
  sources_[source].connection.reset();
  for (KeyRow *row : rows) // some answers may be those of other questions
    row->misses.reset();
}

} // namespace doppel::migrate
