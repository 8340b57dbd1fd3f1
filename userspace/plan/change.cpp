// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/change.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "doppel/names.h"
#include "userspace/config/settings.h"

namespace doppel {
namespace {
constexpr const char *kFixedHint =
    "this is fixed while attached: doppel detach, then start again with the new configuration";
constexpr const char *kRoomHint =
    "take the addresses that are not needed out by a reload of its own first; or doppel detach, "
    "then start again with the new configuration";

bool same_copies(const dp_mapping &x, const dp_mapping &y) {
  for (unsigned t = 0; t < DP_MAX_TARGETS; t++)
    if (std::max<__u8>(x.target[t].copies, 1) != std::max<__u8>(y.target[t].copies, 1))
      return false;
  return true;
}

// Beside the route's own, which may change.
std::set<__u8> further_pools(const dp_target &t) {
  std::set<__u8> pools;
  for (unsigned i = 1; i < t.n_pools && i < DP_MAX_SOURCES; i++)
    pools.insert(t.pool[i]);
  return pools;
}

bool same_sources(const dp_mapping &x, const dp_mapping &y) {
  for (unsigned t = 0; t < DP_MAX_TARGETS; t++)
    if (x.target[t].keep_client != y.target[t].keep_client ||
        further_pools(x.target[t]) != further_pools(y.target[t]))
      return false;
  return true;
}

// Which pools of the attached mirror serve those of a plan.
struct Pools {
  std::vector<__u8> of_plan;
  std::vector<std::pair<uint32_t, Address>> fresh;
};

// What was opened from the address has ports of the range that all share, and others of its pool
// could have the same.
const MirrorState::Mapping *comes_from(const MirrorState &state, const Address &address) {
  for (const MirrorState::Mapping &m : state.mappings)
    for (unsigned t = 0; t < m.row.n_targets && t < DP_MAX_TARGETS; t++)
      if (Address{m.row.target[t].shadow_addr} == address)
        return &m;
  return nullptr;
}

// The attached pool that has the address, or had it before a reload took it from the list: what is
// answered to the address leads there. 0: none.
uint32_t pool_of(const MirrorState &state, const Address &address) {
  for (uint32_t i = 1; address.is_set() && i < state.pools.size(); i++)
    if (state.pools[i].address == address)
      return i;
  return 0;
}

class PoolFinder {
public:
  PoolFinder(const MirrorState &state, const Plan &wanted) : state_(state), wanted_(wanted) {
    for (const MirrorState::Mapping &m : state.mappings)
      for (const dp_target &t : m.row.target)
        named_.insert(t.pool, t.pool + DP_MAX_SOURCES);
    for (const Address &a : wanted.pools)
      named_.insert(pool_with(a));
    for (const dp_mapping &m : wanted.mappings)
      for (const dp_target &t : m.target)
        named_.insert(pool_of(state, Address{t.shadow_addr}));
  }

  Result<Pools> run() {
    for (size_t i = 1; i < wanted_.pools.size(); i++)
      find(wanted_.pools[i]);
    if (!errors_.empty())
      return errors_;
    return std::move(pools_);
  }

private:
  uint32_t pool_with(const Address &address) const { return pool_of(state_, address); }

  // 0: none is left.
  uint32_t free_pool() {
    for (; next_ < state_.pools.size(); next_++)
      if (!named_.count(next_) && state_.pools[next_].taken <= 0)
        return next_++;
    return 0;
  }

  void find(const Address &address) {
    uint32_t pool = pool_with(address);
    if (!pool)
      pool = make(address);
    pools_.of_plan.push_back(static_cast<__u8>(pool));
  }

  uint32_t make(const Address &address) {
    if (const MirrorState::Mapping *m = comes_from(state_, address)) {
      errors_.push_back({"shadow_addresses",
                         "mapping " + in_quotes(m->name.name) + " has copies from " +
                             address.text() + " in the attached mirror, as the route says",
                         kFixedHint});
      return 0;
    }
    const uint32_t pool = free_pool();
    if (pool)
      pools_.fresh.emplace_back(pool, address);
    else
      errors_.push_back({"shadow_addresses",
                         "the attached mirror has shadow ports for " +
                             std::to_string(std::max<size_t>(state_.pools.size(), 1) - 1) +
                             " of them, and none are left for " + address.text(),
                         kRoomHint});
    return pool;
  }

