// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/placeholders.h"

#include "userspace/migrate/ask.h"
#include "userspace/migrate/side.h"
#include "userspace/migrate/walk.h"

namespace doppel::migrate {
namespace {
struct Candidate {
  const std::string *key;
  bool is_empty = true, is_claimed = false; // empty, as far as is known
};

constexpr uint64_t kAnyFlags = 1; // they take room

} // namespace

Result<std::vector<bool>> find_placeholders(memcached::Connection &server, bool has_me,
                                            const WarmClock &clock,
                                            const std::vector<std::string> &keys) {
  std::vector<Candidate> all;
  for (const std::string &key : keys)
    all.push_back({&key});
  if (has_me)
    TRY(read_standings(server, keys, [&](size_t i, const memcached::Standing *s) {
      all[i].is_empty = s && s->size <= item_size(keys[i].size(), 0, kAnyFlags);
    }));
  TRY(ask(
      server, all, [](const Candidate &c) { return c.is_empty; },
      [](std::string &to, const Candidate &c, uint32_t n) { return request_peek(to, *c.key, n); },
      [&](Candidate &c, uint32_t n, const memcached::Answer &answer) {
        const auto item = read_answer(answer, n, clock);
        c.is_claimed = item && item->claimed;
        return item.has_value();
      },
      [](const Candidate &) {}));
  std::vector<bool> claimed;
  for (const Candidate &c : all)
    claimed.push_back(c.is_claimed);
  return claimed;
}

} // namespace doppel::migrate
