// SPDX-License-Identifier: Apache-2.0
// The source's TCP, one end of one conversation: a receiver that is fed what capture saw and the
// network let through. What its application reads is what may reach a target.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "tests/fuzz/host/kernel.h"
#include "tests/fuzz/segment.h"

namespace doppel::fuzz {

class Source {
public:
  enum class State { listen, syn_received, open, time_wait, closed };
  static constexpr uint32_t kWindow = 40000; // offered; the application reads at once

  // A listening socket; or a conversation that is open when the play begins.
  Source() = default;
  Source(uint32_t isn, bool timestamps, uint32_t answered);

  // A segment arrives: RFC 9293, 3.10.7; RFC 5961; RFC 7323, 5.3; where they leave a choice, as
  // Linux does. answered: what the source has sent so far, the next sequence number of its own.
  // Returns the bytes of this very segment that are part of the stream now.
  uint32_t take(const Segment &s, uint32_t answered);
  // Its process ends it. What the client sent is then in TIME-WAIT, if there was a FIN, or nowhere.
  void end();

  State state() const { return state_; }
  // True: no more of the client's stream will be taken.
  bool over() const { return fin_ || state_ == State::time_wait || state_ == State::closed; }
  // False: no socket answers.
  bool answer(host_socket &to, uint32_t answered) const;

  uint32_t next() const { return rcv_nxt_; } // RCV.NXT, a FIN not counted
  uint32_t edge() const { return rcv_nxt_ + kWindow; }
  uint32_t una() const { return snd_una_; }
  uint32_t ts_recent() const { return ts_recent_; }
  // Bytes that the application has read.
  uint64_t taken() const { return state_ == State::listen ? 0 : taken_; }

  // May this byte of the stream be what the source has there? It is the client's, or a stranger's
  // (false). A byte that the source does not have is neither.
  bool has(uint32_t seq, bool genuine) const;
  // A stranger's text was taken.
  bool fooled() const { return !altered_.empty(); }

  // Genuine text that capture got, and this did not, and what came after it: bytes.
  uint32_t dropped = 0;
  bool forgotten = false; // its flow was, after that
  bool replaced = false;  // another conversation has its port

private:
  struct Piece {
    uint32_t from, to;
    bool fin;
  };
  void begin(const Segment &s, uint32_t answered);
  uint32_t text(const Segment &s);
  void beyond(const Segment &s, uint32_t to);
  void mark(uint32_t from, uint32_t to, bool forged, bool beside);
  void follow();
  bool waits(uint32_t seq) const;

  State state_ = State::listen;
  bool timestamps_ = false, fin_ = false;
  uint32_t irs_ = 0, iss_ = 0, rcv_nxt_ = 0, snd_una_ = 0, ts_recent_ = 0;
  uint64_t taken_ = 0;
  std::vector<Piece> queue_;            // out of order; Linux keeps overlapping ones
  std::map<uint32_t, uint8_t> altered_; // where a stranger's bytes are (2), or may be (3)
};

} // namespace doppel::fuzz
