// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/compare.h"

#include <openssl/evp.h>

#include <cstdlib>
#include <ctime>

namespace doppel::migrate {
namespace {
// The algorithm is looked up once.
const EVP_MD *sha256() {
  static const EVP_MD *const md = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return md;
}

bool same_ttl(int64_t a, int64_t b) {
  if (a == memcached::kNoExpiry || b == memcached::kNoExpiry)
    return a == b;
  const int64_t last = memcached::last_ttl(std::time(nullptr));
  return std::abs(a - b) <= kTtlTolerance_s || (a >= last && b >= last);
}

} // namespace

Print print_of(const Seen &seen) {
  Print p;
  p.state = seen.state;
  if (!p.is_present())
    return p;
  p.stale = seen.is_stale();
  p.won = seen.meta.W;
  p.flags = seen.meta.f.value_or(0);
  p.ttl = seen.meta.t.value_or(memcached::kNoExpiry);
  p.cas = seen.meta.c.value_or(0);
  p.size = seen.value.size();
  EVP_Digest(seen.value.data(), seen.value.size(), p.digest.data(), nullptr, sha256(), nullptr);
  return p;
}

Difference compare(const Print &source, const Print &target) {
  if (source.state == Seen::State::unreadable || target.state == Seen::State::unreadable)
    return Difference::unreadable;
  if (source.stale)
    return Difference::stale;
  if (!source.is_present())
    return target.is_present() ? Difference::extra : Difference::absent;
  if (!target.is_present())
    return Difference::missing;
  if (target.stale || source.size != target.size || source.digest != target.digest)
    return Difference::different;
  if (source.flags != target.flags)
    return Difference::flags;
  return same_ttl(source.ttl, target.ttl) ? Difference::none : Difference::ttl;
}

const char *difference_name(Difference difference) {
  switch (difference) {
  case Difference::none:
    return "none";
  case Difference::missing:
    return "missing";
  case Difference::different:
    return "different";
  case Difference::flags:
    return "flags";
  case Difference::ttl:
    return "ttl";
  case Difference::extra:
    return "extra";
  case Difference::absent:
    return "absent";
  case Difference::unreadable:
    return "unreadable";
  case Difference::stale:
    return "stale";
  }
  return "";
}

// The CAS tells, but for a server without (-C), and for `touch`, which does not change it.
bool is_unmoved(const Print &before, const Print &now) {
  if (before.state != now.state)
    return false;
  if (!before.is_present())
    return true;
  const bool has_ttl = before.ttl != memcached::kNoExpiry;
  return before.cas == now.cas && before.flags == now.flags && before.size == now.size &&
         before.digest == now.digest && has_ttl == (now.ttl != memcached::kNoExpiry) &&
         now.ttl <= before.ttl;
}

} // namespace doppel::migrate
