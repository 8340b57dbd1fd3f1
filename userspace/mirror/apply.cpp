// SPDX-License-Identifier: Apache-2.0
// Order: what copies need comes first (return on new devices, rows, capture), then the ports that
// lead there. Until then everything can be undone. Then what is no longer wanted goes: ports,
// shadows, programs, rows.
#include "userspace/mirror/apply.h"

#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>

#include "doppel/names.h"
#include "userspace/kernel/clsact.h"
#include "userspace/kernel/host.h"
#include "userspace/kernel/host_view.h"
#include "userspace/kernel/link.h"
#include "userspace/kernel/neighbours.h"
#include "userspace/mirror/health.h"
#include "userspace/mirror/map_rows.h"
#include "userspace/mirror/object.h"
#include "userspace/mirror/programs.h"
#include "userspace/mirror/reach.h"
#include "userspace/mirror/renamed.h"
#include "userspace/plan/partial_plan.h"
#include "userspace/util/clock.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
// Null: it is not on the list.
const AttachedProgram *find_program(const std::vector<AttachedProgram> &list, const Attachment &a) {
  auto p = std::find_if(list.begin(), list.end(),
                        [&](const AttachedProgram &one) { return one.what == a; });
  return p == list.end() ? nullptr : &*p;
}

// Nothing comes by them: their rows make room for those of the devices that took their place.
std::vector<dp_address_key> keys_of_gone_devices(const std::vector<dp_address_key> &keys) {
  std::map<uint32_t, bool> is_there;
  std::vector<dp_address_key> gone;
  for (const dp_address_key &key : keys) {
    const uint32_t ifindex = key.port.ifindex;
    char name[IF_NAMESIZE];
    if (!is_there.count(ifindex))
      is_there[ifindex] = ::if_indextoname(ifindex, name) || (errno != ENXIO && errno != ENODEV);
    if (!is_there[ifindex])
      gone.push_back(key);
  }
  return gone;
}

class Applier {
public:
  Applier(Rtnl &nl, const Pins &pins, MapRows rows, Meta meta, const Config &config)
      : nl_(nl), pins_(pins), rows_(std::move(rows)), config_(config), before_(meta),
        attacher_(nl, pins, meta.mechanism, {meta.made_qdisc.begin(), meta.made_qdisc.end()}) {
    applied_.meta = std::move(meta);
  }

  Result<Applied> run(const PartialPlan &partial, const HostView &host,
                      const ApplyOptions &options);

private:
  Status resume();
  Status check_pools() const;
  MirrorState::Mapping with_name_of_before(MirrorState::Mapping m) const;
  std::vector<dp_mapping> wanted_rows(const MirrorState &state) const;
  Status load_programs(const MirrorState &state) const;
  Status build_up(const MirrorState &state);
  void undo(const MirrorState &state, Errors &errors);
  Status take_down(const ApplyOptions &options);
  Status make_room_for_lists();
  Status drop_old_lists();
  Status relist();
  Status empty_rows(const std::set<uint32_t> &old);
  Status take_ledgers(const std::set<uint32_t> &old);
  Status attach(const Attachment &what);
  Status finish_meta(const std::vector<Attachment> &wanted);

  Rtnl &nl_;
  const Pins &pins_;
  MapRows rows_;
  const Config &config_;
  const Meta before_;
  ProgramAttacher attacher_;
  Applied applied_;
  std::vector<Attachment> attached_;      // by this call
  std::vector<MirrorState::Mapping> old_; // that are to go
};

Status Applier::attach(const Attachment &what) {
  Fd prog = open_pin(pins_.prog(what.program));
  if (!prog)
    return Error{pins_.prog(what.program), "is missing", "doppel detach, then attach again"};
  auto placed = TRY(attacher_.attach(prog.get(), what));
  attached_.push_back(what);
  Meta &meta = applied_.meta;
  std::erase_if(meta.programs, [&](const AttachedProgram &p) { return p.what == what; });
  meta.programs.push_back(placed);
  return Unit{};
}

// Nobody else closes the mirror at this moment: we have the lock.
Status Applier::resume() {
  if (!TRY(is_paused(pins_)))
    return Unit{};
  TRY(set_paused(pins_, false));
  applied_.resumed = true;
  return Unit{};
}

