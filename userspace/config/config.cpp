// SPDX-License-Identifier: Apache-2.0
// Reads the configuration file by the list of settings.def.
#include "userspace/config/config.h"

#include <netinet/in.h>

#include <algorithm>

#include "userspace/config/config_reader.h"
#include "userspace/config/settings.h"
#include "userspace/util/base64.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
using Field = ConfigReader::Field;
using Kind = JsonValue::Kind;

// Names become columns of tables and keys of JSON.
bool is_name(const std::string &s) {
  return !s.empty() && s.size() <= 32 && std::all_of(s.begin(), s.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  });
}

// A function read_SCOPE_KEY() for each DP_KEY of settings.def; the other keys are read by their
// type.
class FileReader {
public:
  FileReader(const std::string &file_name, Config &config, const ReadList &read_list)
      : r_(file_name), config_(config), read_list_(read_list) {}

  void read(const JsonValue &tree) { r_.object(tree, "", fields(Scope::file)); }
  Errors &errors() { return r_.errors; }
  std::vector<std::string> &former() { return r_.former; }

private:
  // What is being read: the last of its list.
  Config &file() { return config_; }
  MappingConfig &mapping() { return config_.mappings.back(); }
  TargetConfig &target() { return mapping().targets.back(); }

  std::vector<Field> fields(Scope wanted);

  void read_file_mappings(const JsonValue &v, const std::string &path) {
    r_.array(v, path, [&](const JsonValue &item, const std::string &item_path) {
      MappingConfig &m = config_.mappings.emplace_back();
      m.where = r_.place(item, item_path);
      name_given_ = false;
      listed_.clear();
      unread_ = 0;
      r_.object(item, item_path, fields(Scope::mapping));
      m.clients = client_list(listed_, m.where, r_.errors);
      if (m.dry_run)
        m.send_nothing();
      if (m.name.empty() && !name_given_ && m.port_first != 0)
        m.name = service_text(m) + (m.protocol == IPPROTO_UDP ? "/udp" : "");
    });
    if (v.kind == Kind::array && v.items.empty())
      r_.error(v, path, "the list of mappings is empty", "name at least one mapping");
  }

  void read_mapping_name(const JsonValue &v, const std::string &path) {
    name_given_ = true;
    std::string s;
    if (!r_.string(v, path, s))
      return;
    if (is_name(s))
      mapping().name = s;
    else
      r_.error(v, path, in_quotes(s) + " cannot be a name",
               "use 1 to 32 letters, digits, \".\", \"_\" and \"-\"");
  }

  void read_mapping_device(const JsonValue &v, const std::string &path) {
    if (v.kind == Kind::string) {
      take_device(v, path);
      return;
    }
    if (v.kind != Kind::array) {
      r_.error(v, path, "must be a string or a list of strings, not " + kind_text(v.kind), "");
      return;
    }
    r_.array(v, path, [&](const JsonValue &item, const std::string &item_path) {
      take_device(item, item_path);
    });
    if (v.items.empty())
      r_.error(v, path, "the list of devices is empty", "`ip link` lists them");
  }

  void take_device(const JsonValue &v, const std::string &path) {
    std::string s;
    if (!r_.string(v, path, s))
      return;
    auto &devices = mapping().devices;
    if (const auto wrong = wrong_device(s); !wrong.empty())
      r_.error(v, path, in_quotes(s) + " " + wrong, "`ip link` lists them");
    else if (std::find(devices.begin(), devices.end(), s) != devices.end())
      r_.error(v, path, in_quotes(s) + " is named twice", "remove one of the two");
    else
      devices.push_back(s);
  }

  void read_mapping_ports(const JsonValue &v, const std::string &path) {
    PortRange range;
    if (!r_.ports(v, path, range))
      return;
    mapping().port_first = range.first;
    mapping().port_last = range.last;
  }

  void read_mapping_address(const JsonValue &v, const std::string &path) {
    std::string s;
    if (!r_.string(v, path, s))
      return;
    const auto a = parse_service_address(s);
    if (a)
      mapping().address = *a;
    else
      r_.error(v, path, a.errors()[0].what, a.errors()[0].hint);
  }

  void read_mapping_include_clients(const JsonValue &v, const std::string &path) {
    const size_t before = listed_.size(), errors = r_.errors.size();
    read_clients(v, path, true);
    if (listed_.size() == before && r_.errors.size() == errors && unread_ == 0)
      r_.error(v, path, "the list is empty: no client would be mirrored",
               "leave it out to mirror all of them");
  }

  void read_mapping_exclude_clients(const JsonValue &v, const std::string &path) {
    read_clients(v, path, false);
  }

