// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/converge.h"

#include <arpa/inet.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "userspace/memcached/meta.h"
#include "userspace/migrate/converge_pair.h"
#include "userspace/migrate/ends.h"
#include "userspace/mirror/key_notes.h"
#include "userspace/mirror/map_rows.h"
#include "userspace/util/clock.h"
#include "userspace/util/log.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kLookNs = 2'000 * kMs; // between two looks at the mappings and who listens
constexpr uint64_t kTellNs = 250 * kMs;   // between two writes of the figures
constexpr int kPollMs = 100;

// A mapping that converges.
struct Converging {
  std::string name;
  dp_converge before{}; // what others did before this process
  uint64_t noted = 0;
  uint64_t missed = 0;   // notes that no pair could take
  uint64_t alone_ns = 0; // since when nobody of this host listens; 0: somebody does
  std::string told;      // why it is down
  std::vector<std::unique_ptr<ConvergePair>> pairs;

  ConvergePair *pair_of(const Pair &wanted) const {
    for (const auto &p : pairs)
      if (p->pair().text() == wanted.text())
        return p.get();
    return nullptr;
  }
};

class Converger {
public:
  Converger(const Attached &attached, memcached::Access access)
      : pins_(attached.pins), mirror_(attached.meta.id), access_(std::move(access)) {}
  Status run();

private:
  Status look();
  Status look_at(const NamedMapping &mapping, const std::vector<Listener> &listeners);
  void take(const dp_key_note &note);
  Status take_early_ones();
  Status tell();
  dp_converge sum(Converging &c, uint64_t now) const;

  const Pins pins_;
  const uint32_t mirror_;
  const memcached::Access access_;
  MapTable rows_;
  bool over_ = false;
  std::vector<dp_key_note> early_;          // of mappings that a reload may just have added
  std::map<uint32_t, Converging> mappings_; // by row
};

Status Converger::run() {
  rows_ = TRY(open_table(pins_, "converge", sizeof(dp_converge)));
  const auto notes = TRY(KeyNotes::open(pins_, [this](const dp_key_note &n) { take(n); }));
  uint64_t look_ns = 0, tell_ns = 0;
  while (!over_) {
    const uint64_t now = monotonic_ns();
    if (now >= look_ns) {
      TRY(look());
      look_ns = now + kLookNs;
    }
    if (now >= tell_ns) {
      TRY(tell());
      tell_ns = now + kTellNs;
    }
    TRY(notes->poll(kPollMs));
    TRY(take_early_ones());
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

// The mappings as they are now: a reload changes them, and servers come and go.
Status Converger::look() {
  if (mirror_id(pins_) != mirror_) {
    over_ = true;
    return Unit{};
  }
  const auto meta = TRY(read_meta(pins_));
  const auto listeners = TRY(listeners_of(ends_of(meta.mappings)));
  const auto rows = TRY(MapRows::open(pins_));
  std::map<uint32_t, Converging> kept;
  for (const NamedMapping &m : meta.mappings) {
    if (!(TRY(rows.mapping(m.row)).flags & DP_MAP_CONVERGE))
      continue;
    if (const auto known = mappings_.find(m.row);
        known != mappings_.end() && known->second.name != m.name)
      mappings_.erase(known); // a reload has given the row to another
    TRY(look_at(m, listeners));
    kept[m.row] = std::move(mappings_[m.row]);
  }
  mappings_ = std::move(kept);
  return Unit{};
}

Status Converger::look_at(const NamedMapping &mapping, const std::vector<Listener> &listeners) {
  const auto [known, fresh] = mappings_.try_emplace(mapping.row);
  Converging &c = known->second;
  if (fresh) {
    c.name = mapping.name;
    c.before = TRY(read_converge(rows_, mapping.row));
    c.before.missed += c.before.waiting; // who waited for them has died
    c.before.waiting = 0;
  }
  const auto pairs = pairs_of(ends_of(mapping), listeners);
  if (!pairs) {
    c.alone_ns = c.alone_ns ? c.alone_ns : monotonic_ns();
    return Unit{};
  }
  c.alone_ns = 0;
  for (const Pair &pair : *pairs)
    if (!c.pair_of(pair))
      c.pairs.push_back(std::make_unique<ConvergePair>(pair, access_));
  return Unit{};
}

// Each target of the mapping may have the key otherwise.
void Converger::take(const dp_key_note &note) {
  const auto known = mappings_.find(note.mapping);
  if (known == mappings_.end()) {
    early_.push_back(note);
    return;
  }
  Converging &c = known->second;
  c.noted++;
  std::string key(reinterpret_cast<const char *>(note.key), note.length);
  if (note.traits & DP_KEY_BASE64) {
    const auto raw = memcached::from_base64(key);
    if (!raw)
      return; // the server refuses it, too
    key = *raw;
  }
  bool taken = false;
  for (const auto &pair : c.pairs)
    if (pair->pair().source.port == ntohs(note.server_port)) {
      pair->note(key, note.ns, note.traits & DP_KEY_STALE);
      taken = true;
    }
  c.missed += !taken;
}

dp_converge Converger::sum(Converging &c, uint64_t now) const {
  dp_converge row = c.before;
  row.seen_ns = now;
  row.noted += c.noted;
  row.missed += c.missed;
  uint64_t oldest = UINT64_MAX, down = c.alone_ns ? c.alone_ns : UINT64_MAX;
  std::string why = c.alone_ns ? "no program of this host listens on its ports" : "";
  for (const auto &pair : c.pairs) {
    const ConvergeFigures f = pair->figures();
    row.waiting += f.waiting;
    row.equal += f.equal;
    row.repaired += f.repaired;
    row.deleted += f.deleted;
    row.failed += f.failed;
    row.missed += f.missed;
    oldest = std::min(oldest, f.oldest_ns);
    if (f.down_ns && f.down_ns < down) {
      down = f.down_ns;
      why = f.why_down;
    }
  }
  row.oldest_ns = oldest == UINT64_MAX ? 0 : oldest;
  row.down_ns = down == UINT64_MAX ? 0 : down;
  if (why.empty() != c.told.empty())
    log_line(why.empty() ? Priority::notice : Priority::warning,
             "mapping " + c.name +
                 (why.empty() ? ": converging again" : ": nothing converges: " + why));
  c.told = why;
  return row;
}

Status Converger::tell() {
  for (auto &[row, c] : mappings_)
    TRY(write_converge(rows_, row, sum(c, monotonic_ns())));
  return Unit{};
}

} // namespace

Status converge(const memcached::Access &access) {
  return Converger(TRY(find_attached("run")), access).run();
}

} // namespace doppel::migrate
