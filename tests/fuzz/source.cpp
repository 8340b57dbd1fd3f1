// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/source.h"

#include <algorithm>

namespace doppel::fuzz {
namespace {

constexpr uint32_t kMaxWindow = 65535; // the largest that the client ever offered
constexpr uint8_t kGenuine = 1, kForged = 2;

int32_t span(uint32_t from, uint32_t to) { return static_cast<int32_t>(to - from); }

// TSval, or 0 without the option, which is where timestamp() puts it.
uint32_t tsval(const Segment &s) {
  return s.options.size() >= 12 && s.options[2] == 8 ? get32(&s.options[4]) : 0;
}

} // namespace

Source::Source(uint32_t isn, bool timestamps, uint32_t answered)
    : state_(State::open), timestamps_(timestamps), irs_(isn), rcv_nxt_(isn + 1),
      snd_una_(answered) {}

void Source::begin(const Segment &s, uint32_t answered) {
  state_ = State::syn_received;
  irs_ = s.seq;
  iss_ = answered - 1;
  rcv_nxt_ = s.seq + 1;
  snd_una_ = answered;
  for (size_t i = 0; i + 1 < s.options.size();) {
    if (s.options[i] == 1) {
      i++;
      continue;
    }
    timestamps_ = timestamps_ || s.options[i] == 8;
    i += std::max<size_t>(2, s.options[i + 1]);
  }
}

uint32_t Source::take(const Segment &s, uint32_t answered) {
  const uint32_t to = s.seq + s.length;
  if (state_ == State::closed)
    return 0;
  if (state_ == State::listen || state_ == State::time_wait) {
    if ((s.flags & (kSyn | kAck | kRst)) == kSyn && state_ == State::listen)
      begin(s, answered);
    return 0;
  }
  const uint32_t stamp = timestamps_ ? tsval(s) : 0;
  if (state_ == State::syn_received) { // tcp_check_req()
    if (s.flags & kSyn)
      return 0; // of the same connection, or not: the SYN-ACK again, or an ACK
    if (span(to, rcv_nxt_) > 0 || span(s.seq, edge()) < 0)
      return 0;
    if (s.flags & kRst) {
      if (s.seq == rcv_nxt_)
        state_ = State::closed;
      return 0;
    }
    if (!(s.flags & kAck) || s.ack != iss_ + 1)
      return 0;
    state_ = State::open;
    ts_recent_ = stamp;
  }
  // tcp_validate_incoming()
  if (stamp && ts_recent_ && span(stamp, ts_recent_) > 1 && !(s.flags & kRst))
    return 0;
  if (span(to + ((s.flags & kFin) != 0), rcv_nxt_ + fin_) > 0 || span(s.seq, edge()) < 0)
    return 0;
  if (s.flags & kRst) {
    if (s.seq == rcv_nxt_ + fin_)
      state_ = State::closed;
    return 0;
  }
  if ((s.flags & kSyn) || !(s.flags & kAck))
    return 0;
  // tcp_ack()
  if (span(s.ack, answered) < 0 || span(s.ack, snd_una_) > int64_t{kMaxWindow})
    return 0;
  if (span(snd_una_, s.ack) > 0)
    snd_una_ = s.ack;
  if (stamp && span(rcv_nxt_ + fin_, s.seq) <= 0 && (!ts_recent_ || span(ts_recent_, stamp) > 0))
    ts_recent_ = stamp;
  return fin_ ? 0 : text(s);
}

uint32_t Source::text(const Segment &s) {
  const uint32_t to = s.seq + s.length;
  if (span(rcv_nxt_, s.seq) > 0) {
    if ((s.length || (s.flags & kFin)) && span(s.seq, edge()) > 0)
      beyond(s, to);
    return 0;
  }
  const uint32_t own = static_cast<uint32_t>(std::max(0, span(rcv_nxt_, to)));
  if (own) {
    mark(rcv_nxt_, to, s.forged, false);
    taken_ += own;
    rcv_nxt_ = to;
  }
  if ((s.flags & kFin) && to == rcv_nxt_)
    fin_ = true;
  follow();
  return own;
}

// tcp_ofo_queue()
void Source::follow() {
  const auto before = [](const Piece &a, const Piece &b) { return span(a.from, b.from) > 0; };
  std::sort(queue_.begin(), queue_.end(), before);
  while (!fin_ && !queue_.empty() && span(rcv_nxt_, queue_[0].from) <= 0) {
    const Piece p = queue_[0];
    queue_.erase(queue_.begin());
    if (span(rcv_nxt_, p.to) > 0) {
      taken_ += p.to - rcv_nxt_;
      rcv_nxt_ = p.to;
    }
    fin_ = p.fin && p.to == rcv_nxt_;
  }
  if (fin_) // tcp_fin() throws away what lies behind it
    queue_.clear();
}

// tcp_data_queue_ofo(): what one piece holds already is dropped. Of two that overlap otherwise, the
// one that is read depends on what was coalesced.
void Source::beyond(const Segment &s, uint32_t to) {
  const bool fin = s.flags & kFin;
  for (const Piece &p : queue_)
    if (span(p.from, s.seq) >= 0 && span(to + fin, p.to + p.fin) >= 0)
      return;
  mark(s.seq, to, s.forged, true);
  queue_.push_back({s.seq, to, fin});
}

bool Source::waits(uint32_t seq) const {
  for (const Piece &p : queue_)
    if (span(p.from, seq) >= 0 && span(seq, p.to) > 0)
      return true;
  return false;
}

// beside: what is there may stay instead.
void Source::mark(uint32_t from, uint32_t to, bool forged, bool beside) {
  if (!forged && altered_.empty())
    return;
  const uint8_t own = forged ? kForged : kGenuine;
  for (uint32_t seq = from; seq != to; seq++) {
    const auto at = altered_.find(seq);
    uint8_t there = own;
    if (beside && waits(seq))
      there |= at == altered_.end() ? kGenuine : at->second;
    if (there != kGenuine)
      altered_[seq] = there;
    else if (at != altered_.end())
      altered_.erase(at);
  }
}

bool Source::has(uint32_t seq, bool genuine) const {
  if (!(span(irs_ + 1, seq) >= 0 && span(seq, rcv_nxt_) > 0) && !waits(seq))
    return false;
  const auto at = altered_.find(seq);
  return (at == altered_.end() ? kGenuine : at->second) & (genuine ? kGenuine : kForged);
}

void Source::end() {
  if (state_ != State::listen)
    state_ = fin_ && state_ == State::open ? State::time_wait : State::closed;
}

bool Source::answer(host_socket &to, uint32_t answered) const {
  static constexpr uint32_t kEstablished = 1, kTimeWait = 6, kCloseWait = 8, kListen = 10,
                            kNewSynRecv = 12; // include/net/tcp_states.h
  to.rcv_isn = irs_;
  to.snt_isn = iss_;
  to.rcv_nxt = rcv_nxt_ + fin_;
  to.rcv_wnd = kWindow;
  to.snd_una = snd_una_;
  to.snd_nxt = answered;
  to.max_window = kMaxWindow;
  to.ts_recent = ts_recent_;
  to.substate = kTimeWait;
  switch (state_) {
  case State::closed:
    return false;
  case State::listen:
    to.sock.state = kListen;
    break;
  case State::syn_received:
    to.sock.state = kNewSynRecv;
    break;
  case State::time_wait:
    to.sock.state = kTimeWait;
    break;
  case State::open:
    to.sock.state = fin_ ? kCloseWait : kEstablished;
  }
  return true;
}

} // namespace doppel::fuzz