  void read_clients(const JsonValue &v, const std::string &path, bool include) {
    r_.array(v, path, [&](const JsonValue &item, const std::string &item_path) {
      std::string s;
      if (!r_.string(item, item_path, s))
        return;
      if (s.starts_with('/'))
        return read_client_list(item, item_path, s, include);
      const auto prefix = parse_client(s);
      if (prefix)
        listed_.push_back({{*prefix, include}, r_.place(item, item_path)});
      else
        r_.error(item, item_path, prefix.errors()[0].what,
                 prefix.errors()[0].hint + "; or the absolute path of a file with one a line");
    });
  }

  void read_client_list(const JsonValue &v, const std::string &path, const std::string &file,
                        bool include) {
    if (!read_list_) {
      unread_++;
      return;
    }
    const auto text = read_list_(file);
    if (text)
      read_client_file(*text, file, include, listed_, r_.errors);
    else
      r_.error(v, path, in_quotes(file) + " " + text.errors()[0].what, text.errors()[0].hint);
  }

  void read_mapping_targets(const JsonValue &v, const std::string &path) {
    r_.array(v, path, [&](const JsonValue &item, const std::string &item_path) {
      mapping().targets.emplace_back().where = r_.place(item, item_path);
      r_.object(item, item_path, fields(Scope::target));
    });
    if (v.kind == Kind::array && v.items.empty())
      r_.error(v, path, "the list of targets is empty", "name at least one target");
  }

  void read_target_address(const JsonValue &v, const std::string &path) {
    std::string s;
    if (!r_.string(v, path, s))
      return;
    const auto a = parse_target_address(s);
    if (a)
      target().address = *a;
    else
      r_.error(v, path, a.errors()[0].what, a.errors()[0].hint);
  }

  void read_target_port(const JsonValue &v, const std::string &path) {
    uint64_t port = 0;
    if (r_.number(v, path, {"", "", Measure::count, 1, 65535}, port))
      target().port = static_cast<uint16_t>(port);
  }

  void read_target_sample(const JsonValue &v, const std::string &path) {
    if (v.kind != Kind::string) {
      r_.error(v, path, "must be a share of the connections, not " + kind_text(v.kind),
               "write \"10%\" or \"0.1\"");
      return;
    }
    const auto sample = parse_sample(v.string);
    if (sample)
      target().portion.sample = *sample;
    else
      r_.error(v, path, sample.errors()[0].what, sample.errors()[0].hint);
  }

  void read_target_copies(const JsonValue &v, const std::string &path) {
    uint64_t copies = 0;
    if (r_.number(v, path, {"", "", Measure::count, 1, DP_MAX_COPIES}, copies))
      target().portion.copies = static_cast<uint32_t>(copies);
  }

  void read_target_shadow_addresses(const JsonValue &v, const std::string &path) {
    r_.array(v, path, [&](const JsonValue &item, const std::string &item_path) {
      std::string s;
      if (!r_.string(item, item_path, s))
        return;
      const auto a = parse_shadow_address(s);
      if (a)
        target().shadow_addresses.push_back({*a, r_.place(item, item_path)});
      else
        r_.error(item, item_path, a.errors()[0].what, a.errors()[0].hint);
    });
    if (v.kind == Kind::array && v.items.empty())
      r_.error(v, path, "the list of addresses is empty",
               "leave it out: copies come from the address that the route says");
    if (v.items.size() > DP_MAX_SOURCES - 1)
      r_.error(v, path,
               "lists " + std::to_string(v.items.size()) + " addresses, and " +
                   std::to_string(DP_MAX_SOURCES - 1) + " are the most beside the route's own",
               "name fewer");
  }

  // Without its end the client's request would be the rest of that line.
  void read_target_preamble(const JsonValue &v, const std::string &path) {
    std::string s;
    if (!r_.string(v, path, s))
      return;
    if (!s.empty() && !s.ends_with('\n'))
      r_.error(v, path,
               "the text does not end a line: the client's first request would continue it",
               R"(end it with "\r\n"; what needs no end of a line is given by "preamble_base64")");
    else
      take_preamble(v, path, s);
  }

  void read_target_preamble_base64(const JsonValue &v, const std::string &path) {
    std::string s;
    if (!r_.string(v, path, s))
      return;
    const auto bytes = from_base64(s);
    if (bytes)
      take_preamble(v, path, *bytes);
    else
      r_.error(v, path, "is no base64", "`base64 -w0 FILE` makes it of a file's bytes");
  }

