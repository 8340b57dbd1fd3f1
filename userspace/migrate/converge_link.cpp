// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/converge_link.h"

#include <utility>

#include "userspace/migrate/same_server.h"

namespace doppel::migrate {

Result<ConvergeLink> connect(const Pair &pair, const memcached::Access &access) {
  Side source = TRY(open_side(pair.source, access));
  Side target = TRY(open_side(pair.target, memcached::to_write(access)));
  TRY(differ(*source.connection, *target.connection));
  for (const Side *side : {&source, &target})
    if (!side->has_cas())
      return Error{side->connection->server().text(),
                   "runs without CAS (-C), by which a repair sees that nobody writes meanwhile",
                   "\"converge\" needs it", Exit::failure};
  auto found = find_barrier(pair.source, pair.target, access);
  if (found.mapping.empty())
    return Error{pair.text(), found.note, "", Exit::failure};
  const WarmClock clock = TRY(clock_of(*target.connection));
  const bool copies_cas = target.features.set_cas;
  std::string source_is = TRY(incarnation(*source.connection));
  std::string target_is = TRY(incarnation(*target.connection));
  return ConvergeLink{std::move(source),
                      std::move(target),
                      std::move(found.barrier),
                      clock,
                      std::move(source_is),
                      std::move(target_is),
                      copies_cas};
}

Status ask_nothing(memcached::Connection &connection) {
  return connection.converse("mn\r\n", [](const memcached::Answer &) { return false; });
}

std::string differing_limits(const ConvergeLink &link) {
  const uint64_t here = link.source.item_size_max(), there = link.target.item_size_max();
  std::string what;
  if (here && there && here != there)
    what = "the servers take items of different size (-I " + std::to_string(here) + " and " +
           std::to_string(there) +
           " bytes): a set that only one of them refuses is not repaired, and not counted";
  if (link.target.most_flags() < link.source.most_flags())
    what += std::string(what.empty() ? "" : "; ") +
            "the target keeps client flags of 32 bits only: items with larger ones are not "
            "repaired, and count as failed";
  return what;
}

} // namespace doppel::migrate