// What an interrupted change left behind goes; nothing of what is in force is touched.
Status Applier::make_room_for_lists() {
  if (applied_.change.new_lists.empty())
    return Unit{};
  uint64_t wanted = 0;
  for (const Change::List &l : applied_.change.new_lists)
    wanted += ClientLists::rows_of(*l.clients);
  const auto in_use = TRY(rows_.lists_in_use());
  constexpr uint32_t all = DP_PREFIX_ROWS;
  const uint64_t free = all - TRY(rows_.lists().keep(in_use));
  if (wanted > free)
    return Error{"doppel reload",
                 "the lists of clients that are new have " + std::to_string(wanted) +
                     " prefixes, and there is room for " + std::to_string(free) +
                     " beside those in force",
                 "take the old lists away first, or change one mapping at a time"};
  return Unit{};
}

// Open flows go by the lists of now, those that an interrupted change left behind as well.
Status Applier::relist() {
  std::set<uint32_t> rows = applied_.change.relisted;
  if (before_.changing)
    for (const NamedMapping &m : applied_.meta.mappings)
      rows.insert(m.row);
  if (rows.empty())
    return Unit{};
  wait_for_programs(); // they make no flow any more by the list of before
  return rows_.forget_relisted(rows, TRY(CommandProgram::open(pins_)));
}

// A route said the address once, and connections of that time have ports of the range that all
// share: what answers them would be looked for in the address's own.
Status Applier::check_pools() const {
  if (applied_.change.new_pools.empty())
    return Unit{};
  std::set<Address> fresh;
  for (const auto &[pool, address] : applied_.change.new_pools)
    fresh.insert(address);
  const auto shadows = TRY(open_table(pins_, "shadows", sizeof(dp_shadow), Access::read));
  return each_shadow(shadows, [&](uint32_t, const dp_shadow &s) -> Status {
    if (is_over(s) || !fresh.count(Address{s.ep.shadow_addr}))
      return Unit{};
    return Error{"shadow_addresses",
                 "connections to " + Address{s.ep.address}.text() + " are open from " +
                     Address{s.ep.shadow_addr}.text() + ", which the route said before",
                 "reload again when they are over (doppel flows lists them), or doppel detach"};
  });
}

// One that an interrupted change took away is known by its row alone.
MirrorState::Mapping Applier::with_name_of_before(MirrorState::Mapping m) const {
  for (const NamedMapping &n : before_.going)
    if (m.name.name.empty() && n.row == m.name.row)
      m.name = n;
  return m;
}

// Of all mappings that there are from now on.
std::vector<dp_mapping> Applier::wanted_rows(const MirrorState &state) const {
  std::map<uint32_t, dp_mapping> rows;
  for (const MirrorState::Mapping &m : state.mappings)
    rows[m.name.row] = m.row;
  for (const auto &[row, mapping] : applied_.change.rows)
    rows[row] = mapping;
  for (const auto &[row, mapping] : applied_.change.new_rows)
    rows[row] = mapping;
  std::vector<dp_mapping> wanted;
  for (const auto &[row, mapping] : rows)
    if (mapping.n_targets)
      wanted.push_back(mapping);
  return wanted;
}

// Those that no mapping needed before, and those whose pins somebody removed.
Status Applier::load_programs(const MirrorState &state) const {
  return Object::load_further(needed_programs(wanted_rows(state)), pins_, before_.config);
}

