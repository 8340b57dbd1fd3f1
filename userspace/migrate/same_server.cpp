// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/same_server.h"

#include "userspace/memcached/stats.h"

namespace doppel::migrate {
namespace {
using memcached::number;

constexpr uint64_t kAsked = 64; // more than others ask by chance at this moment

std::string incarnation_of(const memcached::Stats &s) {
  // Both come from one clock of the server, so that their difference does not waver.
  return std::to_string(number(s, "pid")) + "/" +
         std::to_string(number(s, "time") - number(s, "uptime"));
}

Status ask(memcached::Connection &c) {
  std::string request;
  for (uint64_t i = 0; i < kAsked; i++)
    request += "me doppel:nobody-has-this-key\r\n";
  uint64_t left = kAsked;
  return c.converse(request, [&](const memcached::Answer &) { return --left > 0; });
}

} // namespace

Result<std::string> incarnation(memcached::Connection &c) {
  return incarnation_of(TRY(memcached::stats(c)));
}

Status differ(memcached::Connection &source, memcached::Connection &target) {
  const auto before = TRY(memcached::stats(source));
  if (number(before, "pid") == 0 || incarnation_of(before) != TRY(incarnation(target)))
    return Unit{};
  TRY(ask(target));
  const auto after = TRY(memcached::stats(source));
  const bool counts = after.contains("cmd_meta");
  if (counts && number(after, "cmd_meta") - number(before, "cmd_meta") < kAsked)
    return Unit{};
  return Error{source.server().text() + ", " + target.server().text(),
               "are two names of one server",
               "name the server that has the keys, and the one that is to get them", Exit::usage};
}

} // namespace doppel::migrate
