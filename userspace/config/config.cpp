// SPDX-License-Identifier: Apache-2.0
// The keys of the configuration file, in the order of the manual page.
#include "userspace/config/config.h"

#include <netinet/in.h>

#include <algorithm>

#include "userspace/config/config_reader.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
using Field = ConfigReader::Field;
using Kind = JsonValue::Kind;

const std::vector<std::pair<std::string, AttachMode>> kAttachModes = {
    {"auto", AttachMode::automatic}, {"tcx", AttachMode::tcx}, {"clsact", AttachMode::clsact}};
const std::vector<std::pair<std::string, dp_direction>> kDirections = {{"ingress", DP_DIR_INGRESS},
                                                                       {"egress", DP_DIR_EGRESS}};
const std::vector<std::pair<std::string, uint8_t>> kProtocols = {{"tcp", IPPROTO_TCP},
                                                                 {"udp", IPPROTO_UDP}};
const std::vector<std::pair<std::string, dp_application>> kApplications = {
    {"auto", DP_APP_AUTO}, {"memcached", DP_APP_MEMCACHED}, {"any", DP_APP_ANY}};
const std::vector<std::pair<std::string, bool>> kJoins = {{"boundary", true}, {"never", false}};

// Names become labels of metrics and columns of tables.
bool is_name(const std::string &s) {
  return !s.empty() && s.size() <= 32 && std::all_of(s.begin(), s.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  });
}

// As dev_valid_name() of the kernel has it, with IFNAMSIZ 16.
bool is_device(const std::string &s) {
  return !s.empty() && s.size() < 16 && s != "." && s != ".." &&
         std::none_of(s.begin(), s.end(), [](unsigned char c) {
           return c == '/' || c == ':' || std::isspace(c) != 0 || c < 0x20;
         });
}

class MappingReader {
public:
  MappingReader(ConfigReader &reader, MappingConfig &mapping) : r_(reader), m_(mapping) {}

  void read(const JsonValue &v, const std::string &path) {
    m_.where = r_.place(v, path);
    r_.object(
        v, path,
        {{"name", [&](auto &v, auto &p) { name(v, p); }},
         {"device", [&](auto &v, auto &p) { device(v, p); }, true},
         {"direction", [&](auto &v, auto &p) { r_.choice(v, p, kDirections, m_.direction); }},
         {"protocol", [&](auto &v, auto &p) { protocol(v, p); }},
         {"ports", [&](auto &v, auto &p) { ports(v, p); }, true},
         {"targets", [&](auto &v, auto &p) { targets(v, p); }, true},
         {"application", [&](auto &v, auto &p) { r_.choice(v, p, kApplications, m_.application); }},
         {"join", [&](auto &v, auto &p) { r_.choice(v, p, kJoins, m_.join); }},
         {"promiscuous", [&](auto &v, auto &p) { r_.boolean(v, p, m_.any_host); }},
         {"max_bitrate",
          [&](auto &v, auto &p) { r_.whole(v, p, 0, 1'000'000'000'000, m_.max_bps); }}});
    if (m_.name.empty() && !name_given_ && m_.port_first != 0)
      m_.name = ports_text({m_.port_first, m_.port_last});
  }

private:
  void name(const JsonValue &v, const std::string &path) {
    name_given_ = true;
    std::string s;
    if (!r_.string(v, path, s))
      return;
    if (is_name(s))
      m_.name = s;
    else
      r_.error(v, path, in_quotes(s) + " cannot be a name",
               "use 1 to 32 letters, digits, \".\", \"_\" and \"-\"");
  }

  void device(const JsonValue &v, const std::string &path) {
    std::string s;
    if (!r_.string(v, path, s))
      return;
    if (is_device(s))
      m_.device = s;
    else
      r_.error(v, path, in_quotes(s) + " cannot be the name of a device", "`ip link` lists them");
  }

  void protocol(const JsonValue &v, const std::string &path) {
    if (r_.choice(v, path, kProtocols, m_.protocol) && m_.protocol == IPPROTO_UDP)
      r_.error(v, path, "UDP is not yet supported", "only \"tcp\" can be mirrored so far");
  }

  void ports(const JsonValue &v, const std::string &path) {
    PortRange range;
    if (!r_.ports(v, path, range))
      return;
    m_.port_first = range.first;
    m_.port_last = range.last;
  }

  void targets(const JsonValue &v, const std::string &path) {
    r_.array(v, path, [&](const JsonValue &item, const std::string &item_path) {
      TargetConfig t;
      t.where = r_.place(item, item_path);
      r_.object(item, item_path,
                {{"address", [&](auto &v, auto &p) { address(v, p, t); }, true},
                 {"port", [&](auto &v, auto &p) { r_.whole(v, p, 1, 65535, t.port); }, true}});
      m_.targets.push_back(t);
    });
    if (v.kind == Kind::array && v.items.empty())
      r_.error(v, path, "the list of targets is empty", "name at least one target");
  }

