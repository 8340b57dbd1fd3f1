// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/probe_pair_read.h"

#include <ctime>

#include "userspace/migrate/ends.h"

namespace doppel::migrate {
namespace {
Result<ServerFacts> ask(const memcached::Server &server, const memcached::Access &access) {
  const auto connection = TRY(memcached::Connection::open(server, access));
  ServerFacts f;
  f.name = server.text();
  f.general = TRY(memcached::stats(*connection));
  f.ahead_s = static_cast<int64_t>(memcached::number(f.general, "time")) -
              static_cast<int64_t>(std::time(nullptr));
  f.settings = TRY(memcached::stats(*connection, "settings"));
  f.items = TRY(memcached::stats(*connection, "items"));
  f.slabs = TRY(memcached::stats(*connection, "slabs"));
  f.features = TRY(memcached::find_features(*connection));
  f.here = is_here(server);
  return f;
}

} // namespace

Result<std::vector<PairRow>> probe_pair(const memcached::Server &source,
                                        const memcached::Server &target,
                                        const memcached::Access &access) {
  const auto s = ask(source, access), t = ask(target, access);
  Errors errors;
  collect(s, errors);
  collect(t, errors);
  if (!errors.empty())
    return errors;
  return judge_pair(*s, *t);
}

} // namespace doppel::migrate
