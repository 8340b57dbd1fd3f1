// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/probe_pair_read.h"

#include <ctime>

#include "userspace/migrate/ends.h"
#include "userspace/migrate/same_server.h"

namespace doppel::migrate {
namespace {
using memcached::Connection;

Result<ServerFacts> ask(Connection &connection) {
  ServerFacts f;
  f.name = connection.server().text();
  f.general = TRY(memcached::stats(connection));
  f.ahead_s = static_cast<int64_t>(memcached::number(f.general, "time")) -
              static_cast<int64_t>(std::time(nullptr));
  f.settings = TRY(memcached::stats(connection, "settings"));
  f.items = TRY(memcached::stats(connection, "items"));
  f.slabs = TRY(memcached::stats(connection, "slabs"));
  f.features = TRY(memcached::find_features(connection));
  f.here = is_here(connection.server());
  return f;
}

// What is wrong with either is told at once.
template <class T> Status both(const Result<T> &a, const Result<T> &b) {
  Errors errors;
  collect(a, errors);
  collect(b, errors);
  if (!errors.empty())
    return errors;
  return Unit{};
}

} // namespace

Result<std::vector<PairRow>> probe_pair(const memcached::Server &source,
                                        const memcached::Server &target,
                                        const memcached::Access &access) {
  const auto to_source = Connection::open(source, access),
             to_target = Connection::open(target, access);
  TRY(both(to_source, to_target));
  TRY(differ(**to_source, **to_target)); // of one with itself all that follows would be well
  const auto s = ask(**to_source), t = ask(**to_target);
  TRY(both(s, t));
  return judge_pair(*s, *t);
}

} // namespace doppel::migrate
