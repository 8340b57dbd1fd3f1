// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/stale_keys.h"

#include <bpf/bpf.h>
#include <openssl/sha.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace doppel::migrate {
namespace {

// A client chooses the keys: it must not find one that looks like another's.
uint64_t digest_of(uint16_t port, const std::string &key) {
  const std::string text = std::to_string(port) + ' ' + key;
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char *>(text.data()), text.size(), hash);
  uint64_t digest = 0;
  std::memcpy(&digest, hash, sizeof(digest));
  return digest;
}

} // namespace

Result<std::unique_ptr<StaleKeys>> StaleKeys::open(const Pins &pins) {
  std::unique_ptr<StaleKeys> keys(new StaleKeys(TRY(open_table(pins, "stale_keys", 1))));
  TRY(keys->read());
  return keys;
}

Status StaleKeys::read() {
  uint64_t digest = 0;
  const uint64_t *last = nullptr;
  while (bpf_map_get_next_key(table_.fd.get(), last, &digest) == 0)
    last = &*digests_.insert(digest).first;
  if (errno != ENOENT)
    return sys_error("map stale_keys", "cannot be read", errno);
  too_many_ = digests_.size() >= table_.entries;
  return Unit{};
}

// What the map does not take is not remembered by the next process: then this one is to be full,
// too.
void StaleKeys::add(uint16_t port, const std::string &key) {
  const uint64_t digest = digest_of(port, key);
  const uint8_t there = 1;
  const std::lock_guard lock(mutex_);
  if (too_many_ || !digests_.insert(digest).second)
    return;
  if (bpf_map_update_elem(table_.fd.get(), &digest, &there, BPF_ANY) ||
      digests_.size() >= table_.entries)
    too_many_ = true;
}

bool StaleKeys::has(uint16_t port, const std::string &key) const {
  {
    const std::lock_guard lock(mutex_);
    if (too_many_ || digests_.empty())
      return too_many_;
  }
  const uint64_t digest = digest_of(port, key);
  const std::lock_guard lock(mutex_);
  return digests_.count(digest);
}

} // namespace doppel::migrate