Status Applier::build_up(const MirrorState &state) {
  const Change &change = applied_.change;
  const auto is_capture = [](const Attachment &a) {
    return a.program == DP_PROG_INGRESS || a.program == DP_PROG_EGRESS;
  };
  TRY(load_programs(state));
  if (!change.attach.empty())
    TRY(attacher_.announce(change.attach, before_));
  for (const Attachment &a : change.attach)
    if (!is_capture(a))
      if (auto s = attach(a); !s) {
        if (!a.optional)
          return s;
        attacher_.warnings.push_back(no_return(a, s.errors().front()));
      }
  std::set<uint32_t> fresh;
  for (const auto &[row, mapping] : change.new_rows)
    fresh.insert(row);
  if (!fresh.empty()) {
    auto data_plane = TRY(CommandProgram::open(pins_));
    TRY(rows_.forget_flows(fresh, data_plane));
    TRY(rows_.clear(fresh));
    std::erase_if(applied_.meta.counted, [&](uint32_t row) { return fresh.count(row) > 0; });
  }
  std::set<uint32_t> converge; // from now on, where they did not
  for (const auto &[row, mapping] : change.rows)
    if (mapping.flags & DP_MAP_CONVERGE && !(TRY(rows_.mapping(row)).flags & DP_MAP_CONVERGE))
      converge.insert(row);
  std::set<uint32_t> read_anew = fresh; // their keys, from now on
  read_anew.insert(converge.begin(), converge.end());
  TRY(rows_.forget_key_streams(read_anew));
  for (const Change::List &l : change.new_lists)
    TRY(rows_.lists().put(l.number, *l.clients));
  for (const auto &[pool, address] : change.new_pools)
    TRY(rows_.put_pool(pool, address));
  for (const auto &[row, mapping] : change.new_rows) {
    TRY(rows_.put(row, change.preambles.at(row)));
    TRY(rows_.put(row, mapping));
  }
  std::set<uint32_t> other;
  for (const auto &[row, mapping] : change.rows) {
    TRY(rows_.put(row, mapping));
    other.insert(row);
  }
  if (!other.empty()) // open shadows do not look there again
    TRY(command_shadows(pins_, DP_CMD_MTU,
                        [&](const dp_shadow &s) { return other.count(s.ep.key.mapping) > 0; }));
  for (const Attachment &a : change.attach)
    if (is_capture(a))
      TRY(attach(a));
  applied_.meta.mappings = change.names;
  for (NamedMapping &m : applied_.meta.mappings) {
    if (fresh.count(m.row)) {
      m.since = std::time(nullptr);
      m.since_ns = monotonic_ns();
    } else if (converge.count(m.row)) {
      m.converges_ns = monotonic_ns();
    }
  }
  applied_.meta.config_source = source_name(config_.source);
  applied_.meta.made_qdisc.assign(attacher_.made_qdisc.begin(), attacher_.made_qdisc.end());
  applied_.meta.changing = true;
  applied_.meta.going.clear();
  for (const MirrorState::Mapping &m : old_)
    if (!std::count(before_.counted.begin(), before_.counted.end(), m.name.row))
      applied_.meta.going.push_back(m.name);
  TRY(write_meta(pins_, applied_.meta));
  TRY(rows_.drop(keys_of_gone_devices(change.old_ports)));
  for (const PortRow &port : change.ports)
    TRY(rows_.put(port));
  TRY(relist());
  return rows_.forget_moved(state.ports, change.ports, TRY(CommandProgram::open(pins_)));
}

void Applier::undo(const MirrorState &state, Errors &errors) {
  std::vector<dp_address_key> fresh;
  for (const PortRow &port : applied_.change.ports) {
    auto was = std::find_if(state.ports.begin(), state.ports.end(), [&](const PortRow &p) {
      return std::equal(reinterpret_cast<const char *>(&p.key),
                        reinterpret_cast<const char *>(&p.key + 1),
                        reinterpret_cast<const char *>(&port.key));
    });
    if (was != state.ports.end())
      collect(rows_.put(*was), errors);
    else
      fresh.push_back(port.key);
  }
  collect(rows_.drop(fresh), errors);
  for (const MirrorState::Mapping &m : state.mappings)
    collect(rows_.put(m.name.row, m.row), errors);
  for (const auto &[row, mapping] : applied_.change.new_rows) {
    collect(rows_.put(row, dp_mapping{}), errors);
    collect(rows_.put(row, Preambles{}), errors);
  }
  for (const auto &[pool, address] : applied_.change.new_pools)
    collect(rows_.put_pool(pool, state.pools[pool].address), errors);
  if (applied_.change.lists || !applied_.change.relisted.empty()) {
    wait_for_programs();
    collect(drop_old_lists(), errors);
    collect(relist(), errors);
  }
  for (const Attachment &a : attached_)
    collect(end_attachment(nl_, pins_, a), errors);
  for (uint32_t ifindex : attacher_.made_qdisc) {
    char name[IF_NAMESIZE];
    if (!std::count(before_.made_qdisc.begin(), before_.made_qdisc.end(), ifindex) &&
        ::if_indextoname(ifindex, name))
      collect(remove_clsact_if_empty(nl_, ifindex, name), errors);
  }
  collect(write_meta(pins_, before_), errors);
}

