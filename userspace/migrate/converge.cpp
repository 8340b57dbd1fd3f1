// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/converge.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "userspace/migrate/converge_mapping.h"
#include "userspace/mirror/key_notes.h"
#include "userspace/mirror/map_rows.h"
#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kMappingsNs = 2'000 * kMsNs; // between two looks at the mappings
constexpr uint64_t kTellNs = 250 * kMsNs;       // between two writes of the figures
constexpr int kPollMs = 100;

class Converger {
public:
  Converger(const Attached &attached, ConvergeShared shared)
      : mirror_(attached.meta.id), shared_(std::move(shared)) {}
  Status run();

private:
  Status look();
  Status change(const std::vector<NamedMapping> &now);
  void hand_over(const std::vector<std::unique_ptr<ConvergeMapping>> &gone);
  void note_returns(const std::vector<std::unique_ptr<ConvergeMapping>> &gone,
                    const std::set<uint32_t> &fresh);
  void take(const dp_key_note &note);
  ConvergeMapping *mapping_at(uint32_t row);
  Status take_early_ones();
  Status look_for_late();

  const uint32_t mirror_;
  ConvergeShared shared_;
  MapTable shadows_;
  std::vector<dp_shadow> seen_; // memory that serves again
  bool over_ = false;
  std::vector<dp_key_note> early_;             // of mappings that a reload may just have added
  std::vector<NamedMapping> all_, converging_; // as looked at last
  std::map<uint32_t, std::unique_ptr<ConvergeMapping>> mappings_; // by row
  std::map<uint32_t, uint32_t> moved_; // rows that were, with those of the mappings that go on
  std::vector<NamedMapping> left_;     // that nobody went on with, each once
};

// What is done once in a period.
class Every {
public:
  explicit Every(uint64_t period_ns) : period_ns_(period_ns) {}
  bool is_due(uint64_t now) {
    if (now < next_ns_)
      return false;
    next_ns_ = now + period_ns_;
    return true;
  }

private:
  const uint64_t period_ns_;
  uint64_t next_ns_ = 0;
};

Status Converger::run() {
  shadows_ = TRY(open_table(shared_.pins, "shadows", sizeof(dp_shadow)));
  const auto notes = TRY(KeyNotes::open(shared_.pins, [this](const dp_key_note &n) { take(n); }));
  Every looks(kMappingsNs), tells(kTellNs), late_looks(LateCopies::kPeriodNs);
  while (!over_) {
    if (looks.is_due(monotonic_ns()))
      TRY(look());
    if (late_looks.is_due(monotonic_ns()))
      TRY(look_for_late());
    const bool all = tells.is_due(monotonic_ns());
    for (auto &[row, m] : mappings_)
      TRY(all ? m->tell() : m->tell_notes());
    TRY(notes->poll(kPollMs));
    TRY(take_early_ones());
    for (auto &[row, m] : mappings_)
      TRY(m->account_for_start(*notes));
    std::erase_if(shared_.leaving, [](const auto &pair) { return pair->has_ended(); });
  }
  return Unit{};
}

Status Converger::take_early_ones() {
  if (early_.empty())
    return Unit{};
  TRY(look());
  for (const dp_key_note &note : std::exchange(early_, {}))
    take(note);
  early_.clear(); // of a mapping that is gone, or converges no more
  return Unit{};
}

// The mappings as they are now: a reload changes them.
Status Converger::look() {
  if (mirror_id(shared_.pins) != mirror_) {
    over_ = true;
    return Unit{};
  }
  const auto meta = TRY(read_meta(shared_.pins));
  const auto rows = TRY(MapRows::open(shared_.pins));
  std::vector<NamedMapping> now;
  for (const NamedMapping &m : meta.mappings)
    if (TRY(rows.mapping(m.row)).flags & DP_MAP_CONVERGE)
      now.push_back(m);
  if (now != converging_ || meta.mappings != all_)
    TRY(change(now));
  converging_ = std::move(now);
  all_ = meta.mappings;
  for (auto &[row, m] : mappings_)
    m->retire(monotonic_ns());
  return Unit{};
}

