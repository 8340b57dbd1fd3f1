// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/barrier.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <numeric>
#include <optional>
#include <sstream>
#include <vector>

#include "userspace/migrate/ends.h"
#include "userspace/mirror/key_notes.h"
#include "userspace/mirror/maps.h"
#include "userspace/util/clock.h"
#include "userspace/util/portion.h"
#include "userspace/util/text.h"
#include "userspace/view/snapshot.h"

namespace doppel::migrate {
namespace {
// What the target has acknowledged its program has read some time later. Where it answers, that
// shows; to noreply it does not.
constexpr uint64_t kGraceNs = 20 * kMsNs;
constexpr uint64_t kLookNs = 1 * kMsNs; // between two looks at the shadows

// A mapping's way from one port to one target.
struct Way {
  uint32_t row, target;
  uint64_t since_ns; // of the mapping's ledger
  uint16_t port;     // of the source, host order
  std::string text;  // of the target, as the mapping has it

  std::string word() const {
    return std::to_string(row) + "/" + std::to_string(target) + "/" + std::to_string(since_ns) +
           "/" + std::to_string(port) + "/" + text;
  }
};

// The number of a mirror alone comes again after the next start of the host.
std::string mirror_word(const Meta &meta) {
  return std::to_string(meta.id) + "/" + std::to_string(meta.since_ns);
}

bool leads(const NamedMapping &m, const Way &way) {
  const auto ports = parse_ports(m.ports);
  return m.row == way.row && m.since_ns == way.since_ns && ports && way.port >= ports->first &&
         way.port <= ports->last && way.target < m.targets.size() &&
         m.targets[way.target] == way.text;
}

// A shadow that had not delivered everything, or had not been answered.
struct Outstanding {
  uint32_t slot, gen, end, rcv_nxt;
  bool answered;
  dp_flow_key key; // of its connection
};

bool is_same_key(const dp_flow_key &a, const dp_flow_key &b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

struct Mark {
  uint64_t number;
  std::vector<Outstanding> left;
  uint64_t delivered_ns = 0; // since when only answers are missing
};

class MirrorBarrier : public Barrier {
public:
  MirrorBarrier(std::vector<Way> ways, const Meta &meta, MapTable shadows, MapTable ledger,
                MapTable converge)
      : ways_(std::move(ways)), mirror_(meta.id), word_(mirror_word(meta)),
        shadows_(std::move(shadows)), ledger_(std::move(ledger)), converge_(std::move(converge)) {}

  Result<uint64_t> begin() override {
    Mark mark{++marks_, TRY(outstanding()), 0};
    waiting_.push_back(std::move(mark));
    return marks_;
  }

  Result<bool> is_passed(uint64_t number) override {
    while (!waiting_.empty() && waiting_.front().number <= number) {
      const uint64_t now = monotonic_ns();
      if (now < next_look_ns_)
        return false;
      if (!TRY(is_done(waiting_.front()))) {
        next_look_ns_ = now + kLookNs;
        return false;
      }
      waiting_.pop_front();
    }
    return true;
  }

  Status check() override {
    const auto attached = find_attached("warm");
    if (!attached || attached->meta.id != mirror_)
      return gone("ended, or was attached anew,");
    for (const Way &way : ways_)
      if (std::none_of(attached->meta.mappings.begin(), attached->meta.mappings.end(),
                       [&](const NamedMapping &m) { return leads(m, way); }))
        return gone("lost the mapping to " + way.text);
    converges_ = true;
    for (const Way &way : ways_)
      converges_ =
          converges_ && is_looked_after(TRY(read_converge(converge_, way.row)), monotonic_ns());
    return Unit{};
  }

  bool converges() const override { return converges_; }

  Result<uint64_t> missed_bytes() override {
    TRY(check()); // another mapping's ledger says nothing
    return TRY(missed()) - missed_before_;
  }

  BarrierStart start() const override {
    std::string mirror = word_;
    for (const Way &way : ways_)
      mirror += " " + way.word();
    return {mirror, missed_before_};
  }

  // A way that is there in addition came later: its ledger has all that it missed.
  std::string go_on_from(const BarrierStart &before) override {
    std::istringstream words(before.mirror);
    std::string word;
    if (!(words >> word))
      return "it began where no mirror of this pair was seen, and now there is one";
    if (word != word_)
      return "the mirror that it began with ended, or was attached anew";
    while (words >> word)
      if (std::none_of(ways_.begin(), ways_.end(),
                       [&](const Way &way) { return way.word() == word; }))
        return "the mirror has lost the mapping to " + word.substr(word.rfind('/') + 1);
    missed_before_ = before.missed;
    return "";
  }

  Status begin_counting() {
    missed_before_ = TRY(missed());
    return Unit{};
  }

private:
  static Error gone(const std::string &what) {
    return {"the mirror",
            what + " meanwhile: what clients have written since then is not on the target",
            "mirror again, then doppel warm --repair --delete-extra", Exit::failure};
  }

  bool is_ours(const dp_shadow &s) const {
    return std::any_of(ways_.begin(), ways_.end(), [&](const Way &way) {
      return s.ep.key.mapping == way.row && s.ep.key.target == way.target &&
             ntohs(s.ep.key.server_port) == way.port;
    });
  }

  Result<std::vector<Outstanding>> outstanding() {
    std::vector<Outstanding> left;
    TRY(read_shadows(shadows_, all_));
    for (uint32_t slot = 0; slot < all_.size(); slot++)
      if (const dp_shadow &s = all_[slot]; !is_over(s) && is_ours(s))
        if (is_behind(s.tcp.una, s.tcp.end) || (s.tcp.flags & DP_SH_OWED))
          left.push_back(
              {slot, s.gen, s.tcp.end, s.tcp.rcv_nxt, !(s.tcp.flags & DP_SH_OWED), s.ep.key});
    return left;
  }

  // What those that are gone may have handed to the next shadow of their connection.
  Status follow(Mark &mark, const std::vector<dp_flow_key> &gone) {
    for (const Outstanding &o : TRY(outstanding()))
      if (std::any_of(gone.begin(), gone.end(),
                      [&](const dp_flow_key &key) { return is_same_key(key, o.key); }))
        mark.left.push_back(o);
    return Unit{};
  }

  // One that ended well has done all. One that broke, or whose slot is another's by now, may have
  // handed its bytes on; others' are none of the mark's business, or it would never pass where
  // connections come and go.
  Result<bool> is_done(Mark &mark) {
    bool undelivered = false;
    std::vector<dp_flow_key> gone;
    std::erase_if(mark.left, [&](Outstanding &o) {
      const auto s = read_shadow(shadows_, o.slot);
      if (!s || s->gen != o.gen || is_over(*s)) {
        const bool well = s && s->gen == o.gen && !(s->tcp.flags & DP_SH_BROKEN);
        if (!well || is_behind(s->tcp.una, o.end))
          gone.push_back(o.key);
        return true;
      }
      if (is_behind(s->tcp.una, o.end)) {
        undelivered = true;
        return false;
      }
      o.answered = o.answered || !(s->tcp.flags & DP_SH_OWED) || s->tcp.rcv_nxt != o.rcv_nxt;
      return false;
    });
    if (!gone.empty()) {
      TRY(follow(mark, gone));
      mark.delivered_ns = 0;
      return mark.left.empty();
    }
    if (undelivered || mark.left.empty())
      return mark.left.empty();
    const uint64_t now = monotonic_ns();
    if (mark.delivered_ns == 0)
      mark.delivered_ns = now;
    const bool answered = std::all_of(mark.left.begin(), mark.left.end(),
                                      [](const Outstanding &o) { return o.answered; });
    return now - mark.delivered_ns >= (answered ? kGraceNs / 4 : kGraceNs);
  }

  Result<uint64_t> missed() {
    uint64_t bytes = 0;
    for (const Way &way : ways_) {
      const auto cell = TRY(read_cell(ledger_, dp_ledger_cell(way.row, way.target)));
      bytes = std::accumulate(std::begin(cell.lost), std::end(cell.lost), bytes);
      bytes = std::accumulate(std::begin(cell.excluded), std::end(cell.excluded), bytes);
    }
    return bytes;
  }

  const std::vector<Way> ways_;
  const uint32_t mirror_;  // Meta::id
  const std::string word_; // see mirror_word()
  MapTable shadows_, ledger_, converge_;
  bool converges_ = false;
  std::vector<dp_shadow> all_; // memory that serves again
  std::deque<Mark> waiting_;   // the oldest first
  uint64_t marks_ = 0, missed_before_ = 0, next_look_ns_ = 0;
};

// A range of ports goes to as many ports of the target.
std::optional<Way> way_of(const NamedMapping &m, const memcached::Server &source,
                          const std::vector<Address> &targets, uint16_t port) {
  const auto ports = parse_ports(m.ports);
  if (!ports || source.port < ports->first || source.port > ports->last || m.protocol != "tcp")
    return {};
  const int first = port - (source.port - ports->first);
  if (first <= 0)
    return {};
  for (const Address &address : targets) {
    const std::string text = endpoint_text(address, static_cast<unsigned>(first));
    for (uint32_t t = 0; t < m.targets.size(); t++)
      if (m.targets[t] == text)
        return Way{m.row, t, m.since_ns, source.port, text};
  }
  return {};
}

FoundBarrier none(const std::string &note) { return {std::make_unique<NoBarrier>(), "", note}; }

Result<std::unique_ptr<MirrorBarrier>> open_barrier(const Attached &attached,
                                                    std::vector<Way> ways) {
  auto barrier = std::make_unique<MirrorBarrier>(
      std::move(ways), attached.meta, TRY(open_table(attached.pins, "shadows", sizeof(dp_shadow))),
      TRY(open_table(attached.pins, "ledger", sizeof(dp_ledger))),
      TRY(open_table(attached.pins, "converge", sizeof(dp_converge))));
  TRY(barrier->begin_counting());
  return barrier;
}

// Flows that no shadow carries at present.
Result<int64_t> waiting_flows(const Pins &pins, const std::vector<Way> &ways) {
  const auto ledger = TRY(open_table(pins, "ledger", sizeof(dp_ledger)));
  int64_t waiting = 0;
  for (const Way &way : ways)
    waiting += TRY(read_cell(ledger, dp_ledger_cell(way.row, way.target))).waiting;
  return waiting;
}

// What the mirror does not bring, or brings more than once: a sentence each.
Result<std::vector<std::string>> partial_ways(const Pins &pins, const std::vector<Way> &ways) {
  const auto mappings = TRY(open_table(pins, "mappings", sizeof(dp_mapping)));
  std::vector<std::string> notes;
  for (const Way &way : ways) {
    dp_mapping row{};
    if (bpf_map_lookup_elem(mappings.fd.get(), &way.row, &row))
      return sys_error("map mappings", "cannot be read", errno);
    if (way.target >= row.n_targets)
      continue;
    if (row.clients)
      notes.push_back("the mirror leaves clients of " + way.text +
                      " out by its lists: what they delete or change stays on the target");
    const dp_target &t = row.target[way.target];
    const Portion portion{sample_of_bound(t.sample), std::max<uint32_t>(t.copies, 1)};
    if (!portion.is_whole())
      notes.push_back("the mirror gives " + way.text + " " + portion_text(portion) + " and " +
                      why_unfit(portion));
  }
  return notes;
}

Result<FoundBarrier> barrier_of(const Attached &attached, const std::string &mappings,
                                const std::vector<Way> &ways) {
  FoundBarrier found{TRY(open_barrier(attached, ways)), mappings, {}};
  if (const auto waiting = TRY(waiting_flows(attached.pins, ways)); waiting > 0)
    found.note = std::to_string(waiting) + " connections of the mapping " + mappings +
                 " are not mirrored at present: what they delete or change stays on the target";
  for (const std::string &note : TRY(partial_ways(attached.pins, ways)))
    found.note += (found.note.empty() ? "" : "; ") + note;
  return found;
}

} // namespace

FoundBarrier find_barrier(const memcached::Server &source, const memcached::Server &target,
                          const memcached::Access &access) {
  const auto attached = find_attached("warm");
  if (!attached)
    return none("no mirror of this pair is seen: " + attached.errors().front().what);
  const auto mappings = mappings_of(*attached, source, access);
  if (!mappings)
    return none("the mirror cannot be read: " + mappings.errors().front().what);
  const auto targets = addresses_of(target);
  std::vector<Way> ways; // a source may be mirrored on two devices
  std::string names;
  for (const NamedMapping &m : *mappings)
    if (const auto way = way_of(m, source, targets, target.port)) {
      ways.push_back(*way);
      names += (names.empty() ? "" : ", ") + m.name;
    }
  if (!ways.empty()) {
    auto found = barrier_of(*attached, names, ways);
    return found ? std::move(*found)
                 : none("the mirror cannot be read: " + found.errors().front().what);
  }
  return none("no mirror of this pair is seen: " + no_mapping(source, target));
}

Status not_against_mirror(const memcached::Server &source, const memcached::Server &target,
                          const memcached::Access &access) {
  if (!target.path.empty()) // what listens on a path has no port that a mirror captures
    return Unit{};
  const auto attached = find_attached("warm");
  if (!attached)
    return Unit{};
  const auto copies = addresses_of(source);
  for (const NamedMapping &m : TRY(mappings_of(*attached, target, access)))
    if (way_of(m, target, copies, source.port))
      return Error{target.text(),
                   "is the source of the mapping " + in_quotes(m.name) + " to " + source.text() +
                       ": warm would change what its clients use to what the mirror has copied",
                   "doppel warm " + target.text() + " " + source.text() +
                       " fills the mirror's target; to go back, doppel detach first",
                   Exit::failure};
  return Unit{};
}

} // namespace doppel::migrate