  const MirrorState &state_;
  const Plan &wanted_;
  std::set<uint32_t> named_; // by a target, or for an address that is wanted
  uint32_t next_ = 1;
  Pools pools_{{0}, {}};
  Errors errors_;
};

Result<Pools> find_pools(const MirrorState &state, const Plan &wanted) {
  return PoolFinder(state, wanted).run();
}

// But for where its copies come from, which a plan numbers otherwise than the attached mirror.
bool same_but_sources(const NamedMapping &a, const dp_mapping &x, const NamedMapping &b,
                      const dp_mapping &y) {
  return a.name == b.name && a.direction == b.direction && a.protocol == b.protocol &&
         a.ports == b.ports && a.address == b.address && a.targets == b.targets &&
         x.application == y.application && same_copies(x, y) &&
         !((x.flags ^ y.flags) & ~DP_MAP_CONVERGE);
}

bool same_identity(const NamedMapping &a, const dp_mapping &x, const NamedMapping &b,
                   const dp_mapping &y) {
  return same_but_sources(a, x, b, y) && same_sources(x, y);
}

bool contains(const std::vector<Attachment> &list, const Attachment &a) {
  return std::find(list.begin(), list.end(), a) != list.end();
}

// There may be 65,536 of them, so that a search through all for each takes seconds.
class PortIndex {
public:
  explicit PortIndex(const std::vector<PortRow> &rows) {
    for (const PortRow &row : rows)
      rows_.emplace(bytes_of(row.key), &row);
  }
  // Null: none has that key.
  const PortRow *find(const dp_address_key &key) const {
    const auto row = rows_.find(bytes_of(key));
    return row == rows_.end() ? nullptr : row->second;
  }

private:
  static std::string_view bytes_of(const dp_address_key &key) {
    return {reinterpret_cast<const char *>(&key), sizeof(key)};
  }
  std::unordered_map<std::string_view, const PortRow *> rows_; // keys are in the rows themselves
};

bool is_dry_run(uint32_t bound) { return bound == DP_SAMPLE_NONE; }

std::string sample_change(uint32_t was, uint32_t is) {
  if (is_dry_run(is))
    return "nothing any more: a dry run";
  const std::string portion = portion_text({sample_of_bound(is), 1});
  return is_dry_run(was) ? portion + ", and the dry run is over"
                         : portion + " that begin from now on";
}

// Connections that are open are decided anew.
bool dry_run_changes(const dp_mapping &was, const dp_mapping &is) {
  for (unsigned t = 0; t < is.n_targets && t < DP_MAX_TARGETS; t++)
    if (is_dry_run(was.target[t].sample) != is_dry_run(is.target[t].sample))
      return true;
  return false;
}

// What changes for a mapping that stays.
std::string update_text(const NamedMapping &mapping, const dp_mapping &was, const dp_mapping &is) {
  const ClientListId &clients = mapping.clients;
  std::string text;
  for (unsigned t = 0; t < is.n_targets && t < DP_MAX_TARGETS; t++) {
    const dp_target &b = is.target[t];
    dp_target a = was.target[t];
    if (a.sample != b.sample)
      text += (text.empty() ? "" : "; ") + ("target " + Address{b.address}.text()) + " gets " +
              sample_change(a.sample, b.sample);
    a.sample = b.sample;
    if (std::memcmp(&a, &b, sizeof(a)) == 0)
      continue;
    text += (text.empty() ? "" : "; ") + ("target " + Address{b.address}.text());
    if (b.oif == DP_NO_DEVICE) {
      text += " has no route: nothing is sent to it";
      continue;
    }
    text += " is reached ";
    if (a.oif == DP_NO_DEVICE)
      text += "again ";
    else if (a.oif != b.oif)
      text += "through another device ";
    else if (std::memcmp(&a.nexthop, &b.nexthop, sizeof(a.nexthop)) != 0)
      text += "by another next hop ";
    text += "from " + Address{b.shadow_addr}.text() + ", MTU " + std::to_string(b.mtu);
  }
  if (was.max_bps != is.max_bps)
    text += (text.empty() ? "" : "; ") + std::string("the ceiling is ") +
            (is.max_bps ? measure_text(Measure::bits_per_second, is.max_bps) + "/s" : "lifted");
  if (was.seed != is.seed)
    text += (text.empty() ? "" : "; ") + std::string("samples take other connections");
  if (was.clients != is.clients)
    text +=
        (text.empty() ? "" : "; ") + (clients.is_set() ? "the clients are " + clients_text(clients)
                                                       : "all clients are mirrored");
  if ((was.flags ^ is.flags) & DP_MAP_CONVERGE)
    text += (text.empty() ? "" : "; ") + std::string(is.flags & DP_MAP_CONVERGE
                                                         ? "its servers are made to converge"
                                                         : "its servers converge no more");
  return "mapping " + mapping.name + ": " + text;
}

class Differ {
public:
  Differ(const MirrorState &state, const Plan &wanted, const std::set<std::string> &deferred)
      : state_(state), wanted_(wanted), deferred_(deferred) {}