// What the rows have counted goes into the sum of what is gone. meta says which are in it: a
// process that is killed before they are cleared leaves them to the next one.
Status Applier::take_ledgers(const std::set<uint32_t> &old) {
  Meta &meta = applied_.meta;
  const auto &counted = before_.counted;
  for (const MirrorState::Mapping &m : old_) {
    if (std::find(counted.begin(), counted.end(), m.name.row) != counted.end())
      continue;
    MappingCounters last{m.name.name, {}};
    for (uint32_t t = 0; t < m.row.n_targets && t < DP_MAX_TARGETS; t++) {
      const auto ledger = TRY(rows_.ledger(m.name.row, t));
      last.targets.push_back({t < m.name.targets.size() ? m.name.targets[t] : "", ledger});
      add(&meta.removed, ledger);
    }
    meta.removed_mappings++;
    applied_.ended.push_back(std::move(last));
  }
  meta.counted.assign(old.begin(), old.end());
  meta.going.clear();
  return write_meta(pins_, meta);
}

Status Applier::empty_rows(const std::set<uint32_t> &old) {
  auto data_plane = TRY(CommandProgram::open(pins_));
  TRY(rows_.forget_flows(old, data_plane));
  TRY(take_ledgers(old));
  TRY(rows_.clear(old));
  for (uint32_t row : old) {
    TRY(rows_.put(row, dp_mapping{}));
    TRY(rows_.put(row, Preambles{})); // no secret stays behind
  }
  applied_.meta.counted.clear();
  return Unit{};
}

Status Applier::drop_old_lists() {
  const auto in_use = TRY(rows_.lists_in_use());
  TRY(rows_.lists().keep(in_use));
  return Unit{};
}

Status Applier::take_down(const ApplyOptions &options) {
  const Change &change = applied_.change;
  Errors errors;
  collect(rows_.drop(change.old_ports), errors);
  if (!change.old_rows.empty()) {
    wait_for_programs();
    const std::set<uint32_t> old(change.old_rows.begin(), change.old_rows.end());
    auto drained = drain_shadows(pins_, options.drain_ms, options.pause, [&](const dp_shadow &s) {
      return old.count(s.ep.key.mapping) > 0;
    });
    collect(drained, errors);
    if (drained) {
      applied_.drained = *drained;
      collect(empty_rows(old), errors);
    }
  }
  for (const Attachment &a : change.detach)
    collect(end_attachment(nl_, pins_, a), errors);
  if (change.lists || before_.changing) {
    wait_for_programs(); // one may have read the number of a list, and be about to look there
    collect(drop_old_lists(), errors);
  }
  return status_of(std::move(errors));
}

// The programs as they run now; those that should and do not stay on the list, as missing.
Status Applier::finish_meta(const std::vector<Attachment> &wanted) {
  Meta &meta = applied_.meta;
  const auto running = find_running(nl_, pins_, wanted);
  std::set<uint32_t> devices;
  std::vector<AttachedProgram> programs;
  for (const Attachment &a : wanted) {
    devices.insert(a.ifindex);
    const AttachedProgram *known = find_program(running, a);
    if (!known && a.optional)
      continue;
    if (!known)
      known = find_program(meta.programs, a);
    programs.push_back(known ? *known : AttachedProgram{});
    programs.back().what = a;
  }
  meta.programs = std::move(programs);
  Errors errors;
  std::erase_if(meta.made_qdisc, [&](uint32_t ifindex) {
    if (devices.count(ifindex))
      return false;
    char name[IF_NAMESIZE];
    if (::if_indextoname(ifindex, name))
      collect(remove_clsact_if_empty(nl_, ifindex, name), errors);
    return true;
  });
  collect(write_meta(pins_, meta), errors);
  return status_of(std::move(errors));
}

