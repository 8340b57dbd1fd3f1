// SPDX-License-Identifier: Apache-2.0
// What netfilter does with packets that this host sends.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "userspace/util/address.h"

namespace doppel {

struct OutputRules {
  std::vector<std::string> filters; // chains that may drop or change: "nftables ip filter OUTPUT"
  bool translates = false;          // some give packets another destination: NAT, or IPVS
};

// Of nftables and of iptables, legacy or not: base chains at the hook `output` that have a rule, or
// a policy other than accept, and that see packets of these families. Empty where they cannot be
// read. Needs CAP_NET_ADMIN.
OutputRules output_rules(const std::set<Family> &families);

} // namespace doppel
