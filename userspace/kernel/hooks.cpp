// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/hooks.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <set>

#include "doppel/names.h"
#include "userspace/kernel/clsact.h"
#include "userspace/kernel/host_net.h"
#include "userspace/kernel/pins.h"
#include "userspace/kernel/tcx.h"

namespace doppel {
namespace {
// TCA_BPF_NAME of our filters is the program's name, and this mark if attach created the qdisc.
// So detach knows it without a state file: clsact has no place of its own for a note.
constexpr char kMadeQdisc[] = "+clsact";

// Anybody may call a program so. Ours share their maps, of which each uses this one.
constexpr char kOurMap[] = "ledger";

bool is_our_name(const std::string &name) { return name.starts_with(DP_PROG_PREFIX); }

// The pins tell which programs and links are ours, of whatever version, and need no more than the
// rest of doppel. Who may see others' programs knows ours by their name as well, also where the
// pins are gone.
class Known {
public:
  Known() {
    const auto pins = Pins::locate();
    if (!pins)
      return;
    pins_.push_back(*pins);
    for (const std::string &version : pins->other_versions())
      pins_.push_back(pins->of_version(version));
  }

  std::string name_of(uint32_t prog_id) const {
    for (const Pins &pins : pins_)
      for (const std::string &path : pins.progs())
        if (Fd prog = open_pin_to_read(path); prog && program_id(prog.get()) == prog_id)
          return path.substr(path.rfind('/') + 1);
    return program_name(prog_id);
  }

