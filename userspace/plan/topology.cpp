// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/topology.h"

#include <netinet/in.h>

#include <algorithm>
#include <set>

#include "userspace/plan/plan_checks.h"

namespace doppel {
namespace {
constexpr const char *kLoopback = "lo";

bool is_bridge(const DeviceView &d) { return d.kind == "bridge" || d.kind == "openvswitch"; }

bool is_bond(const DeviceView &d) { return d.kind == "bond" || d.kind == "team"; }

// To a container or a virtual machine, or, seen from inside, out of it.
bool leads_elsewhere(const DeviceView &d) {
  return (d.kind == "veth" && d.elsewhere) || d.kind == "netkit" || d.kind == "tun";
}

// What its kind is called, where it takes frames of its own out of those of the device below.
const char *upper_kind(const DeviceView &d) {
  static const struct {
    const char *kind, *name;
  } all[] = {{"vlan", "VLAN device"},       {"macvlan", "macvlan device"},
             {"macvtap", "macvtap device"}, {"ipvlan", "ipvlan device"},
             {"ipvtap", "ipvtap device"},   {"vxlan", "VXLAN device"},
             {"gretap", "GRE device"},      {"ip6gretap", "GRE device"},
             {"erspan", "ERSPAN device"},   {"ip6erspan", "ERSPAN device"}};
  for (const auto &one : all)
    if (d.kind == one.kind)
      return one.name;
  return nullptr;
}

bool is_tunnel(const DeviceView &d) {
  return std::set<std::string>{"vxlan", "gretap", "erspan", "ip6gretap", "ip6erspan"}.count(d.kind);
}

bool has(const DeviceView &d, const Address &a) {
  return std::find(d.addresses.begin(), d.addresses.end(), a) != d.addresses.end();
}

bool stands_on(const DeviceView &upper, const DeviceView &lower) {
  if (!upper_kind(upper))
    return false;
  return upper.lower ? upper.lower == lower.ifindex : has(lower, upper.tunnel);
}

bool is_ipvlan(const DeviceView &d) { return d.kind == "ipvlan" || d.kind == "ipvtap"; }

// Its frames pass the hooks of the one below as they are: no VLAN tag, which capture leaves alone
// (of_a_vlan(), bpf/packet/parse.bpf.h), and no tunnel's header around them.
bool shares_frames(const HostView &host, const DeviceView &lower, const DeviceView &upper) {
  if (const DeviceView *master = device_of(host, lower.master);
      master && master->ifindex == upper.ifindex)
    return is_bridge(upper) || is_bond(upper);
  return upper.kind != "vlan" && !is_tunnel(upper) && stands_on(upper, lower);
}

constexpr unsigned kMostStacked = 8; // MAX_NEST_DEV of Linux

bool is_above(const HostView &host, const DeviceView &upper, const DeviceView &lower,
              unsigned most = kMostStacked) {
  return most && std::any_of(host.devices.begin(), host.devices.end(), [&](const DeviceView &d) {
           return shares_frames(host, lower, d) &&
                  (d.ifindex == upper.ifindex || is_above(host, upper, d, most - 1));
         });
}

std::vector<const DeviceView *> ports_of(const HostView &host, const DeviceView &master) {
  std::vector<const DeviceView *> ports;
  for (const DeviceView &d : host.devices)
    if (d.master == master.ifindex)
      ports.push_back(&d);
  return ports;
}

// docker0 and its like: no port of it leads to a network.
bool leads_to_containers(const HostView &host, const DeviceView &bridge) {
  const auto ports = ports_of(host, bridge);
  return is_bridge(bridge) && !ports.empty() &&
         std::all_of(ports.begin(), ports.end(),
                     [](const DeviceView *d) { return leads_elsewhere(*d); });
}

std::string port_of_bridge(const DeviceView &d, const DeviceView &bridge) {
  std::string text = "device " + d.name + " is a port of bridge " + bridge.name;
  if (d.mac != bridge.mac)
    text += ", which has another MAC: what comes for this host is not seen on " + d.name;
  else
    text += ": what comes for this host is seen on " + d.name + " only as long as " + bridge.name +
            " has its MAC, and never if it comes by another port";
  text += "; capture on " + bridge.name;
  if (leads_elsewhere(d))
    text += " (if " + d.name + " leads to the container that serves: on " + d.name +
            " with direction egress)";
  return text;
}

std::string port_of_bond(const DeviceView &d, const DeviceView &bond) {
  return "device " + d.name + " is a port of " + bond.kind + " " + bond.name +
         ": requests may come by its other ports; capture on " + bond.name;
}

std::string address_list(const DeviceView &d) {
  std::string text;
  for (const Address &a : d.addresses)
    text += (text.empty() ? "" : ", ") + a.text();
  return text;
}

std::string stands_below(const DeviceView &lower, const DeviceView &upper) {
  return upper.name + (upper.addresses.empty() ? "" : " (" + address_list(upper) + ")") + " is a " +
         upper_kind(upper) + " of " + lower.name +
         ", where what comes by it is not seen; capture on " + upper.name;
}

// One mapping on one host.
class Judge {
public:
  Judge(const MappingConfig &m, const HostView &host, const DeviceView &device)
      : m_(m), host_(host), d_(device), ports_(service_text(m)) {
    for (const Listener &l : host.listeners)
      if (m.protocol == IPPROTO_TCP && in_range(l.port) &&
          (!m.address.is_set() || l.takes(m.address)))
        listeners_.push_back(&l);
  }

