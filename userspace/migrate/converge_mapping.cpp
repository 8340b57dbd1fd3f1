// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/converge_mapping.h"

#include <arpa/inet.h>

#include <algorithm>
#include <utility>

#include "userspace/memcached/meta.h"
#include "userspace/migrate/ends.h"
#include "userspace/util/clock.h"
#include "userspace/util/log.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kIdleNs = 10 * kMinuteNs; // without a note: the pair ends
constexpr size_t kMostPairs = 256;           // of all mappings
constexpr size_t kMostForeign = 64;          // addresses that are remembered
constexpr int kMomentTries = 1000;

// What came of keys: of a pair, or of another mapping.
template <class Figures> void add(dp_converge &to, const Figures &f) {
  to.equal += f.equal;
  to.repaired += f.repaired;
  to.deleted += f.deleted;
  to.failed += f.failed;
  to.missed += f.missed;
}

} // namespace

Result<std::unique_ptr<ConvergeMapping>> ConvergeMapping::open(const NamedMapping &mapping,
                                                               ConvergeShared &shared) {
  std::unique_ptr<ConvergeMapping> m(new ConvergeMapping(mapping, shared));
  TRY(m->begin());
  return m;
}

// Who worked before has died, with what waited.
Status ConvergeMapping::begin() {
  before_ = TRY(read_converge(shared_.rows, mapping_.row));
  before_.missed += before_.waiting;
  before_.waiting = 0;
  if (before_.seen_ns && mapping_.converges_ns > before_.seen_ns) // it was turned off in between
    before_.missed++;
  late_ = LateCopies(before_.seen_ns);
  row_ = before_;
  return Unit{};
}

// Notes that capture has told of this mapping.
Result<uint64_t> ConvergeMapping::counted() const {
  return TRY(read_cell(shared_.ledger, dp_ledger_cell(mapping_.row, 0))).event[DP_EVENT_key_noted];
}

ConvergeMapping::~ConvergeMapping() { leave(); }

// Capture goes on: the sum holds for a moment in which it has told none.
Status ConvergeMapping::account_for_start(KeyNotes &notes) {
  if (accounted_)
    return Unit{};
  uint64_t now = TRY(counted());
  for (int tries = 0; tries < kMomentTries; tries++) {
    const uint64_t before = now;
    TRY(notes.take_all());
    now = TRY(counted());
    if (now == before)
      break;
  }
  const uint64_t known = before_.noted + taken_;
  const uint64_t lost = now > known ? now - known : 0;
  before_.missed += lost;
  row_.noted += lost; // so that who takes up the work does not count them again
  accounted_ = true;
  return Unit{};
}

void ConvergeMapping::take(const dp_key_note &note) {
  if (note.mapping == mapping_.row) { // else of a mapping that this one has taken over
    taken_++;
    row_.noted++;
  }
  told_notes_ = false;
  std::string key(reinterpret_cast<const char *>(note.key), note.length);
  std::optional<std::string> raw = key;
  if (note.traits & DP_KEY_BASE64)
    raw = memcached::key_of_base64(key);
  if (!raw || !this->note(note, *raw)) {
    before_.missed++;
    row_.missed++;
  } else {
    row_.waiting++; // or waits already: tell() knows
  }
}

// Each target of the mapping may have the key otherwise.
bool ConvergeMapping::note(const dp_key_note &note, const std::string &key) {
  const auto *all = working_of(note);
  if (!all)
    return false;
  const uint64_t now = monotonic_ns();
  for (Working *w : *all) {
    w->noted_ns = now;
    w->pair->note(key, note.ns, note.traits & DP_KEY_STALE);
  }
  return true;
}

// Nothing: not all of them can be asked.
const std::vector<ConvergeMapping::Working *> *
ConvergeMapping::working_of(const dp_key_note &note) {
  const auto &w = note.server.w;
  const Endpoint endpoint{w[0], w[1], w[2], w[3], note.server_port};
  if (const auto known = by_source_.find(endpoint); known != by_source_.end())
    return &known->second;
  memcached::Server source;
  source.host = Address{note.server}.text();
  source.port = ntohs(note.server_port);
  const auto pairs = pairs_from(ends_of(mapping_), source);
  const bool known = std::all_of(pairs.begin(), pairs.end(),
                                 [this](const Pair &pair) { return find(pair) != nullptr; });
  if (pairs.empty() || !(known || is_asked(source)))
    return nullptr;
  std::vector<Working *> all;
  all.reserve(pairs.size());
  for (const Pair &pair : pairs)
    all.push_back(begin_pair(pair));
  return &by_source_.emplace(endpoint, std::move(all)).first->second;
}

ConvergeMapping::Working *ConvergeMapping::find(const Pair &pair) const {
  for (const auto &w : working_)
    if (w->pair->pair().text() == pair.text())
      return w.get();
  return nullptr;
}

ConvergeMapping::Working *ConvergeMapping::begin_pair(const Pair &pair) {
  if (Working *known = find(pair))
    return known;
  working_.push_back(std::make_unique<Working>(
      Working{std::make_unique<ConvergePair>(pair, shared_.access, *shared_.stale), 0}));
  shared_.pairs++;
  return working_.back().get();
}

