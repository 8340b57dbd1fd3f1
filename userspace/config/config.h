// SPDX-License-Identifier: Apache-2.0
// The user's wishes: a JSON file or -x options, checked as far as that is
// possible without looking at the host. Pure: no system calls besides reading the file.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "doppel/abi.h"
#include "userspace/config/client_list.h"
#include "userspace/util/address.h"
#include "userspace/util/error.h"
#include "userspace/util/portion.h"

namespace doppel {

enum class AttachMode { automatic, tcx, clsact };

// An address of this host that copies to a target come from.
struct ShadowAddress {
  Address address;
  std::string where;
};

struct TargetConfig {
  Address address;
  uint16_t port = 0;         // host order; first of the range
  std::string where;         // "doppel.json:12: mappings[0].targets[0]" or "-x 11211-..."
  Portion portion = {};      // "sample" and "copies"
  std::string preamble = {}; // what a shadow that joins says first; empty: nothing
  // The same is in that file, and not read yet; empty: it is in none.
  std::string preamble_file = {};
  // Beside the one that the route says; each once, and of the target's family.
  std::vector<ShadowAddress> shadow_addresses = {};
  bool keep_client = false; // "source_address": "client"
};

struct MappingConfig {
  std::string name; // unique; "-x" rows are named as service_text() has them
  // Names, and patterns (fnmatch(3)) until named_devices() has seen the host.
  std::vector<std::string> devices;
  dp_direction direction = DP_DIR_INGRESS;
  uint8_t protocol = 6;                   // IPPROTO_TCP
  uint16_t port_first = 0, port_last = 0; // host order, inclusive
  Address address;                        // that the clients connect to; not set: any
  dp_application application = DP_APP_AUTO;
  bool join = true;
  bool any_host = false; // "promiscuous": true
  bool bypass_ipsec = false;
  bool converge = false;
#define DP_MAPPING_SETTING(key, measure, field, when, min, max, standard, help)                    \
  uint64_t field = standard;
#include "doppel/settings.def"
  bool by_port = false; // until each_port() has made mappings of one port each of it
  bool dry_run = false; // then the targets have a portion of none: send_nothing()
  Clients clients;      // include_clients and exclude_clients; null: all
  std::vector<TargetConfig> targets;
  std::string where;

  // Of the targets that it has by now.
  void send_nothing() {
    dry_run = true;
    for (TargetConfig &t : targets)
      t.portion.sample = 0;
  }
};

// The settings of the whole mirror, with their defaults: settings.def.
struct Limits {
#define DP_SETTING(key, former, measure, field, home, when, min, max, standard, help)              \
  uint64_t field = standard;
#define DP_PORT_SETTING(key, first, last, when, lowest, standard_first, standard_last, help)       \
  uint16_t first = standard_first, last = standard_last;
#include "doppel/settings.def"
};

struct Config {
  std::string source; // file name, or "command line"
  std::vector<MappingConfig> mappings;
  Limits limits;
  AttachMode attach_mode = AttachMode::automatic;
  std::vector<std::string> former; // what is spelt as in former versions: a sentence each
};

// The families that the targets have.
std::set<Family> target_families(const Config &config);

// Every error of the text at once, each with its place ("doppel.json:12: mappings[0].ports").
// JSON, with // and /* */ comments. All errors of configuration have Exit::usage. Lists of clients
// that are in files are read by `read_list`; without it they are passed over.
using ReadList = std::function<Result<std::string>(const std::string &file)>;
Result<Config> parse_config(const std::string &text, const std::string &file_name,
                            const ReadList &read_list = {});

// The same from a file, which must be a regular file or a pipe of at most 8 MiB. Preambles are read
// from their files, too, which must be root's, or the caller's, and nobody else's.
Result<Config> read_config(const std::string &file_name);

// tcpcopy's syntax: see x_option.h. Each entry of each string is a mapping of its own, captured on
// ingress of `devices`: names and patterns, with commas between them.
Result<Config> config_from_options(const std::string &devices, const std::vector<std::string> &x);

// The address of a target: in numbers, of a single host, and the same on every link. Only
// Error.what and .hint are filled in.
Result<Address> parse_target_address(const std::string &text);

// One of "shadow_addresses": as above, and this host's own, which loopback is not.
Result<Address> parse_shadow_address(const std::string &text);

// Of all targets, each once, in the order of the text.
std::vector<Address> shadow_addresses(const Config &config);

// What is wrong with these bytes as a preamble; empty: nothing.
std::string wrong_preamble(const std::string &bytes);

// The address of a mapping: as above, but it may be this host's own, and is so on ingress.
Result<Address> parse_service_address(const std::string &text);

// Whether the name of a device in a configuration stands for all devices that fit (fnmatch(3)). No
// pattern stands for the loopback device, which is captured where it is named.
bool is_device_pattern(const std::string &name);
bool fits_device_pattern(const std::string &pattern, const std::string &device);
// Empty: it can be one; else what is wrong with it.
std::string wrong_device(const std::string &name);
// Whether one device may be named by both lists.
bool share_device(const std::vector<std::string> &a, const std::vector<std::string> &b);

// "tcp", "udp"
const char *protocol_name(uint8_t protocol);
// "11211-11212"; with an address "192.168.2.1:11211", "[2001:db8::1]:11211". The name of a mapping
// that has none.
std::string service_text(const MappingConfig &mapping);
std::string service_text(const std::string &address, const std::string &ports);

// "auto", "tcx" or "clsact".
const char *attach_mode_name(AttachMode mode);
Result<AttachMode> parse_attach_mode(const std::string &text);

// Mappings with "by_port", which are as they should be, become one for each port of their range,
// named NAME.PORT and where they stood.
void each_port(Config &config);

// What in the configuration contradicts itself, without a look at the host: duplicate names,
// overlapping ports, targets past port 65535, sizes that do not fit each other, too many mappings.
// Values that are unset (port 0, empty name) are passed over: they have an error of their own.
Errors contradictions(const Config &config);

} // namespace doppel
