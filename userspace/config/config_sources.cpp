// SPDX-License-Identifier: Apache-2.0
// Where a configuration comes from: a file, or -x options.
#include <fcntl.h>

#include <cerrno>
#include <cstring>

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

Result<MappingConfig> parse_x(const std::string &device, const std::string &x) {
  const std::string where = "-x " + x;
  const size_t dash = x.find('-');
  const size_t colon = x.rfind(':');
  if (dash == std::string::npos || colon == std::string::npos || colon < dash)
    return usage(where, "is not of the form " + std::string(kXForm),
                 "write, for instance: -x 11211-192.168.2.184:11211");

  MappingConfig m;
  Errors errors;
  m.where = where;
  m.device = device;
  m.name = x.substr(0, dash);
  if (const auto port = parse_number(m.name, 65535); port && *port > 0)
    m.port_first = m.port_last = static_cast<uint16_t>(*port);
  else
    errors.push_back(
        usage(where, in_quotes(m.name) + " is not a port", "ports go from 1 to 65535"));

  TargetConfig t;
  t.where = where;
  const std::string port_text = x.substr(colon + 1);
  if (const auto port = parse_number(port_text, 65535); port && *port > 0)
    t.port = static_cast<uint16_t>(*port);
  else
    errors.push_back(
        usage(where, in_quotes(port_text) + " is not a port", "ports go from 1 to 65535"));

  std::string host = x.substr(dash + 1, colon - dash - 1);
  const bool brackets = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (brackets)
    host = host.substr(1, host.size() - 2);
  auto address = parse_target_address(host);
  if (address && brackets) // those are IPv6's
    address =
        Error{"", in_quotes(host) + " is not an IP address",
              "write the target's address in numbers: host names are not looked up", Exit::usage};
  if (address)
    t.address = *address;
  else
    errors.push_back(usage(where, address.errors()[0].what, address.errors()[0].hint));

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
