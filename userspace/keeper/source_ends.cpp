// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/source_ends.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "userspace/kernel/conntrack.h"
#include "userspace/kernel/host_net.h"

namespace doppel {
namespace {
// A flow that had a packet within so many seconds is left to the next sweep: its client may have
// opened a new connection of the same addresses and ports since the sockets were listed.
constexpr uint32_t kQuiet = 1;

// The source ends no conversation of UDP.
constexpr uint16_t kNotWatched = DP_MAP_ANY_HOST | DP_MAP_UDP;

std::string_view bytes(const dp_flow_key &key) {
  return {reinterpret_cast<const char *>(&key), sizeof(key)};
}

// Of a connection of this host with itself there are two sockets: only one is the source.
dp_flow_key ends(dp_direction direction, const dp_addr &client, __be16 client_port,
                 const dp_addr &server, __be16 server_port) {
  dp_flow_key key{};
  key.target = direction;
  key.client = client;
  key.client_port = client_port;
  key.server = server;
  key.server_port = server_port;
  return key;
}

} // namespace

// dp_flow_key has no holes (abi.h), and every byte of it is set.
size_t FlowKeyHash::operator()(const dp_flow_key &key) const {
  return std::hash<std::string_view>()(bytes(key));
}

bool FlowKeyEqual::operator()(const dp_flow_key &a, const dp_flow_key &b) const {
  return bytes(a) == bytes(b);
}

Result<SourceEnds> SourceEnds::open(const Pins &pins) {
  auto program = TRY(CommandProgram::open(pins));
  auto flows = TRY(open_table(pins, "flows", sizeof(dp_flow), Access::read));
  auto shadows = TRY(open_table(pins, "shadows", sizeof(dp_shadow), Access::read));
  auto mappings = TRY(open_table(pins, "mappings", sizeof(dp_mapping), Access::read));
  return SourceEnds(std::move(program), std::move(flows), std::move(shadows), std::move(mappings));
}

Result<bool> SourceEnds::step(const std::vector<NamedMapping> &mappings) {
  if (under_way_) {
    auto more = look_at_flows();
    under_way_ = more && *more;
    if (!under_way_)
      sockets_.clear();
    return more;
  }
  TRY(list_sockets(mappings));
  under_way_ = true;
  return true;
}

Status SourceEnds::list_sockets(const std::vector<NamedMapping> &mappings) {
  flags_.assign(mappings_.entries, kNotWatched);
  sockets_.clear();
  local_.clear();
  walk_.restart();
  sweep_++;
  SocketPorts ports;
  for (const NamedMapping &m : mappings) {
    dp_mapping row{};
    if (m.row >= flags_.size() || bpf_map_lookup_elem(mappings_.fd.get(), &m.row, &row))
      return sys_error("map mappings", "cannot be read", errno);
    auto range = parse_ports(m.ports);
    if (row.flags & kNotWatched || !range)
      continue;
    flags_[m.row] = row.flags;
    (row.flags & DP_MAP_EGRESS ? ports.remote : ports.local).push_back(*range);
  }
  const bool servers = !ports.local.empty(), clients = !ports.remote.empty();
  return each_tcp_socket(ports, [&](const TcpSocket &s) {
    if (servers && server_goes_on(s))
      sockets_.insert(ends(DP_DIR_INGRESS, s.remote, s.remote_port, s.local, s.local_port));
    if (clients && client_goes_on(s))
      sockets_.insert(ends(DP_DIR_EGRESS, s.local, s.local_port, s.remote, s.remote_port));
  });
}

Result<bool> SourceEnds::look_at_flows() {
  const bool more = TRY(walk_.step(
      flows_, [this](const dp_flow_key &key, const dp_flow &flow) { return judge(key, flow); }));
  if (!more)
    std::erase_if(known_, [this](const auto &entry) { return entry.second.sweep != sweep_; });
  return more;
}

Status SourceEnds::judge(const dp_flow_key &key, const dp_flow &flow) {
  if (key.mapping >= flags_.size() || flags_[key.mapping] & kNotWatched)
    return Unit{};
  auto [at, fresh] = known_.try_emplace(key, Conversation{flow.slot, flow.gen, sweep_});
  Conversation &c = at->second;
  if (!fresh && (c.slot != flow.slot || c.gen != flow.gen))
    c = {flow.slot, flow.gen, sweep_};
  c.sweep = sweep_;
  const auto direction = flags_[key.mapping] & DP_MAP_EGRESS ? DP_DIR_EGRESS : DP_DIR_INGRESS;
  if (sockets_.count(ends(direction, key.client, key.client_port, key.server, key.server_port))) {
    c.seen = true;
    c.missed = false;
    return Unit{};
  }
  if (!c.missed) {
    c.missed = true;
    return Unit{};
  }
  if (c.foreign || client_ended(flow))
    return Unit{};
  if (!c.seen) {
    c.foreign = !TRY(is_ours(key));
    if (c.foreign)
      return Unit{};
  }
  return program_.source_gone(key, kQuiet);
}

// Whether the socket of this flow must have been one of this network namespace.
Result<bool> SourceEnds::is_ours(const dp_flow_key &key) {
  if (flags_[key.mapping] & DP_MAP_EGRESS) // may be forwarded, for a container or for a neighbour
    return false;
  auto [at, fresh] = local_.try_emplace(Address{key.server}, false);
  if (fresh) {
    auto nl = TRY(Rtnl::open());
    const auto route = TRY(route_to(nl, Address{key.server}));
    at->second = route && route->local;
  }
  if (!at->second)
    return false;
  return !TRY(has_other_destination(key.client, key.client_port, key.server, key.server_port));
}

// Then its shadow closes already, as soon as the target has taken what is left.
bool SourceEnds::client_ended(const dp_flow &flow) const {
  if (flow.slot == DP_NO_SLOT || flow.slot == DP_SLOT_GONE)
    return false;
  const auto shadow = read_shadow(shadows_, flow.slot);
  return shadow && shadow->gen == flow.gen && (shadow->tcp.flags & DP_SH_CLIENT_FIN);
}

} // namespace doppel
