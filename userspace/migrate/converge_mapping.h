// SPDX-License-Identifier: Apache-2.0
// A mapping that converges: the pairs that its keys are compared on, and what is told of them.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "userspace/memcached/access.h"
#include "userspace/migrate/converge_pair.h"
#include "userspace/migrate/late_copies.h"
#include "userspace/migrate/stale_keys.h"
#include "userspace/mirror/key_notes.h"
#include "userspace/mirror/maps.h"

namespace doppel::migrate {

// What all mappings share.
struct ConvergeShared {
  Pins pins;
  memcached::Access access;
  std::unique_ptr<StaleKeys> stale;
  MapTable rows, ledger; // `converge`, `ledger`
  size_t pairs = 0;      // of all mappings: each has a thread and two connections
  std::vector<std::unique_ptr<ConvergePair>> leaving = {}; // whose threads are to end
};

class ConvergeMapping {
public:
  // `shared` outlives it. Errors: the mirror's maps cannot be read.
  static Result<std::unique_ptr<ConvergeMapping>> open(const NamedMapping &mapping,
                                                       ConvergeShared &shared);
  ~ConvergeMapping();
  ConvergeMapping(const ConvergeMapping &) = delete;
  ConvergeMapping &operator=(const ConvergeMapping &) = delete;

  const NamedMapping &mapping() const { return mapping_; }

  // The source is asked at the address that the clients used: another program may listen on the
  // same port of another address.
  void take(const dp_key_note &note);
  // Once: which notes of before open() are lost. What capture has told is in the ring, or was taken
  // by who worked before.
  Status account_for_start(KeyNotes &notes);
  // The mirror's mappings have changed, and this one is that now.
  void change(const NamedMapping &mapping);
  // Once all have changed: what waits in another one for a pair that this one leads to, and that
  // one does not, or is gone, goes on here.
  void take_over(ConvergeMapping &other, bool gone);
  // After that: what is left for pairs that it does not lead to any more.
  void leave_former();
  bool continues(const NamedMapping &gone) const;
  // It is again what another one was before, and nobody noted what came meanwhile. Of a row that
  // was looked after before, begin() has counted that.
  void came_back() { before_.missed += !before_.seen_ns; }
  // What was counted of a mapping that is gone, and goes on as this one.
  void add_figures(const ConvergeMapping &gone);
  // Pairs that nobody needs any more end.
  void retire(uint64_t now);
  // As often as every LateCopies::kPeriodNs.
  void look_for_late(const std::vector<dp_shadow> &shadows, uint64_t now);

  // Writes the figures; tell_notes() those of the notes taken since only, and only if there are
  // any.
  Status tell();
  Status tell_notes();

private:
  struct Working {
    std::unique_ptr<ConvergePair> pair;
    uint64_t noted_ns; // the last time
  };
  using Endpoint = std::array<uint32_t, 5>; // address and port

  ConvergeMapping(NamedMapping mapping, ConvergeShared &shared)
      : mapping_(std::move(mapping)), shared_(shared) {}
  Status begin();
  Result<uint64_t> counted() const;
  bool note(const dp_key_note &note, const std::string &key);
  const std::vector<Working *> *working_of(const dp_key_note &note);
  Working *find(const Pair &pair) const;
  Working *begin_pair(const Pair &pair);
  bool is_asked(const memcached::Server &source);
  void end(Working &working, bool missed);
  void leave();
  bool has(const Pair &pair) const;

  NamedMapping mapping_;
  ConvergeShared &shared_;
  dp_converge before_{}; // what others did before, and pairs that ended
  dp_converge row_{};    // as told last
  uint64_t taken_ = 0;   // notes
  bool accounted_ = false;
  bool told_notes_ = true;          // all that were taken
  std::string down_;                // why it is
  std::set<std::string> no_source_; // addresses that are not this host's
  uint64_t told_foreign_ns_ = 0;    // when the log told of one; 0: never
  std::vector<std::unique_ptr<Working>> working_;
  std::map<Endpoint, std::vector<Working *>> by_source_; // for all targets, or nothing
  LateCopies late_;
};

} // namespace doppel::migrate
