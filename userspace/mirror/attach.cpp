// SPDX-License-Identifier: Apache-2.0
// Order matters: copies must find their way before the first packet is captured. So the link
// pair, the programs and the pins come first, then deliver, then return, and capture last.
#include "userspace/mirror/attach.h"

#include <net/if.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "doppel/names.h"
#include "userspace/kernel/clock.h"
#include "userspace/kernel/host.h"
#include "userspace/kernel/link.h"
#include "userspace/kernel/neighbours.h"
#include "userspace/kernel/privileges.h"
#include "userspace/mirror/drain.h"
#include "userspace/mirror/meta.h"
#include "userspace/mirror/object.h"
#include "userspace/mirror/programs.h"
#include "userspace/mirror/reach.h"
#include "userspace/mirror/teardown.h"
#include "userspace/util/clock.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
class Attacher {
public:
  Attacher(const Plan &plan, const Config &config, Rtnl &nl, const Pins &pins)
      : plan_(plan), config_(config), nl_(nl), pins_(pins), attacher_(nl, pins, plan.mode) {}

  Status run();
  void roll_back(Errors &errors) { remove_everything(nl_, &pins_, attacher_.made_qdisc, errors); }
  AttachReport report() {
    return {std::move(neighbours_), std::move(attacher_.warnings), std::move(translated_)};
  }

private:
  Status check_devices();
  void start_clock();
  Status attach_all(const Object &object, uint32_t link);
  Status attach(const Object &object, const Attachment &what);

  const Plan &plan_;
  const Config &config_;
  Rtnl &nl_;
  const Pins &pins_;
  Meta meta_;
  ProgramAttacher attacher_;
  std::vector<std::string> neighbours_, translated_; // warnings
};

// The plan was made a moment ago; a device may have gone or been replaced since.
Status Attacher::check_devices() {
  for (const Attachment &a : plan_.attachments) {
    if (a.optional)
      continue;
    auto d = TRY(find_device(nl_, a.device));
    if (!d || d->ifindex != a.ifindex)
      return Error{"device " + a.device, "disappeared while attaching",
                   "ip link shows the devices that exist"};
  }
  return Unit{};
}

Status Attacher::attach(const Object &object, const Attachment &what) {
  auto attached = TRY(attacher_.attach(object.prog_fd(what.program), what));
  meta_.programs.push_back(attached);
  return Unit{};
}

Status Attacher::attach_all(const Object &object, uint32_t link) {
  std::vector<Attachment> order{{DP_PROG_DELIVER, DP_LINK, link, DP_DIR_EGRESS},
                                {DP_PROG_DELIVER, DP_LINK, link, DP_DIR_INGRESS}};
  auto is_return = [](const Attachment &a) { return a.program == DP_PROG_RETURN; };
  std::copy_if(plan_.attachments.begin(), plan_.attachments.end(), std::back_inserter(order),
               is_return);
  std::copy_if(plan_.attachments.begin(), plan_.attachments.end(), std::back_inserter(order),
               std::not_fn(is_return));
  TRY(attacher_.announce(order, meta_));
  for (const Attachment &a : order)
    if (auto s = attach(object, a); !s) {
      if (!a.optional)
        return s;
      attacher_.warnings.push_back(no_return(a, s.errors().front()));
    }
  return Unit{};
}

// Without it the mirror works, and `doppel run` sends again what is lost last.
void Attacher::start_clock() {
  const uint32_t peer = ::if_nametoindex(DP_LINK_PEER);
  if (const auto clock = ensure_clock(nl_, peer); clock)
    meta_.clock = peer;
  else
    attacher_.warnings.push_back(no_clock(clock.errors().front()));
}

Status Attacher::run() {
  TRY(check_devices());
  auto link = TRY(create_link_pair(nl_, pins_.file_system()));
  if (plan_.clock)
    start_clock();
  auto object = TRY(Object::load(plan_, link, meta_.clock));
  TRY(object.fill(plan_));
  TRY(object.pin(pins_));
  meta_.since = std::time(nullptr);
  meta_.since_ns = monotonic_ns();
  meta_.config = object.config();
  meta_.config_source = source_name(config_.source);
  meta_.mechanism = plan_.mode;
  meta_.netns = current_netns();
  meta_.mappings = plan_.names;
  meta_.limits = plan_.limits;
  TRY(write_meta(object.meta_fd(), meta_));
  neighbours_ = resolve_neighbours(nl_, config_);
  translated_ = translated_targets(config_);
  TRY(attach_all(object, link));
  meta_.made_qdisc.assign(attacher_.made_qdisc.begin(), attacher_.made_qdisc.end());
  meta_.complete = true;
  return write_meta(object.meta_fd(), meta_);
}

Status check_nothing_attached(Rtnl &nl, const Pins &pins) {
  auto remains = TRY(find_remains(nl, &pins));
  if (remains.pins)
    if (auto meta = read_meta(pins); meta && meta->complete) {
      if (auto paused = is_paused(pins); paused && *paused)
        return Error{"doppel attach",
                     "the mirror that is attached since " + iso_time(meta->since) +
                         " is paused: a detach was interrupted",
                     "doppel reload makes it go on; doppel detach ends it"};
      return Error{"doppel attach", "already attached since " + iso_time(meta->since),
                   "doppel status shows what runs; doppel detach ends it"};
    }
  if (auto others = pins.other_versions(); !others.empty())
    return Error{pins.top() + "/" + others.front(),
                 "another version of doppel is attached, or left its pins",
                 "doppel run takes over; doppel detach --force ends it"};
  if (remains.pins_elsewhere)
    return Error{"doppel attach", remains.elsewhere(pins.top()),
                 "detach it there; doppel detach tells how"};
  if (remains.any())
    return Error{"doppel attach", "an earlier data plane left remains: " + remains.text(),
                 "doppel detach removes them"};
  return Unit{};
}

} // namespace

Result<AttachReport> attach(const Plan &plan, const Config &config) {
  TRY(require_privileges("attach", true));
  auto host = TRY(Host::open_locked());
  if (auto s = check_nothing_attached(host.nl, host.pins); !s) {
    host.pins.remove_top_if_empty();
    return s.errors();
  }
  Attacher attacher(plan, config, host.nl, host.pins);
  auto done = attacher.run();
  if (!done) {
    Errors errors = done.errors();
    attacher.roll_back(errors);
    return errors;
  }
  return attacher.report();
}

} // namespace doppel
