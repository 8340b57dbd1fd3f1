// SPDX-License-Identifier: Apache-2.0
// One question about each of many keys, in one go.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "userspace/memcached/connection.h"
#include "userspace/migrate/warm_context.h"

namespace doppel::migrate {

// Asks `c` about each of `keys` that is `wanted(key)`. `request(text, key, n)` adds the question
// about keys[n], or says false where no line can name the key: then `unnamed(key)`. `take(key, n,
// answer)` says false where that is no answer. Of all keys, or of those from `first` to `last`.
template <class Key, class Wanted, class Request, class Take, class Unnamed>
Status ask(memcached::Connection &c, std::vector<Key> &keys, const Wanted &wanted,
           const Request &request, const Take &take, const Unnamed &unnamed, size_t first = 0,
           size_t last = SIZE_MAX) {
  std::string text, bad;
  std::vector<uint32_t> asked;
  last = std::min(last, keys.size());
  for (auto i = static_cast<uint32_t>(first); i < last; i++) {
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

// Keys of one request that may each take a client's token. The first request is for one, so that
// where all items were marked as stale at once a single token is taken.
inline constexpr size_t kMostAtRisk = 64;
inline size_t more_at_risk(size_t n) { return std::min(4 * n, kMostAtRisk); }

// The same of the source with requests that may take tokens, few at a time. The first that took one
// ends it, and what was not asked for by then is left as it is.
template <class Key, class Wanted, class Request, class Take, class Unnamed>
Status ask_carefully(const WarmContext &c, memcached::Connection &source, std::vector<Key> &keys,
                     const Wanted &wanted, const Request &request, const Take &take,
                     const Unnamed &unnamed) {
  size_t few = c.options.stale_ok ? SIZE_MAX : 1;
  for (size_t first = 0; first < keys.size() && !c.has_token();) {
    size_t last = first;
    for (size_t n = 0; last < keys.size() && n < few; last++)
      n += wanted(keys[last]) ? 1 : 0;
    TRY(ask(source, keys, wanted, request, take, unnamed, first, last));
    first = last;
    few = c.options.stale_ok ? few : more_at_risk(few);
  }
  return Unit{};
}

} // namespace doppel::migrate
