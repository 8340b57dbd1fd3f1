// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/in_the_way.h"

#include <algorithm>

#include "userspace/kernel/hooks.h"
#include "userspace/kernel/host_net.h"
#include "userspace/mirror/health.h"

namespace doppel {
namespace {
std::string name_of(const AttachedProgram &p) {
  return (p.what.program == "?" ? "program " + std::to_string(p.prog_id) : p.what.program) +
         " on " + p.what.device + " " + direction_name(p.what.direction);
}

// What runs before the last of ours on that hook; where ours are not expected, whatever runs.
void add(Rtnl &nl, const Hook &hook, std::vector<std::string> &names) {
  const auto programs = list_hook(nl, hook);
  if (!programs)
    return;
  const auto last = std::find_if(programs->rbegin(), programs->rend(),
                                 [](const AttachedProgram &p) { return p.ours; });
  const auto end = last == programs->rend() ? programs->end() : last.base();
  for (auto p = programs->begin(); p != end; ++p)
    if (!p->ours)
      names.push_back(name_of(*p));
}

} // namespace

void tell_what_is_in_the_way(Rtnl &nl, const Meta &meta, StatusView &view) {
  if (std::none_of(view.problems.begin(), view.problems.end(),
                   [](const Problem &p) { return p.kind == ProblemKind::silent; }))
    return;
  const auto link = find_device(nl, link_of(meta));
  if (!link || !*link)
    return;
  const auto peer = find_device(nl, (*link)->peer);
  std::vector<std::string> names;
  for (const dp_direction direction : {DP_DIR_INGRESS, DP_DIR_EGRESS}) {
    add(nl, {(*link)->ifindex, (*link)->name, direction}, names);
    if (peer && *peer)
      add(nl, {(*peer)->ifindex, (*peer)->name, direction}, names);
  }
  std::string list;
  for (const std::string &name : names)
    list += (list.empty() ? "" : ", ") + name;
  if (list.empty())
    return;
  view.problems.push_back({ProblemKind::program,
                           "a target takes nothing, and others' programs see copies before they "
                           "are sent, and may keep them: " +
                               list,
                           "take them off these devices, which are the mirror's own", 0,
                           "in the way"});
  view.problems = in_order(std::move(view.problems));
}

} // namespace doppel
