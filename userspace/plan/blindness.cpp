// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/blindness.h"

#include <algorithm>
#include <map>
#include <set>

#include "userspace/plan/topology.h"

namespace doppel {
namespace {
// So many packets without a socket, and no byte that the source took, are no stray ones.
constexpr uint64_t kManyStrays = 20;

std::string connections_text(size_t n) {
  return std::to_string(n) + (n == 1 ? " connection" : " connections");
}

std::string nothing_seen(const MappingView &s) {
  return "no request seen for " + std::to_string(kBlindSeconds) + " s on " + s.where();
}

std::string name_of(const HostView &host, uint32_t ifindex) {
  const DeviceView *d = device_of(host, ifindex);
  return d ? d->name : "another device";
}

// "by br0", "by br0 and e1"; the device itself is named as such.
std::string devices_text(const std::set<uint32_t> &devices, const MappingView &s,
                         const HostView &host) {
  std::string text;
  for (uint32_t ifindex : devices)
    text += (text.empty() ? "by " : " and ") + name_of(host, ifindex) +
            (s.ifindexes.count(ifindex) ? " itself" : "");
  return text;
}

// What to do about requests that come by those devices.
std::string way_out(const std::set<uint32_t> &devices, const MappingView &s, const HostView &host) {
  std::string why, where;
  for (uint32_t ifindex : devices) {
    const DeviceView *d = device_of(host, ifindex);
    if (!d || s.ifindexes.count(ifindex))
      continue;
    where += (where.empty() ? "" : " and ") + d->name;
    for (uint32_t own : s.ifindexes)
      if (const DeviceView *captured = device_of(host, own))
        if (const std::string how = relation(host, *captured, *d); !how.empty())
          why += (why.empty() ? "" : ", ") + how;
  }
  if (where.empty())
    return "; another program on its hook may hide them (doppel status), or SYNPROXY answers for "
           "the service";
  return (why.empty() ? "" : ": " + why) + "; capture on " + where;
}

// Nothing is seen of a service whose sockets are asked.
std::string unseen_sockets(const MappingView &s, const std::vector<const AskedConnection *> &unseen,
                           const HostView &host) {
  std::set<uint32_t> devices;
  for (const AskedConnection *c : unseen)
    if (c->ifindex)
      devices.insert(c->ifindex);
  std::string text = nothing_seen(s) + ", but the socket of port " + s.service() + " has " +
                     connections_text(unseen.size());
  if (!devices.empty())
    text += ", " + devices_text(devices, s, host);
  return text + way_out(devices, s, host);
}

// The service is behind this host, and its requests go another way.
std::string unseen_passed(const MappingView &s, const std::vector<const AskedConnection *> &unseen,
                          const HostView &host) {
  const AskedConnection &one = *unseen.front();
  std::string text = nothing_seen(s) + ", but " + connections_text(unseen.size()) + " to port " +
                     s.service() + (unseen.size() == 1 ? " is" : " are") + " passed on to " +
                     one.passed_to.text();
  if (one.passed_by)
    text += ", and " + std::string(unseen.size() == 1 ? "leaves" : "leave") + " by " +
            name_of(host, one.passed_by);
  const bool wrong_way = s.ifindexes.count(one.passed_by) && s.direction == DP_DIR_INGRESS;
  text += "; capture " + (wrong_way ? "there" : "on " + name_of(host, one.passed_by)) +
          " with direction egress";
  if (one.ifindex && !s.ifindexes.count(one.ifindex))
    text += ", or on " + name_of(host, one.ifindex) + ", by which they come";
  return text;
}

std::string no_socket(const MappingView &s) {
  return std::to_string(s.no_socket) + " packets to port " + s.service() + " on " + s.where() +
         " that no socket of this host takes: DNAT? Then load nf_conntrack, detach, and attach "
         "again "
         "as root; where this host only passes them on, say \"promiscuous\"";
}

class Look {
public:
  Look(const MappingView &s, const std::vector<MappingView> &all, const HostView &host)
      : s_(s), all_(all), host_(host) {
    for (const AskedConnection &c : s.asked)
      (c.seen ? seen_ : unseen_).push_back(&c);
  }

  std::string run() const {
    if (unseen_.empty())
      return strays();
    // Also of conversations that are over by now, whose sockets the service has not closed yet.
    if (!seen_.empty() || s_.heard)
      return partly();
    std::vector<const AskedConnection *> sockets, passed;
    for (const AskedConnection *c : unseen_)
      (c->passed_to.is_set() ? passed : sockets).push_back(c);
    if (sockets.empty())
      return s_.captured ? strays() : unseen_passed(s_, passed, host_);
    if (s_.direction == DP_DIR_EGRESS && sockets.front()->served)
      return nothing_seen(s_) + " egress, but this host serves port " + s_.service() +
             ", and has " + connections_text(sockets.size()) + "; capture with direction ingress";
    return unseen_sockets(s_, sockets, host_);
  }

private:
  std::string strays() const {
    const bool many = s_.no_socket >= kManyStrays && s_.observed == 0;
    return many && !s_.any_host && s_.direction == DP_DIR_INGRESS ? no_socket(s_) : "";
  }

  // Some come by another device, which no mapping captures.
  std::string partly() const {
    std::set<uint32_t> devices;
    size_t count = 0;
    for (const AskedConnection *c : unseen_) {
      if (!c->ifindex || c->passed_to.is_set() || captured_on(c->ifindex))
        continue;
      devices.insert(c->ifindex);
      count++;
    }
    if (count == 0)
      return {};
    return std::to_string(count) + " of " + connections_text(s_.asked.size()) + " of port " +
           s_.service() + " are not seen on " + s_.where() + ": they come " +
           devices_text(devices, s_, host_) + way_out(devices, s_, host_) + " as well";
  }

  bool captured_on(uint32_t ifindex) const {
    return std::any_of(all_.begin(), all_.end(), [&](const MappingView &other) {
      return other.ifindexes.count(ifindex) && other.ports.first <= s_.ports.last &&
             s_.ports.first <= other.ports.last &&
             (!s_.address.is_set() || other.takes(s_.address));
    });
  }

  const MappingView &s_;
  const std::vector<MappingView> &all_;
  const HostView &host_;
  std::vector<const AskedConnection *> seen_, unseen_;
};

} // namespace

bool MappingView::takes(const Address &server) const {
  return address.is_set() ? address == server
                          : std::find(others.begin(), others.end(), server) == others.end();
}

std::string MappingView::service() const {
  return service_text(address.is_set() ? address.text() : "", ports_text(ports));
}

std::string MappingView::where() const {
  std::string text;
  for (const std::string &name : devices)
    text += (text.empty() ? "" : " and ") + name;
  return text;
}

std::vector<std::string> blindness(const std::vector<MappingView> &views, const HostView &host) {
  std::vector<std::string> found;
  for (const MappingView &s : views)
    if (const std::string sentence = Look(s, views, host).run(); !sentence.empty())
      found.push_back("mapping " + s.mapping + ": " + sentence);
  return found;
}

} // namespace doppel