// The same but for their rows: what the one was, the other is again.
bool is_again(const NamedMapping &a, const NamedMapping &b) {
  return a.name == b.name && a.devices == b.devices && a.direction == b.direction &&
         a.protocol == b.protocol && a.ports == b.ports && a.address == b.address &&
         a.targets == b.targets;
}

// A barrier of any pair may have to look at other mappings now.
Status Converger::change(const std::vector<NamedMapping> &now) {
  std::map<uint32_t, std::unique_ptr<ConvergeMapping>> kept;
  std::set<uint32_t> fresh;
  for (const NamedMapping &m : now) {
    auto &at = kept[m.row];
    const auto known = mappings_.find(m.row);
    if (known != mappings_.end() && known->second->mapping().name == m.name) {
      at = std::move(known->second);
      at->change(m);
    } else {
      at = TRY(ConvergeMapping::open(m, shared_));
      fresh.insert(m.row);
    }
    moved_.erase(m.row);
  }
  std::vector<std::unique_ptr<ConvergeMapping>> gone;
  for (auto &[row, m] : mappings_)
    if (m)
      gone.push_back(std::move(m));
  mappings_ = std::move(kept);
  note_returns(gone, fresh);
  hand_over(gone);
  return Unit{};
}

// A mapping that was away, or another one, for a while: what its clients did then nobody noted.
void Converger::note_returns(const std::vector<std::unique_ptr<ConvergeMapping>> &gone,
                             const std::set<uint32_t> &fresh) {
  for (const uint32_t row : fresh) {
    ConvergeMapping &back = *mappings_.at(row);
    const auto again = [&](const NamedMapping &m) { return is_again(m, back.mapping()); };
    const bool was =
        std::any_of(gone.begin(), gone.end(), [&](const auto &m) { return again(m->mapping()); });
    if (std::erase_if(left_, again) || was)
      back.came_back();
  }
}

// What waits of a mapping that was renamed, say, or split.
void Converger::hand_over(const std::vector<std::unique_ptr<ConvergeMapping>> &gone) {
  for (auto &[row, m] : mappings_) {
    for (const auto &other : gone)
      m->take_over(*other, true);
    for (auto &[other_row, other] : mappings_)
      if (other != m)
        m->take_over(*other, false);
  }
  for (auto &[row, m] : mappings_)
    m->leave_former();
  for (const auto &m : gone) {
    const auto next = std::find_if(mappings_.begin(), mappings_.end(), [&](const auto &entry) {
      return entry.second->continues(m->mapping());
    });
    if (next == mappings_.end()) {
      if (std::none_of(left_.begin(), left_.end(),
                       [&](const NamedMapping &n) { return is_again(n, m->mapping()); }))
        left_.push_back(m->mapping());
      continue;
    }
    next->second->add_figures(*m);
    if (!mappings_.count(m->mapping().row))
      moved_[m->mapping().row] = next->first;
  }
}

ConvergeMapping *Converger::mapping_at(uint32_t row) {
  if (const auto moved = moved_.find(row); moved != moved_.end())
    row = moved->second;
  const auto known = mappings_.find(row);
  return known == mappings_.end() ? nullptr : known->second.get();
}

void Converger::take(const dp_key_note &note) {
  if (ConvergeMapping *m = mapping_at(note.mapping))
    m->take(note);
  else
    early_.push_back(note);
}

Status Converger::look_for_late() {
  if (mappings_.empty())
    return Unit{};
  TRY(read_shadows(shadows_, seen_));
  for (auto &[row, m] : mappings_)
    m->look_for_late(seen_, monotonic_ns());
  return Unit{};
}

} // namespace

Status converge(const memcached::Access &access) {
  const Attached attached = TRY(find_attached("run"));
  ConvergeShared shared{attached.pins, access, TRY(StaleKeys::open(attached.pins)),
                        TRY(open_table(attached.pins, "converge", sizeof(dp_converge))),
                        TRY(open_table(attached.pins, "ledger", sizeof(dp_ledger)))};
  return Converger(attached, std::move(shared)).run();
}

} // namespace doppel::migrate
