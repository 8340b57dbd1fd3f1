// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/tcx.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "userspace/kernel/compat.h"

namespace doppel {
namespace {
constexpr uint32_t kLoopback = 1; // ifindex of lo in every namespace (LOOPBACK_IFINDEX)

uint32_t attach_type(dp_direction hook) {
  return hook == DP_DIR_INGRESS ? compat::kTcxIngress : compat::kTcxEgress;
}

// bpf_link_info of a TCX link: type, id, prog_id, then { ifindex, attach_type } in the union,
// which is 8-aligned. Linux 6.6, commit e420bed02507.
struct TcxLinkInfo {
  uint32_t type, id, prog_id, pad;
  uint32_t ifindex, attach_type;
};

int query(compat::TcxQuery *q) {
  return static_cast<int>(::syscall(SYS_bpf, BPF_PROG_QUERY, q, sizeof(*q))) < 0 ? errno : 0;
}

} // namespace

bool tcx_supported() {
  compat::TcxQuery q{};
  q.target_ifindex = kLoopback;
  q.attach_type = compat::kTcxIngress;
  int err = query(&q);
  return err == 0 || err == ENOENT; // ENOENT: nothing is attached, in releases before 6.6 was final
}

std::vector<TcxEntry> tcx_query(uint32_t ifindex, dp_direction hook, int *err) {
  uint32_t room = 64; // BPF_MPROG_MAX: the most that one hook can hold
  std::vector<uint32_t> progs(room), links(room);
  compat::TcxQuery q{};
  q.target_ifindex = ifindex;
  q.attach_type = attach_type(hook);
  q.prog_ids = reinterpret_cast<uint64_t>(progs.data());
  q.link_ids = reinterpret_cast<uint64_t>(links.data());
  q.count = room;
  *err = query(&q);
  if (*err == EINVAL || *err == ENOENT || *err == E2BIG)
    *err = 0; // no TCX in this kernel, or nothing attached
  else if (*err == 0 && q.count <= room) {
    std::vector<TcxEntry> found;
    for (uint32_t i = 0; i < q.count; i++)
      found.push_back({progs[i], links[i]});
    return found;
  }
  return {};
}

Fd tcx_attach(int prog_fd, uint32_t ifindex, dp_direction hook, int after_link_fd, int *err) {
  compat::TcxLinkCreate a{};
  a.prog_fd = static_cast<uint32_t>(prog_fd);
  a.target_ifindex = ifindex;
  a.attach_type = attach_type(hook);
  a.flags = compat::kBefore;
  if (after_link_fd >= 0) {
    a.flags = compat::kAfter | compat::kRelativeIsLink;
    a.relative_fd = static_cast<uint32_t>(after_link_fd);
  }
  int fd = static_cast<int>(::syscall(SYS_bpf, BPF_LINK_CREATE, &a, sizeof(a)));
  *err = fd < 0 ? errno : 0;
  return Fd(fd);
}

bool link_info(int link_fd, LinkInfo *info) {
  // Larger than what this code reads, so that a kernel with more fields can fill them in.
  union {
    bpf_link_info known;
    TcxLinkInfo tcx;
    char room[512];
  } u{};
  uint32_t len = sizeof(u);
  if (bpf_obj_get_info_by_fd(link_fd, &u, &len))
    return false;
  *info = {u.tcx.id, u.tcx.prog_id, u.tcx.ifindex};
  return true;
}

int detach_link(uint32_t link_id) {
  Fd link(bpf_link_get_fd_by_id(link_id));
  if (!link)
    return errno == ENOENT ? 0 : errno;
  return bpf_link_detach(link.get()) ? errno : 0;
}

std::string program_name(uint32_t prog_id) {
  Fd prog(bpf_prog_get_fd_by_id(prog_id));
  bpf_prog_info info{};
  uint32_t len = sizeof(info);
  if (!prog || bpf_obj_get_info_by_fd(prog.get(), &info, &len))
    return {};
  return info.name;
}

bool program_uses(uint32_t prog_id, const std::string &map) {
  Fd prog(bpf_prog_get_fd_by_id(prog_id));
  bpf_prog_info info{};
  uint32_t len = sizeof(info);
  std::vector<uint32_t> ids(64); // MAX_USED_MAPS
  info.nr_map_ids = static_cast<uint32_t>(ids.size());
  info.map_ids = reinterpret_cast<uint64_t>(ids.data());
  if (!prog || bpf_obj_get_info_by_fd(prog.get(), &info, &len))
    return true;
  ids.resize(std::min<size_t>(ids.size(), info.nr_map_ids));
  for (uint32_t id : ids) {
    Fd fd(bpf_map_get_fd_by_id(id));
    bpf_map_info about{};
    uint32_t size = sizeof(about);
    if (!fd || bpf_obj_get_info_by_fd(fd.get(), &about, &size) || about.name == map)
      return true;
  }
  return false;
}

uint32_t program_id(int prog_fd) {
  bpf_prog_info info{};
  uint32_t len = sizeof(info);
  return bpf_obj_get_info_by_fd(prog_fd, &info, &len) ? 0 : info.id;
}

} // namespace doppel
