// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/named_devices.h"

#include <algorithm>

#include "doppel/names.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
void add_once(std::vector<std::string> &list, const std::string &name) {
  if (std::find(list.begin(), list.end(), name) == list.end())
    list.push_back(name);
}

bool fits(const std::string &pattern, const DeviceView &d) {
  return d.ethernet && d.name != DP_LINK && d.name != DP_LINK_PEER &&
         fits_device_pattern(pattern, d.name);
}

Error none_fits(const MappingConfig &m, const std::string &pattern) {
  return {m.where, "no Ethernet device of this host fits " + in_quotes(pattern),
          "`ip link` lists the devices", Exit::failure};
}

std::vector<std::string> names_of(const MappingConfig &m, const HostView &host, Errors &errors) {
  std::vector<std::string> names;
  Errors unfit;
  for (const std::string &wanted : m.devices) {
    if (!is_device_pattern(wanted)) {
      add_once(names, wanted);
      continue;
    }
    const size_t before = names.size();
    for (const DeviceView &d : host.devices)
      if (fits(wanted, d))
        add_once(names, d.name);
    if (names.size() == before)
      unfit.push_back(none_fits(m, wanted));
  }
  if (names.empty())
    errors.insert(errors.end(), unfit.begin(), unfit.end());
  return names;
}

bool is_there(const std::string &wanted, const HostView &host) {
  return std::any_of(host.devices.begin(), host.devices.end(), [&](const DeviceView &d) {
    return is_device_pattern(wanted) ? fits(wanted, d) : d.name == wanted;
  });
}

} // namespace

Config named_devices(const Config &config, const HostView &host, Errors &errors) {
  Config named = config;
  for (MappingConfig &m : named.mappings)
    m.devices = names_of(m, host, errors);
  return named;
}

Config present_devices(const Config &config, const HostView &host, Errors &missing) {
  Config present = config;
  for (MappingConfig &m : present.mappings) {
    const auto here = [&](const std::string &wanted) { return is_there(wanted, host); };
    if (std::none_of(m.devices.begin(), m.devices.end(), here))
      continue; // others tell of them
    for (const std::string &wanted : m.devices)
      if (!here(wanted) && !is_device_pattern(wanted))
        missing.push_back({m.where,
                           "there is no device " + in_quotes(wanted) + ": mapping " + m.name +
                               " is captured on its others",
                           "it is captured there as well as soon as it is there", Exit::failure});
    std::erase_if(m.devices, [&](const std::string &wanted) { return !here(wanted); });
  }
  return present;
}

} // namespace doppel
