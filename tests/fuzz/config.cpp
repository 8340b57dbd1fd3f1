// SPDX-License-Identifier: Apache-2.0
// The configuration file and tcpcopy's -x, any bytes. What is accepted must be within the bounds
// that the rest of doppel, and the BPF programs, rely on; what is refused must say where and why.
#include "userspace/config/config.h"

#include <cstdio>
#include <cstdlib>
#include <set>

#include "userspace/config/json_tree.h"

using namespace doppel;

namespace {

void require(bool condition, const char *what) {
  if (condition)
    return;
  std::fprintf(stderr, "INVARIANT: %s\n", what);
  std::abort();
}

// From a file: a file may be another's, while an option is shown as the user typed it.
void explained(const Errors &errors, bool file) {
  require(!errors.empty(), "refused without an error");
  for (const Error &e : errors) {
    require(!e.where.empty() && !e.what.empty(), "an error without a place or a text");
    for (const std::string *text : {&e.what, &e.hint, file ? &e.where : &e.what})
      for (const unsigned char c : *text)
        require(c >= 0x20 && c != 0x7f, "an error brings control characters to the terminal");
  }
}

void bounded(const Config &c) {
  require(!c.mappings.empty() && c.mappings.size() <= DP_MAX_MAPPINGS, "number of mappings");
  std::set<std::string> names;
  for (const MappingConfig &m : c.mappings) {
    require(!m.name.empty() && names.insert(m.name).second, "names");
    require(!m.devices.empty(), "device");
    for (const std::string &name : m.devices)
      require(wrong_device(name).empty(), "device");
    require(m.port_first > 0 && m.port_first <= m.port_last, "ports");
    require(m.protocol == 6, "protocol");
    require(!m.targets.empty() && m.targets.size() <= DP_MAX_TARGETS, "number of targets");
    for (const TargetConfig &t : m.targets) {
      require(t.port > 0 && t.port + (m.port_last - m.port_first) <= 65535, "a target's ports");
      require(is_host_address(t.address) && !needs_scope(t.address), "a target's address");
      require(t.shadow_addresses.size() < DP_MAX_SOURCES, "number of shadow addresses");
      for (const ShadowAddress &a : t.shadow_addresses)
        require(is_host_address(a.address) && !needs_scope(a.address) && !is_loopback(a.address) &&
                    a.address.family() == t.address.family(),
                "a shadow address");
    }
  }
  const Limits &l = c.limits;
  require(l.port_first >= 1024 && l.port_first <= l.port_last, "shadow ports");
  require(l.flow_cap <= (1u << 30) && l.flow_cap <= l.store_bytes, "flow_cap");
  require(l.flows > 0, "flows");
  require(contradictions(c).empty(), "accepted, and it contradicts itself");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  const std::string text(reinterpret_cast<const char *>(data) + 1, size - 1);
  Result<Config> config = data[0] == 'x' ? config_from_options("eth0", {text, "11211-10.0.0.1:1"})
                                         : parse_config(text, "doppel.json");
  if (config)
    bounded(*config);
  else
    explained(config.errors(), data[0] != 'x');
  return 0;
}