  void read_target_preamble_file(const JsonValue &v, const std::string &path) {
    std::string s;
    if (!r_.string(v, path, s) || !has_no_preamble(v, path))
      return;
    if (s.starts_with('/'))
      target().preamble_file = s;
    else
      r_.error(v, path, in_quotes(s) + " is no absolute path",
               "a service has another working directory than you: begin with /");
  }

  bool has_no_preamble(const JsonValue &v, const std::string &path) {
    if (target().preamble.empty() && target().preamble_file.empty())
      return true;
    r_.error(v, path, "the target's preamble is given a second time",
             R"(keep one of "preamble", "preamble_base64" and "preamble_file")");
    return false;
  }

  void take_preamble(const JsonValue &v, const std::string &path, const std::string &bytes) {
    if (!has_no_preamble(v, path))
      return;
    if (const auto wrong = wrong_preamble(bytes); wrong.empty())
      target().preamble = bytes;
    else
      r_.error(v, path, wrong, "leave it out, or shorten it");
  }

  void shadow_ports(const JsonValue &v, const std::string &path, uint16_t lowest, uint16_t &first,
                    uint16_t &last) {
    PortRange range;
    if (!r_.ports(v, path, range))
      return;
    if (range.first < lowest) {
      r_.error(v, path, "shadow ports must not be below " + std::to_string(lowest),
               "those belong to services");
      return;
    }
    first = range.first;
    last = range.last;
  }

  ConfigReader r_;
  Config &config_;
  bool name_given_ = false; // right or wrong
  const ReadList &read_list_;
  // Of the mapping that is being read.
  std::vector<ListedClient> listed_;
  size_t unread_ = 0; // files
};