  Result<Change> run() {
    pools_ = TRY(find_pools(state_, wanted_));
    change_.new_pools = pools_.fresh;
    for (const MirrorState::Mapping &m : state_.mappings) {
      used_.insert(m.name.row);
      lists_.insert(m.row.clients);
      lists_.insert(m.name.clients.number);
    }
    for (size_t i = 0; i < wanted_.mappings.size(); i++)
      if (!place(i))
        return Error{"doppel reload",
                     "no row is free for mapping \"" + wanted_.names[i].name +
                         "\": " + std::to_string(state_.limits.max_mappings) +
                         " is \"max_mappings\" of the attached mirror, old and new together",
                     "remove the old mappings first, then add the new ones; or detach, and attach "
                     "with a larger \"max_mappings\""};
    leave_the_rest();
    compare_ports();
    compare_programs();
    return std::move(change_);
  }

private:
  // Finds or takes the row of one wanted mapping.
  bool place(size_t i) {
    NamedMapping name = wanted_.names[i];
    dp_mapping row = wanted_.mappings[i];
    for (dp_target &t : row.target)
      use_attached_pools(t);
    auto same = std::find_if(state_.mappings.begin(), state_.mappings.end(), [&](const auto &m) {
      return same_identity(m.name, m.row, name, row) && m.preambles == wanted_.preambles[i];
    });
    const bool known = same != state_.mappings.end();
    choose_list(i, known ? &*same : nullptr, name, row);
    if (known) {
      name.row = same->name.row;
      name.since = same->name.since;
      name.since_ns = same->name.since_ns;
      name.converges_ns = same->name.converges_ns;
      if (dry_run_changes(same->row, row))
        change_.relisted.insert(name.row);
      if (std::memcmp(&same->row, &row, sizeof(row)) != 0) {
        change_.rows.emplace_back(name.row, row);
        change_.updated.push_back(update_text(name, same->row, row));
      }
      if (same->name.devices != name.devices)
        change_.updated.push_back("mapping " + name.name + ": it is captured on " +
                                  name.device_list());
    } else {
      const auto free = free_row();
      if (!free)
        return false;
      name.row = *free;
      change_.new_rows.emplace_back(name.row, row);
      change_.preambles[name.row] = wanted_.preambles[i];
      change_.added.push_back(name.name);
    }
    kept_.insert(name.row);
    row_of_[static_cast<uint32_t>(i)] = name.row;
    change_.names.push_back(std::move(name));
    return true;
  }

