// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/side.h"

namespace doppel::migrate {

bool Side::has_cas() const {
  const auto enabled = settings.find("cas_enabled");
  return features.cas && (enabled == settings.end() || enabled->second != "no");
}

uint64_t Side::item_size_max() const { return memcached::number(settings, "item_size_max"); }

Result<Side> open_side(const memcached::Server &server, const memcached::Access &access) {
  Side side;
  side.connection = TRY(memcached::Connection::open(server, access));
  side.features = TRY(memcached::find_features(*side.connection));
  if (!side.features.meta)
    return Error{server.text(),
                 "knows no meta commands, without which nothing can be copied safely",
                 "they came with memcached 1.6; a proxy may hide them", Exit::failure};
  side.settings = TRY(memcached::stats(*side.connection, "settings"));
  side.stats = TRY(memcached::stats(*side.connection));
  return side;
}

size_t item_size(size_t key, size_t value, uint64_t flags) {
  constexpr size_t kHeader = 48 + 8;   // of an item, with its CAS
  constexpr size_t kAround = 1 + 2;    // a zero behind the key, a line's end behind the value
  const size_t stored = flags ? 4 : 0; // flags of 0 take no room (item_make_header(), items.c)
  return kHeader + key + value + kAround + stored;
}

bool is_too_large(uint64_t item_size_max, size_t key, size_t value, uint64_t flags) {
  return item_size_max && item_size(key, value, flags) > item_size_max;
}

} // namespace doppel::migrate
