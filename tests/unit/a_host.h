// SPDX-License-Identifier: Apache-2.0
// Makes hosts for the tests of plans.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/unit/show_errors.h"
#include "userspace/plan/plan.h"

namespace doppel {

inline Address ip(const char *text) { return *parse_address(text); }

inline Route a_route(uint32_t oif, const char *device, const char *source, uint32_t mtu = 1500) {
  Route r;
  r.oif = oif;
  r.device = device;
  r.source = ip(source);
  r.mtu = mtu;
  return r;
}

// To an address of this host itself.
inline Route a_route_here(const char *address) {
  Route r = a_route(1, "lo", address, 65536);
  r.local = true;
  return r;
}

inline DeviceView a_device(uint32_t ifindex, const char *name,
                           std::vector<Address> addresses = {}) {
  DeviceView d;
  d.ifindex = ifindex;
  d.name = name;
  d.ethernet = true;
  d.up = true;
  d.mtu = 1500;
  d.addresses = std::move(addresses);
  return d;
}

// eth0 10.0.0.1 carries the clients; targets 10.0.0.2 and .3 are on it, 10.9.0.2 is behind eth1.
inline HostView a_host() {
  HostView h;
  h.devices = {a_device(1, "lo", {ip("127.0.0.1")}), a_device(2, "eth0", {ip("10.0.0.1")}),
               a_device(3, "eth1", {ip("10.9.0.1")})};
  h.routes["10.0.0.2"] = a_route(2, "eth0", "10.0.0.1");
  h.routes["10.0.0.3"] = a_route(2, "eth0", "10.0.0.1");
  h.routes["10.9.0.2"] = a_route(3, "eth1", "10.9.0.1", 9000);
  h.has_tcx = true;
  return h;
}

// Each string is what -x would have on the command line, with --device eth0.
inline Config a_config(const std::vector<std::string> &x = {"11211-10.0.0.2:21211"}) {
  auto c = config_from_options("eth0", x);
  EXPECT_TRUE(c) << show_errors(c.errors());
  return *c;
}

} // namespace doppel
