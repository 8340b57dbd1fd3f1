// SPDX-License-Identifier: Apache-2.0
// Kernel interfaces that the headers of Debian 12 (Linux 6.1, libbpf 1.1) do not know.
// Numbers and layouts are kernel ABI; each carries the release and commit that brought it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace doppel::compat {

// enum bpf_attach_type. Linux 6.6, commit e420bed02507 ("bpf: Add fd-based tcx ...").
inline constexpr uint32_t kTcxIngress = 46;
inline constexpr uint32_t kTcxEgress = 47;

// Placement in a multi-program hook. Linux 6.6, commit 053c8e1f235d (bpf_mprog).
inline constexpr uint32_t kBefore = 1u << 3; // alone: at the head
inline constexpr uint32_t kAfter = 1u << 4;
inline constexpr uint32_t kRelativeIsLink = 1u << 13; // relative_fd is a link's, not a program's

// The fields of union bpf_attr that BPF_LINK_CREATE reads for a TCX link.
struct TcxLinkCreate {
  uint32_t prog_fd;
  uint32_t target_ifindex;
  uint32_t attach_type;
  uint32_t flags;
  uint32_t relative_fd;
  uint32_t pad;
  uint64_t expected_revision;
};
static_assert(offsetof(TcxLinkCreate, expected_revision) == 24);

// The fields of union bpf_attr that BPF_PROG_QUERY reads and writes for TCX.
struct TcxQuery {
  uint32_t target_ifindex;
  uint32_t attach_type;
  uint32_t query_flags;
  uint32_t attach_flags;
  uint64_t prog_ids; // pointer to uint32_t[count]
  uint32_t count;
  uint32_t pad;
  uint64_t prog_attach_flags;
  uint64_t link_ids; // pointer to uint32_t[count]; 0: attached without a link
  uint64_t link_attach_flags;
  uint64_t revision;
};
static_assert(sizeof(TcxQuery) == 64);

// getsockopt(SOL_SOCKET): 64-bit identity of a network namespace. Linux 5.14, commit e8b9eab99232.
inline constexpr int kSoNetnsCookie = 71;

} // namespace doppel::compat
