// SPDX-License-Identifier: Apache-2.0
// What reaches a target, and what is counted, held against the source.
#include <arpa/inet.h>

#include <algorithm>

#include "tests/fuzz/books.h"
#include "tests/fuzz/play.h"

namespace doppel::fuzz {

void Play::note_shadows() {
  for (uint32_t slot = 0; slot < HOST_SLOTS; slot++) {
    const dp_shadow &sh = shadow_at(slot);
    for (const Client &c : clients_)
      if (sh.gen && ntohs(sh.ep.key.client_port) == c.port)
        whose_.try_emplace({slot, sh.gen}, c.source);
  }
}

bool Play::may_have(uint32_t slot, uint32_t seq, uint8_t byte) {
  const bool genuine = byte == content(seq);
  if (!tracked_ || (!genuine && byte != forgery(seq)))
    return genuine;
  const auto of = whose_.find({slot, shadow_at(slot).gen});
  require(of != whose_.end(), "a shadow is nobody's");
  const Source &source = *of->second;
  return source.has(seq, genuine) || (genuine && source.dropped && span(source.next(), seq) >= 0);
}

void Play::books(bool bytes) {
  note_shadows();
  check_books(bytes, spoilt_, [this](uint32_t slot, uint32_t seq, uint8_t byte) {
    return may_have(slot, seq, byte);
  });
  forgive();
}

namespace {

// The row of the client's flow toward that target knows where its stream stands.
bool is_known(const Client &c, uint32_t target) {
  bool known = false;
  kernel().map(&flows).for_each([&](const void *key, void *value) {
    const auto &k = *static_cast<const dp_flow_key *>(key);
    const auto &f = *static_cast<const dp_flow *>(value);
    if (ntohs(k.client_port) == c.port && k.target == target)
      known = f.slot != DP_SLOT_GONE && (f.seen || f.slot != DP_NO_SLOT);
  });
  return known;
}

} // namespace

void Play::settle_before(const Client &c, const Segment &s, bool captured) {
  const Source &source = *c.source;
  const Source::State state = source.state();
  // On the short path, and where no socket has the connection, nobody is asked.
  if (preempted_ || !captured || (s.flags & kSyn) || !(s.flags & (kAck | kRst)) ||
      span(source.next(), s.seq) < 0 || state == Source::State::listen ||
      state == Source::State::closed)
    return;
  for (uint32_t t = 0; t < targets(); t++) {
    Account &a = accounts_[&source][t];
    if (is_known(c, t))
      a.must += source.taken() - a.settled;
    a.settled = source.taken();
  }
}

void Play::settle_own(const Client &c, uint64_t bytes, bool captured) {
  if (preempted_ || !captured)
    return;
  for (uint32_t t = 0; t < targets(); t++) {
    Account &a = accounts_[c.source.get()][t];
    a.must += bytes;
    a.settled += bytes;
  }
}

void Play::forgive() {
  if (k_.map(&flows).size() == HOST_FLOWS) // some may have found no place
    unsure_ = {true, true};
  for (const Client &c : clients_)
    for (uint32_t t = 0; t < 2; t++) {
      if (is_known(c, t))
        continue;
      accounts_[c.source.get()][t].settled = c.source->taken();
      c.source->forgotten |= c.source->dropped != 0;
    }
}

void Play::drain() {
  k_.at<dp_control>(&control, 0)->paused = 0;
  for (Client &c : clients_) {
    for (int i = 0; i < 64 && !c.source->over() && !c.reset && span(c.source->next(), c.high) > 0;
         i++)
      send(c, plain(c, c.source->next(),
                    static_cast<uint32_t>(std::min(1448, span(c.source->next(), c.high)))));
    Segment last = plain(c, c.source->next(), 0);
    if (c.reset)
      last.flags = kRst;
    send(c, last);
  }
  tell("drained");
  books(true);
  k_.sent.clear();
  if (tracked_ && !spoilt_)
    judge_counts();
  judge_notes();
}

void Play::judge_notes() {
  for (uint32_t t = 0; t < 2; t++) {
    require(noted(t) <= k_.notes, "more keys are counted as noted than were");
    require(noted(t) == k_.notes || reloaded_ || t >= targets(), "a key was noted and not counted");
    require(missed(t) >= k_.notes_refused || reloaded_ || t >= targets(),
            "a key that found the ring full is not counted");
    require(!missed(t) || converges_, "a key is missed though none is wanted");
  }
  require(!(k_.notes + k_.notes_refused) || converges_, "a key is noted though none is wanted");
}

void Play::judge_counts() {
  // Text that capture took in order, and the source did not get, is counted: TC comes first. When
  // it comes again it is not, but for a flow that was forgotten meanwhile.
  uint64_t taken = 0, more = 0, must[2] = {};
  for (const auto &source : sources_) {
    const bool again = !source->over() && !source->forgotten && !source->replaced && !paused_;
    taken += source->taken();
    more += again ? 0 : source->dropped;
    for (uint32_t t = 0; t < 2; t++)
      must[t] += accounts_[source.get()][t].must;
  }
  for (uint32_t t = 0; t < 2; t++) {
    tell("observed", std::to_string(observed(t)) + " taken " + std::to_string(taken) + " and " +
                         std::to_string(more) + " must " + std::to_string(must[t]) +
                         (unsure_[t] ? " UNSURE" : ""));
    if (unsure_[t])
      continue;
    require(observed(t) <= taken + more, "more is observed than the source took");
    require(observed(t) >= must[t], "less is observed than the source took");
  }
}

} // namespace doppel::fuzz
