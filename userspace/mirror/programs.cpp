// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/programs.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "userspace/kernel/tcx.h"

namespace doppel {

namespace {

bool is_return(const Attachment &a) { return a.program == DP_PROG_RETURN; }

std::string link_path(const Pins &pins, const Attachment &a) {
  return pins.link(a.program, a.ifindex, a.hook == DP_DIR_INGRESS);
}

// The attachment of our program on its hook; null: it is not there.
const HookEntry *find_entry(const std::vector<HookEntry> &entries, const std::string &program) {
  auto e = std::find_if(entries.begin(), entries.end(),
                        [&](const HookEntry &e) { return e.row.ours && e.row.program == program; });
  return e == entries.end() ? nullptr : &*e;
}

} // namespace

Result<AttachedProgram> Placer::place_link(const Placement &p, const Attachment &what) {
  Fd before;
  if (!is_return(what))
    before = open_pin(pins_.link(DP_PROG_RETURN, what.ifindex, what.hook == DP_DIR_INGRESS));
  LinkInfo info;
  if (before && (!link_info(before.get(), &info) || !info.ifindex))
    before = Fd();
  auto placed = place_tcx(p, before.get());
  if (!placed)
    return placed.errors();
  AttachedProgram attached{what, program_id(p.prog_fd), 0, 0, 0};
  if (link_info(placed->link.get(), &info))
    attached.link_id = info.id;
  const std::string path = link_path(pins_, what);
  if (::unlink(path.c_str()) && errno != ENOENT)
    return sys_error(path, "cannot be removed", errno);
  if (auto s = pins_.pin(placed->link.get(), path); !s)
    return s.errors();
  return attached;
}

// For a moment capture runs twice: the second sees nothing new in any packet.
Status Placer::move_capture(const Attachment &what, uint32_t above) {
  auto entries = list_hook(nl_, {what.ifindex, what.device, what.hook});
  if (!entries)
    return entries.errors();
  const HookEntry *capture = find_entry(*entries, DP_PROG_INGRESS);
  if (!capture || capture->row.priority > above)
    return Unit{};
  Fd prog = open_pin(pins_.prog(DP_PROG_INGRESS));
  if (!prog)
    return sys_error(pins_.prog(DP_PROG_INGRESS), "cannot be opened", errno);
  auto moved = place_clsact(nl_, {capture->hook, DP_PROG_INGRESS, prog.get()}, above,
                            made_qdisc.count(what.ifindex) > 0, &warnings);
  if (!moved)
    return moved.errors();
  return remove_entry(nl_, *capture);
}

Result<AttachedProgram> Placer::place_filter(const Placement &p, const Attachment &what) {
  uint32_t above = 0;
  if (!is_return(what)) {
    auto entries = list_hook(nl_, p.hook);
    if (!entries)
      return entries.errors();
    if (const HookEntry *e = find_entry(*entries, DP_PROG_RETURN))
      above = e->row.priority;
  }
  auto placed = place_clsact(nl_, p, above, made_qdisc.count(what.ifindex) > 0, &warnings);
  if (!placed)
    return placed.errors();
  if (placed->made_qdisc)
    made_qdisc.insert(what.ifindex);
  if (is_return(what))
    if (auto s = move_capture(what, placed->priority); !s)
      return s.errors();
  return AttachedProgram{what, program_id(p.prog_fd), 0, placed->priority, placed->handle};
}

Result<AttachedProgram> Placer::place(int prog_fd, const Attachment &what) {
  Placement p{{what.ifindex, what.device, what.hook}, what.program, prog_fd};
  if (prog_fd < 0)
    return Error{"program " + what.program, "is not part of the data plane", {}};
  return tcx_ ? place_link(p, what) : place_filter(p, what);
}

std::vector<AttachedProgram> find_running(Rtnl &nl, const Pins &pins,
                                          const std::vector<Attachment> &wanted) {
  std::vector<AttachedProgram> running;
  for (const Attachment &a : wanted) {
    Fd prog = open_pin(pins.prog(a.program));
    const uint32_t id = prog ? program_id(prog.get()) : 0;
    auto entries = list_hook(nl, {a.ifindex, a.device, a.hook});
    if (!id || !entries)
      continue; // the device is gone
    auto e = std::find_if(entries->begin(), entries->end(),
                          [&](const HookEntry &e) { return e.row.prog_id == id; });
    if (e != entries->end())
      running.push_back({a, id, e->row.link_id, e->row.priority, e->row.handle});
  }
  return running;
}

Status end_attachment(Rtnl &nl, const Pins &pins, const Attachment &what) {
  const std::string path = link_path(pins, what);
  if (Fd link = open_pin(path); link && bpf_link_detach(link.get()) && errno != ENOLINK)
    return sys_error(path, "cannot be detached", errno);
  if (::unlink(path.c_str()) && errno != ENOENT)
    return sys_error(path, "cannot be removed", errno);
  auto entries = list_hook(nl, {what.ifindex, what.device, what.hook});
  if (!entries)
    return Unit{}; // the device is gone, and what was on it as well
  for (const HookEntry &e : *entries)
    if (e.row.ours && e.row.program == what.program)
      if (auto s = remove_entry(nl, e); !s)
        return s;
  return Unit{};
}

} // namespace doppel
