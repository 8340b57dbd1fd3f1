// SPDX-License-Identifier: Apache-2.0
// The clients' side of a play: what they send, what strangers send in their name, and what nobody
// would.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "tests/fuzz/books.h"
#include "tests/fuzz/play.h"

namespace doppel::fuzz {

void Play::capture(Skb skb) {
  if (program_ == doppel_egress && skb.data.size() >= tcp_at(skb) + 20)
    send_from_socket(skb);
  const Skb before = skb;
  if (skb.data.size() >= tcp_at(skb) + 20) {
    const uint8_t *tcp = &skb.data[tcp_at(skb)];
    tell("capture", "from " + std::to_string(get16(tcp)) + " seq " +
                        std::to_string(get32(tcp + 4)) + " flags " + std::to_string(tcp[13]) +
                        " size " + std::to_string(skb.data.size()));
  }
  const int verdict = k_.run(program_, skb);
  require(verdict == -1, "capture's verdict is not TC_ACT_UNSPEC");
  require(skb.data == before.data, "the original's bytes were changed");
  __sk_buff want = before.ctx;
  require(!std::memcmp(&want, &skb.ctx, sizeof want), "the original's metadata was changed");
}

void Play::send_from_socket(Skb &skb) {
  for (const Client &c : clients_)
    if (get16(&skb.data[tcp_at(skb)]) == c.port && c.source->state() == Source::State::open)
      skb.ctx.sk = &sender_.sock;
}

Segment Play::from(Client &c, uint32_t seq, uint8_t flags, uint32_t length) {
  Segment s = plain(c, seq, length);
  s.flags = flags;
  const unsigned look = in_.u8();
  if (look & 1)
    s.gso_size = static_cast<uint16_t>(look & 2 ? 1448 : 500);
  s.summed = look & 4 ? Summed::partial : look & 8 ? Summed::unnecessary : Summed::none;
  if (look & 16)
    s.flags ^= kPsh;
  if (look & 32)
    s.options = {1, 1, 1, 1}; // not plain: must be built
  if (look & 64)
    s.ttl = 1;
  const unsigned fate = look & 128 ? in_.u8() % 4 : 0;
  static constexpr Fate fates[] = {Fate::taken, Fate::dropped, Fate::unseen, Fate::missed};
  fate_ = fates[fate];
  return s;
}

Skb Play::frame_of_client(const Segment &s) const {
  return client6_ ? widened(frame(s)) : frame(s);
}

void Play::connect(Client &c, uint32_t isn) {
  c.isn = isn;
  c.next = c.high = isn + 1;
  c.finished = c.reset = false;
}

uint32_t Play::fit(const Client &c, uint32_t seq, uint32_t length) const {
  const uint32_t edge = c.finished ? c.high : tracked_ ? c.source->edge() : seq + length;
  return static_cast<uint32_t>(std::clamp<int64_t>(span(seq, edge), 0, length));
}

Segment Play::plain(Client &c, uint32_t seq, uint32_t length) {
  Segment s;
  s.src = kClient;
  s.dst = kServer;
  s.sport = c.port;
  s.dport = c.server_port;
  s.seq = seq;
  s.ack = c.answered;
  s.length = length;
  if (c.timestamps)
    s.options = timestamp(c.tsval++, 7);
  return s;
}

uint32_t Play::length() {
  static constexpr uint32_t some[] = {1, 16, 100, 528, 1440, 1460, 2048, 2900, 4096, 9000, 30000};
  const unsigned b = in_.u8();
  return b < 200 ? some[b % std::size(some)] : b < 250 ? in_.u8() : in_.u16();
}

void Play::send(Client &c, const Segment &s) {
  const Fate fate = fate_;
  fate_ = Fate::taken;
  if (c.source->state() == Source::State::listen && !(s.flags & kSyn))
    return; // it never sends before it has an answer
  if (span(c.high, s.seq + s.length) > 0 && !(s.flags & kSyn))
    c.high = s.seq + s.length;
  if (c.reset && !(s.flags & kRst))
    return;
  c.reset |= s.flags & kRst;
  const auto source = c.source;
  settle_before(c, s, fate != Fate::unseen);
  misses_ = fate == Fate::missed;
  if (fate != Fate::unseen)
    capture(frame_of_client(s));
  misses_ = false;
  // What follows is in order for capture, and is not for the source.
  if (source->over() || fate == Fate::dropped || source->dropped)
    source->dropped += s.length;
  if (fate != Fate::dropped)
    settle_own(c, source->take(s, c.answered), fate != Fate::unseen);
  tell("source", "next " + std::to_string(source->next()) + " taken " +
                     std::to_string(source->taken()) + (fate == Fate::dropped ? " DROPPED" : "") +
                     (fate == Fate::unseen ? " UNSEEN" : ""));
}

void Play::syn(Client &c) {
  const unsigned what = in_.u8();
  Segment s = from(c, c.isn, kSyn, what & 1 ? 16 : 0);
  s.options.clear();
  if (what & 2)
    s.options.insert(s.options.end(), {2, 4, 5, 0xb4});
  if (what & 4)
    s.options.insert(s.options.end(), {4, 2});
  if (what & 8) {
    const auto ts = timestamp(c.tsval++, 0);
    s.options.insert(s.options.end(), ts.begin() + 2, ts.end());
  }
  if (what & 16)
    s.options.insert(s.options.end(), {3, 3, in_.u8()});
  if (what & 32)
    s.options.insert(s.options.end(), {19, 18});
  fate_ = Fate::taken;
  if (c.source->state() == Source::State::listen)
    c.timestamps = what & 8;
  s.ack = 0;
  send(c, s);
}

void Play::forge(Client &c, unsigned what) {
  constexpr uint32_t kFar = 1u << 22; // beyond the source's SND.NXT, and ACK_SPAN
  const Source &source = *c.source;
  Segment s = from(c, c.next, kAck | kPsh, 1 + in_.u8() * 7u);
  const uint32_t inside = source.next() + in_.u16() % (Source::kWindow - 2000);
  fate_ = Fate::taken;
  s.forged = tracked_;
  s.seq = source.next();
  switch (what) {
  case 0: // a number far away
    s.seq += 0x10000000 + in_.u32() % 0xe0000000;
    break;
  case 1: // it continues the stream, but acknowledges what was never sent
    s.ack += kFar + in_.u32() % 0x40000000;
    break;
  case 2: // in the window; the same, or what is older than any window
    s.seq = inside;
    s.ack = in_.u8() & 1 ? s.ack + kFar : s.ack - kFar;
    break;
  case 3: // an old timestamp
    if (!c.timestamps || !source.ts_recent())
      return;
    s.options = timestamp(source.ts_recent() - 2 - in_.u16(), 7);
    break;
  case 4:
    s.flags = kSyn;
    s.seq = in_.u8() & 1 ? inside : in_.u32();
    s.length = 0;
    if (source.state() == Source::State::listen)
      return; // it opens a connection, of which nothing else will ever come
    break;
  case 5: // FIN
    s.flags = kFin | kAck;
    s.seq = inside + 1;
    s.length = in_.u8() & 1 ? s.length : 0;
    s.ack += kFar;
    break;
  case 6: // RST, in the window, but not at its edge
    s.flags = kRst;
    s.seq = in_.u8() & 1 ? inside + 1 : in_.u32();
    s.length = 0;
    if (s.seq == source.next())
      return;
    break;
  default:
    if (source.state() != Source::State::open || source.over() || source.dropped)
      return;
    s.seq = inside;
  }
  if (span(s.seq, source.edge()) < static_cast<int32_t>(s.length) && what > 0)
    s.length = 0;
  s.options.resize(std::min<size_t>(s.options.size(), 12));
  const auto of = c.source;
  settle_before(c, s, true);
  capture(frame_of_client(s));
  settle_own(c, of->take(s, c.answered), true);
  tell("stranger", text(s) + (of->fooled() ? " FOOLED" : ""));
}

void Play::spoil() {
  Client &c = clients_[in_.u8() % kClients];
  const bool response = in_.u8() & 1;
  Segment s = response ? from_target(in_.u8() % HOST_SLOTS) : from(c, c.next, kAck, in_.u8());
  Skb skb = response ? frame_of_target(s) : frame_of_client(s);
  for (unsigned n = in_.u8() % 8; n > 0; n--) {
    const size_t at = in_.u8() % std::min<size_t>(skb.data.size(), 94);
    skb.data[at] = in_.u8();
    if (at >= tcp_at(skb) + 20 && !response)
      spoilt_ = true; // content() is no longer what was captured
  }
  const unsigned cut = in_.u8();
  if (cut & 1)
    skb.data.resize(14 + cut % 64);
  if (cut & 2) // a checksum that is right for whatever this is now
    skb.summed = Summed::unnecessary;
  if (cut & 4) {
    skb.ctx.gso_segs = in_.u8();
    skb.ctx.gso_size = in_.u8();
  }
  if (cut & 8)
    skb.ctx.vlan_present = 1;
  if (cut & 16)
    skb.ctx.pkt_type = 3; // PACKET_OTHERHOST
  describe(skb);
  spoilt_ = spoilt_ || !response; // its length may have moved the payload
  if (response) {
    k_.run(doppel_return, skb);
  } else {
    capture(std::move(skb));
  }
}

} // namespace doppel::fuzz