  std::vector<std::string> run() {
    if (m_.any_host)
      tunnels();
    else if (m_.direction == DP_DIR_INGRESS)
      ingress();
    else
      egress();
    return std::move(found_);
  }

private:
  // The mapping captures there as well.
  bool is_named(const DeviceView &d) const {
    return std::find(m_.devices.begin(), m_.devices.end(), d.name) != m_.devices.end();
  }

  bool in_range(uint16_t port) const { return m_.port_first <= port && port <= m_.port_last; }

  // A listener that takes what is addressed to the device.
  bool listens_on(const Listener &l, const DeviceView &d) const {
    if (l.ifindex)
      return l.ifindex == d.ifindex;
    return std::any_of(d.addresses.begin(), d.addresses.end(),
                       [&](const Address &a) { return is_served(a) && l.takes(a); });
  }

  bool is_served(const Address &a) const { return !m_.address.is_set() || m_.address == a; }

  bool any_listens_on(const DeviceView &d) const {
    return std::any_of(listeners_.begin(), listeners_.end(),
                       [&](const Listener *l) { return listens_on(*l, d); });
  }

  uint32_t connections_by(const DeviceView *d, bool asked) const {
    uint32_t count = 0;
    for (const Connections &c : host_.connections)
      if (m_.protocol == IPPROTO_TCP && in_range(c.port) &&
          (!c.server.is_set() || is_served(c.server)) && c.asked == asked &&
          (!d || c.ifindex == d->ifindex))
        count += c.count;
    return count;
  }

  // A mirror port's frames may come in a tunnel.
  void tunnels() {
    for (const DeviceView &u : host_.devices)
      if (stands_on(u, d_) && is_tunnel(u) && !is_named(u))
        found_.push_back(stands_below(d_, u) + " if that is where the mirror's frames come");
  }

  void egress() {
    if (const DeviceView *master = device_of(host_, d_.master);
        master && is_bond(*master) && !is_named(*master))
      found_.push_back(port_of_bond(d_, *master));
    if (!leads_elsewhere(d_) && !is_bridge(d_) && d_.name != kLoopback && !listeners_.empty() &&
        connections_by(nullptr, true) == 0)
      found_.push_back("port " + ports_ +
                       " is served by this host, and direction egress is for what "
                       "it asks of others: use direction ingress");
  }

  void ingress() {
    if (const DeviceView *master = device_of(host_, d_.master); master && !is_named(*master)) {
      if (is_bridge(*master))
        found_.push_back(port_of_bridge(d_, *master));
      else if (is_bond(*master))
        found_.push_back(port_of_bond(d_, *master));
    }
    if (listeners_.empty() && leads_to_containers(host_, d_))
      found_.push_back("bridge " + d_.name +
                       " leads to containers or virtual machines alone: what "
                       "they are asked leaves by it; capture with direction egress, or on the "
                       "device by which their clients' requests come to this host");
    if (found_.empty())
      uppers();
    if (found_.empty())
      nobodys();
    if (found_.empty())
      elsewhere();
    if (found_.empty())
      connections();
  }

  // VLANs and their like, whose addresses the service listens on as well.
  void uppers() {
    const bool here = any_listens_on(d_);
    for (const DeviceView &u : host_.devices) {
      if (!stands_on(u, d_) || is_named(u) || !any_listens_on(u))
        continue;
      // The service is used here, and not there.
      if (here && connections_by(&d_, false) && !connections_by(&u, false))
        continue;
      found_.push_back(stands_below(d_, u) + (here ? " for its clients" : ""));
    }
  }

  // Unless it is routed or translated to this host.
  void nobodys() {
    const auto owns = [&](const DeviceView &d) { return has(d, m_.address); };
    if (m_.address.is_set() && !is_loopback(m_.address) && !leads_elsewhere(d_) && !is_bridge(d_) &&
        std::none_of(host_.devices.begin(), host_.devices.end(), owns))
      found_.push_back("mapping " + m_.name + " is for the address " + m_.address.text() +
                       ", which no device of this host has; `ip address` lists those that there "
                       "are");
  }