  void use_attached_pools(dp_target &t) const {
    for (unsigned p = 0; p < t.n_pools; p++)
      t.pool[p] = pools_.of_plan.at(t.pool[p]);
    if (!t.n_pools)
      return;
    std::sort(t.pool + 1, t.pool + t.n_pools); // as the plan has them
    if (!t.pool[0])
      t.pool[0] = static_cast<__u8>(pool_of(state_, Address{t.shadow_addr}));
  }

  // A list that stays as it is keeps its number; another one gets a new number, so that the packets
  // under way see the one or the other as a whole.
  void choose_list(size_t i, const MirrorState::Mapping *same, NamedMapping &name,
                   dp_mapping &row) {
    const Clients &list = wanted_.clients[i];
    const uint16_t was = same ? same->row.clients : 0;
    row.clients = 0;
    // After an interrupted change the row may name another list than is known of it.
    if (list && was && same->name.clients.number == was &&
        same->name.clients.has_same_clients(list->id())) {
      row.clients = name.clients.number = was;
      return;
    }
    if (list) {
      while (!lists_.insert(++last_list_).second)
        continue;
      row.clients = name.clients.number = last_list_;
      change_.new_lists.push_back({last_list_, list});
    }
    // What a reload that was killed had still to do is known by the name alone.
    const bool had = was || (same && same->name.clients.is_set());
    change_.lists |= list || had;
    if (same && (list || had))
      change_.relisted.insert(same->name.row);
  }

  std::optional<uint32_t> free_row() {
    for (uint32_t row = 0; row < state_.limits.max_mappings; row++)
      if (used_.insert(row).second)
        return row;
    return std::nullopt;
  }

  void leave_the_rest() {
    for (const MirrorState::Mapping &m : state_.mappings) {
      if (kept_.count(m.name.row))
        continue;
      if (!m.name.name.empty() && deferred_.count(m.name.name)) {
        change_.names.push_back(m.name);
        kept_.insert(m.name.row);
        deferred_rows_.insert(m.name.row);
        continue;
      }
      change_.old_rows.push_back(m.name.row);
      change_.lists |= m.row.clients != 0;
      if (!m.name.name.empty())
        change_.removed.push_back(m.name.name);
    }
  }

  void compare_ports() {
    const PortIndex before(state_.ports), wanted(wanted_.ports);
    for (PortRow p : wanted_.ports) {
      p.val.mapping = static_cast<__u16>(row_of_.at(p.val.mapping));
      const PortRow *now = before.find(p.key);
      if (!now || std::memcmp(&now->val, &p.val, sizeof(p.val)) != 0)
        change_.ports.push_back(p);
    }
    for (const PortRow &p : state_.ports)
      if (!wanted.find(p.key) && !deferred_rows_.count(p.val.mapping))
        change_.old_ports.push_back(p.key);
  }

  void compare_programs() {
    for (const Attachment &a : wanted_.attachments)
      if (!contains(state_.running, a))
        change_.attach.push_back(a);
    for (const Attachment &a : state_.programs)
      if (!contains(wanted_.attachments, a) && (!is_left_for_deferred(a) || was_replaced(a)))
        change_.detach.push_back(a);
  }

  // A mapping that is left as it is captures by it, or hears its targets, which may answer by any
  // device that there is.
  bool is_left_for_deferred(const Attachment &a) const {
    if (a.program == DP_PROG_RETURN)
      return is_some_way_lost() && (!a.optional || contains(state_.running, a));
    return std::any_of(change_.names.begin(), change_.names.end(), [&](const NamedMapping &m) {
      return deferred_rows_.count(m.row) != 0 && m.direction == direction_name(a.direction) &&
             std::find(m.devices.begin(), m.devices.end(), a.device) != m.devices.end();
    });
  }

  bool is_some_way_lost() const {
    return !deferred_.empty() ||
           std::any_of(wanted_.mappings.begin(), wanted_.mappings.end(), lacks_a_route);
  }

