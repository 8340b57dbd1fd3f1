// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/blindness.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <set>

#include "userspace/kernel/conntrack.h"
#include "userspace/kernel/host_view.h"
#include "userspace/kernel/sock_diag.h"
#include "userspace/kernel/via.h"
#include "userspace/mirror/maps.h"
#include "userspace/mirror/renamed.h"
#include "userspace/plan/blindness.h"
#include "userspace/plan/plan_checks.h"
#include "userspace/plan/topology.h"
#include "userspace/util/clock.h"

namespace doppel {
namespace {

// Who asked in the first moment after attach may have been asked before it.
constexpr uint64_t kGraceMs = 1000;

bool in(PortRange range, __be16 port) {
  return range.first <= ntohs(port) && ntohs(port) <= range.last;
}

// Then the conversation may be over for the mirror, and forgotten, as long as the service leaves
// its socket as it is.
bool client_has_closed(const TcpSocket &s) {
  return s.state == TCP_CLOSE_WAIT || s.state == TCP_LAST_ACK || s.state == TCP_CLOSING;
}

class Observer {
public:
  Observer(Rtnl &nl, const HostView &host, MapTable flows, MapTable shadows, uint64_t age_ms)
      : via_(host.devices, nl), flows_(std::move(flows)), shadows_(std::move(shadows)),
        age_ms_(age_ms) {}

  struct Row {
    MappingView view;
    uint32_t row = 0;
    std::vector<Address> targets;
    std::vector<AskedConnection> served; // egress: asked of this host's own sockets
    bool asks = false;                   // egress: this host has a connection at all
  };

  Status look_at_sockets(std::vector<Row> &rows);
  Status look_at_conntrack(std::vector<Row> &rows);

private:
  bool is_recent(uint64_t silent_ms) const {
    return silent_ms <= kBlindSeconds * 1000ULL && silent_ms + kGraceMs < age_ms_;
  }
  bool knows(uint32_t row, const dp_addr &client, __be16 client_port, const dp_addr &server,
             __be16 server_port, uint64_t silent_ms) const;
  void see(Row &r, const TcpSocket &s);

