// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/compare.h"

#include <openssl/evp.h>

#include <ctime>

#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
// The algorithm is looked up once.
const EVP_MD *sha256() {
  static const EVP_MD *const md = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return md;
}

// How far `b` certainly ends behind `a`, s.
double ends_later(const Print &a, const Print &b) {
  const auto apart = static_cast<int64_t>(b.asked_ns) - static_cast<int64_t>(a.answered_ns);
  return static_cast<double>(b.ttl - a.ttl) + static_cast<double>(apart) / 1e9;
}

bool same_ttl(const Print &source, const Print &target) {
  const int64_t a = source.ttl, b = target.ttl;
  if (a == memcached::kNoExpiry || b == memcached::kNoExpiry)
    return a == b;
  const int64_t last = memcached::last_ttl(std::time(nullptr));
  return (ends_later(source, target) <= kTtlTolerance_s &&
          ends_later(target, source) <= kTtlTolerance_s) ||
         (a >= last && b >= last);
}

} // namespace

Print print_of(const Seen &seen, uint64_t asked_ns) {
  Print p;
  p.asked_ns = asked_ns;
  p.answered_ns = monotonic_ns();
  p.state = seen.state;
  if (p.is_present() && seen.meta.is_claimed() && seen.value.empty())
    p.state = Seen::State::absent; // for all but the client that fills it
  if (!p.is_present())
    return p;
  p.stale = seen.meta.is_stale();
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
  return same_ttl(source, target) ? Difference::none : Difference::ttl;
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
