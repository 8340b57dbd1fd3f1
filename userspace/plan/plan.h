// SPDX-License-Identifier: Apache-2.0
// From configuration and a view of the host to what has to be done: which rows
// go into which map, which program is attached where. Pure, so that it is tested without root.
#pragma once

#include <cstdint>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "doppel/abi.h"
#include "userspace/config/config.h"
#include "userspace/plan/attachment.h"
#include "userspace/util/error.h"
#include "userspace/util/text.h"

namespace doppel {

struct Route {
  uint32_t oif = 0;
  std::string device;
  Address source;  // what this host would use as its own address toward it
  Address gateway; // not set: on link
  // Else a gateway of the other family or an encapsulation, which the kernel alone can use.
  bool plain = true;
  uint32_t mtu = 0;   // bytes of IP packet: route metric, else device
  bool local = false; // the address is this host's own
  bool held = false;  // the host has none that copies could take: this is the way of before
};

struct DeviceView {
  uint32_t ifindex = 0;
  std::string name;
  bool ethernet = false; // ARPHRD_ETHER or loopback
  bool up = false;
  uint32_t mtu = 0;
  std::vector<Address> addresses;  // without those that need_scope()
  std::vector<Address> link_local; // those
  bool answers = false;            // what a target says may reach this host's stack by it
  std::string kind;       // rtnetlink's: "bridge", "vlan", "veth"; empty: hardware, or loopback
  std::string mac;        // raw bytes; empty: none
  bool carrier = true;    // false: the cable, or the other end, is missing
  uint32_t master = 0;    // ifindex of the bridge, bond or VRF that it is a port of; 0: none
  uint32_t lower = 0;     // ifindex of what it stands on or is joined to; 0: nothing here
  bool elsewhere = false; // what it stands on or is joined to is in another network namespace
  Address tunnel;         // of a tunnel: its own end, if that was given
};

// A TCP socket of this host that waits for connections.
struct Listener {
  Address address; // not set: any of this host, of the families below
  uint16_t port = 0;
  uint32_t ifindex = 0; // the one device that it is bound to; 0: it is not
  bool v4 = true, v6 = true;
  bool takes(const Address &own) const; // what is addressed to it
};

// Connections of this host's sockets with other hosts, of one port and by one device.
struct Connections {
  bool asked = false; // this host asked; false: it was asked
  uint16_t port = 0;  // of the server
  uint32_t ifindex = 0;
  uint32_t count = 0;
  Address server = {}; // not set: not known
};

// An IPsec policy for what this host sends (xfrm, direction out). It is of one family, as both of
// its prefixes are.
struct IpsecPolicy {
  Prefix from, to;
  uint8_t proto = 0;                     // IPPROTO_*; 0: any
  uint16_t from_port = 0, from_mask = 0; // host order; a mask of 0: any
  uint16_t to_port = 0, to_mask = 0;     // host order
  uint32_t ifindex = 0;                  // 0: any device
  uint32_t priority = 0;                 // the lowest that matches decides
  bool block = false, transform = false; // neither: it lets pass as it is
  bool optional = false; // it transforms only while a security association fits ("level use")
};

// What plan() wants to know of the host, gathered by view_host() or made up by a test.
struct HostView {
  std::vector<DeviceView> devices;
  std::map<std::string, Route> routes; // by text of the target's address; missing: no route
  uint16_t local_port_first = 32768, local_port_last = 60999; // ip_local_port_range
  std::vector<PortRange> local_reserved; // ip_local_reserved_ports: never chosen by this host
  bool has_tcx = false;
  // Of the ports of all mappings; empty where sockets cannot be listed.
  std::vector<Listener> listeners;
  std::vector<Connections> connections;
  std::vector<IpsecPolicy> ipsec;        // empty where they cannot be read
  bool ipsec_blocks = false;             // what no policy matches
  std::vector<std::string> output_rules; // netfilter's chains for what this host sends
};

// Of a mapping with an address a row of `address_map`, else of `port_map`. What by_address says
// there follows from all rows, and is 0 here.
struct PortRow {
  dp_address_key key;
  dp_port_val val;
};
// Of each target of a mapping, in their order; empty: it has none.
using Preambles = std::vector<std::string>;

struct NamedMapping {
  std::string name;
  std::vector<std::string> devices;
  std::string direction, protocol, ports;
  std::vector<std::string> targets; // "192.168.2.184:11211", first port of the range
  uint32_t row = 0;                 // index in the map `mappings`
  // When a reload made its row, and its ledger began: Unix time, s, and CLOCK_MONOTONIC. 0: attach
  // did.
  std::time_t since = 0;
  uint64_t since_ns = 0;
  // When a reload let its servers converge, CLOCK_MONOTONIC. 0: none did since its row was made.
  uint64_t converges_ns = 0;
  ClientListId clients = {}; // whom it leaves out
  std::string address = {};  // that its clients connect to; empty: any
  // "eth0", "eth0, eth1"
  std::string device_list() const;
  // As service_text() has it.
  std::string service() const { return service_text(address, ports); }
  friend bool operator==(const NamedMapping &a, const NamedMapping &b) = default;
};

struct Plan {
  Limits limits;       // what is fixed while attached; the store in whole chunks
  dp_config config{};  // link and cookie are filled in by attach
  uint32_t flows = 0;  // max_entries of `flows`
  uint32_t chunks = 0; // max_entries of `chunks`
  // max_entries of `store`: of a chunk each shadow of a client's connection has a row, as far as
  // kSharedRows goes. A reload makes no more; with too few, fewer chunks are in use.
  uint32_t store_rows = 0;
  std::vector<dp_mapping> mappings;
  std::vector<NamedMapping> names;  // same order
  std::vector<Preambles> preambles; // same order
  std::vector<Clients> clients;     // same order: what dp_mapping.clients names; null: 0
  // Of all targets, in the places that dp_target.pool names. The first is not set: the addresses
  // that the routes say, as far as nobody lists them.
  std::vector<Address> pools{{}};
  std::vector<PortRow> ports;
  std::vector<Attachment> attachments;  // without those on DP_LINK, which attach adds
  AttachMode mode = AttachMode::clsact; // tcx or clsact
  bool clock = true; // false: whoever plays the keeper's part wants to send by himself
  std::vector<std::string> warnings; // they last as long as their cause does
  std::vector<std::string> notes;    // worth to be told once, when the plan is carried out
};

// Rows of `store` for each chunk, at most.
inline constexpr uint32_t kSharedRows = 8;
// Of a configuration whose store has so many chunks.
uint32_t store_rows(const Config &config, uint32_t chunks);

// `bytes`: at most DP_PREAMBLE.
dp_preamble preamble_row(const std::string &bytes);

// Without its row, and since when.
NamedMapping name_of(const MappingConfig &mapping);

// Every reason at once why this host cannot do what the configuration wants; or what to do.
// Exit::usage where the configuration is to blame, Exit::failure where the host is.
Result<Plan> make_plan(const Config &config, const HostView &host);

} // namespace doppel