// A forged packet names any address.
bool ConvergeMapping::is_asked(const memcached::Server &source) {
  if (no_source_.count(source.text()) || no_source_.size() >= kMostForeign)
    return false;
  if (is_here(source) && shared_.pairs < kMostPairs)
    return true;
  const uint64_t now = monotonic_ns();
  if (!told_foreign_ns_ || now - told_foreign_ns_ > kMinuteNs) {
    told_foreign_ns_ = now;
    log_line(Priority::warning,
             "mapping " + mapping_.name + ": keys of " + source.text() + " are not compared: " +
                 (shared_.pairs < kMostPairs ? "it is not this host's"
                                             : "there are too many pairs of servers"));
  }
  no_source_.insert(source.text());
  return false;
}

bool ConvergeMapping::has(const Pair &pair) const {
  const auto pairs = pairs_from(ends_of(mapping_), pair.source);
  return std::any_of(pairs.begin(), pairs.end(),
                     [&](const Pair &p) { return p.text() == pair.text(); });
}

void ConvergeMapping::change(const NamedMapping &mapping) {
  // Off and on since the last look, or away and back: a row that is changed is another one.
  before_.missed +=
      mapping.converges_ns != mapping_.converges_ns || mapping.since_ns != mapping_.since_ns;
  mapping_ = mapping;
  by_source_.clear();
  for (const auto &w : working_)
    if (has(w->pair->pair()))
      w->pair->renew();
}

bool ConvergeMapping::continues(const NamedMapping &gone) const {
  const MappingEnds here = ends_of(mapping_), there = ends_of(gone);
  if (here.ports.first > there.ports.last || here.ports.last < there.ports.first ||
      (here.address.is_set() && !there.has(here.address)) ||
      (there.address.is_set() && !here.has(there.address)))
    return false;
  return std::any_of(here.targets.begin(), here.targets.end(), [&](const auto &a) {
    return std::any_of(there.targets.begin(), there.targets.end(), [&](const auto &b) {
      return a.address == b.address && a.port - here.ports.first == b.port - there.ports.first;
    });
  });
}

void ConvergeMapping::take_over(ConvergeMapping &other, bool gone) {
  std::erase_if(other.working_, [&](auto &w) {
    const Pair &pair = w->pair->pair();
    if (!has(pair) || (!gone && other.has(pair)))
      return false;
    w->pair->renew();
    working_.push_back(std::move(w));
    return true;
  });
  other.by_source_.clear();
  by_source_.clear();
}

void ConvergeMapping::leave() {
  for (auto &w : working_)
    end(*w, false);
  working_.clear();
  by_source_.clear();
}

// What a former target has is nobody's matter.
void ConvergeMapping::leave_former() {
  std::erase_if(working_, [&](auto &w) {
    const bool former = !has(w->pair->pair());
    if (former)
      end(*w, false);
    return former;
  });
}

// Its notes are those of another row of the mirror's.
void ConvergeMapping::add_figures(const ConvergeMapping &gone) { add(before_, gone.before_); }

// Its figures stay.
void ConvergeMapping::end(Working &working, bool missed) {
  working.pair->end();
  const ConvergeFigures f = working.pair->figures();
  add(before_, f);
  before_.missed += missed ? f.waiting : 0;
  shared_.pairs--;
  shared_.leaving.push_back(std::move(working.pair));
}

// One that can be asked stays: it sees when the target answers late, or is started anew.
void ConvergeMapping::retire(uint64_t now) {
  no_source_.clear();
  std::erase_if(working_, [&](auto &w) {
    const ConvergeFigures f = w->pair->figures();
    const bool over =
        f.down_ns && now > f.down_ns && now - f.down_ns > kIdleNs && now - w->noted_ns > kIdleNs;
    if (over) {
      end(*w, true);
      by_source_.clear();
    }
    return over;
  });
}

void ConvergeMapping::look_for_late(const std::vector<dp_shadow> &shadows, uint64_t now) {
  before_.missed += late_.look(shadows, mapping_.row, now);
}

Status ConvergeMapping::tell() {
  const uint64_t noted = row_.noted;
  row_ = before_;
  row_.noted = noted;
  row_.seen_ns = monotonic_ns();
  uint64_t oldest = UINT64_MAX, down = UINT64_MAX;
  std::string why;
  for (const auto &w : working_) {
    const ConvergeFigures f = w->pair->figures();
    row_.waiting += f.waiting;
    add(row_, f);
    oldest = std::min(oldest, f.oldest_ns);
    if (f.down_ns && f.down_ns < down) {
      down = f.down_ns;
      why = f.why_down;
    }
  }
  row_.oldest_ns = oldest == UINT64_MAX ? 0 : oldest;
  row_.down_ns = down == UINT64_MAX ? 0 : down;
  if (why.empty() != down_.empty())
    log_line(why.empty() ? Priority::notice : Priority::warning,
             "mapping " + mapping_.name +
                 (why.empty() ? ": converging again" : ": nothing converges: " + why));
  down_ = why;
  told_notes_ = true;
  return write_converge(shared_.rows, mapping_.row, row_);
}

Status ConvergeMapping::tell_notes() {
  if (std::exchange(told_notes_, true))
    return Unit{};
  return write_converge(shared_.rows, mapping_.row, row_);
}

} // namespace doppel::migrate
