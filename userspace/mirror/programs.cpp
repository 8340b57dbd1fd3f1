// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/programs.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>

#include "doppel/names.h"
#include "userspace/kernel/clsact.h"
#include "userspace/kernel/tcx.h"
#include "userspace/mirror/held_link.h"

namespace doppel {
namespace {
bool is_return(const Attachment &a) { return a.program == DP_PROG_RETURN; }

// Our program among those of a hook; null: it is not there.
const AttachedProgram *find_program(const std::vector<AttachedProgram> &programs,
                                    const std::string &name) {
  auto p = std::find_if(programs.begin(), programs.end(), [&](const AttachedProgram &one) {
    return one.ours && one.what.program == name;
  });
  return p == programs.end() ? nullptr : &*p;
}

} // namespace

// A program is on a hook once only: where its link has come back with the device, that one goes on.
Result<AttachedProgram> ProgramAttacher::attach_link(int prog_fd, const Attachment &what) {
  const std::string path = pins_.link(what.program, what.ifindex, what.direction);
  AttachedProgram attached;
  attached.what = what;
  attached.prog_id = program_id(prog_fd);
  if (const HeldLink held = link_on(pins_, attached.prog_id, what.hook()); held.fd) {
    TRY(rename_pin(held.path, path));
    attached.link_id = held.id;
    return attached;
  }
  HeldLink before;
  if (Fd prog = is_return(what) ? Fd() : open_pin(pins_.prog(DP_PROG_RETURN)))
    before = link_on(pins_, program_id(prog.get()), what.hook());
  auto link = TRY(attach_tcx(what, prog_fd, before.fd.get()));
  LinkInfo info;
  if (link_info(link.get(), &info))
    attached.link_id = info.id;
  TRY(end_link(pins_, what)); // of a device that is gone
  TRY(pins_.pin(link.get(), path));
  return attached;
}

// For a moment capture runs twice: the second sees nothing new in any packet.
Status ProgramAttacher::move_capture(const Attachment &what, uint32_t above) {
  auto programs = TRY(list_hook(nl_, what.hook()));
  const AttachedProgram *capture = find_program(programs, DP_PROG_INGRESS);
  if (!capture || capture->priority > above)
    return Unit{};
  Fd prog = open_pin(pins_.prog(DP_PROG_INGRESS));
  if (!prog)
    return sys_error(pins_.prog(DP_PROG_INGRESS), "cannot be opened", errno);
  TRY(attach_clsact(nl_, capture->what, prog.get(), above, made_qdisc.count(what.ifindex) > 0,
                    warnings));
  return detach_program(nl_, *capture);
}

Result<AttachedProgram> ProgramAttacher::attach_filter(int prog_fd, const Attachment &what) {
  uint32_t above = 0;
  if (!is_return(what)) {
    auto programs = TRY(list_hook(nl_, what.hook()));
    if (const AttachedProgram *p = find_program(programs, DP_PROG_RETURN))
      above = p->priority;
  }
  auto attached =
      attach_clsact(nl_, what, prog_fd, above, made_qdisc.count(what.ifindex) > 0, warnings);
  if (!attached)
    return attached.errors();
  attached->prog_id = program_id(prog_fd);
  if (attached->made_qdisc)
    made_qdisc.insert(what.ifindex);
  TRY(end_former(what, attached->prog_id));
  if (is_return(what))
    TRY(move_capture(what, attached->priority));
  return attached;
}

// One of that name whose pin was removed runs on: each packet would be taken twice.
Status ProgramAttacher::end_former(const Attachment &what, uint32_t prog_id) {
  for (const AttachedProgram &p : TRY(list_hook(nl_, what.hook())))
    if (p.ours && p.mechanism == AttachMode::clsact && p.what.program == what.program &&
        p.prog_id != prog_id)
      TRY(detach_program(nl_, p));
  return Unit{};
}

Result<AttachedProgram> ProgramAttacher::attach(int prog_fd, const Attachment &what) {
  if (prog_fd < 0)
    return Error{"program " + what.program, "is not part of the data plane", {}};
  return mode_ == AttachMode::tcx ? attach_link(prog_fd, what) : attach_filter(prog_fd, what);
}

Status ProgramAttacher::announce(const std::vector<Attachment> &list, Meta meta) const {
  std::set<uint32_t> qdiscs(meta.made_qdisc.begin(), meta.made_qdisc.end());
  for (const Attachment &a : list) {
    AttachedProgram program;
    program.what = a;
    program.mechanism = mode_;
    if (std::none_of(meta.programs.begin(), meta.programs.end(),
                     [&](const AttachedProgram &p) { return p.what == a; }))
      meta.programs.push_back(std::move(program));
    if (mode_ == AttachMode::clsact &&
        TRY(ingress_qdisc(nl_, a.ifindex, a.device)) == IngressQdisc::none)
      qdiscs.insert(a.ifindex);
  }
  meta.made_qdisc.assign(qdiscs.begin(), qdiscs.end());
  return write_meta(pins_, meta);
}

std::string no_return(const Attachment &what, const Error &why) {
  return "a target that answers by device " + what.device +
         " would be reset by this host: " + why.what;
}

std::vector<AttachedProgram> find_running(Rtnl &nl, const Pins &pins,
                                          const std::vector<Attachment> &wanted) {
  std::vector<AttachedProgram> running;
  for (const Attachment &a : wanted) {
    Fd prog = open_pin_to_read(pins.prog(a.program));
    const uint32_t id = prog ? program_id(prog.get()) : 0;
    auto programs = list_hook(nl, a.hook());
    if (!id || !programs)
      continue; // the device is gone
    auto p = std::find_if(programs->begin(), programs->end(),
                          [&](const AttachedProgram &one) { return one.prog_id == id; });
    if (p == programs->end())
      continue;
    running.push_back(*p);
    running.back().what = a;
  }
  return running;
}

Status end_attachment(Rtnl &nl, const Pins &pins, const Attachment &what) {
  // None where the device is gone, and what was on it as well.
  if (const auto programs = list_hook(nl, what.hook()))
    for (const AttachedProgram &p : *programs)
      if (p.ours && p.what.program == what.program)
        TRY(detach_program(nl, p));
  return end_link(pins, what);
}

} // namespace doppel
