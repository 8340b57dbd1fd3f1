// SPDX-License-Identifier: Apache-2.0
// Why a host cannot do what a configuration wants.
#pragma once

#include <optional>
#include <string>

#include "userspace/plan/plan.h"

namespace doppel {

// Nothing: no such device.
const DeviceView *find_device(const HostView &host, const std::string &name);

bool is_own_address(const HostView &host, const Address &a);

// Whether a policy of this host would encrypt or block what the mapping's copies carry, and nobody
// has said that they may go past it.
bool ipsec_forbids(const MappingConfig &m, const Limits &limits, const HostView &host);

// Each function appends to `errors`; warnings do not keep the plan from being carried out.
void check_devices(const Config &config, const HostView &host, Errors &errors,
                   std::vector<std::string> &warnings);
void check_targets(const Config &config, const HostView &host, Errors &errors);
// Whether copies can take the host's route to that target, which is no address of the host itself.
void check_route(const HostView &host, const TargetConfig &t, Errors &errors);
void check_shadow_addresses(const Config &config, const HostView &host, Errors &errors,
                            std::vector<std::string> &warnings);
// `shadow_addresses`: of all mappings, also of those that are deferred. What comes to another
// address than those leads to the first pool of slots (slot_of(), bpf/maps.bpf.h), so that copies
// with their clients' addresses must be of that one.
void check_kept_clients(const Config &config, const std::vector<Address> &shadow_addresses,
                        const HostView &host, Errors &errors);
// Mappings on devices of which one has the other's frames, too: see same_packets().
void check_stacked(const Config &config, const HostView &host, Errors &errors,
                   std::vector<std::string> &warnings);
void check_shadow_ports(const Config &config, const HostView &host, Errors &errors);
// Copies go past IPsec (xfrm): see "bypass_ipsec".
// What check_shadow_ports() says where this host's own connections could take one of these ports,
// which the return path would consume.
std::optional<Error> ports_of_the_host(PortRange shadow, const HostView &host);
void check_ipsec(const Config &config, const HostView &host, Errors &errors);
void check_attach_mode(const Config &config, const HostView &host, Errors &errors);

} // namespace doppel
