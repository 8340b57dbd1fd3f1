// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/held_link.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "userspace/kernel/tcx.h"

namespace doppel {
namespace {
// The ifindex of the device of this network namespace on whose hook the link is; 0: there is none.
// What the kernel tells is the number in the namespace where the device is (tcx_link_fill_info()),
// which may be another device's here.
uint32_t device_of(int link_fd, dp_direction direction) {
  LinkInfo info;
  if (!link_info(link_fd, &info) || !info.ifindex)
    return 0;
  int err = 0;
  const auto entries = tcx_query(info.ifindex, direction, &err);
  const bool here = std::any_of(entries.begin(), entries.end(),
                                [&](const TcxEntry &t) { return t.link_id == info.id; });
  return here ? info.ifindex : 0;
}

} // namespace

HeldLink link_on(const Pins &pins, uint32_t prog_id, const Hook &hook) {
  int err = 0;
  const auto entries = tcx_query(hook.ifindex, hook.direction, &err);
  const auto on = std::find_if(entries.begin(), entries.end(),
                               [&](const TcxEntry &t) { return t.prog_id == prog_id; });
  if (!prog_id || on == entries.end() || !on->link_id)
    return {};
  LinkInfo info;
  for (std::string &path : pins.links())
    if (Fd fd = open_pin(path); fd && link_info(fd.get(), &info) && info.id == on->link_id)
      return {std::move(fd), std::move(path), info.id};
  return {};
}

// BPF file systems know RENAME_EXCHANGE since Linux 5.16 (commit 3871cb8cf741), TCX is younger.
Status rename_pin(const std::string &path, const std::string &to) {
  if (path == to)
    return Unit{};
  const unsigned flags = ::access(to.c_str(), F_OK) ? RENAME_NOREPLACE : RENAME_EXCHANGE;
  if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, to.c_str(), flags))
    return sys_error(path, "cannot be renamed to " + to, errno);
  return Unit{};
}

// Each turn but the last gives one pin the name that it is to have, so that they come to an end.
// To detach makes the end immediate: what the last close ends lasts for a grace period of RCU.
Status end_link(const Pins &pins, const Attachment &what) {
  const std::string path = pins.link(what.program, what.ifindex, what.direction);
  while (const Fd link = open_pin(path)) {
    const uint32_t ifindex = device_of(link.get(), what.direction);
    if (ifindex && ifindex != what.ifindex) {
      TRY(rename_pin(path, pins.link(what.program, ifindex, what.direction)));
      continue;
    }
    if (bpf_link_detach(link.get()) && errno != ENOLINK)
      return sys_error(path, "cannot be detached", errno);
    break;
  }
  if (::unlink(path.c_str()) && errno != ENOENT)
    return sys_error(path, "cannot be removed", errno);
  return Unit{};
}

} // namespace doppel