  // 0 or errno.
  int end_link(uint32_t link_id) const {
    LinkInfo info;
    for (const Pins &pins : pins_)
      for (const std::string &path : pins.links())
        if (Fd link = open_pin(path); link && link_info(link.get(), &info) && info.id == link_id)
          return bpf_link_detach(link.get()) && errno != ENOLINK ? errno : 0;
    return detach_link(link_id);
  }

private:
  std::vector<Pins> pins_;
};

AttachedProgram from_tcx(const Known &known, const TcxEntry &t) {
  AttachedProgram p;
  p.what.program = known.name_of(t.prog_id);
  p.mechanism = AttachMode::tcx;
  p.prog_id = t.prog_id;
  p.link_id = t.link_id;
  return p;
}

AttachedProgram from_filter(const Known &known, const Filter &f) {
  AttachedProgram p;
  p.mechanism = AttachMode::clsact;
  p.prog_id = f.prog_id;
  p.priority = f.priority;
  p.handle = f.handle;
  p.chain = f.chain;
  p.protocol = f.protocol;
  if (f.kind != "bpf") {
    p.what.program = f.kind + " filter";
    return p;
  }
  p.what.program = known.name_of(f.prog_id);
  if (p.what.program.empty())
    p.what.program = f.name.substr(0, f.name.find('+'));
  p.made_qdisc = is_our_name(f.name) && f.name.ends_with(kMadeQdisc);
  return p;
}

Result<std::vector<AttachedProgram>> list_hook(Rtnl &nl, const Known &known, const Hook &hook) {
  std::vector<AttachedProgram> programs;
  int err = 0;
  for (const auto &t : tcx_query(hook.ifindex, hook.direction, &err))
    programs.push_back(from_tcx(known, t));
  if (err && err != ENODEV)
    return sys_error(hook.text(), "its TCX programs cannot be read", err);
  auto filters = TRY(list_filters(nl, hook.ifindex, hook.device, hook.direction));
  for (const auto &f : filters)
    programs.push_back(from_filter(known, f));
  uint32_t position = 0;
  for (auto &p : programs) {
    p.ours = is_our_name(p.what.program) && program_uses(p.prog_id, kOurMap);
    p.what = {p.what.program.empty() ? kNoName : p.what.program, hook.device, hook.ifindex,
              hook.direction};
    p.position = ++position;
  }
  return programs;
}

std::string list_names(const std::vector<AttachedProgram> &programs) {
  std::string s;
  for (const auto &p : programs)
    s += (s.empty() ? "" : ", ") + p.what.program + " (program " + std::to_string(p.prog_id) + ")";
  return s;
}

// The lowest priority above `above` that nobody has. Warns of neighbours that run before it.
uint32_t choose_priority(const std::vector<AttachedProgram> &programs, const Attachment &what,
                         uint32_t above, std::vector<std::string> &warnings) {
  std::set<uint32_t> taken;
  std::vector<AttachedProgram> first; // neighbours that TCX runs before any filter
  for (const auto &p : programs) {
    if (p.mechanism == AttachMode::clsact)
      taken.insert(p.priority);
    else if (!p.ours)
      first.push_back(p);
  }
  if (!first.empty() && above == 0)
    warnings.push_back(what.hook().text() + ": with clsact we run after the TCX programs " +
                       list_names(first) +
                       ", which may hide packets from us; attach mode tcx avoids that");
  uint32_t priority = above + 1;
  while (taken.count(priority))
    priority++;
  const bool late = std::any_of(programs.begin(), programs.end(), [&](const AttachedProgram &p) {
    return p.mechanism == AttachMode::clsact && !p.ours && p.chain == 0 && p.priority < priority;
  });
  if (late)
    warnings.push_back(what.hook().text() + ": " + what.program + " got priority " +
                       std::to_string(priority) +
                       ", behind a neighbour's filter; if that returns anything but "
                       "TC_ACT_UNSPEC or TC_ACT_PIPE, packets are hidden from us");
  return priority;
}

} // namespace

Result<std::vector<AttachedProgram>> list_hook(Rtnl &nl, const Hook &hook) {
  return list_hook(nl, Known(), hook);
}

Result<std::vector<AttachedProgram>> find_ours(Rtnl &nl) {
  auto devices = TRY(list_devices(nl));
  const Known known;
  std::vector<AttachedProgram> ours;
  for (const auto &d : devices) {
    for (dp_direction direction : {DP_DIR_INGRESS, DP_DIR_EGRESS}) {
      auto programs = list_hook(nl, known, {d.ifindex, d.name, direction});
      if (!programs)
        continue; // the device went away meanwhile, and what was on it as well
      std::copy_if(programs->begin(), programs->end(), std::back_inserter(ours),
                   [](const AttachedProgram &p) { return p.ours; });
    }
  }
  return ours;
}

Status detach_program(Rtnl &nl, const AttachedProgram &p) {
  if (p.mechanism == AttachMode::clsact) {
    const Filter f{p.priority, p.handle, p.chain, p.protocol, "bpf", {}, p.prog_id};
    return remove_filter(nl, p.what.ifindex, p.what.device, p.what.direction, f);
  }
  if (int err = Known().end_link(p.link_id))
    return sys_error(p.what.hook().text(), "cannot detach " + p.what.program, err);
  return Unit{};
}

Result<Fd> attach_tcx(const Attachment &what, int prog_fd, int behind_link_fd) {
  int err = 0;
  Fd link = tcx_attach(prog_fd, what.ifindex, what.direction, behind_link_fd, &err);
  if (link)
    return link;
  std::string hint;
  if (err == ENODEV)
    hint = "the device is gone: ip link shows those that exist";
  else if (err == ERANGE)
    hint = "the hook is full: doppel status shows what runs there";
  return sys_error(what.hook().text(), "cannot attach " + what.program + " with tcx", err, hint);
}

Result<AttachedProgram> attach_clsact(Rtnl &nl, const Attachment &what, int prog_fd, uint32_t above,
                                      bool made_qdisc, std::vector<std::string> &warnings) {
  auto made = TRY(ensure_clsact(nl, what.ifindex, what.device, what.direction));
  AttachedProgram attached;
  attached.what = what;
  attached.mechanism = AttachMode::clsact;
  attached.made_qdisc = made || made_qdisc;
  attached.handle = 1;
  attached.ours = true;

  auto fail = [&](Errors errors) -> Result<AttachedProgram> {
    if (made) // nobody else will remember that it was us
      collect(remove_clsact_if_empty(nl, what.ifindex, what.device), errors);
    return errors;
  };
  auto programs = list_hook(nl, what.hook());
  if (!programs)
    return fail(programs.errors());
  attached.priority = choose_priority(*programs, what, above, warnings);
  const std::string name = what.program + (attached.made_qdisc ? kMadeQdisc : "");
  auto added =
      add_filter(nl, what.ifindex, what.device, what.direction, prog_fd, name, attached.priority);
  if (!added)
    return fail(added.errors());
  return attached;
}

} // namespace doppel
