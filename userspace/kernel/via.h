// SPDX-License-Identifier: Apache-2.0
// By which device the packets of a connection come or go.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "userspace/kernel/rtnl.h"
#include "userspace/plan/plan.h"

namespace doppel {

class Via {
public:
  Via(const std::vector<DeviceView> &devices, Rtnl &nl);

  // ifindex of the device by which requests from `client` to this host's address `own` come: the
  // one that has the address, since clients ask for that; else the one that leads back. 0: unknown.
  // `bound`: of the socket, which a link-local address does not do without (RFC 4007); 0: none.
  uint32_t of_server(const Address &own, const Address &client, uint32_t bound = 0);
  // The same for requests of this host to `server`.
  uint32_t to(const Address &server, uint32_t bound = 0);

  // Whether it is an address of this host, or a loopback address.
  bool is_own(const Address &address) const;

private:
  const std::vector<DeviceView> &devices_;
  Rtnl &nl_;
  uint32_t loopback_ = 0;
  std::map<std::string, uint32_t> routes_; // of an address
};

} // namespace doppel
