// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/port_rows.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <string>

#include "userspace/util/fd.h"

namespace doppel {
namespace {
struct Less {
  bool operator()(const dp_port_key &a, const dp_port_key &b) const {
    return std::memcmp(&a, &b, sizeof(a)) < 0;
  }
};

Error cannot(const char *map, const char *what) {
  return sys_error(std::string("map ") + map, what, errno);
}

// Of a port without a row: what leads nowhere.
Result<dp_port_val> way_of(int port_map, const dp_port_key &key) {
  dp_port_val val{DP_NO_MAPPING, 0, 0, 0};
  if (bpf_map_lookup_elem(port_map, &key, &val) && errno != ENOENT)
    return cannot("port_map", "cannot be read");
  return val;
}

// A row that leads nowhere any more is none.
Status put_way(int port_map, const dp_port_key &key, const dp_port_val &val) {
  if (val.mapping == DP_NO_MAPPING && !val.by_address) {
    if (bpf_map_delete_elem(port_map, &key) && errno != ENOENT)
      return cannot("port_map", "cannot be written");
  } else if (bpf_map_update_elem(port_map, &key, &val, BPF_ANY)) {
    return cannot("port_map", "cannot be written");
  }
  return Unit{};
}

template <typename Key, typename Take> Status each_row(int map, const char *name, Take take) {
  Key key{}, next{};
  const Key *last = nullptr;
  while (bpf_map_get_next_key(map, last, &next) == 0) {
    key = next;
    dp_port_val val{};
    if (bpf_map_lookup_elem(map, &key, &val) == 0)
      take(key, val);
    last = &key;
  }
  if (errno != ENOENT)
    return cannot(name, "cannot be read");
  return Unit{};
}

} // namespace

bool has_address(const dp_address_key &key) { return Address{key.address}.is_set(); }

Status put_row(int port_map, int address_map, const PortRow &row) {
  dp_port_val way = TRY(way_of(port_map, row.key.port));
  if (!has_address(row.key)) {
    way.mapping = row.val.mapping;
    way.offset = row.val.offset;
    return put_way(port_map, row.key.port, way);
  }
  // In this order: what is killed in between leaves no row that nobody looks up.
  way.by_address = 1;
  TRY(put_way(port_map, row.key.port, way));
  if (bpf_map_update_elem(address_map, &row.key, &row.val, BPF_ANY))
    return cannot("address_map", "cannot be written");
  return Unit{};
}

Status drop_rows(int port_map, int address_map, const std::vector<dp_address_key> &keys) {
  std::set<dp_port_key, Less> with_address, left;
  for (const dp_address_key &key : keys) {
    if (has_address(key)) {
      if (bpf_map_delete_elem(address_map, &key) && errno != ENOENT)
        return cannot("address_map", "cannot be written");
      with_address.insert(key.port);
      continue;
    }
    dp_port_val way = TRY(way_of(port_map, key.port));
    way.mapping = DP_NO_MAPPING;
    way.offset = 0;
    TRY(put_way(port_map, key.port, way));
  }
  if (with_address.empty())
    return Unit{};
  TRY(each_row<dp_address_key>(
      address_map, "address_map",
      [&](const dp_address_key &key, const dp_port_val &) { left.insert(key.port); }));
  for (const dp_port_key &key : with_address) {
    dp_port_val way = TRY(way_of(port_map, key));
    way.by_address = left.count(key) ? 1 : 0;
    TRY(put_way(port_map, key, way));
  }
  return Unit{};
}

Result<std::vector<PortRow>> read_rows(int port_map, int address_map) {
  std::vector<PortRow> all;
  TRY(each_row<dp_port_key>(port_map, "port_map",
                            [&](const dp_port_key &key, const dp_port_val &val) {
                              if (val.mapping != DP_NO_MAPPING)
                                all.push_back({{key, {}}, {val.mapping, val.offset, 0, 0}});
                            }));
  TRY(each_row<dp_address_key>(address_map, "address_map",
                               [&](const dp_address_key &key, const dp_port_val &val) {
                                 all.push_back({key, val});
                               }));
  return all;
}

} // namespace doppel
