// SPDX-License-Identifier: Apache-2.0
// Where a configuration comes from: a file, or -x options.

#include <cerrno>
#include <cstring>

#include "userspace/config/config.h"
#include "userspace/config/x_option.h"
#include "userspace/util/fd.h"
#include "userspace/util/file.h"

namespace doppel {
namespace {
constexpr FileKind kConfigFile = {"--config", "configuration of doppel", 1};

Error usage(std::string where, std::string what, std::string hint) {
  return {std::move(where), std::move(what), std::move(hint), Exit::usage};
}

} // namespace

Result<Config> read_config(const std::string &file_name) {
  const Fd fd = open_to_read(file_name);
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
  for (const std::string &text : x)
    for (MappingConfig &m : parse_x_option(device, text, errors))
      c.mappings.push_back(std::move(m));
  for (Error &e : contradictions(c))
    errors.push_back(std::move(e));
  if (!errors.empty())
    return errors;
  return c;
}

} // namespace doppel
