// SPDX-License-Identifier: Apache-2.0
// What a server knows, found by trying: proxies and builds lie about versions. Nothing that is
// tried reads or writes an item.
#pragma once

#include "userspace/memcached/connection.h"
#include "userspace/util/error.h"

namespace doppel::memcached {

struct Features {
  bool meta = false;        // mn, mg, ms, md (1.6.0)
  bool meta_base64 = false; // the flag b (1.6.10)
  bool me = false;          // how an item stands, without a trace
  bool set_cas = false;     // the flag E (1.6.27)
  bool cas = false;         // items have a CAS (not -C)
  bool metadump = false;    // keys can be listed; dump_keys() learns whether also by `hash` (1.6.9)
  bool dump_disabled = false; // -X, or no crawler: why metadump is false
};

Result<Features> find_features(Connection &c);

} // namespace doppel::memcached
