// SPDX-License-Identifier: Apache-2.0
// The lists of clients as the data plane has them: rows of the map `prefixes`.
#pragma once

#include <cstdint>
#include <set>

#include "doppel/abi.h"
#include "userspace/config/client_list.h"
#include "userspace/util/error.h"

namespace doppel {

class ClientLists {
public:
  explicit ClientLists(int prefixes_fd) : fd_(prefixes_fd) {}

  // Rows that such a list takes.
  static uint64_t rows_of(const ClientList &clients) { return clients.entries().size() + 2; }
  // Nobody may have that number (dp_mapping.clients) yet.
  Status put(uint16_t list, const ClientList &clients) const;
  // Removes the rows of all other lists. Returns how many rows are left.
  Result<uint64_t> keep(const std::set<uint16_t> &lists) const;
  // As the data plane decides.
  bool wants(const dp_mapping &mapping, const dp_addr &client) const;

private:
  int fd_;
};

} // namespace doppel