  // Its device is back under another ifindex: no mapping that is left as it is captures there.
  bool was_replaced(const Attachment &a) const {
    return !contains(state_.running, a) &&
           std::any_of(wanted_.attachments.begin(), wanted_.attachments.end(),
                       [&](const Attachment &w) {
                         return w.program == a.program && w.device == a.device &&
                                w.direction == a.direction;
                       });
  }

  const MirrorState &state_;
  const Plan &wanted_;
  const std::set<std::string> &deferred_;
  std::set<uint32_t> used_, kept_, deferred_rows_;
  std::set<uint16_t> lists_{0};
  uint16_t last_list_ = 0;
  std::map<uint32_t, uint32_t> row_of_; // index in the plan to row
  Pools pools_;
  Change change_;
};

} // namespace

bool lacks_a_route(const dp_mapping &row) {
  return std::any_of(row.target, row.target + DP_MAX_TARGETS,
                     [](const dp_target &t) { return t.oif == DP_NO_DEVICE; });
}

bool may_keep_row(const MirrorState::Mapping &attached, const NamedMapping &name,
                  const dp_mapping &row, const Preambles &preambles) {
  for (unsigned t = 0; t < DP_MAX_TARGETS; t++)
    if (attached.row.target[t].keep_client != row.target[t].keep_client ||
        attached.row.target[t].n_pools != row.target[t].n_pools)
      return false;
  return same_but_sources(attached.name, attached.row, name, row) &&
         attached.preambles == preambles;
}

bool Change::empty() const {
  return new_rows.empty() && rows.empty() && old_rows.empty() && ports.empty() &&
         old_ports.empty() && attach.empty() && detach.empty();
}

Errors fixed_differences(const MirrorState &state, const Plan &wanted) {
  Errors errors;
  const auto compare = [&](const std::string &key, const std::string &is,
                           const std::string &would_be) {
    if (is != would_be)
      errors.push_back({"setting \"" + key + "\"",
                        "is " + is + " in the attached mirror, and would be " + would_be,
                        kFixedHint});
  };
  // There may be more room than is needed.
  Limits limits = wanted.limits;
  limits.max_mappings = std::max(limits.max_mappings, state.limits.max_mappings);
  for (const Setting &s : all_settings())
    if (s.when == WhenAttached::fixed)
      compare(s.key, s.text(state.limits), s.text(limits));
  compare("attach_mode", attach_mode_name(state.mode), attach_mode_name(wanted.mode));
  if (const auto pools = find_pools(state, wanted); !pools)
    errors.insert(errors.end(), pools.errors().begin(), pools.errors().end());
  return errors;
}

bool are_fixed_differences(const Errors &errors) {
  return std::all_of(errors.begin(), errors.end(),
                     [](const Error &e) { return e.hint == kFixedHint || e.hint == kRoomHint; });
}

Result<Change> plan_change(const MirrorState &state, const Plan &wanted,
                           const std::set<std::string> &deferred) {
  return Differ(state, wanted, deferred).run();
}

std::vector<std::string> removed_names(const Change &c) {
  std::vector<std::string> names;
  for (const std::string &name : c.removed)
    if (std::find(c.added.begin(), c.added.end(), name) == c.added.end())
      names.push_back(name);
  return names;
}

std::string to_text(const Change &c) {
  const auto in = [](const std::vector<std::string> &list, const std::string &name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  std::vector<std::string> added, changed;
  for (const std::string &name : c.added)
    (in(c.removed, name) ? changed : added).push_back(name);
  std::string text =
      std::to_string(c.names.size()) + (c.names.size() == 1 ? " mapping" : " mappings");
  const auto say = [&](const std::vector<std::string> &list, const char *what) {
    for (size_t i = 0; i < list.size(); i++)
      text += (i ? ", " : std::string("; ") + what + " ") + list[i];
  };
  say(added, "added");
  say(changed, "changed");
  say(removed_names(c), "removed");
  for (const std::string &sentence : c.updated)
    text += "; " + sentence;
  if (c.added.empty() && c.removed.empty() && c.updated.empty())
    text += ", none changed";
  return text;
}

} // namespace doppel
