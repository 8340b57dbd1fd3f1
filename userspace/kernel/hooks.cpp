// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/hooks.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "doppel/names.h"
#include "userspace/kernel/clsact.h"
#include "userspace/kernel/pins.h"
#include "userspace/kernel/tcx.h"

namespace doppel {

namespace {

// TCA_BPF_NAME of our filters is the program's name, and this mark if attach created the qdisc.
// So detach knows it without a state file: clsact has no place of its own for a note.
constexpr char kMadeQdisc[] = "+clsact";

bool is_ours(const std::string &name) { return name.rfind(DP_PROG_PREFIX, 0) == 0; }

// Ours are known by their pins, which needs no more than the rest of doppel; who may see others'
// programs knows ours by their name as well, also where the pins are gone.
std::string name_of(uint32_t prog_id) {
  if (auto pins = Pins::locate())
    for (const std::string &path : pins->progs())
      if (Fd prog = open_pin(path); prog && program_id(prog.get()) == prog_id)
        return path.substr(path.rfind('/') + 1);
  return program_name(prog_id);
}

// 0 or errno.
int end_link(uint32_t link_id) {
  LinkInfo info;
  if (auto pins = Pins::locate())
    for (const std::string &path : pins->links())
      if (Fd link = open_pin(path); link && link_info(link.get(), &info) && info.id == link_id)
        return bpf_link_detach(link.get()) && errno != ENOLINK ? errno : 0;
  return detach_link(link_id);
}

HookEntry from_tcx(const Hook &hook, const TcxEntry &t) {
  HookEntry e{hook, {}, 0, 0, false};
  e.row.program = name_of(t.prog_id);
  e.row.mechanism = "tcx";
  e.row.prog_id = t.prog_id;
  e.row.link_id = t.link_id;
  return e;
}

HookEntry from_filter(const Hook &hook, const Filter &f) {
  HookEntry e{hook, {}, f.chain, f.protocol, false};
  e.row.mechanism = "clsact";
  e.row.prog_id = f.prog_id;
  e.row.priority = f.priority;
  e.row.handle = f.handle;
  if (f.kind != "bpf") {
    e.row.program = f.kind + " filter";
    return e;
  }
  e.row.program = name_of(f.prog_id);
  if (e.row.program.empty())
    e.row.program = f.name.substr(0, f.name.find('+'));
  e.made_qdisc = is_ours(f.name) && f.name.ends_with(kMadeQdisc);
  return e;
}

std::string list_names(const std::vector<HookEntry> &entries) {
  std::string s;
  for (const auto &e : entries)
    s += (s.empty() ? "" : ", ") + e.row.program + " (program " + std::to_string(e.row.prog_id) +
         ")";
  return s;
}

} // namespace

std::string Hook::text() const {
  return "device " + device + (direction == DP_DIR_INGRESS ? " ingress" : " egress");
}

Result<std::vector<HookEntry>> list_hook(Rtnl &nl, const Hook &hook) {
  std::vector<HookEntry> entries;
  int err = 0;
  for (const auto &t : tcx_query(hook.ifindex, hook.direction, &err))
    entries.push_back(from_tcx(hook, t));
  if (err && err != ENODEV)
    return sys_error(hook.text(), "its TCX programs cannot be read", err);
  auto filters = list_filters(nl, hook.ifindex, hook.device, hook.direction);
  if (!filters)
    return filters.errors();
  for (const auto &f : *filters)
    entries.push_back(from_filter(hook, f));
  uint32_t position = 0;
  for (auto &e : entries) {
    e.row.device = hook.device;
    e.row.hook = hook.direction == DP_DIR_INGRESS ? "ingress" : "egress";
    e.row.position = ++position;
    e.row.ours = is_ours(e.row.program);
    if (e.row.program.empty())
      e.row.program = kNoName;
  }
  return entries;
}

Result<std::vector<HookEntry>> find_ours(Rtnl &nl) {
  auto devices = list_devices(nl);
  if (!devices)
    return devices.errors();
  std::vector<HookEntry> ours;
  for (const auto &d : *devices) {
    for (dp_direction direction : {DP_DIR_INGRESS, DP_DIR_EGRESS}) {
      auto entries = list_hook(nl, {d.ifindex, d.name, direction});
      if (!entries)
        continue; // the device went away meanwhile, and what was on it as well
      std::copy_if(entries->begin(), entries->end(), std::back_inserter(ours),
                   [](const HookEntry &e) { return e.row.ours; });
    }
  }
  return ours;
}

Status remove_entry(Rtnl &nl, const HookEntry &e) {
  if (e.row.mechanism == "clsact") {
    Filter f{e.row.priority, e.row.handle, e.chain, e.protocol, "bpf", {}, e.row.prog_id};
    return remove_filter(nl, e.hook.ifindex, e.hook.device, e.hook.direction, f);
  }
  if (int err = end_link(e.row.link_id))
    return sys_error(e.hook.text(), "cannot detach " + e.row.program, err);
  return Unit{};
}

Result<Placed> place_tcx(const Placement &p, int behind_link_fd) {
  int err = 0;
  Placed placed;
  placed.link = tcx_attach(p.prog_fd, p.hook.ifindex, p.hook.direction, behind_link_fd, &err);
  if (placed.link)
    return placed;
  std::string hint;
  if (err == ENODEV)
    hint = "the device is gone: ip link shows those that exist";
  else if (err == ERANGE)
    hint = "the hook is full: doppel status shows what runs there";
  return sys_error(p.hook.text(), "cannot attach " + p.program + " with tcx", err, hint);
}

Result<Placed> place_clsact(Rtnl &nl, const Placement &p, uint32_t above, bool made_qdisc,
                            std::vector<std::string> *warnings) {
  const Hook &hook = p.hook;
  auto made = ensure_clsact(nl, hook.ifindex, hook.device, hook.direction);
  if (!made)
    return made.errors();
  Placed placed;
  placed.made_qdisc = *made || made_qdisc;
  placed.handle = 1;

  auto fail = [&](Errors e) -> Result<Placed> {
    if (*made) // nobody else will remember that it was us
      if (auto s = remove_clsact_if_empty(nl, hook.ifindex, hook.device); !s)
        e.insert(e.end(), s.errors().begin(), s.errors().end());
    return e;
  };
  auto entries = list_hook(nl, hook);
  if (!entries)
    return fail(entries.errors());
  std::set<uint32_t> taken;
  std::vector<HookEntry> first; // neighbours that TCX runs before any filter
  for (const auto &e : *entries) {
    if (e.row.mechanism == "clsact")
      taken.insert(e.row.priority);
    else if (!e.row.ours)
      first.push_back(e);
  }
  if (!first.empty() && above == 0)
    warnings->push_back(hook.text() + ": with clsact we run after the TCX programs " +
                        list_names(first) +
                        ", which may hide packets from us; attach mode tcx avoids that");
  placed.priority = above + 1;
  while (taken.count(placed.priority))
    placed.priority++;
  bool late = std::any_of(entries->begin(), entries->end(), [&](const HookEntry &e) {
    return e.row.mechanism == "clsact" && !e.row.ours && e.chain == 0 &&
           e.row.priority < placed.priority;
  });
  if (late)
    warnings->push_back(hook.text() + ": " + p.program + " got priority " +
                        std::to_string(placed.priority) +
                        ", behind a neighbour's filter; if that returns anything but "
                        "TC_ACT_UNSPEC or TC_ACT_PIPE, packets are hidden from us");
  std::string name = p.program + (placed.made_qdisc ? kMadeQdisc : "");
  if (auto s = add_filter(nl, hook.ifindex, hook.device, hook.direction, p.prog_fd, name,
                          placed.priority);
      !s)
    return fail(s.errors());
  return placed;
}

} // namespace doppel
