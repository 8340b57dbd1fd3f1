// SPDX-License-Identifier: Apache-2.0
// The IPsec policies of this network namespace (xfrm).
#pragma once

#include "userspace/plan/plan.h"
#include "userspace/util/error.h"
#include "userspace/util/fd.h"

namespace doppel {

struct IpsecPolicies {
  std::vector<IpsecPolicy> out; // those of XFRM interfaces and of other marks left out
  bool blocks = false;          // what no policy matches
};

// Empty on a kernel without them. Needs CAP_NET_ADMIN.
Result<IpsecPolicies> list_ipsec_policies();

// A socket that becomes readable when a policy comes or goes. Empty: there is none to be had. It
// loads the module that speaks of policies: else the first one would be noticed late.
Fd watch_ipsec_policies();

} // namespace doppel
