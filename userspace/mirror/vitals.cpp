// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/vitals.h"

#include <bpf/bpf.h>
#include <net/if.h>

#include <cerrno>
#include <chrono>
#include <set>
#include <thread>

#include "userspace/kernel/host_net.h"
#include "userspace/mirror/counters.h"
#include "userspace/mirror/renamed.h"

namespace doppel {
namespace {
constexpr auto kBetweenLooks = std::chrono::milliseconds(100);

Result<std::vector<DeviceVitals>> read_devices(const Pins &pins, const Meta &meta) {
  std::set<std::string> names;
  for (const NamedMapping &m : meta.mappings)
    names.insert(m.devices.begin(), m.devices.end());
  std::vector<DeviceVitals> devices;
  for (const std::string &name : names) {
    auto d = TRY(device_state(captured_ifindex(meta, name)));
    if (!d || (d->name != name && !still_captured(pins, meta, name)))
      d = TRY(device_state(name));
    DeviceVitals v{name};
    v.present = d.has_value();
    if (d && d->name != name)
      v.now_called = d->name;
    v.up = d && d->flags & IFF_UP;
    v.carrier = d && d->flags & IFF_RUNNING;
    devices.push_back(v);
  }
  return devices;
}

} // namespace

Result<Vitals> read_vitals(const Attached &attached, Attempts *attempts, Owing *owing) {
  Vitals v;
  v.counters = TRY(read_counters_of(attached));
  v.now = v.counters.now;
  v.now_ns = v.counters.now_ns;
  v.attached = attached.meta.since;
  v.attached_ns = attached.meta.since_ns;
  v.flow_rows = TRY(open_table(attached.pins, "flows", sizeof(dp_flow), Access::read)).entries;
  const auto control = TRY(open_table(attached.pins, "control", sizeof(dp_control), Access::read));
  const uint32_t zero = 0;
  dp_control value{};
  if (bpf_map_lookup_elem(control.fd.get(), &zero, &value))
    return sys_error("map control", "cannot be read", errno);
  v.paused = value.paused != 0;
  if (owing)
    TRY(owing->look(attached, v));
  if (current_netns() == attached.meta.netns) { // else devices and routes are others
    v.devices = TRY(read_devices(attached.pins, attached.meta));
    if (attempts)
      TRY(attempts->look(attached, v));
  }
  return v;
}

Result<Looks> look_closely(const Attached &attached, uint64_t patience_ns) {
  Looks looks;
  Attempts attempts;
  Owing owing(patience_ns, Owing::Looker::once);
  do {
    if (!looks.empty())
      std::this_thread::sleep_for(kBetweenLooks);
    looks.push_back(TRY(read_vitals(attached, &attempts, &owing)));
  } while (wants_another_look(looks, attempts.pending() || owing.pending()));
  return looks;
}

} // namespace doppel
