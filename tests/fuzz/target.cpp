// SPDX-License-Identifier: Apache-2.0
// The target's side of a play.
#include <arpa/inet.h>

#include <cstring>
#include <vector>

#include "tests/fuzz/books.h"
#include "tests/fuzz/play.h"

namespace doppel::fuzz {

bool Play::must_ignore(const dp_shadow &sh, const Segment &s) {
  const int64_t wnd = int64_t{65535} << sh.tcp.rcv_wscale;
  const auto ahead = [](uint32_t a, uint32_t b) { return int64_t{static_cast<int32_t>(a - b)}; };
  if (sh.tcp.state == DP_SYN_SENT)
    return !(s.flags & kAck) || s.ack != sh.tcp.isn + 1 || !(s.flags & (kSyn | kRst));
  if (s.flags & kSyn)
    return true;
  if (ahead(s.seq, sh.tcp.rcv_nxt) > wnd || ahead(s.seq + s.length, sh.tcp.rcv_nxt) < -wnd)
    return true;
  if (s.flags & kRst)
    return s.seq != sh.tcp.rcv_nxt;
  const int64_t acked = ahead(s.ack, sh.tcp.una);
  return !(s.flags & kAck) || acked > int64_t{sh.tcp.nxt - sh.tcp.una} ||
         acked < -int64_t{(1u << 30)};
}

Skb Play::frame_of_target(const Segment &s) const {
  return target6_ && s.src == kTargets[0] ? widened(frame(s)) : frame(s);
}

void Play::respond(const Segment &s, bool nested) {
  const uint32_t place = s.dport - HOST_FIRST_PORT;
  const uint32_t slot = place < HOST_PORTS ? slot_of(s.dst, place) : uint32_t{HOST_SLOTS};
  Skb skb = frame_of_target(s);
  skb.data[0] = 2; // what the device does with it is another's matter
  const bool ours = slot < HOST_SLOTS && shadow_at(slot).tcp.state != DP_CLOSED &&
                    shadow_at(slot).ep.oif && s.src == ntohl(shadow_at(slot).ep.address.w[3]) &&
                    (s.dst == kHost || s.dst == kFurther) &&
                    htons(s.sport) == shadow_at(slot).ep.target_port;
  const dp_shadow before = ours ? shadow_at(slot) : dp_shadow{};
  const bool ignore = ours && is_open(before) && must_ignore(before, s);
  const std::vector<uint8_t> data = skb.data;
  tell("respond", text(s));
  const int verdict = k_.run(doppel_return, skb);
  if (!ours) {
    require(verdict == -1, "return took a packet that is no shadow's");
    require(skb.data == data, "return changed a packet that is no shadow's");
    return;
  }
  require(verdict != -1 || (!is_open(before) && busy_port_ == s.dport),
          "a shadow's packet reaches our stack");
  if (!ignore || nested || preempted_)
    return;
  const dp_shadow &after = shadow_at(slot);
  // Something was sent, it may be, that was due anyhow; what the target has said is as before.
  // Each packet of the target's is a chance to ask the source about what waits beyond a hole.
  const bool asks = static_cast<int32_t>(before.tcp.ahead - before.tcp.end) > 0;
  const bool may_send = asks || (s.flags & kSyn) || (before.tcp.flags & DP_SH_DUE); // a FIN, too
  require((after.tcp.state == before.tcp.state || may_send) && after.tcp.una == before.tcp.una &&
              (asks || after.tcp.end == before.tcp.end) && after.tcp.wnd == before.tcp.wnd &&
              after.tcp.rcv_nxt == before.tcp.rcv_nxt &&
              after.tcp.ts_recent == before.tcp.ts_recent &&
              after.tcp.delivered == before.tcp.delivered && after.gen == before.gen &&
              after.tcp.n_sacked == before.tcp.n_sacked &&
              !std::memcmp(after.tcp.sacked, before.tcp.sacked, sizeof after.tcp.sacked) &&
              after.tcp.rto_ms == before.tcp.rto_ms && after.tcp.srtt_us == before.tcp.srtt_us &&
              after.tcp.tries == before.tcp.tries && after.tcp.wl1 == before.tcp.wl1 &&
              after.tcp.wl2 == before.tcp.wl2,
          "an unacceptable segment from the target changed its shadow (RFC 5961)");
  require(after.tcp.nxt == before.tcp.nxt || may_send,
          "an unacceptable segment from the target made the shadow send");
}

Segment Play::from_target(uint32_t slot) {
  const dp_shadow &sh = shadow_at(slot);
  Segment s;
  s.src = ntohl(sh.ep.address.w[3]);
  s.dst = slot < HOST_PORTS ? kHost : kFurther;
  s.sport = ntohs(sh.ep.target_port);
  s.dport = static_cast<uint16_t>(HOST_FIRST_PORT + slot % HOST_PORTS);
  s.seq = sh.tcp.rcv_nxt;
  s.ack = sh.tcp.nxt;
  if (sh.tcp.flags & DP_SH_TS)
    s.options = timestamp(sh.tcp.ts_recent + 1, sh.tcp.ts_val);
  return s;
}

void Play::target_acts(unsigned what, bool nested) {
  const uint32_t slot = in_.u8() % HOST_SLOTS;
  const dp_shadow &sh = shadow_at(slot);
  Segment s = from_target(slot);
  switch (what) {
  case 0: { // SYN-ACK, right or not quite
    const unsigned form = in_.u8();
    s.flags = kSyn | kAck;
    s.seq = 0xfffffff0 + form;
    s.ack = sh.tcp.isn + 1 + (form > 240 ? form : 0);
    s.window = static_cast<uint16_t>(form & 1 ? 65535 : form * 16);
    s.options.clear();
    if (form & 2)
      s.options.insert(s.options.end(), {2, 4, static_cast<uint8_t>(form & 4 ? 5 : 0), 0xb4});
    if (form & 8)
      s.options.insert(s.options.end(), {4, 2});
    if (form & 16)
      s.options.insert(s.options.end(), {8, 10, 0, 0, 0, 9, 0, 0, 0, 0});
    if (form & 32)
      s.options.insert(s.options.end(), {3, 3, static_cast<uint8_t>(form >> 4)});
    break;
  }
  case 1: { // an acknowledgement of all or a part, with any window
    const unsigned part = in_.u8();
    s.ack = part & 1 ? sh.tcp.nxt : sh.tcp.una + (sh.tcp.nxt - sh.tcp.una) / 8 * (part >> 5);
    s.window = in_.u8() & 1 ? in_.u16() : 65535;
    break;
  }
  case 2: { // SACK
    s.ack = sh.tcp.una;
    const unsigned blocks = 1 + in_.u8() % 3;
    s.options.insert(s.options.end(), {1, 1, 5, static_cast<uint8_t>(2 + 8 * blocks)});
    for (unsigned i = 0; i < blocks; i++) {
      const uint32_t start = sh.tcp.una + (in_.u8() % 64) * 500u, end = start + in_.u8() * 100u;
      s.options.resize(s.options.size() + 8);
      put32(&s.options[s.options.size() - 8], start);
      put32(&s.options[s.options.size() - 4], end);
    }
    break;
  }
  case 3: // an answer, or its end
    s.length = length();
    if (in_.u8() % 4 == 0)
      s.flags |= kFin;
    break;
  case 4: // a keepalive
    s.seq--;
    break;
  case 5: // RST in its place
    s.flags = static_cast<uint8_t>(kRst | (in_.u8() & kAck));
    if (sh.tcp.state == DP_SYN_SENT)
      s.ack = sh.tcp.isn + 1;
    break;
  default: // forged
    s.flags = in_.u8();
    s.seq += in_.u8() & 1 ? in_.u32() : static_cast<uint32_t>(static_cast<int8_t>(in_.u8()));
    s.ack += in_.u8() & 1 ? in_.u32() : static_cast<uint32_t>(static_cast<int8_t>(in_.u8()));
    s.length = in_.u8();
    s.window = in_.u16();
    for (unsigned n = in_.u8() % 24; n > 0; n--)
      s.options.push_back(in_.u8());
  }
  if (s.options.size() > 40)
    s.options.resize(40);
  respond(s, nested);
}

} // namespace doppel::fuzz
