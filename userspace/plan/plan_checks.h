// SPDX-License-Identifier: Apache-2.0
// Why a host cannot do what a configuration wants.
#pragma once

#include <string>

#include "userspace/plan/plan.h"

namespace doppel {

// Nothing: no such device.
const DeviceView *find_device(const HostView &host, const std::string &name);

// Each function appends to `errors`; warnings do not keep the plan from being carried out.
void check_devices(const Config &config, const HostView &host, Errors &errors,
                   std::vector<std::string> &warnings);
void check_targets(const Config &config, const HostView &host, Errors &errors);
void check_shadow_ports(const Config &config, const HostView &host, Errors &errors);
void check_attach_mode(const Config &config, const HostView &host, Errors &errors);

} // namespace doppel
