// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/placeholders.h"

#include "userspace/memcached/meta.h"
#include "userspace/migrate/ask.h"
#include "userspace/migrate/side.h"
#include "userspace/migrate/walk.h"

namespace doppel::migrate {
namespace {
struct Candidate {
  const std::string *key;
  bool is_asked = true;
  InPlace stands = InPlace::item;
};

// Of no value and no client flags (process_mget_command(), proto_text.c).
bool may_be_one(const memcached::Standing &s, const std::string &key) {
  return s.size <= item_size(key.size(), 0, 0);
}

} // namespace

Result<std::vector<InPlace>> find_placeholders(memcached::Connection &server, bool has_me,
                                               const WarmClock &clock,
                                               const std::vector<std::string> &keys) {
  std::vector<Candidate> all;
  std::vector<std::string> plain;
  std::vector<size_t> places; // of them
  for (const std::string &key : keys) {
    if (has_me && memcached::is_plain_key(key)) {
      plain.push_back(key);
      places.push_back(all.size());
    }
    all.push_back({&key});
  }
  if (!plain.empty())
    TRY(read_standings(server, plain, [&](size_t i, const memcached::Standing *s) {
      Candidate &c = all[places[i]];
      c.is_asked = s && may_be_one(*s, *c.key);
      c.stands = s ? InPlace::item : InPlace::nothing;
    }));
  TRY(ask(
      server, all, [](const Candidate &c) { return c.is_asked; },
      [](std::string &to, const Candidate &c, uint32_t n) { return request_peek(to, *c.key, n); },
      [&](Candidate &c, uint32_t n, const memcached::Answer &answer) {
        const auto item = read_answer(answer, n, clock);
        if (item && item->claimed)
          c.stands = InPlace::placeholder;
        else if (item && !item->failed && !item->look.there)
          c.stands = InPlace::nothing;
        return item.has_value();
      },
      [](const Candidate &) {}));
  std::vector<InPlace> found;
  found.reserve(all.size());
  for (const Candidate &c : all)
    found.push_back(c.stands);
  return found;
}

} // namespace doppel::migrate
