// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/client_lists.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <vector>

#include "userspace/util/fd.h"
#include "userspace/util/pause.h"

namespace doppel {
namespace {
constexpr int kMemoryTries = 200; // 10 ms each

dp_prefix_key key_of(uint16_t list, const Prefix &prefix) {
  const bool v4 = prefix.family == Family::v4;
  dp_prefix_key key{};
  key.length = dp_prefix_length(v4 ? 96 + prefix.length : prefix.length);
  key.list = list | (v4 ? DP_PREFIX_V4 : 0);
  key.address = prefix.address.raw;
  return key;
}

Error cannot(const char *what) {
  return sys_error("map prefixes", what, errno,
                   errno == ENOMEM ? "this host has no memory for the lists of clients" : "");
}

// Where every address of a family begins.
Address all_of(Family family) { return family == Family::v4 ? Address::v4(0) : Address{}; }

// The kernel takes a row's memory without waiting for it to be freed somewhere (trie_update_elem(),
// GFP_NOWAIT), so that a moment later there may be some.
Status put_row(int fd, uint16_t list, const Prefix &prefix, uint32_t value) {
  const dp_prefix_key key = key_of(list, prefix);
  for (int tries = 0; bpf_map_update_elem(fd, &key, &value, BPF_ANY); tries++) {
    if (errno != ENOMEM || tries == kMemoryTries)
      return cannot("cannot be filled");
    pause_for({}, std::chrono::milliseconds(10));
  }
  return Unit{};
}

} // namespace

// First what decides where no prefix does: one of length 0 that the list has takes its place.
Status ClientLists::put(uint16_t list, const ClientList &clients) const {
  const uint32_t others = clients.only_listed() ? DP_PREFIX_EXCLUDE : DP_PREFIX_INCLUDE;
  for (const Family family : {Family::v4, Family::v6})
    TRY(put_row(fd_, list, {family, all_of(family), 0}, others));
  for (const ClientList::Entry &e : clients.entries())
    TRY(put_row(fd_, list, e.prefix, e.include ? DP_PREFIX_INCLUDE : DP_PREFIX_EXCLUDE));
  return Unit{};
}

Result<uint64_t> ClientLists::keep(const std::set<uint16_t> &lists) const {
  std::vector<dp_prefix_key> gone;
  uint64_t left = 0;
  dp_prefix_key key{}, next{};
  const dp_prefix_key *last = nullptr;
  while (bpf_map_get_next_key(fd_, last, &next) == 0) {
    key = next;
    last = &key;
    if (lists.count(static_cast<uint16_t>(key.list)))
      left++;
    else
      gone.push_back(key);
  }
  if (errno != ENOENT)
    return cannot("cannot be read");
  for (const dp_prefix_key &k : gone)
    if (bpf_map_delete_elem(fd_, &k) && errno != ENOENT)
      return cannot("cannot be written");
  return left;
}

bool ClientLists::wants(const dp_mapping &mapping, const dp_addr &client) const {
  if (!mapping.clients)
    return true;
  dp_prefix_key key{};
  key.length = dp_prefix_length(128);
  key.list = mapping.clients | (Address{client}.is_v4() ? DP_PREFIX_V4 : 0);
  key.address = client;
  uint32_t value = 0;
  return bpf_map_lookup_elem(fd_, &key, &value) != 0 || value != DP_PREFIX_EXCLUDE;
}

} // namespace doppel