std::vector<Field> FileReader::fields(Scope wanted) {
  constexpr bool required = true, optional = false;
  const std::pair<Scope, Field> all[] = {
#define DP_READ(scope, key, need, former, call)                                                    \
  {Scope::scope, {#key, [this](const JsonValue &v, const std::string &p) { call; }, need, former}},
#define DP_SETTING(key, former, measure, field, home, when, min, max, standard, help)              \
  DP_READ(file, key, optional, former,                                                             \
          r_.number(v, p, {#key, former, Measure::measure, min, max}, file().limits.field))
#define DP_PORT_SETTING(key, first, last, when, lowest, standard_first, standard_last, help)       \
  DP_READ(file, key, optional, "",                                                                 \
          shadow_ports(v, p, lowest, file().limits.first, file().limits.last))
#define DP_MAPPING_SETTING(key, measure, field, when, min, max, standard, help)                    \
  DP_READ(mapping, key, optional, "",                                                              \
          r_.number(v, p, {#key, "", Measure::measure, min, max}, mapping().field))
#define DP_SELECT(scope, key, field, when, help)                                                   \
  DP_READ(scope, key, optional, "", r_.choice(v, p, #key, scope().field))
#define DP_FLAG(scope, key, field, when, help)                                                     \
  DP_READ(scope, key, optional, "", r_.boolean(v, p, scope().field))
#define DP_KEY(scope, key, need, when, form, standard, help)                                       \
  DP_READ(scope, key, need, "", read_##scope##_##key(v, p))
#include "doppel/settings.def"
#undef DP_READ
  };
  std::vector<Field> list;
  for (const auto &[scope, field] : all)
    if (scope == wanted)
      list.push_back(field);
  return list;
}

Error wrong_address(const std::string &text, const std::string &what, const std::string &hint) {
  return {"", in_quotes(text) + " " + what, hint, Exit::usage};
}

} // namespace

Result<Address> parse_service_address(const std::string &text) {
  const size_t zone = text.find('%');
  if (zone != std::string::npos && parse_address(text.substr(0, zone)))
    return wrong_address(text, "has a zone index: a link-local address cannot be chosen",
                         "leave it out: what arrives for the ports is mirrored, whatever its "
                         "address");
  if (text.starts_with("[") && text.ends_with("]") && text.find(':') != std::string::npos)
    return wrong_address(text, "stands in brackets",
                         "the ports have a key of their own: leave them out");
  const auto address = parse_address(text);
  if (!address)
    return wrong_address(text, "is not an IP address",
                         "write in numbers the address that the clients connect to: host names "
                         "are not looked up");
  if (is_any(*address))
    return wrong_address(text, "is every address",
                         "leave it out: what arrives for the ports is mirrored, whatever its "
                         "address");
  if (!is_host_address(*address))
    return wrong_address(text, "is not the address of a host", "");
  if (needs_scope(*address))
    return wrong_address(text, "is a link-local address, which cannot be chosen",
                         "leave it out: what arrives for the ports is mirrored, whatever its "
                         "address");
  return *address;
}

const char *protocol_name(uint8_t protocol) { return protocol == IPPROTO_UDP ? "udp" : "tcp"; }

std::string service_text(const std::string &address, const std::string &ports) {
  if (address.empty())
    return ports;
  return (address.find(':') == std::string::npos ? address : "[" + address + "]") + ":" + ports;
}

std::string service_text(const MappingConfig &m) {
  return service_text(m.address.is_set() ? m.address.text() : "",
                      ports_text({m.port_first, m.port_last}));
}

Result<Address> parse_target_address(const std::string &text) {
  const char *const elsewhere = "give a global or unique-local address of the target";
  const size_t zone = text.find('%');
  if (zone != std::string::npos && parse_address(text.substr(0, zone)))
    return wrong_address(text, "has a zone index: a target is reached by a route, not by a device",
                         elsewhere);
  if (text.starts_with("[") && text.ends_with("]") && text.find(':') != std::string::npos)
    return wrong_address(text, "stands in brackets",
                         "the port has a key of its own: leave them out");
  const auto address = parse_address(text);
  if (!address)
    return wrong_address(text, "is not an IP address",
                         "write the target's address in numbers: host names are not looked up");
  if (!is_host_address(*address))
    return wrong_address(text, "is not the address of a host", "");
  if (needs_scope(*address))
    return wrong_address(text, "is a link-local address, which any link may have", elsewhere);
  return *address;
}

Result<Address> parse_shadow_address(const std::string &text) {
  const size_t zone = text.find('%');
  if (zone != std::string::npos && parse_address(text.substr(0, zone)))
    return wrong_address(text, "has a zone index: copies come from an address, not from a device",
                         "give a global or unique-local address of this host");
  if (text.starts_with("[") && text.ends_with("]") && text.find(':') != std::string::npos)
    return wrong_address(text, "stands in brackets",
                         "\"shadow_ports\" says the ports: leave them out");
  const auto address = parse_address(text);
  if (!address)
    return wrong_address(text, "is not an IP address",
                         "write in numbers an address of this host: `ip address` lists them");
  if (!is_host_address(*address))
    return wrong_address(text, "is not the address of a host", "");
  if (needs_scope(*address))
    return wrong_address(text, "is a link-local address, which any link may have",
                         "give a global or unique-local address of this host");
  if (is_loopback(*address))
    return wrong_address(text, "is a loopback address, from which no other host can be reached",
                         "give an address that the target has a route to");
  return *address;
}

std::vector<Address> shadow_addresses(const Config &config) {
  std::vector<Address> all;
  for (const MappingConfig &m : config.mappings)
    for (const TargetConfig &t : m.targets)
      for (const ShadowAddress &a : t.shadow_addresses)
        if (std::find(all.begin(), all.end(), a.address) == all.end())
          all.push_back(a.address);
  return all;
}

std::string wrong_preamble(const std::string &bytes) {
  if (bytes.empty())
    return "is empty";
  if (bytes.size() > DP_PREAMBLE)
    return "has " + std::to_string(bytes.size()) + " bytes, more than the " +
           std::to_string(DP_PREAMBLE) + " that go into one segment";
  return "";
}

const char *attach_mode_name(AttachMode mode) {
  const auto &choices = all_choices();
  const auto found = std::find_if(choices.begin(), choices.end(), [&](const Choice &c) {
    return std::string(c.key) == "attach_mode" && c.value == static_cast<int64_t>(mode);
  });
  return found->name;
}

Result<AttachMode> parse_attach_mode(const std::string &text) {
  std::vector<std::string> names;
  for (const Choice &c : all_choices()) {
    if (std::string(c.key) != "attach_mode")
      continue;
    if (c.name == text)
      return static_cast<AttachMode>(c.value);
    names.push_back(c.name);
  }
  return Error{"--attach-mode", in_quotes(text) + " is none of " + quoted_list(names), "",
               Exit::usage};
}

std::set<Family> target_families(const Config &config) {
  std::set<Family> families;
  for (const MappingConfig &m : config.mappings)
    for (const TargetConfig &t : m.targets)
      families.insert(t.address.family());
  return families;
}

Result<Config> parse_config(const std::string &text, const std::string &file_name,
                            const ReadList &read_list) {
  const auto tree = TRY(parse_json_tree(text, file_name));

  Config c;
  c.source = file_name;
  FileReader r(file_name, c, read_list);
  r.read(tree);
  c.former = std::move(r.former());
  for (Error &e : contradictions(c))
    r.errors().push_back(std::move(e));
  if (!r.errors().empty())
    return r.errors();
  each_port(c);
  Errors errors = contradictions(c);
  if (!errors.empty())
    return errors;
  return c;
}

} // namespace doppel
