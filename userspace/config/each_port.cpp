// SPDX-License-Identifier: Apache-2.0
// Mappings of a range of ports that keep a ledger for each of them.
#include <utility>

#include "userspace/config/config.h"

namespace doppel {
namespace {
MappingConfig one_port(const MappingConfig &range, unsigned offset) {
  MappingConfig m = range;
  const unsigned port = range.port_first + offset;
  m.by_port = false;
  m.port_first = m.port_last = static_cast<uint16_t>(port);
  m.name = range.name + "." + std::to_string(port);
  for (TargetConfig &t : m.targets)
    t.port = static_cast<uint16_t>(t.port + offset);
  return m;
}

} // namespace

void each_port(Config &config) {
  std::vector<MappingConfig> all;
  for (MappingConfig &m : config.mappings) {
    if (!m.by_port) {
      all.push_back(std::move(m));
      continue;
    }
    for (unsigned offset = 0; offset <= static_cast<unsigned>(m.port_last - m.port_first); offset++)
      all.push_back(one_port(m, offset));
  }
  config.mappings = std::move(all);
}

} // namespace doppel