  Via via_;
  MapTable flows_, shadows_;
  uint64_t age_ms_; // of the mirror
};

// Whether the mirror has that conversation, and has seen as late a packet of it as others have.
bool Observer::knows(uint32_t row, const dp_addr &client, __be16 client_port, const dp_addr &server,
                     __be16 server_port, uint64_t silent_ms) const {
  dp_flow_key key{};
  key.client = client;
  key.server = server;
  key.client_port = client_port;
  key.server_port = server_port;
  key.mapping = static_cast<__u16>(row);
  dp_flow flow{};
  if (bpf_map_lookup_elem(flows_.fd.get(), &key, &flow))
    return false;
  uint64_t seen_ns = flow.seen_ns;
  if (flow.slot < shadows_.entries)
    if (const auto shadow = read_shadow(shadows_, flow.slot); shadow && shadow->gen == flow.gen)
      seen_ns = std::max<uint64_t>(seen_ns, shadow->tcp.seen_ns);
  const uint64_t now = monotonic_ns();
  return now < seen_ns || now - seen_ns <= (silent_ms + kBlindSeconds * 1000ULL) * kMsNs;
}

// Whether what another host asks, or this one itself, comes by a device of the mapping.
bool takes_from(const MappingView &view, bool own) {
  return std::any_of(view.devices.begin(), view.devices.end(),
                     [&](const std::string &name) { return (name == "lo") == own; });
}

void Observer::see(Row &r, const TcpSocket &s) {
  const Address local{s.local}, remote{s.remote};
  const auto is_target = [&](const Address &a) {
    return std::find(r.targets.begin(), r.targets.end(), a) != r.targets.end();
  };
  if (!takes_from(r.view, via_.is_own(remote)))
    return;
  AskedConnection c;
  if (in(r.view.ports, s.local_port) && r.view.takes(local) && s.bytes_received &&
      is_recent(s.received_ms) && !is_target(remote) && !client_has_closed(s)) {
    c.ifindex = via_.of_server(local, remote, s.ifindex);
    if (r.view.direction == DP_DIR_EGRESS) {
      r.served.push_back(c);
      return;
    }
    c.seen = knows(r.row, s.remote, s.remote_port, s.local, s.local_port, s.received_ms);
    r.view.asked.push_back(c);
  } else if (r.view.direction == DP_DIR_EGRESS && in(r.view.ports, s.remote_port) &&
             r.view.takes(remote) && !is_target(remote)) {
    r.asks = true;
    if (!s.bytes_sent || !is_recent(s.sent_ms))
      return;
    c.served = false;
    c.ifindex = via_.to(remote, s.ifindex);
    c.seen = knows(r.row, s.local, s.local_port, s.remote, s.remote_port, s.sent_ms);
    r.view.asked.push_back(c);
  }
}

Status Observer::look_at_sockets(std::vector<Row> &rows) {
  SocketPorts ports;
  for (const Row &r : rows) {
    if (r.view.any_host)
      continue;
    ports.local.push_back(r.view.ports);
    if (r.view.direction == DP_DIR_EGRESS)
      ports.remote.push_back(r.view.ports);
  }
  TRY(each_tcp_socket(
      ports,
      [&](const TcpSocket &s) {
        for (Row &r : rows)
          if (!r.view.any_host)
            see(r, s);
      },
      SocketKind::with_traffic));
  // This host serves the port and asks nobody: then the direction is the wrong one.
  for (Row &r : rows)
    if (!r.asks && r.view.captured == 0)
      r.view.asked.insert(r.view.asked.end(), r.served.begin(), r.served.end());
  return Unit{};
}

// Of services that are behind this host. Only where nothing at all was captured: conntrack does not
// tell a request from an acknowledgement.
Status Observer::look_at_conntrack(std::vector<Row> &rows) {
  std::vector<PortRange> ports;
  for (const Row &r : rows)
    if (r.view.captured == 0)
      ports.push_back(r.view.ports);
  if (ports.empty())
    return Unit{};
  const auto tracked = TRY(list_tracked(ports));
  for (const TrackedConnection &t : tracked) {
    const Address to{t.passed_to}, client{t.client};
    if (via_.is_own(to) || via_.is_own(client) || !is_recent(uint64_t{t.silent_s} * 1000))
      continue;
    AskedConnection c;
    c.passed_to = to;
    c.passed_by = via_.to(to);
    c.ifindex = via_.to(client);
    for (Row &r : rows)
      if (r.view.captured == 0 &&
          ((in(r.view.ports, t.server_port) && r.view.takes(Address{t.server})) ||
           (in(r.view.ports, t.passed_to_port) && r.view.takes(to))))
        r.view.asked.push_back(c);
  }
  return Unit{};
}

Result<Observer::Row> row_of(const NamedMapping &m, const HostView &host, const MapTable &mappings,
                             const MapTable &ledger) {
  Observer::Row r;
  dp_mapping row{};
  if (bpf_map_lookup_elem(mappings.fd.get(), &m.row, &row))
    return sys_error("map mappings", "cannot be read", errno);
  r.row = m.row;
  r.view.mapping = m.name;
  r.view.devices = m.devices;
  for (const std::string &name : m.devices)
    if (const DeviceView *d = find_device(host, name))
      r.view.ifindexes.insert(d->ifindex);
  r.view.direction = row.flags & DP_MAP_EGRESS ? DP_DIR_EGRESS : DP_DIR_INGRESS;
  r.view.any_host = row.flags & DP_MAP_ANY_HOST;
  if (const auto ports = parse_ports(m.ports))
    r.view.ports = *ports;
  r.view.address = parse_address(m.address).value_or(Address{});
  for (uint32_t t = 0; t < row.n_targets && t < DP_MAX_TARGETS; t++) {
    const dp_ledger cell = TRY(read_cell(ledger, dp_ledger_cell(m.row, t)));
    r.targets.push_back(Address{row.target[t].address});
    r.view.captured += cell.captured;
    r.view.observed += cell.observed;
    r.view.no_socket += t == 0 ? cell.event[DP_EVENT_no_socket] : 0; // each target counts them
  }
  return r;
}

bool is_lately(uint64_t moment_ns, uint64_t now_ns) {
  return moment_ns && now_ns - std::min(now_ns, moment_ns) <= kBlindSeconds * 1000ULL * kMsNs;
}

bool heard(const dp_moments &last) {
  const uint64_t now_ns = monotonic_ns();
  const auto lately = [&](uint64_t moment_ns) { return is_lately(moment_ns, now_ns); };
  return lately(last.acknowledged) ||
         std::any_of(std::begin(last.lost), std::end(last.lost), lately) ||
         std::any_of(std::begin(last.excluded), std::end(last.excluded), lately);
}

// After the sockets were listed: one may have come and gone since.
Status note_heard(Observer::Row &r, const MapTable &ledger) {
  for (uint32_t t = 0; t < r.targets.size(); t++)
    r.view.heard |= heard(TRY(read_cell(ledger, dp_ledger_cell(r.row, t))).last);
  return Unit{};
}

// A mapping with an address has what goes there, another of the same ports has the rest.
void note_others(std::vector<Observer::Row> &rows) {
  for (Observer::Row &r : rows)
    for (const Observer::Row &other : rows)
      if (!r.view.address.is_set() && other.view.address.is_set() &&
          share_device(r.view.devices, other.view.devices) &&
          r.view.direction == other.view.direction && r.view.ports.first <= other.view.ports.last &&
          other.view.ports.first <= r.view.ports.last)
        r.view.others.push_back(other.view.address);
}

// As check_devices() has it.
void devices_down(const Meta &meta, const HostView &host, std::vector<std::string> &found) {
  Config config;
  for (const NamedMapping &m : meta.mappings)
    for (const std::string &name : m.devices)
      if (find_device(host, name)) { // else its program is missing
        config.mappings.emplace_back();
        config.mappings.back().devices = {name};
      }
  Errors errors;
  check_devices(config, host, errors, found);
}

} // namespace

Result<std::vector<std::string>> find_blindness(Rtnl &nl, const Pins &pins, const Meta &meta) {
  std::vector<std::string> found;
  HostView host;
  host.devices = TRY(view_devices(nl));
  call_as_captured(host, pins, meta);
  devices_down(meta, host, found);
  // Not by the wall clock, which may have been set since.
  const uint64_t now_ns = monotonic_ns(),
                 age_ms = (now_ns - std::min(now_ns, meta.since_ns)) / 1'000'000;
  if (age_ms < uint64_t{kBlindSeconds} * 1000)
    return found;
  auto mappings = TRY(open_table(pins, "mappings", sizeof(dp_mapping), Access::read));
  auto ledger = TRY(open_table(pins, "ledger", sizeof(dp_ledger), Access::read));
  std::vector<Observer::Row> rows;
  // Of UDP no socket tells whether something was asked.
  for (const NamedMapping &m : meta.mappings)
    if (m.protocol == protocol_name(IPPROTO_TCP))
      rows.push_back(TRY(row_of(m, host, mappings, ledger)));
  note_others(rows);
  Observer observer(nl, host, TRY(open_table(pins, "flows", sizeof(dp_flow), Access::read)),
                    TRY(open_table(pins, "shadows", sizeof(dp_shadow), Access::read)), age_ms);
  TRY(observer.look_at_sockets(rows));
  TRY(observer.look_at_conntrack(rows));
  for (Observer::Row &r : rows)
    TRY(note_heard(r, ledger));
  std::vector<MappingView> views;
  views.reserve(rows.size());
  for (Observer::Row &r : rows)
    views.push_back(std::move(r.view));
  for (std::string &sentence : blindness(views, host))
    found.push_back(std::move(sentence));
  return found;
}

} // namespace doppel
