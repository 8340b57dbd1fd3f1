// SPDX-License-Identifier: Apache-2.0
// TCX (Linux 6.6) by raw bpf(2), for libbpf 1.1 does not know it; and what bpf(2) tells of
// programs and links by number.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "doppel/abi.h"
#include "userspace/util/error.h"
#include "userspace/util/fd.h"

namespace doppel {

// Asks the kernel about lo of this network namespace. Needs CAP_NET_ADMIN; false without.
bool tcx_supported();

struct TcxEntry {
  uint32_t prog_id = 0;
  uint32_t link_id = 0; // 0: attached without a link
};

// Programs in running order. Empty also where the kernel has no TCX. Returns errno in `err`.
std::vector<TcxEntry> tcx_query(uint32_t ifindex, dp_direction hook, int *err);

// Attaches at the head of the hook, or right behind the link `after_link_fd` if that is >= 0.
// The link ends with its last file descriptor or pin. Without a value: errno in `err`.
Fd tcx_attach(int prog_fd, uint32_t ifindex, dp_direction hook, int after_link_fd, int *err);

struct LinkInfo {
  uint32_t id = 0, prog_id = 0;
  uint32_t ifindex = 0; // 0: defunct, its device is gone
};
bool link_info(int link_fd, LinkInfo *info);

// By number, whosever they are; both want CAP_SYS_ADMIN (BPF_*_GET_FD_BY_ID).
// Ends the link now, whoever else holds it. 0 or errno.
int detach_link(uint32_t link_id);
// Empty if the program is gone or the capability is missing.
std::string program_name(uint32_t prog_id);
// Whether it uses a map of that name; true where that cannot be told.
bool program_uses(uint32_t prog_id, const std::string &map);

uint32_t program_id(int prog_fd); // 0: not a program

} // namespace doppel