// The row of a mapping that the host does not fit at present. See make_partial_plan().
dp_mapping without_routes(dp_mapping row, const HostView &host) {
  for (uint32_t t = 0; t < row.n_targets && t < DP_MAX_TARGETS; t++) {
    dp_target &target = row.target[t];
    const auto route = host.routes.find(Address{target.address}.text());
    if (route == host.routes.end())
      target.oif = DP_NO_DEVICE;
    else if (target.oif == DP_NO_DEVICE && !route->second.local)
      target.oif = route->second.oif;
  }
  return row;
}

// What the mirror has is held for mappings that keep their rows alone.
bool begins_without_a_route(const Change &change) {
  return std::any_of(change.new_rows.begin(), change.new_rows.end(),
                     [](const auto &fresh) { return lacks_a_route(fresh.second); });
}

Result<Applied> Applier::run(const PartialPlan &partial, const HostView &host,
                             const ApplyOptions &options) {
  auto state = TRY(read_mirror_state(nl_, pins_, before_, rows_));
  if (!options.tolerant)
    for (MirrorState::Mapping &m : state.mappings)
      follow_new_name(host, pins_, before_, m.name);
  if (Errors fixed = fixed_differences(state, partial.plan); !fixed.empty())
    return fixed;
  if (options.planned)
    options.planned(partial.why, partial.plan.warnings);
  auto change = TRY(plan_change(state, partial.plan, partial.deferred));
  for (const MirrorState::Mapping &m : state.mappings)
    if (const dp_mapping row = without_routes(m.row, host);
        partial.deferred.count(m.name.name) && std::memcmp(&row, &m.row, sizeof(row)) != 0) {
      change.rows.emplace_back(m.name.row, row);
      change.updated.push_back("mapping " + m.name.name +
                               (lacks_a_route(row) ? ": nothing is sent to a target without a route"
                                                   : ": its targets have a route again"));
    }
  if (begins_without_a_route(change))
    return partial.why;
  applied_.change = std::move(change);
  for (const MirrorState::Mapping &m : state.mappings)
    if (const auto &rows = applied_.change.old_rows;
        std::find(rows.begin(), rows.end(), m.name.row) != rows.end())
      old_.push_back(with_name_of_before(m));
  applied_.deferred = partial.why;
  applied_.plan_warnings = partial.plan.warnings;
  bool outdated = before_.changing || before_.config_source != source_name(config_.source) ||
                  applied_.change.lists || !applied_.change.relisted.empty();
  for (const NamedMapping &m : applied_.change.names)
    outdated |= std::none_of(before_.mappings.begin(), before_.mappings.end(), [&](const auto &b) {
      return b.row == m.row && b.devices == m.devices;
    });
  if (applied_.change.empty() && !outdated) {
    Errors errors;
    collect(resume(), errors);
    collect(load_programs(state), errors);
    if (!errors.empty())
      return errors;
    return std::move(applied_);
  }
  if (!applied_.change.new_rows.empty() || !applied_.change.attach.empty() ||
      !applied_.change.new_lists.empty())
    applied_.notes = partial.plan.notes;
  if (!applied_.change.new_rows.empty()) {
    applied_.neighbours = resolve_neighbours(nl_, config_);
    for (std::string &sentence : translated_targets(config_))
      applied_.notes.push_back(std::move(sentence));
  }
  TRY(make_room_for_lists());
  TRY(check_pools());
  if (auto s = build_up(state); !s) {
    Errors errors = s.errors();
    undo(state, errors);
    return errors;
  }
  std::vector<Attachment> wanted = partial.plan.attachments;
  const auto contains = [](const std::vector<Attachment> &list, const Attachment &a) {
    return std::find(list.begin(), list.end(), a) != list.end();
  };
  for (const Attachment &a : state.programs)
    if (!contains(wanted, a) && !contains(applied_.change.detach, a))
      wanted.push_back(a); // of mappings that are left as they are
  Errors errors;
  ApplyOptions down = options;
  if (partial.forbidden) // to drain is to send more in clear text
    down.drain_ms = 0;
  collect(resume(), errors);
  collect(take_down(down), errors);
  applied_.meta.changing = !errors.empty();
  collect(finish_meta(wanted), errors);
  if (!errors.empty()) {
    errors.insert(errors.begin(), Error{"doppel reload",
                                        "the new configuration is in force, but not all of the "
                                        "old one could be removed",
                                        "reload again"});
    return errors;
  }
  if (!applied_.change.attach.empty())
    applied_.hooks = attacher_.warnings;
  return std::move(applied_);
}

