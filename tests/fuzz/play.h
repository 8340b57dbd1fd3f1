// SPDX-License-Identifier: Apache-2.0
// A play of the session fuzzer: who acts in it, and what is judged. Ports, addresses and sequence
// numbers are in host order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/fuzz/segment.h"
#include "tests/fuzz/source.h"

namespace doppel::fuzz {

constexpr unsigned kClients = 4;
constexpr size_t kMaxActs = 400; // of one input: a bound for its time

class Input {
public:
  Input(const uint8_t *data, size_t size) : at_(data), end_(data + size) {}
  bool empty() const { return at_ == end_; }
  uint8_t u8() { return at_ == end_ ? 0 : *at_++; }
  uint16_t u16() {
    const unsigned high = u8();
    return static_cast<uint16_t>(high << 8 | u8());
  }
  uint32_t u32() {
    const uint32_t high = u16();
    return high << 16 | u16();
  }

private:
  const uint8_t *at_, *end_;
};

struct Client {
  uint16_t port = 0, server_port = kPort;
  uint32_t isn = 0, next = 0, answered = 0x70000000, tsval = 1000;
  uint32_t high = 0; // behind all that was ever sent, or meant to be
  bool timestamps = false, finished = false;
  bool reset = false; // it has sent a RST, and knows of no connection any more
  std::shared_ptr<Source> source;
};

// What becomes of a segment of the client's.
enum class Fate {
  taken,
  dropped, // captured, but the source's TCP does not get it: a firewall, or memory
  unseen,  // capture was away
  missed,  // the first look-up finds no socket: it moves from one hash to the other
};

// Bytes of one conversation that must be counted for one target.
struct Account {
  uint64_t must = 0;
  uint64_t settled = 0; // so many of those taken are in `must`, or nobody can know of them
};

class Play {
public:
  Play(const uint8_t *data, size_t size) : in_(data, size) {}

  void run();

private:
  void set_up();
  void exclude_clients(dp_mapping &m);
  void act(bool nested);
  void tear_down();

  // ---- world.cpp

  void wait(uint64_t ms);
  void command(dp_command op, uint32_t slot, uint32_t gen, uint32_t seconds = 0,
               const dp_flow_key *key = nullptr);
  void expire(dp_command op, uint32_t seconds);
  bool is_gone(const dp_flow_key &key) const;
  uint32_t targets() { return k_.at<dp_mapping>(&mappings, 0)->n_targets; }
  // DOPPEL_FUZZ_TRACE=1 tells a play act by act.
  void tell(const char *what, const std::string &more = {});
  static std::string text(const Segment &s);

  // ---- clients.cpp

  void capture(Skb skb);
  Skb frame_of_client(const Segment &s) const;
  // On a client host the packet knows its socket, unless another host's passes through.
  void send_from_socket(Skb &skb);
  Segment from(Client &c, uint32_t seq, uint8_t flags, uint32_t length);
  // A new connection of the client's.
  static void connect(Client &c, uint32_t isn);
  static int32_t span(uint32_t from, uint32_t to) { return static_cast<int32_t>(to - from); }
  // A client's TCP does not send beyond the window, nor beyond its FIN.
  uint32_t fit(const Client &c, uint32_t seq, uint32_t length) const;
  Segment plain(Client &c, uint32_t seq, uint32_t length);
  uint32_t length();
  // One segment of the client's on its way to the source: TC comes first.
  void send(Client &c, const Segment &s);
  void syn(Client &c);
  // Somebody sends what the client did not. Its numbers are wrong in one way at least, or (`what`
  // 7) in none: then it fools the source as well, which nobody can tell from here.
  void forge(Client &c, unsigned what);
  // A good packet with some bytes overwritten, cut or stretched.
  void spoil();

  // ---- target.cpp

  // What a shadow may not be moved by (RFC 9293, 3.10.7; RFC 5961), from the packet's own numbers.
  bool must_ignore(const dp_shadow &sh, const Segment &s);
  void respond(const Segment &s, bool nested);
  Skb frame_of_target(const Segment &s) const;
  Segment from_target(uint32_t slot);
  void target_acts(unsigned what, bool nested);

  // ---- judge.cpp

  // Whose stream a shadow has: of the conversation that its client has when it is first seen.
  void note_shadows();
  // The client's bytes that the source has; or, where it got less than capture (a firewall, or it
  // is gone), what would have come next. A stranger's only if the source was fooled, too.
  bool may_have(uint32_t slot, uint32_t seq, uint8_t byte);
  void books(bool bytes);
  // A segment is on its way to the source, and has got there: what must be counted of what the
  // source had before, and of the segment.
  void settle_before(const Client &c, const Segment &s, bool captured);
  void settle_own(const Client &c, uint64_t taken, bool captured);
  // What the source took of flows that are not known (any more), nobody can know of.
  void forgive();
  // The clients send again what was lost, and the source has all.
  void drain();
  void judge_counts();
  // As far as the ledger knows of keys.
  void judge_notes();

  Kernel &k_ = kernel();
  Input in_;
  std::array<Client, kClients> clients_;
  int (*program_)(__sk_buff *) = doppel_ingress;
  uint16_t busy_port_ = 0;
  bool client6_ = false, target6_ = false; // they speak IPv6: the clients, the first target
  bool misses_ = false;                    // the next look-up of a socket finds none
  host_socket sender_{};
  Fate fate_ = Fate::taken;
  std::vector<std::shared_ptr<Source>> sources_;
  std::map<std::pair<uint32_t, uint32_t>, std::shared_ptr<Source>> whose_; // by slot and gen
  std::map<const Source *, std::array<Account, 2>> accounts_;
  bool tracked_ = false, spoilt_ = false, preempted_ = false;
  bool paused_ = false;          // it was, some time
  bool converges_ = false;       // keys are noted
  bool reloaded_ = false;        // the number of targets may have been another
  std::array<bool, 2> unsure_{}; // of a target: nobody can know what is to be counted
};

} // namespace doppel::fuzz
