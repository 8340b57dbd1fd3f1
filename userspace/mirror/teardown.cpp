// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/teardown.h"

#include <bpf/bpf.h>
#include <net/if.h>
#include <unistd.h>

#include <cerrno>

#include "doppel/names.h"
#include "userspace/kernel/clsact.h"
#include "userspace/kernel/link.h"

namespace doppel {
namespace {
// A pinned link may be on no hook that find_ours() sees: its device is gone, or is in another
// network namespace. Detaching makes the end immediate; the last close may come late.
void end_pinned_links(const Pins &pins, Errors &errors) {
  for (const std::string &path : pins.links()) {
    if (Fd link = open_pin(path); link && bpf_link_detach(link.get()) && errno != ENOLINK)
      errors.push_back(sys_error(path, "cannot be detached", errno));
    if (::unlink(path.c_str()) && errno != ENOENT)
      errors.push_back(sys_error(path, "cannot be removed", errno));
  }
}

// The ends of our link by what runs there and nowhere else, whatever they are called by now.
std::set<uint32_t> carriers(const std::vector<AttachedProgram> &programs) {
  std::set<uint32_t> found;
  for (const AttachedProgram &p : programs)
    if (p.what.program == DP_PROG_DELIVER)
      found.insert(p.what.ifindex);
  return found;
}

} // namespace

std::string Remains::text() const {
  std::string s;
  auto add = [&](const std::string &what) { s += (s.empty() ? "" : ", ") + what; };
  if (pins)
    add("pins in bpffs");
  if (!link.empty())
    add("the device " + link);
  for (const auto &p : programs)
    add(p.what.program + " on " + p.what.device + " " + direction_name(p.what.direction));
  return s;
}

std::string Remains::elsewhere(const std::string &top) const {
  return "a mirror runs here " +
         (pins_at.empty() ? "that was attached from another mount namespace, since its pins are "
                          : "whose pins are in " + pins_at + ", and ") +
         "not in " + top + ": " + text();
}

Result<Remains> find_remains(Rtnl &nl, const Pins *pins) {
  Remains r;
  r.pins = pins && pins->exist();
  const auto links = TRY(find_our_links(nl));
  auto programs = TRY(find_ours(nl));
  r.programs = std::move(programs);
  if (!links.empty())
    r.link = links.front().name;
  else if (!carriers(r.programs).empty())
    r.link = DP_LINK;
  if (r.pins || links.empty() || r.programs.empty())
    return r;
  // Where it is the same file system, somebody has removed them. What another version of doppel
  // has pinned here is its own mirror, whatever it notes on the device.
  r.pins_elsewhere =
      !pins || (pins->other_versions().empty() && noted_on(links.front()) != pins->file_system());
  if (r.pins_elsewhere && pins)
    r.pins_at = mount_of(noted_on(links.front()));
  return r;
}

void end_programs(Rtnl &nl, const std::vector<AttachedProgram> &programs,
                  const std::function<bool(const AttachedProgram &)> &wanted,
                  std::set<uint32_t> &made_qdisc, Errors &errors) {
  for (const auto &p : programs) {
    if (!wanted(p))
      continue;
    collect(detach_program(nl, p), errors);
    if (p.made_qdisc)
      made_qdisc.insert(p.what.ifindex);
  }
}

void remove_everything(Rtnl &nl, const Pins *pins, std::set<uint32_t> made_qdisc, Errors &errors) {
  auto programs = find_ours(nl);
  collect(programs, errors);
  if (programs)
    end_programs(
        nl, *programs, [](const AttachedProgram &) { return true; }, made_qdisc, errors);
  if (pins)
    end_pinned_links(*pins, errors);
  for (uint32_t ifindex : made_qdisc) {
    char name[IF_NAMESIZE];
    if (::if_indextoname(ifindex, name))
      collect(remove_clsact_if_empty(nl, ifindex, name), errors);
  }
  collect(remove_link_pair(nl, programs ? carriers(*programs) : std::set<uint32_t>{}), errors);
  if (pins)
    collect(pins->remove(), errors);
}

} // namespace doppel
