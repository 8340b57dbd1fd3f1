// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/books.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "tests/fuzz/segment.h"

namespace doppel::fuzz {

dp_shadow &shadow_at(uint32_t slot) { return *kernel().at<dp_shadow>(&shadows, slot); }

bool is_open(const dp_shadow &sh) {
  return sh.tcp.state != DP_CLOSED && sh.tcp.state != DP_TIME_WAIT;
}

namespace {

void identity(const dp_ledger &l) {
  uint64_t rest = l.delivered + static_cast<uint64_t>(l.in_flight);
  for (const uint64_t n : l.lost)
    rest += n;
  for (const uint64_t n : l.excluded)
    rest += n;
  require(l.observed == rest, "a ledger cell broke its identity");
  require(l.begin == l.end, "a transaction of the ledger was left open");
}

dp_ledger sum(uint32_t target) {
  const uint32_t cell = dp_ledger_cell(0, target);
  dp_ledger out{};
  auto *to = reinterpret_cast<uint64_t *>(&out);
  for (unsigned cpu = 0; cpu < HOST_CPUS; cpu++) {
    const auto *l = kernel().at<dp_ledger>(&ledger, cell, cpu);
    identity(*l);
    const auto *from = reinterpret_cast<const uint64_t *>(l);
    for (size_t i = 0; i < sizeof out / 8; i++)
      to[i] += from[i];
  }
  return out;
}

uint32_t first_byte(const dp_shadow &sh) {
  if (sh.tcp.state == DP_SYN_SENT)
    return sh.tcp.una + 1;
  if ((sh.tcp.flags & DP_SH_CLIENT_FIN) && static_cast<int32_t>(sh.tcp.una - sh.tcp.fin) > 0)
    return sh.tcp.fin;
  return sh.tcp.una;
}

constexpr uint32_t kShared = 1U << 31; // CHUNK_SHARED, bpf/share.bpf.h

const dp_chunk *chunk_of(uint32_t slot, uint32_t seq) {
  const dp_store_key key{slot, shadow_at(slot).tcp.store_gen, seq >> DP_CHUNK_SHIFT};
  const auto *index = static_cast<const uint32_t *>(kernel().map(&store).lookup(&key, 0));
  return index ? kernel().at<dp_chunk>(&chunks, *index & ~kShared) : nullptr;
}

// The store holds [from, to) of the shadow's stream; judge: and the right bytes.
void stored(uint32_t slot, uint32_t from, uint32_t to, const Judge *judge) {
  while (from != to) {
    const dp_chunk *chunk = chunk_of(slot, from);
    require(chunk, "a byte that the target does not have is not in the store");
    const uint32_t n = std::min(to - from, DP_CHUNK - from % DP_CHUNK);
    for (uint32_t i = 0; judge && i < n; i++)
      require((*judge)(slot, from + i, chunk->data[from % DP_CHUNK + i]),
              "the store holds another byte than the source has");
    from += n;
  }
}

// What is marked in [from, to), beyond a hole, ends where `ahead` says. It is judged when it is
// part of the stream: until then the source may hold other text there, or none ("What stays open"
// in docs/trust.md).
void marked(uint32_t slot, uint32_t from, uint32_t to, const Judge *judge) {
  bool last = false;
  for (uint32_t seq = from; judge && seq != to; seq++) {
    const dp_chunk *chunk = chunk_of(slot, seq);
    const uint32_t at = seq % DP_CHUNK;
    last = chunk && chunk->marked && (chunk->present[at / 64] >> at % 64 & 1);
  }
  require(!judge || from == to || last, "nothing is marked where `ahead` says");
}

// Returns what the shadow holds undelivered.
uint64_t check_shadow(uint32_t slot, const Judge *judge) {
  const dp_shadow &sh = shadow_at(slot);
  const auto span = [](uint32_t from, uint32_t to) { return static_cast<int32_t>(to - from); };
  const uint32_t first = first_byte(sh);
  require(span(sh.tcp.una, sh.tcp.nxt) >= 0, "una <= nxt");
  const bool fin_sent = sh.tcp.state == DP_FIN_WAIT || sh.tcp.state == DP_LAST_ACK;
  require(span(sh.tcp.nxt, sh.tcp.end) >= (fin_sent ? -1 : 0) || sh.tcp.state == DP_CLOSE_WAIT ||
              sh.tcp.nxt == sh.tcp.end + 1,
          "nxt <= end, but for a FIN");
  require(span(first, sh.tcp.end) >= 0 && span(first, sh.tcp.end) <= HOST_FLOW_CAP,
          "una <= end <= una + flow_cap");
  require(sh.tcp.refs == 0, "a writer forgot to leave");
  stored(slot, first, sh.tcp.end, judge);
  if (span(sh.tcp.end, sh.tcp.ahead) > 0) {
    require(span(first, sh.tcp.ahead) <= HOST_FLOW_CAP, "ahead <= una + flow_cap");
    marked(slot, sh.tcp.end, sh.tcp.ahead, judge);
  }
  unsigned used = 0;
  for (const dp_range &r : sh.tcp.sacked) {
    if (r.start == r.end)
      continue;
    used++;
    require(span(sh.tcp.una, r.start) >= 0 && span(r.start, r.end) > 0 &&
                span(r.end, sh.tcp.nxt) >= 0,
            "a SACK range lies outside of what is in flight");
  }
  require(used == sh.tcp.n_sacked, "n_sacked is wrong");
  require(sh.tcp.mss >= 52 && sh.tcp.mss <= 1460, "mss");
  require(sh.tcp.snd_wscale <= 14 && sh.tcp.rcv_wscale <= 14, "window scales");
  require(!sh.tcp.due_ns || (sh.tcp.flags & DP_SH_TIMER), "something is due and nobody watches");
  return static_cast<uint32_t>(span(first, sh.tcp.end));
}

void check_sent(bool spoilt, const Judge &judge) {
  for (const Sent &one : kernel().sent) {
    const std::vector<uint8_t> &f = one.skb.data;
    const Layers l = layers(f);
    const uint8_t *tcp = &f[l.tcp];
    const size_t head = l.tcp + (tcp[12] >> 4) * 4u, length = f.size() - l.tcp;
    require(f.size() >= head && head >= l.tcp + 20, "the TCP header of what is sent");
    require(l.src == kHost || l.src == kFurther, "a frame is sent that is not ours");
    require(l.dst == kTargets[0] || l.dst == kTargets[1], "a frame is sent to no target");
    const dp_mapping *m = kernel().at<dp_mapping>(&mappings, 0);
    require(l.six == (m->target[l.dst == kTargets[1]].address.w[0] != 0) || spoilt,
            "a frame is sent by the other IP version than its target's");
    require(get16(&f[12]) == (l.six ? 0x86dd : 0x0800) || one.neigh,
            "the type of what is sent back");
    require(one.neigh ? one.skb.ctx.mark == 0 : true, "a copy keeps the original's mark");
    const uint16_t p = l.pseudo;
    if (one.skb.summed == Summed::partial)
      require(get16(tcp + 16) == p, "the partial checksum of what is sent");
    else if (!spoilt) // one that was wrong, and vouched for, stays wrong
      require(checksum(tcp, length, p) == 0xffff, "the checksum of what is sent");
    const uint32_t place = get16(tcp) - uint32_t{HOST_FIRST_PORT};
    require(place < HOST_PORTS, "a frame is sent from no shadow's port");
    const uint32_t slot = slot_of(l.src, place);
    const uint32_t seq = get32(tcp + 4);
    for (size_t i = head; !spoilt && i < f.size(); i++)
      require(judge(slot, seq + static_cast<uint32_t>(i - head), f[i]),
              "a byte is sent that the source does not have there");
  }
}

// Every chunk is fresh, free, one shadow's, or that of as many as it counts.
void check_chunks() {
  std::set<uint32_t> known;
  std::map<uint32_t, uint32_t> holders; // of chunks that are shared
  const auto once = [&](uint32_t index) {
    require(known.insert(index).second, "a chunk is known twice");
  };
  kernel().map(&free_chunks).for_each([&](const void *, void *v) {
    once(*static_cast<uint32_t *>(v));
  });
  kernel().map(&store).for_each([&](const void *, void *v) {
    const uint32_t value = *static_cast<uint32_t *>(v);
    if (!(value & kShared) || ++holders[value & ~kShared] == 1)
      once(value & ~kShared);
  });
  for (const auto &[index, count] : holders)
    require(kernel().at<dp_chunk>(&chunks, index)->holders == count, "the holders of a chunk");
  const dp_fresh &fresh = *kernel().at<dp_fresh>(&fresh_chunks, 0);
  require(known.size() == fresh.next && fresh.next <= HOST_CHUNKS, "a chunk is nobody's");
  require(fresh.used == known.size() - kernel().map(&free_chunks).size(), "the gauge `used`");
  require(fresh.queued == 0 || kernel().map(&freed_ranges).size(), "the gauge `queued`");
}

// What is counted for the clients is there, and counted for the right one.
struct Held {
  int64_t chunks = 0, flows = 0, ports = 0, embryonic = 0;
};

void check_clients(const Held &want) {
  Held have;
  for (uint32_t row = 0; row < DP_CLIENTS; row++) {
    const dp_client &c = *kernel().at<dp_client>(&clients, row);
    require(c.chunks >= 0 && c.flows >= 0 && c.ports >= 0 && c.embryonic >= 0,
            "a client holds less than nothing");
    have.chunks += c.chunks;
    have.flows += c.flows;
    have.ports += c.ports;
    have.embryonic += c.embryonic;
  }
  require(have.chunks == want.chunks, "the chunks of the clients");
  require(have.flows == want.flows, "the flows of the clients");
  require(have.ports == want.ports, "the shadow ports of the clients");
  require(have.embryonic == want.embryonic, "the half-open shadows of the clients");
  const dp_client &all = *kernel().at<dp_client>(&clients, DP_CLIENTS);
  require(all.flows == want.flows && all.ports == want.ports, "the sums over all clients");
}

} // namespace

uint32_t slot_of(uint32_t own, uint32_t place) {
  return (own == kFurther ? HOST_PORTS : 0) + place;
}

uint64_t observed(uint32_t target) { return sum(target).observed; }
uint64_t noted(uint32_t target) { return sum(target).event[DP_EVENT_key_noted]; }
uint64_t missed(uint32_t target) { return sum(target).event[DP_EVENT_key_missed]; }

void check_books(bool bytes, bool spoilt, const Judge &judge) {
  check_sent(spoilt, judge);
  std::array<uint64_t, 2> pending{};
  std::array<int64_t, 2> n_open{}, n_waiting{}, n_embryonic{};
  std::set<uint32_t> free;
  for (uint32_t pool = 0; pool < HOST_POOLS; pool++)
    kernel().map(pool ? &host_free_further : &host_free_slots).for_each([&](const void *, void *v) {
      const uint32_t slot = *static_cast<uint32_t *>(v);
      require(slot / HOST_PORTS == pool, "a slot is in another pool's queue");
      require(free.insert(slot).second, "a slot is free twice");
    });
  std::array<int64_t, HOST_POOLS> taken{};
  for (uint32_t slot = 0; slot < HOST_SLOTS; slot++) {
    const dp_shadow &sh = shadow_at(slot);
    if (!is_open(sh))
      continue;
    require(!free.count(slot), "the slot of an open shadow is free");
    require(sh.ep.key.target < 2, "key");
    pending[sh.ep.key.target] += check_shadow(slot, bytes && !spoilt ? &judge : nullptr);
    n_open[sh.ep.key.target]++;
    taken[slot / HOST_PORTS]++;
    n_embryonic[sh.ep.key.target] += sh.tcp.state == DP_SYN_SENT;
  }
  require(free.size() + static_cast<size_t>(n_open[0] + n_open[1]) == HOST_SLOTS,
          "a slot is neither free nor an open shadow's");
  for (uint32_t pool = 0; pool < HOST_POOLS; pool++)
    require(kernel().at<dp_pool>(&pools, pool)->taken == taken[pool], "the slots of a pool");
  kernel().map(&flows).for_each([&](const void *key, void *value) {
    const auto &f = *static_cast<const dp_flow *>(value);
    const auto &fk = *static_cast<const dp_flow_key *>(key);
    if (f.slot == DP_NO_SLOT) {
      n_waiting[fk.target]++;
      return;
    }
    require(f.slot < HOST_SLOTS, "a flow's slot");
    require(shadow_at(f.slot).gen == f.gen && is_open(shadow_at(f.slot)),
            "a flow is bound to a shadow that has ended");
  });
  check_chunks();
  int64_t slots = 0;
  for (uint32_t t = 0; t < 2; t++) {
    const dp_ledger l = sum(t);
    require(l.in_flight >= 0 && static_cast<uint64_t>(l.in_flight) == pending[t],
            "in_flight is not what the shadows hold");
    require(l.open == n_open[t], "the gauge `open`");
    require(l.waiting == n_waiting[t], "the gauge `waiting`");
    require(l.opened + l.joined == l.closed + l.broken + static_cast<uint64_t>(l.open),
            "shadows opened and ended");
    require(kernel().at<dp_limit>(&limits, t)->embryonic == n_embryonic[t], "half-open shadows");
    slots += l.slots;
  }
  require(slots == n_open[0] + n_open[1], "the gauge `slots`");
  if (bytes) // 32,768 rows: not after every act
    check_clients({static_cast<int64_t>(kernel().map(&store).size()),
                   static_cast<int64_t>(kernel().map(&flows).size()), slots,
                   n_embryonic[0] + n_embryonic[1]});
}

} // namespace doppel::fuzz
