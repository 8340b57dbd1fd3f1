// SPDX-License-Identifier: Apache-2.0
// Where a configuration comes from: a file, or -x options.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "userspace/config/config.h"
#include "userspace/config/x_option.h"
#include "userspace/util/fd.h"
#include "userspace/util/file.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
// Lists of clients make it long: 100,000 prefixes are some MiB.
constexpr FileKind kConfigFile = {"--config", "configuration of doppel", 8};
constexpr FileKind kListFile = {"an entry that begins with /", "list of clients", 32};
constexpr FileKind kPreambleFile = {"preamble_file", "preamble", 1};

Error usage(std::string where, std::string what, std::string hint) {
  return {std::move(where), std::move(what), std::move(hint), Exit::usage};
}

Result<std::string> read_client_list(const std::string &name) {
  const Fd fd = open_to_read(name);
  if (!fd)
    return usage(name, std::string("cannot be opened: ") + std::strerror(errno),
                 "an entry that begins with / names a file that has a prefix a line");
  return read_file(fd.get(), name, kListFile);
}

// A secret, most likely: who can read it can log in.
Result<std::string> read_secret(const std::string &name) {
  const Fd fd = open_to_read(name);
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0)
    return usage(name, std::string("cannot be opened: ") + std::strerror(errno),
                 "\"preamble_file\" names a file that holds the preamble's bytes");
  if (st.st_mode & (S_IRWXG | S_IRWXO))
    return usage(name, "may be read by others than its owner", "chmod 600 " + name);
  if (st.st_uid != 0 && st.st_uid != ::geteuid())
    return usage(name, "belongs to another user, who may change it", "chown root " + name);
  return read_file(fd.get(), name, kPreambleFile);
}

void read_preambles(Config &config, Errors &errors) {
  for (MappingConfig &m : config.mappings)
    for (TargetConfig &t : m.targets) {
      if (t.preamble_file.empty())
        continue;
      const auto bytes = read_secret(t.preamble_file);
      const std::string wrong = bytes ? wrong_preamble(*bytes) : "";
      if (!bytes)
        errors.insert(errors.end(), bytes.errors().begin(), bytes.errors().end());
      else if (!wrong.empty())
        errors.push_back(usage(t.preamble_file, wrong, "it is the preamble of " + t.where));
      else
        t.preamble = *bytes;
    }
}

std::vector<std::string> listed_devices(const std::string &text, Errors &errors) {
  std::vector<std::string> names;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string name = text.substr(at, end - at);
    if (const auto wrong = wrong_device(name); wrong.empty())
      names.push_back(name);
    else
      errors.push_back(usage("--device", in_quotes(name) + " " + wrong, "`ip link` lists them"));
    at = end + 1;
  }
  return names;
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
  Config config = TRY(parse_config(*text, file_name, read_client_list));
  Errors errors;
  read_preambles(config, errors);
  if (!errors.empty())
    return errors;
  return config;
}

Result<Config> config_from_options(const std::string &devices, const std::vector<std::string> &x) {
  Config c;
  Errors errors;
  c.source = "command line";
  const std::vector<std::string> names = listed_devices(devices, errors);
  if (devices.empty())
    errors.push_back(
        usage("--device", "is missing", "name the device that carries the traffic: --device eth0"));
  if (x.empty())
    errors.push_back(usage("-x", "is missing", "say what goes where: -x " + std::string(kXForm)));
  for (const std::string &text : x)
    for (MappingConfig &m : parse_x_option(names, text, errors))
      c.mappings.push_back(std::move(m));
  for (Error &e : contradictions(c))
    errors.push_back(std::move(e));
  if (!errors.empty())
    return errors;
  return c;
}

} // namespace doppel