  // The service listens on addresses of other devices alone.
  void elsewhere() {
    std::set<std::string> where;
    std::string address;
    for (const Listener *l : listeners_) {
      if (listens_on(*l, d_) || (!l->ifindex && !l->address.is_set()))
        return;
      const DeviceView *bound = device_of(host_, l->ifindex);
      if (!bound)
        bound = owner_of(host_, l->address);
      if (!bound && is_loopback(l->address))
        bound = find_device(host_, kLoopback);
      if (!bound)
        return; // an address that is routed here: it may be reached by any device
      if (bound->master == d_.ifindex || is_named(*bound))
        return;
      where.insert(bound->name);
      address = l->address.is_set() ? l->address.text() : bound->name;
    }
    if (where.size() == 1)
      found_.push_back("port " + ports_ + " listens on " + address +
                       " alone, which is reached by " + *where.begin() + ", not by " + d_.name +
                       "; capture on " + *where.begin());
  }

  void connections() {
    for (const DeviceView &d : host_.devices)
      if (is_named(d) && connections_by(&d, false))
        return;
    const DeviceView *most = nullptr;
    uint32_t count = 0;
    for (const DeviceView &d : host_.devices)
      if (const uint32_t n = connections_by(&d, false); n > count && d.name != kLoopback) {
        count = n;
        most = &d;
      }
    if (most)
      found_.push_back("port " + ports_ + " has " + std::to_string(count) +
                       (count == 1 ? " connection" : " connections") + ", by " + most->name +
                       ", and none by " + d_.name + "; capture on " + most->name);
  }

  const MappingConfig &m_;
  const HostView &host_;
  const DeviceView &d_;
  const std::string ports_;
  std::vector<const Listener *> listeners_;
  std::vector<std::string> found_;
};

} // namespace

const DeviceView *device_of(const HostView &host, uint32_t ifindex) {
  const auto d = std::find_if(host.devices.begin(), host.devices.end(),
                              [&](const DeviceView &v) { return v.ifindex == ifindex; });
  return ifindex == 0 || d == host.devices.end() ? nullptr : &*d;
}

const DeviceView *owner_of(const HostView &host, const Address &address) {
  for (const DeviceView &d : host.devices)
    if (d.name != kLoopback && has(d, address))
      return &d;
  return nullptr;
}

std::string relation(const HostView &host, const DeviceView &a, const DeviceView &b) {
  for (const auto &[one, other] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
    if (const DeviceView *master = device_of(host, one->master);
        master && master->ifindex == other->ifindex)
      return one->name + " is a port of " + (is_bridge(*master) ? "bridge" : master->kind) + " " +
             master->name;
    if (stands_on(*one, *other))
      return one->name + " is a " + upper_kind(*one) + " of " + other->name;
  }
  return {};
}

// What comes in is captured where it is for the device's own MAC. A bond of several MACs hands out
// those of its ports (balance-alb), and an ipvlan device in mode l3s passes its hook by.
SamePackets same_packets(const HostView &host, const MappingConfig &m, const DeviceView &lower,
                         const DeviceView &upper) {
  if (!is_above(host, upper, lower))
    return SamePackets::no;
  if (m.direction == DP_DIR_EGRESS)
    return SamePackets::yes;
  if (m.any_host || lower.mac == upper.mac)
    return is_ipvlan(upper) ? SamePackets::maybe : SamePackets::yes;
  return is_bond(upper) ? SamePackets::maybe : SamePackets::no;
}

std::string trap(const HostView &host, const DeviceView &d) {
  if (const DeviceView *master = device_of(host, d.master)) {
    if (is_bridge(*master))
      return port_of_bridge(d, *master);
    if (is_bond(*master))
      return port_of_bond(d, *master);
  }
  if (leads_to_containers(host, d))
    return "bridge " + d.name +
           " leads to containers or virtual machines alone: what they are asked "
           "leaves by it, which direction egress captures";
  for (const DeviceView &u : host.devices)
    if (stands_on(u, d))
      return stands_below(d, u) + " for its clients";
  return {};
}

std::vector<std::string> blind_spots(const Config &config, const HostView &host) {
  std::vector<std::string> found;
  for (const MappingConfig &m : config.mappings)
    for (const std::string &name : m.devices)
      if (const DeviceView *d = find_device(host, name))
        for (std::string &sentence : Judge(m, host, *d).run())
          if (std::find(found.begin(), found.end(), sentence) == found.end())
            found.push_back(std::move(sentence));
  return found;
}

} // namespace doppel
