// SPDX-License-Identifier: Apache-2.0
// The whole data plane on the host's kernel: an input is a play of clients, strangers, a target
// that lies, a clock, and another CPU. After every act the books must be right. Where a socket of
// this host can tell, what reaches a target must be what the source's TCP (source.h) has at that
// place, and what is counted as observed, what it took.
#include <algorithm>
#include <iterator>
#include <memory>

#include "tests/fuzz/books.h"
#include "tests/fuzz/play.h"

namespace doppel::fuzz {

void Play::run() {
  set_up();
  for (size_t acts = 0; !in_.empty() && acts < kMaxActs; acts++) {
    preempted_ = false;
    act(false);
    k_.preempt_at = 0;
    tell("books");
    books(acts % 8 == 7);
    k_.sent.clear();
  }
  tear_down();
}

void Play::act(bool nested) {
  const unsigned what = in_.u8() % 32;
  Client &c = clients_[in_.u8() % kClients];
  switch (what) {
  case 0:
  case 1:
    syn(c);
    break;
  case 2:
    send(c, from(c, c.next, kAck, 0));
    break;
  case 3:
  case 4:
  case 5:
  case 6: {
    Segment s = from(c, c.next, kAck | kPsh, length());
    if (in_.u8() & 1) // up to the end of a command
      s.length = (s.length / 16 + 1) * 16 - (s.seq + s.length / 16 * 16) % 16;
    s.length = fit(c, s.seq, s.length);
    if (c.source->state() == Source::State::listen)
      break;
    c.next += s.length;
    send(c, s);
    break;
  }
  case 7: { // out of order, again, overlapping
    const auto shift = static_cast<int8_t>(in_.u8());
    uint32_t seq = c.next + static_cast<uint32_t>(shift * (in_.u8() & 1 ? 200 : 1));
    if (span(c.isn + 1, seq) < 0)
      seq = c.isn + 1;
    Segment s = from(c, seq, kAck, length());
    s.length = fit(c, seq, s.length);
    if (s.length)
      send(c, s);
    break;
  }
  case 8: // anywhere
    if (const unsigned kind = in_.u8(); tracked_)
      forge(c, kind % 8);
    else
      capture(frame_of_client(from(c, in_.u32(), in_.u8(), kind)));
    break;
  case 9: {
    Segment s = from(c, c.high, kFin | kAck, in_.u8() & 1 ? length() : 0);
    s.length = fit(c, s.seq, s.length);
    if (c.source->state() == Source::State::listen)
      break;
    c.finished = true; // before another CPU speaks for it: nothing follows a FIN
    send(c, s);
    c.next = c.high;
    break;
  }
  case 10:
    send(c, from(c, c.next, kRst, 0));
    break;
  case 11: // before the handshake is over there is nothing to answer
    if (const unsigned more = in_.u8(); c.source->state() != Source::State::syn_received)
      c.answered += more;
    break;
  case 12: // a hole of a segment
    c.next += fit(c, c.next, in_.u8() & 1 ? 1448 : in_.u8());
    if (span(c.high, c.next) > 0)
      c.high = c.next;
    break;
  case 13: { // a new connection on the same port, whose SYN is seen or not
    const uint32_t isn = in_.u8() & 1 ? in_.u32() : c.high + in_.u16();
    if (nested)
      break;
    connect(c, isn);
    c.source->replaced = true;
    for (bool &unsure : unsure_)
      unsure |= isn & 1; // the former may be taken to go on, as far as numbers tell
    c.source = isn & 1 ? std::make_shared<Source>(isn, c.timestamps, c.answered)
                       : std::make_shared<Source>();
    c.answered = isn & 1 ? c.answered : c.answered + 0x10000;
    sources_.push_back(c.source);
    break;
  }
  case 14: // the source's process is killed
    if (in_.u8() % 3 == 0) {
      c.source->end();
    }
    break;
  case 15:
  case 16:
    target_acts(0, nested);
    break;
  case 17:
  case 18:
  case 19:
    target_acts(1, nested);
    break;
  case 20:
    target_acts(2, nested);
    break;
  case 21:
    target_acts(3, nested);
    break;
  case 22:
    target_acts(4 + in_.u8() % 2, nested);
    break;
  case 23:
    target_acts(6, nested);
    break;
  case 24:
    spoil();
    break;
  case 25: {
    static constexpr uint32_t ms[] = {1, 30, 250, 1200, 6000, 70000};
    wait(ms[in_.u8() % std::size(ms)]);
    break;
  }
  case 26: {
    const uint32_t slot = in_.u8() % HOST_SLOTS;
    const unsigned op = in_.u8() % 4;
    command(op == 3   ? DP_CMD_RESET
            : op == 2 ? DP_CMD_CLOSE
                      : DP_CMD_RESEND,
            slot, shadow_at(slot).gen);
    break;
  }
  case 27:
    if (const unsigned what = in_.u8(); what & 1)
      expire(what & 2 ? DP_CMD_SOURCE_GONE : DP_CMD_EXPIRE, in_.u8());
    else
      busy_port_ = static_cast<uint16_t>(HOST_FIRST_PORT + in_.u8() % HOST_SLOTS);
    break;
  case 28: {
    const uint32_t zero = 0;
    k_.at<dp_control>(&control, zero)->paused = in_.u8() & 1;
    paused_ = true;
    break;
  }
  case 29: {
    const unsigned b = in_.u8();
    if (b % 3 == 1) // what has no place cannot be remembered
      unsure_ = {true, true};
    tell("failure", std::to_string(b % 3) + " at " + std::to_string(1 + b / 3 % 8));
    (b % 3 == 0   ? k_.clone_fails_at
     : b % 3 == 1 ? k_.update_fails_at
                  : k_.build_fails_at) = 1 + b / 3 % 8;
    break;
  }
  case 30: {
    // A reload: one target less or more, the other limits.
    dp_mapping &m = *k_.at<dp_mapping>(&mappings, 0);
    m.n_targets = static_cast<__u8>(in_.u8() % 3);
    reloaded_ = true;
    break;
  }
  default:
    if (nested)
      break;
    k_.preempt_at = 1 + in_.u8() % 6;
    tell("another CPU at lock", std::to_string(k_.preempt_at));
    preempted_ = true;
    act(false); // the one that is to be interrupted
  }
}

void Play::tear_down() {
  k_.clone_fails_at = k_.update_fails_at = k_.build_fails_at = k_.preempt_at = 0;
  drain();
  for (uint32_t slot = 0; slot < HOST_SLOTS; slot++)
    if (is_open(shadow_at(slot)))
      command(DP_CMD_RESET, slot, shadow_at(slot).gen);
  expire(DP_CMD_EXPIRE, 0);
  wait(200);
  for (int i = 0; i < 100 && k_.map(&freed_ranges).size(); i++)
    k_.advance(25'000'000);
  books(true);
  k_.sent.clear();
  require(k_.map(&flows).size() == 0, "flows are left");
  require(k_.map(&store).size() == 0, "chunks of the store are left");
  require(k_.map(&host_free_slots).size() + k_.map(&host_free_further).size() == HOST_SLOTS,
          "slots are left");
  require(k_.map(&timer_queue).size() == 0, "slots are still watched");
}

} // namespace doppel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  doppel::fuzz::Play(data, size).run();
  return 0;
}
