// SPDX-License-Identifier: Apache-2.0
// Order matters: copies must find their way before the first packet is captured. So the link
// pair, the programs and the pins come first, then deliver, then return, and capture last.
#include <net/if.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <set>

#include "doppel/names.h"
#include "userspace/hooks.h"
#include "userspace/link.h"
#include "userspace/meta.h"
#include "userspace/object.h"
#include "userspace/rim.h"
#include "userspace/tcx.h"
#include "userspace/teardown.h"

namespace doppel {

namespace {

constexpr unsigned kNeighbourPatienceMs = 1000;

class Attacher {
public:
  Attacher(const Plan &plan, const Config &config, Rtnl &nl, const Pins &pins)
      : plan_(plan), config_(config), nl_(nl), pins_(pins) {}

  Status run();
  void roll_back(Errors *errors) { remove_everything(nl_, &pins_, made_qdisc_, errors); }
  std::vector<std::string> take_warnings() { return std::move(warnings_); }

private:
  Status check_devices();
  Status place_all(const Object &object, uint32_t link);
  Status place(const Object &object, const Attachment &what);
  void wake_neighbours();

  // Ours that is already on a hook: the next one goes behind it.
  struct Last {
    Fd link;
    uint32_t priority = 0;
  };

  const Plan &plan_;
  const Config &config_;
  Rtnl &nl_;
  const Pins &pins_;
  Meta meta_;
  std::map<std::pair<uint32_t, dp_direction>, Last> last_;
  std::set<uint32_t> made_qdisc_;
  std::vector<std::string> warnings_;
};

// The plan was made a moment ago; a device may have gone or been replaced since.
Status Attacher::check_devices() {
  for (const Attachment &a : plan_.attachments) {
    auto d = find_device(nl_, a.device);
    if (!d)
      return d.errors();
    if (!*d || (*d)->ifindex != a.ifindex)
      return Error{"device " + a.device, "disappeared while attaching",
                   "ip link shows the devices that exist"};
  }
  return Unit{};
}

Status Attacher::place(const Object &object, const Attachment &what) {
  Placement p{{what.ifindex, what.device, what.hook}, what.program, object.prog_fd(what.program)};
  if (p.prog_fd < 0)
    return Error{"program " + what.program, "is not part of the data plane", {}};
  Last &last = last_[{what.ifindex, what.hook}];
  auto placed = plan_.tcx ? place_tcx(p, last.link ? last.link.get() : -1)
                          : place_clsact(nl_, p, last.priority, made_qdisc_.count(what.ifindex) > 0,
                                         &warnings_);
  if (!placed)
    return placed.errors();
  AttachedProgram attached{what, program_id(p.prog_fd), 0, placed->priority, placed->handle};
  if (placed->made_qdisc)
    made_qdisc_.insert(what.ifindex);
  if (placed->link) {
    LinkInfo info;
    if (link_info(placed->link.get(), &info))
      attached.link_id = info.id;
    std::string path = pins_.link(what.program, what.ifindex, what.hook == DP_DIR_INGRESS);
    if (auto s = pins_.pin(placed->link.get(), path); !s)
      return s;
  }
  last.link = std::move(placed->link);
  last.priority = placed->priority;
  meta_.programs.push_back(attached);
  return Unit{};
}

Status Attacher::place_all(const Object &object, uint32_t link) {
  std::vector<Attachment> order{{DP_PROG_DELIVER, DP_LINK, link, DP_DIR_EGRESS},
                                {DP_PROG_DELIVER, DP_LINK, link, DP_DIR_INGRESS}};
  auto is_return = [](const Attachment &a) { return a.program == DP_PROG_RETURN; };
  std::copy_if(plan_.attachments.begin(), plan_.attachments.end(), std::back_inserter(order),
               is_return);
  std::copy_if(plan_.attachments.begin(), plan_.attachments.end(), std::back_inserter(order),
               std::not_fn(is_return));
  for (const Attachment &a : order)
    if (auto s = place(object, a); !s)
      return s;
  return Unit{};
}

void Attacher::wake_neighbours() {
  std::vector<NextHop> hops;
  for (const auto &m : config_.mappings) {
    for (const auto &t : m.targets) {
      auto route = route_to(nl_, t.address);
      if (!route || !*route || (*route)->local)
        continue;
      const Route &r = **route;
      NextHop hop{r.oif, {}, r.gateway.is_v4() ? r.gateway : t.address};
      if (std::any_of(hops.begin(), hops.end(), [&](const NextHop &h) {
            return h.ifindex == hop.ifindex && h.address == hop.address;
          }))
        continue;
      char name[IF_NAMESIZE];
      hop.device = ::if_indextoname(r.oif, name) ? name : "?";
      hops.push_back(hop);
    }
  }
  for (const NextHop &hop : resolve_neighbours(nl_, hops, kNeighbourPatienceMs))
    warnings_.push_back("neighbour " + hop.address.text() + " on " + hop.device +
                        " does not answer; copies that need it are tried again until it does");
}

Status Attacher::run() {
  if (auto s = check_devices(); !s)
    return s;
  auto link = create_link_pair(nl_);
  if (!link)
    return link.errors();
  auto object = Object::load(plan_, *link);
  if (!object)
    return object.errors();
  if (auto s = object->fill(plan_); !s)
    return s;
  if (auto s = object->pin(pins_); !s)
    return s;
  meta_.since = std::time(nullptr);
  meta_.config_source = config_.source;
  meta_.mechanism = plan_.tcx ? "tcx" : "clsact";
  meta_.netns = current_netns();
  meta_.mappings = plan_.names;
  if (auto s = write_meta(object->meta_fd(), meta_); !s)
    return s;
  wake_neighbours();
  if (auto s = place_all(*object, *link); !s)
    return s;
  meta_.made_qdisc.assign(made_qdisc_.begin(), made_qdisc_.end());
  meta_.complete = true;
  return write_meta(object->meta_fd(), meta_);
}

Status check_nothing_attached(Rtnl &nl, const Pins &pins) {
  auto remains = find_remains(nl, &pins);
  if (!remains)
    return remains.errors();
  if (remains->pins)
    if (auto meta = read_meta(pins); meta && meta->complete)
      return Error{"doppel attach", "already attached since " + iso_time(meta->since),
                   "doppel status shows what runs; doppel detach ends it"};
  if (auto others = pins.other_versions(); !others.empty())
    return Error{pins.top() + "/" + others.front(),
                 "another version of doppel is attached, or left its pins",
                 "detach with that version first"};
  if (remains->any())
    return Error{"doppel attach", "an earlier data plane left remains: " + remains->text(),
                 "doppel detach removes them"};
  return Unit{};
}

} // namespace

Result<std::vector<std::string>> attach(const Plan &plan, const Config &config) {
  if (auto s = require_privileges("attach"); !s)
    return s.errors();
  auto nl = Rtnl::open();
  if (!nl)
    return nl.errors();
  auto pins = Pins::locate();
  if (!pins)
    return pins.errors();
  auto lock = pins->lock();
  if (!lock)
    return lock.errors();
  if (auto s = check_nothing_attached(*nl, *pins); !s) {
    pins->remove_top_if_empty();
    return s.errors();
  }
  Attacher attacher(plan, config, *nl, *pins);
  auto done = attacher.run();
  if (!done) {
    Errors errors = done.errors();
    attacher.roll_back(&errors);
    return errors;
  }
  return attacher.take_warnings();
}

} // namespace doppel
