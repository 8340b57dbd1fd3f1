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

Status ask_in_turn(memcached::Connection &c) {
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

Result<bool> is_one(memcached::Connection &a, memcached::Connection &b) {
  const auto before = TRY(memcached::stats(a));
  if (number(before, "pid") == 0 || incarnation_of(before) != TRY(incarnation(b)))
    return false;
  TRY(ask_in_turn(b));
  const auto after = TRY(memcached::stats(a));
  const bool counts = after.contains("cmd_meta");
  return !counts || number(after, "cmd_meta") - number(before, "cmd_meta") >= kAsked;
}

Result<bool> is_one(const memcached::Server &a, const memcached::Server &b,
                    const memcached::Access &access) {
  const auto one = TRY(memcached::Connection::open(a, access));
  const auto other = TRY(memcached::Connection::open(b, access));
  return is_one(*one, *other);
}

Status differ(memcached::Connection &source, memcached::Connection &target) {
  if (!TRY(is_one(source, target)))
    return Unit{};
  return Error{source.server().text() + ", " + target.server().text(),
               "are two names of one server",
               "name the server that has the keys, and the one that is to get them", Exit::usage};
}

} // namespace doppel::migrate