  void address(const JsonValue &v, const std::string &path, TargetConfig &target) {
    std::string s;
    if (!r_.string(v, path, s))
      return;
    const auto a = parse_target_address(s);
    if (a)
      target.address = *a;
    else
      r_.error(v, path, a.errors()[0].what, a.errors()[0].hint);
  }

  ConfigReader &r_;
  MappingConfig &m_;
  bool name_given_ = false;
};

void read_mappings(ConfigReader &r, const JsonValue &v, const std::string &path, Config &config) {
  r.array(v, path, [&](const JsonValue &item, const std::string &item_path) {
    MappingReader(r, config.mappings.emplace_back()).read(item, item_path);
  });
  if (v.kind == Kind::array && v.items.empty())
    r.error(v, path, "the list of mappings is empty", "name at least one mapping");
}

void read_shadow_ports(ConfigReader &r, const JsonValue &v, const std::string &path, Limits &l) {
  PortRange range;
  if (!r.ports(v, path, range))
    return;
  if (range.first < 1024) {
    r.error(v, path, "shadow ports must not be below 1024", "those belong to services");
    return;
  }
  l.port_first = range.first;
  l.port_last = range.last;
}

} // namespace

Result<Address> parse_target_address(const std::string &text) {
  const auto address = parse_address(text);
  if (!address)
    return Error{"", in_quotes(text) + " is not an IP address",
                 "write the target's address in numbers: host names are not looked up",
                 Exit::usage};
  if (address->family() == Family::v6)
    return Error{"", "IPv6 is not yet supported: " + in_quotes(text),
                 "give an IPv4 address of the target", Exit::usage};
  if (!is_host_address(*address))
    return Error{"", in_quotes(text) + " is not the address of a host", "", Exit::usage};
  return *address;
}

const char *attach_mode_name(AttachMode mode) {
  const auto found = std::find_if(kAttachModes.begin(), kAttachModes.end(),
                                  [&](const auto &one) { return one.second == mode; });
  return found->first.c_str();
}

Result<AttachMode> parse_attach_mode(const std::string &text) {
  std::vector<std::string> names;
  for (const auto &[name, mode] : kAttachModes) {
    if (name == text)
      return mode;
    names.push_back(name);
  }
  return Error{"--attach-mode", in_quotes(text) + " is none of " + quoted_list(names), "",
               Exit::usage};
}

Result<Config> parse_config(const std::string &text, const std::string &file_name) {
  const auto tree = TRY(parse_json_tree(text, file_name));

  Config c;
  Limits &l = c.limits;
  c.source = file_name;
  ConfigReader r(file_name);
  constexpr uint64_t KiB = 1 << 10, MiB = 1 << 20, GiB = 1 << 30;
  const auto flow_cap = [&](auto &v, auto &p) {
    uint64_t n = l.flow_cap;
    r.size(v, p, 64 * KiB, DP_MAX_CAP, n);
    l.flow_cap = static_cast<uint32_t>(n);
  };
  r.object(tree, "",
           {{"mappings", [&](auto &v, auto &p) { read_mappings(r, v, p, c); }, true},
            {"attach_mode", [&](auto &v, auto &p) { r.choice(v, p, kAttachModes, c.attach_mode); }},
            {"flows", [&](auto &v, auto &p) { r.whole(v, p, 64, 1 << 24, l.flows); }},
            {"shadow_ports", [&](auto &v, auto &p) { read_shadow_ports(r, v, p, l); }},
            {"store", [&](auto &v, auto &p) { r.size(v, p, MiB, 64 * GiB, l.store_bytes); }},
            {"flow_cap", flow_cap},
            {"idle_timeout", [&](auto &v, auto &p) { r.whole(v, p, 0, 31'536'000, l.idle_s); }},
            {"rto_min_ms", [&](auto &v, auto &p) { r.whole(v, p, 10, 60'000, l.rto_min_ms); }},
            {"rto_max_ms", [&](auto &v, auto &p) { r.whole(v, p, 10, 600'000, l.rto_max_ms); }},
            {"tries", [&](auto &v, auto &p) { r.whole(v, p, 1, 100, l.tries); }},
            {"syn_tries", [&](auto &v, auto &p) { r.whole(v, p, 1, 100, l.syn_tries); }},
            {"backoff_ms", [&](auto &v, auto &p) { r.whole(v, p, 1, 600'000, l.backoff_ms); }},
            {"embryonic", [&](auto &v, auto &p) { r.whole(v, p, 0, 65'535, l.embryonic); }}});
  for (Error &e : contradictions(c))
    r.errors.push_back(std::move(e));
  if (!r.errors.empty())
    return r.errors;
  return c;
}

} // namespace doppel