KnownMappings known_mappings(const Pins &pins, const Meta &meta) {
  KnownMappings known;
  const auto rows = MapRows::open(pins);
  if (!rows)
    return known;
  for (const NamedMapping &m : meta.mappings)
    if (const auto row = rows->mapping(m.row))
      if (const auto preambles = rows->preambles(m.row, *row))
        known.push_back({m, *row, *preambles});
  return known;
}

// Unlocked: what changes meanwhile is put right by the next look.
Result<PartialPlan> plan_for(const Config &config, HostView &view, bool tolerant) {
  KnownMappings known;
  if (const auto pins = Pins::locate(); pins && pins->exist())
    if (const auto meta = read_meta(*pins)) {
      if (tolerant)
        call_as_captured(view, *pins, *meta);
      known = known_mappings(*pins, *meta);
    }
  if (!tolerant)
    return make_whole_plan(config, view, known);
  auto partial = TRY(make_partial_plan(config, view, known));
  // Room for late ones was made at attach; what has none is told when it comes.
  partial.plan.limits.max_mappings =
      std::max<uint64_t>(config.limits.max_mappings, partial.plan.mappings.size());
  return partial;
}

} // namespace

Result<Applied> apply(const Config &config, const ApplyOptions &options) {
  auto view = TRY(view_host(config, options.tolerant ? ViewOf::devices : ViewOf::everything));
  auto partial = TRY(plan_for(config, view, options.tolerant));
  auto host = TRY(Host::open_locked(options.pause));
  if (!host.pins.exist()) {
    host.pins.remove_top_if_empty();
    return Error{"doppel reload", "nothing is attached", "doppel attach starts a mirror"};
  }
  auto meta = TRY(read_meta(host.pins));
  if (options.only && meta.id != options.only)
    return Error{"doppel run", "the mirror that it kept was detached, and another one is attached",
                 "start it again to keep that one"};
  if (!(current_netns() == meta.netns))
    return Error{"doppel reload", "the mirror was attached in another network namespace",
                 "nsenter --net=/run/netns/NAME leads into a named one"};
  auto link = TRY(find_device(host.nl, link_of(meta)));
  if (!meta.complete || !link)
    return Error{"doppel reload", "the data plane is incomplete",
                 "doppel detach, then attach again"};
  // Whatever the two are called by now.
  std::erase_if(partial.plan.attachments, [&](const Attachment &a) {
    return a.ifindex == link->ifindex || a.ifindex == link->peer;
  });
  for (dp_direction direction : {DP_DIR_INGRESS, DP_DIR_EGRESS})
    partial.plan.attachments.insert(partial.plan.attachments.begin(),
                                    {DP_PROG_DELIVER, DP_LINK, link->ifindex, direction});
  if (config.attach_mode == AttachMode::automatic) // what attach chose is as good as ever
    partial.plan.mode = meta.mechanism;
  auto rows = TRY(MapRows::open(host.pins));
  return Applier(host.nl, host.pins, std::move(rows), meta, config).run(partial, view, options);
}

std::vector<std::string> Applied::warnings() const {
  std::vector<std::string> all = plan_warnings;
  all.insert(all.end(), notes.begin(), notes.end());
  for (const auto *more : {&neighbours, &hooks})
    if (*more)
      all.insert(all.end(), (*more)->begin(), (*more)->end());
  return all;
}

std::string to_text(const Applied &applied) {
  std::string text = to_text(applied.change);
  if (applied.drained.closed || applied.drained.reset)
    text += "; shadows closed " + std::to_string(applied.drained.closed) + ", reset " +
            std::to_string(applied.drained.reset);
  if (applied.drained.owed)
    text += "; " + owed_text(applied.drained.owed) + ", and a longer --drain waits for its answers";
  for (const MappingCounters &m : applied.ended)
    if (std::any_of(m.targets.begin(), m.targets.end(),
                    [](const TargetCounters &t) { return t.sum.observed > 0; }))
      text += "; the last of " + (m.name.empty() ? "a mapping that was going already" : m.name) +
              ": " + in_one_line(m);
  if (applied.resumed)
    text += "; it goes on: an interrupted detach had paused it";
  return text;
}

} // namespace doppel
