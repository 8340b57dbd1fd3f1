// SPDX-License-Identifier: Apache-2.0
// Where a configuration comes from: a file, or -x options.
#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "userspace/config/config.h"
#include "userspace/util/fd.h"
#include "userspace/util/file.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
constexpr FileKind kConfigFile = {"--config", "configuration of doppel", 1};
constexpr const char *kXForm = "LOCALPORT-TARGETIP:TARGETPORT";

Error usage(std::string where, std::string what, std::string hint) {
  return {std::move(where), std::move(what), std::move(hint), Exit::usage};
}

constexpr const char *kXInstance = "write, for instance: -x 11211-192.168.2.184:11211";
constexpr const char *kXInstance6 = "write, for instance: -x 11211-[2001:db8::1]:11211";

// What -x says, unread.
struct X {
  std::string port, host, target_port;
  bool brackets = false; // round the host
};

// Nothing: it is not of that form.
std::optional<X> take_apart(const std::string &x) {
  const size_t dash = x.find('-');
  if (dash == std::string::npos)
    return std::nullopt;
  const std::string target = x.substr(dash + 1);
  const bool brackets = target.starts_with("[");
  const size_t end = brackets ? target.find(']') : 0;
  const size_t colon = brackets && end != std::string::npos ? end + 1 : target.rfind(':');
  if (end == std::string::npos || colon >= target.size() || target[colon] != ':')
    return std::nullopt;
  const std::string host = brackets ? target.substr(1, end - 1) : target.substr(0, colon);
  return X{x.substr(0, dash), host, target.substr(colon + 1), brackets};
}

bool is_v6(const std::string &text) {
  return text.find(':') != std::string::npos && parse_address(text);
}

// The port may have been left out, too: then the address ends with what seems to be one.
bool lacks_brackets(const X &x) {
  return !x.brackets && (is_v6(x.host) || is_v6(x.host + ":" + x.target_port));
}

Result<Address> address_of(const X &x, const std::string &where) {
  if (lacks_brackets(x))
    return usage(where, "the IPv6 address does not stand in brackets", kXInstance6);
  if (x.brackets && x.host.find(':') == std::string::npos && parse_address(x.host))
    return usage(where, "only an IPv6 address stands in brackets", kXInstance);
  auto address = parse_target_address(x.host);
  if (!address)
    return usage(where, address.errors()[0].what, address.errors()[0].hint);
  return address;
}

Result<MappingConfig> parse_x(const std::string &device, const std::string &text) {
  const std::string where = "-x " + text;
  const auto x = take_apart(text);
  if (!x)
    return usage(where, "is not of the form " + std::string(kXForm),
                 text.find('[') == std::string::npos ? kXInstance : kXInstance6);

  MappingConfig m;
  Errors errors;
  m.where = where;
  m.device = device;
  m.name = x->port;
  if (const auto port = parse_number(m.name, 65535); port && *port > 0)
    m.port_first = m.port_last = static_cast<uint16_t>(*port);
  else
    errors.push_back(
        usage(where, in_quotes(m.name) + " is not a port", "ports go from 1 to 65535"));

  TargetConfig t;
  t.where = where;
  if (const auto port = parse_number(x->target_port, 65535); port && *port > 0)
    t.port = static_cast<uint16_t>(*port);
  else
    errors.push_back(
        usage(where, in_quotes(x->target_port) + " is not a port", "ports go from 1 to 65535"));

  const auto address = address_of(*x, where);
  collect(address, errors);
  if (address)
    t.address = *address;

  if (!errors.empty())
    return errors;
  m.targets.push_back(t);
  return m;
}

} // namespace

Result<Config> read_config(const std::string &file_name) {
  // A FIFO without a writer would block a keeper for good.
  const Fd fd(::open(file_name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fd)
    return usage(file_name, std::string("cannot be opened: ") + std::strerror(errno),
                 errno == ENOENT ? "check the path given with --config" : "");
  auto text = read_file(fd.get(), file_name, kConfigFile);
  if (!text)
    return usage(file_name, text.errors()[0].what, text.errors()[0].hint);
  return parse_config(*text, file_name);
}

Result<Config> config_from_options(const std::string &device, const std::vector<std::string> &x) {
  Config c;
  Errors errors;
  c.source = "command line";
  if (device.empty())
    errors.push_back(
        usage("--device", "is missing", "name the device that carries the traffic: --device eth0"));
  if (x.empty())
    errors.push_back(usage("-x", "is missing", "say what goes where: -x " + std::string(kXForm)));
  for (const std::string &text : x) {
    Result<MappingConfig> m = parse_x(device, text);
    if (m)
      c.mappings.push_back(*std::move(m));
    else
      errors.insert(errors.end(), m.errors().begin(), m.errors().end());
  }
  for (Error &e : contradictions(c))
    errors.push_back(std::move(e));
  if (!errors.empty())
    return errors;
  return c;
}

} // namespace doppel
