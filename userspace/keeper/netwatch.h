// SPDX-License-Identifier: Apache-2.0
// Hears of changes to what the data plane rests on: devices, their addresses and filters, routes.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "userspace/config/config.h"
#include "userspace/mirror/meta.h"

struct ifaddrmsg;
struct mnl_socket;
struct nlmsghdr;

namespace doppel {

class NetWatch {
public:
  static Result<NetWatch> open();

  // What matters from now on: the devices and targets of the configuration, and the devices that
  // programs run on.
  void watch(const Config &config, const Meta &meta);

  int fd() const;
  // Reads all that there is. True: something that matters changed, or news were lost.
  bool changed();

private:
  struct Closer {
    void operator()(mnl_socket *s) const;
  };
  explicit NetWatch(mnl_socket *s) : socket_(s) {}
  bool matters(const nlmsghdr *h) const;
  bool is_named(const std::string &device) const;
  bool route_matters(const nlmsghdr *h) const;
  bool address_matters(const ifaddrmsg &ifa) const;

  std::unique_ptr<mnl_socket, Closer> socket_;
  std::set<std::string> names_, patterns_; // the latter as the configuration has them
  std::set<uint32_t> devices_;
  std::vector<Address> targets_;
};

} // namespace doppel
