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
}

void Play::drain() {
  k_.at<dp_control>(&control, 0)->paused = 0;
  for (Client &c : clients_) {
    for (int i = 0; i < 64 && !c.source->over() && span(c.source->next(), c.high) > 0; i++)
      send(c, plain(c, c.source->next(),
                    static_cast<uint32_t>(std::min(1448, span(c.source->next(), c.high)))));
    send(c, plain(c, c.source->next(), 0));
  }
  tell("drained");
  books(true);
  k_.sent.clear();
  // Where strangers, gaps of capture or commands had a part in it, some orders count bytes twice
  // or not at all: docs/testing.md tells. What reaches the target is judged in every play.
  if (!tracked_ || spoilt_ || unsure_ || !exact_)
    return;
  // Text that capture took in order, and the source did not get, is counted: TC comes first. When
  // it comes again it is not, but for a flow that was forgotten meanwhile.
  uint64_t taken = 0, more = 0;
  for (const auto &source : sources_) {
    taken += source->taken();
    more += source->over() ? source->dropped : 0;
  }
  for (uint32_t t = 0; t < 2; t++) {
    tell("observed", std::to_string(observed(t)) + " taken " + std::to_string(taken) + " and " +
                         std::to_string(more));
    require(observed(t) <= taken + more, "more is observed than the source took");
  }
  require(observed(0) + more >= taken, "less is observed than the source took");
}

} // namespace doppel::fuzz
