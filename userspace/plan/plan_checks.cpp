// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/plan_checks.h"

#include <algorithm>
#include <set>

#include "doppel/names.h"
#include "userspace/plan/topology.h"

namespace doppel {
namespace {
// The target's ports that the mapping's range maps onto.
PortRange target_ports(const MappingConfig &m, const TargetConfig &t) {
  return {t.port, static_cast<uint16_t>(t.port + (m.port_last - m.port_first))};
}

bool overlap(PortRange a, PortRange b) { return a.first <= b.last && b.first <= a.last; }

PortRange captured_ports(const MappingConfig &m) { return {m.port_first, m.port_last}; }

bool is_for(const MappingConfig &m, const Address &own) {
  return !m.address.is_set() || m.address == own;
}

// A target on this host itself (DP_LOOPBACK). On whichever device a mapping captures its ports:
// what it does is then a source's, and not a copy's.
void check_local(const Config &config, const HostView &host, const MappingConfig &m,
                 const TargetConfig &t, const Route *route, Errors &errors) {
  const std::string endpoint = endpoint_text(t.address, t.port);
  for (const MappingConfig &other : config.mappings)
    if (other.direction == DP_DIR_INGRESS && other.protocol == m.protocol &&
        overlap(captured_ports(other), target_ports(m, t)) && is_for(other, t.address)) {
      errors.push_back(
          {t.where,
           "the target " + endpoint + " is this host itself, at ports that mapping \"" +
               other.name + "\" captures",
           "every copy would be copied again; name another host, or other ports", Exit::usage});
      return;
    }
  const PortRange shadow{config.limits.port_first, config.limits.port_last};
  if (overlap(target_ports(m, t), shadow))
    errors.push_back({t.where,
                      "the target " + endpoint + " is this host itself, inside the shadow ports " +
                          ports_text(shadow),
                      "set \"shadow_ports\" to a range that holds no service of this host",
                      Exit::usage});
  if (t.keep_client)
    errors.push_back({t.where,
                      "the target " + endpoint +
                          " is this host itself, whose IP takes nothing from a client's address "
                          "that comes by lo",
                      R"(leave "source_address" out)", Exit::usage});
  const DeviceView *lo = device_of(host, DP_LOOPBACK);
  if (route == nullptr || route->oif != DP_LOOPBACK || !route->source.is_set())
    errors.push_back({t.where,
                      "the target " + t.address.text() +
                          " is this host itself, and its route does not lead through lo",
                      "see `ip route get " + t.address.text() + "`; a VRF's address is one such",
                      Exit::failure});
  else if (lo != nullptr && !lo->up)
    errors.push_back({t.where,
                      "the target " + t.address.text() + " is this host itself, and device " +
                          lo->name + " is down",
                      "ip link set " + lo->name + " up", Exit::failure});
}

// A mapping does not capture what goes to a target of its own, to the ports that it leads to there
// (mapping_of(), bpf/capture.bpf.c). True: of so many ports all are such.
bool passes_by(const MappingConfig &other, const Address &address, PortRange ports) {
  for (unsigned p = ports.first; p <= ports.last; p++) {
    const bool own =
        std::any_of(other.targets.begin(), other.targets.end(), [&](const TargetConfig &o) {
          const PortRange to = target_ports(other, o);
          return o.address == address && p >= to.first && p <= to.last;
        });
    if (!own)
      return false;
  }
  return true;
}

bool captures_on(const MappingConfig &m, const std::string &device) {
  return std::find(m.devices.begin(), m.devices.end(), device) != m.devices.end();
}

// Copies leave through the TC egress hook of the target's device, where another mapping would
// capture them, or this one.
void refuse_chain(const Config &config, const MappingConfig &m, const TargetConfig &t,
                  const Route &route, Errors &errors) {
  for (const MappingConfig &other : config.mappings) {
    const PortRange seen = captured_ports(other), to = target_ports(m, t);
    if (other.direction == DP_DIR_EGRESS && other.protocol == m.protocol &&
        captures_on(other, route.device) && overlap(seen, to) &&
        (!other.address.is_set() || other.address == t.address) &&
        !passes_by(other, t.address,
                   {std::max(seen.first, to.first), std::min(seen.last, to.last)}))
      errors.push_back(
          {t.where,
           "copies to " + endpoint_text(t.address, t.port) +
               " would be captured again by mapping \"" + other.name + "\"",
           "both use device " + route.device + " and the same port: give the target another port",
           Exit::usage});
  }
}

constexpr uint32_t kLeastMtu6 = 1280; // RFC 8200, 5

const Route *route_of(const HostView &host, const Address &target) {
  const auto found = host.routes.find(target.text());
  return found == host.routes.end() ? nullptr : &found->second;
}

void check_target(const Config &config, const HostView &host, const MappingConfig &m,
                  const TargetConfig &t, Errors &errors) {
  const Route *route = route_of(host, t.address);
  const bool local = route && route->local;
  if (route && route->held)
    ;
  else if (local || is_own_address(host, t.address))
    check_local(config, host, m, t, local ? route : nullptr, errors);
  else
    check_route(host, t, errors);
  if (route)
    refuse_chain(config, m, t, *route, errors);
}

// Whether the selector's port is one of the range. `all`: every one of it.
bool selects(uint16_t port, uint16_t mask, PortRange range, bool all = false) {
  bool any = false, each = true;
  for (unsigned p = range.first; p <= range.last; p++) {
    const bool hit = ((p ^ port) & mask) == 0;
    any |= hit;
    each &= hit;
  }
  return all ? each : any;
}

// Whether the policy is for what comes from one of the addresses that copies come from. `all`: from
// each of them.
bool covers(const IpsecPolicy &p, const TargetConfig &t, const Address &own, bool all) {
  const auto has = [&](const Address &a) { return !p.from.length || p.from.contains(a); };
  const auto listed = [&](const ShadowAddress &a) { return has(a.address); };
  const auto &more = t.shadow_addresses;
  return all ? has(own) && std::all_of(more.begin(), more.end(), listed)
             : has(own) || std::any_of(more.begin(), more.end(), listed);
}

// lo passes IPsec by, for IPv4 (net.ipv4.conf.lo.disable_xfrm).
bool is_exempt(const Route &route) { return route.local && route.source.is_v4(); }

// The policy that would decide on copies to that target, or on some of them. Null: none.
const IpsecPolicy *policy_for(const MappingConfig &m, const TargetConfig &t, PortRange to,
                              PortRange from, const HostView &host) {
  const auto route = host.routes.find(t.address.text());
  std::vector<const IpsecPolicy *> order;
  for (const IpsecPolicy &p : host.ipsec)
    order.push_back(&p);
  std::stable_sort(order.begin(), order.end(), [](const IpsecPolicy *a, const IpsecPolicy *b) {
    return a->priority < b->priority;
  });
  for (const IpsecPolicy *p : order) {
    if ((p->proto && p->proto != m.protocol) || !p->to.contains(t.address) ||
        !selects(p->to_port, p->to_mask, to) || !selects(p->from_port, p->from_mask, from))
      continue;
    if (route != host.routes.end() && (!covers(*p, t, route->second.source, false) ||
                                       (p->ifindex && p->ifindex != route->second.oif)))
      continue;
    if (p->block || p->transform)
      return p;
    if (selects(p->to_port, p->to_mask, to, true) &&
        selects(p->from_port, p->from_mask, from, true) &&
        (route == host.routes.end() || covers(*p, t, route->second.source, true)))
      return p; // all of it passes: what comes behind is not asked
  }
  return nullptr;
}

// Why copies to that target may not leave. Empty: they may.
std::string ipsec_reason(const MappingConfig &m, const TargetConfig &t, const Limits &limits,
                         const HostView &host) {
  if (const auto route = host.routes.find(t.address.text());
      route != host.routes.end() && is_exempt(route->second))
    return {};
  const IpsecPolicy *p =
      policy_for(m, t, target_ports(m, t), {limits.port_first, limits.port_last}, host);
  const std::string target = "the target " + t.address.text();
  if (!p && host.ipsec_blocks)
    return "this host blocks what no IPsec policy lets pass (ip xfrm policy getdefault), none lets "
           "pass what it sends to " +
           target + ", and copies would leave all the same";
  if (p && p->block)
    return "an IPsec policy of this host blocks what it sends to " + target +
           ", and copies would leave all the same";
  if (p && p->transform)
    return "an IPsec policy of this host covers " + target +
           (p->optional ? " while a security association is up, and copies would leave unencrypted "
                          "then as well"
                        : ", and copies would leave unencrypted");
  return {};
}

bool is_reserved(const HostView &host, unsigned port) {
  return std::any_of(host.local_reserved.begin(), host.local_reserved.end(),
                     [&](PortRange r) { return r.first <= port && port <= r.last; });
}

unsigned ephemeral_left(const HostView &host, PortRange shadow) {
  unsigned left = 0;
  for (unsigned port = host.local_port_first; port <= host.local_port_last; port++)
    left += !is_reserved(host, port) && (port < shadow.first || port > shadow.last);
  return left;
}

// Never less than Linux' own default leaves room for many connections to one server.
constexpr unsigned kEnoughEphemeral = 4096;

std::string overlap_hint(const HostView &host, PortRange shadow) {
  std::string outside = "set \"shadow_ports\" to a range outside of it";
  if (ephemeral_left(host, shadow) < kEnoughEphemeral)
    return outside;
  // What others have reserved stays reserved: the sysctl is one list for all.
  std::string list;
  for (const PortRange &r : host.local_reserved)
    list += ports_text(r) + ",";
  return outside + ", or keep this one free: sysctl -w net.ipv4.ip_local_reserved_ports=" + list +
         ports_text(shadow);
}

bool host_may_take(const HostView &host, PortRange shadow) {
  const unsigned first = std::max(shadow.first, host.local_port_first);
  const unsigned last = std::min(shadow.last, host.local_port_last);
  for (unsigned port = first; port <= last; port++)
    if (!is_reserved(host, port))
      return true;
  return false;
}

// A target that gets the requests of both, at one port for one and the same; null: there is none.
const TargetConfig *target_of_both(const MappingConfig &a, const MappingConfig &b) {
  for (const TargetConfig &t : a.targets)
    for (const TargetConfig &u : b.targets)
      if (t.address == u.address && t.port - a.port_first == u.port - b.port_first &&
          !t.portion.is_dry_run() && !u.portion.is_dry_run())
        return &t;
  return nullptr;
}

bool is_for_same_requests(const MappingConfig &a, const MappingConfig &b) {
  return a.direction == b.direction && a.protocol == b.protocol &&
         overlap(captured_ports(a), captured_ports(b)) &&
         (!a.address.is_set() || !b.address.is_set() || a.address == b.address);
}

// Lists and samples may share the connections out between the two.
bool takes_all(const MappingConfig &m) {
  return !m.clients && std::all_of(m.targets.begin(), m.targets.end(), [](const TargetConfig &t) {
    return t.portion.sample == Portion::kAll;
  });
}

// One device of each. `later` is the one that is told; either may be the upper one.
void check_stacked_pair(const MappingConfig &lower, const std::string &lower_device,
                        const MappingConfig &upper, const std::string &upper_device,
                        const MappingConfig &later, const HostView &host, Errors &errors,
                        std::vector<std::string> &warnings) {
  const DeviceView *below = find_device(host, lower_device);
  const DeviceView *above = find_device(host, upper_device);
  const TargetConfig *target = target_of_both(lower, upper);
  if (!below || !above || !target || !is_for_same_requests(lower, upper))
    return;
  const SamePackets same = same_packets(host, lower, *below, *above);
  if (same == SamePackets::no)
    return;
  const bool certain = same == SamePackets::yes && takes_all(lower) && takes_all(upper);
  const std::string how = relation(host, *below, *above);
  const std::string what =
      "mappings " + in_quotes(lower.name) + " and " + in_quotes(upper.name) +
      (certain ? " capture" : " may capture") + " the same requests, and the target " +
      endpoint_text(target->address, target->port) + (certain ? " would get" : " may get") +
      " each twice: " + (how.empty() ? below->name + " lies below " + above->name : how);
  const std::string hint = "capture on " + above->name + " alone";
  if (certain)
    errors.push_back({later.where, what, hint, Exit::usage});
  else
    warnings.push_back(what + "; " + hint);
}

// Of TCP the second capture is a retransmission, and of UDP a second datagram.
void check_own_stack(const MappingConfig &m, const HostView &host, Errors &errors,
                     std::vector<std::string> &warnings) {
  for (const std::string &a : m.devices)
    for (const std::string &b : m.devices) {
      const DeviceView *below = find_device(host, a), *above = find_device(host, b);
      const SamePackets same =
          below && above ? same_packets(host, m, *below, *above) : SamePackets::no;
      if (same == SamePackets::no)
        continue;
      const bool certain = same == SamePackets::yes;
      const std::string how = relation(host, *below, *above);
      const std::string what = "mapping " + in_quotes(m.name) +
                               (certain ? " captures" : " may capture") + " the same requests on " +
                               a + " and on " + b + ": " +
                               (how.empty() ? a + " lies below " + b : how);
      const std::string hint = "capture on " + b + " alone";
      if (certain)
        errors.push_back({m.where, what, hint, Exit::usage});
      else
        warnings.push_back(what + "; " + hint);
    }
}

void check_device(const MappingConfig &m, const std::string &device, const HostView &host,
                  std::set<std::string> &down, Errors &errors, std::vector<std::string> &warnings) {
  if (device == DP_LINK || device == DP_LINK_PEER) {
    errors.push_back({m.where, "device " + device + " is doppel's own",
                      "name the device that carries the clients' traffic", Exit::usage});
    return;
  }
  const DeviceView *d = find_device(host, device);
  if (d == nullptr) {
    std::vector<std::string> names;
    for (const DeviceView &v : host.devices)
      names.push_back(v.name);
    const auto near = nearest(device, names);
    errors.push_back({m.where, "there is no device " + in_quotes(device),
                      near ? "did you mean \"" + *near + "\"?" : "`ip link` lists the devices",
                      Exit::failure});
  } else if (!d->ethernet) {
    errors.push_back({m.where, "device " + device + " has no Ethernet header",
                      "capture on the Ethernet device below it", Exit::failure});
  } else if (!d->up && down.insert(device).second) {
    warnings.push_back("device " + device + " is down: nothing is captured until it is up");
  } else if (!d->carrier && down.insert(device).second) {
    warnings.push_back("device " + device +
                       " has no carrier: nothing is captured until its other end is there");
  }
}

} // namespace

const DeviceView *find_device(const HostView &host, const std::string &name) {
  const auto d = std::find_if(host.devices.begin(), host.devices.end(),
                              [&](const DeviceView &v) { return v.name == name; });
  return d == host.devices.end() ? nullptr : &*d;
}

bool is_own_address(const HostView &host, const Address &a) {
  return std::any_of(host.devices.begin(), host.devices.end(), [&](const DeviceView &d) {
    return std::find(d.addresses.begin(), d.addresses.end(), a) != d.addresses.end();
  });
}

void check_devices(const Config &config, const HostView &host, Errors &errors,
                   std::vector<std::string> &warnings) {
  std::set<std::string> down;
  for (const MappingConfig &m : config.mappings)
    for (const std::string &device : m.devices)
      check_device(m, device, host, down, errors, warnings);
}

void check_route(const HostView &host, const TargetConfig &t, Errors &errors) {
  const std::string target = t.address.text();
  const Route *route = route_of(host, t.address);
  if (!route) {
    errors.push_back({t.where, "this host has no route to the target " + target,
                      "see `ip route get " + target + "`", Exit::failure});
    return;
  }
  const DeviceView *via = find_device(host, route->device);
  if (via != nullptr && !via->ethernet)
    errors.push_back({t.where,
                      "the route to the target " + target + " leaves through device " +
                          route->device + ", which has no Ethernet header",
                      "only targets behind an Ethernet device can be reached", Exit::failure});
  if (!route->source.is_set())
    errors.push_back(
        {t.where, "this host has no address of its own toward the target " + target,
         "give device " + route->device +
             (t.address.is_v4() ? " an IPv4 address" : " a global or unique-local IPv6 address"),
         Exit::failure});
  if (t.address.family() == Family::v6 && route->mtu != 0 && route->mtu < kLeastMtu6)
    errors.push_back(
        {t.where,
         "the path to the target " + target + " takes packets of " + std::to_string(route->mtu) +
             " bytes, and IPv6 needs " + std::to_string(kLeastMtu6),
         "raise the MTU of device " + route->device + ", or of the route", Exit::failure});
}

void check_targets(const Config &config, const HostView &host, Errors &errors) {
  for (const MappingConfig &m : config.mappings)
    for (const TargetConfig &t : m.targets)
      check_target(config, host, m, t, errors);
}

void check_kept_clients(const Config &config, const std::vector<Address> &shadow_addresses,
                        const HostView &host, Errors &errors) {
  for (const MappingConfig &m : config.mappings)
    for (const TargetConfig &t : m.targets) {
      const auto route = host.routes.find(t.address.text());
      if (t.keep_client && route != host.routes.end() &&
          std::find(shadow_addresses.begin(), shadow_addresses.end(), route->second.source) !=
              shadow_addresses.end())
        errors.push_back({t.where,
                          "copies to " + endpoint_text(t.address, t.port) +
                              " cannot have their clients' addresses, because they would leave "
                              "from " +
                              route->second.source.text() + ", which \"shadow_addresses\" names",
                          "take it out of all \"shadow_addresses\", or use \"source_address\": "
                          "\"host\"",
                          Exit::failure});
    }
}

void check_shadow_addresses(const Config &config, const HostView &host, Errors &errors,
                            std::vector<std::string> &warnings) {
  for (const MappingConfig &m : config.mappings)
    for (const TargetConfig &t : m.targets) {
      const auto route = host.routes.find(t.address.text());
      for (const ShadowAddress &a : t.shadow_addresses) {
        if (!is_own_address(host, a.address))
          errors.push_back({a.where, "the address " + a.address.text() + " is not this host's",
                            "`ip address` lists those that are; give it to a device, or take it "
                            "out of \"shadow_addresses\"",
                            Exit::failure});
        else if (route != host.routes.end() && route->second.source == a.address)
          warnings.push_back("copies to " + endpoint_text(t.address, t.port) + " come from " +
                             a.address.text() +
                             " anyway: in \"shadow_addresses\" it makes no room for more");
      }
    }
}

void check_stacked(const Config &config, const HostView &host, Errors &errors,
                   std::vector<std::string> &warnings) {
  const auto &all = config.mappings;
  for (size_t later = 0; later < all.size(); later++) {
    check_own_stack(all[later], host, errors, warnings);
    for (size_t earlier = 0; earlier < later; earlier++) {
      if (!target_of_both(all[earlier], all[later]) ||
          !is_for_same_requests(all[earlier], all[later]))
        continue; // of a thousand mappings nearly all
      for (const std::string &a : all[earlier].devices)
        for (const std::string &b : all[later].devices) {
          check_stacked_pair(all[earlier], a, all[later], b, all[later], host, errors, warnings);
          check_stacked_pair(all[later], b, all[earlier], a, all[later], host, errors, warnings);
        }
    }
  }
}

bool ipsec_forbids(const MappingConfig &m, const Limits &limits, const HostView &host) {
  return !m.bypass_ipsec &&
         std::any_of(m.targets.begin(), m.targets.end(), [&](const TargetConfig &t) {
           return !ipsec_reason(m, t, limits, host).empty();
         });
}

void check_ipsec(const Config &config, const HostView &host, Errors &errors) {
  for (const MappingConfig &m : config.mappings)
    for (const TargetConfig &t : m.targets)
      if (const std::string why = ipsec_reason(m, t, config.limits, host);
          !m.bypass_ipsec && !why.empty())
        errors.push_back({t.where, why,
                          "copies pass IPsec by: if they may, say \"bypass_ipsec\": true in the "
                          "mapping, or --bypass-ipsec",
                          Exit::failure});
}

std::optional<Error> ports_of_the_host(PortRange shadow, const HostView &host) {
  if (!host_may_take(host, shadow))
    return {};
  return Error{"shadow_ports",
               "the range " + ports_text(shadow) + " overlaps net.ipv4.ip_local_port_range (" +
                   std::to_string(host.local_port_first) + "-" +
                   std::to_string(host.local_port_last) +
                   "): this host's own connections could take a shadow's port",
               overlap_hint(host, shadow), Exit::failure};
}

void check_shadow_ports(const Config &config, const HostView &host, Errors &errors) {
  const PortRange shadow{config.limits.port_first, config.limits.port_last};
  const std::string where = config.source + ": shadow_ports", range = ports_text(shadow);
  if (shadow.first < 1024 || shadow.first > shadow.last) {
    errors.push_back({where, "the range " + range + " cannot be used",
                      "give a range within 1024-65535", Exit::usage});
    return;
  }
  if (auto taken = ports_of_the_host(shadow, host)) {
    taken->where = where;
    errors.push_back(std::move(*taken));
  }
  for (const MappingConfig &m : config.mappings)
    if (m.direction == DP_DIR_INGRESS && overlap(captured_ports(m), shadow))
      errors.push_back(
          {m.where,
           "ports " + ports_text(captured_ports(m)) + " lie inside the shadow ports " + range,
           "set \"shadow_ports\" to a range that holds no service of this host", Exit::usage});
}

void check_attach_mode(const Config &config, const HostView &host, Errors &errors) {
  if (config.attach_mode == AttachMode::tcx && !host.has_tcx)
    errors.push_back({"attach mode tcx", "this kernel has no TCX (it came with Linux 6.6)",
                      "use --attach-mode clsact, or auto", Exit::failure});
}

} // namespace doppel
