// SPDX-License-Identifier: Apache-2.0
// One question about each of many keys, in one go.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/memcached/connection.h"
#include "userspace/migrate/warm_context.h"

namespace doppel::migrate {

// Asks `c` about each of `keys` that is `wanted(key)`. `request(text, key, n)` adds the question
// about keys[n], or says false where no line can name the key: then `unnamed(key)`. `take(key, n,
// answer)` says false where that is no answer.
template <class Key, class Wanted, class Request, class Take, class Unnamed>
Status ask(memcached::Connection &c, std::vector<Key> &keys, const Wanted &wanted,
           const Request &request, const Take &take, const Unnamed &unnamed) {
  std::string text, bad;
  std::vector<uint32_t> asked;
  for (uint32_t i = 0; i < keys.size(); i++) {
    if (!wanted(keys[i]))
      continue;
    if (request(text, keys[i], i))
      asked.push_back(i);
    else
      unnamed(keys[i]);
  }
  size_t at = 0;
  if (asked.empty())
    return Unit{};
  TRY(c.converse(text, [&](const memcached::Answer &answer) {
    if (!take(keys[asked[at]], asked[at], answer))
      bad = answer.line;
    return bad.empty() && ++at < asked.size();
  }));
  if (!bad.empty())
    return no_answer(c, bad);
  return Unit{};
}

} // namespace doppel::migrate
