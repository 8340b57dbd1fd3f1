// SPDX-License-Identifier: Apache-2.0
// The whole data plane on the host's kernel: an input is a play of clients, strangers, a target
// that lies, a clock, and another CPU. After every act the books must be right. Where a socket of
// this host can tell, what reaches a target must be what the source's TCP (source.h) has at that
// place, and what is counted as observed, what it took.
#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "tests/fuzz/books.h"
#include "tests/fuzz/segment.h"
#include "tests/fuzz/source.h"

namespace doppel::fuzz {
namespace {

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
  std::shared_ptr<Source> source;
};

// What becomes of a segment of the client's.
enum class Fate {
  taken,
  dropped, // captured, but the source's TCP does not get it: a firewall, or memory
  unseen,  // capture was away
};

class Play {
public:
  Play(const uint8_t *data, size_t size) : in_(data, size) {}

  void run() {
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

private:
  void set_up() {
    k_.reset();
    const unsigned form = in_.u8(), bases = in_.u8();
    dp_mapping m{};
    m.n_targets = 1 + (form & 1);
    m.application = static_cast<__u8>(in_.u8() % 3);
    m.flags = static_cast<__u16>((form >> 1) & 7);
    m.ports = 1;
    m.max_bps = form & 0x10 ? 8 * 100000 : 0;
    for (unsigned t = 0; t < 2; t++) {
      m.target[t].address = mapped(kTargets[t]);
      m.target[t].shadow_addr = mapped(kHost);
      m.target[t].oif = HOST_DEVICE + 1 + t;
      m.target[t].port = kTargetPort;
      m.target[t].mtu = t ? 576 : 1500;
    }
    uint32_t row = 0;
    k_.map(&mappings).update(&row, &m, 0);
    for (uint32_t port = kPort; port < kPort + 2u; port++) {
      *k_.at<uint32_t>(&ports, dp_port_word(false, port)) |= dp_port_bit(port);
      dp_port_key key{};
      key.ifindex = HOST_DEVICE;
      key.port = static_cast<__u16>(port);
      key.proto = 6;
      key.direction = m.flags & DP_MAP_EGRESS ? DP_DIR_EGRESS : DP_DIR_INGRESS;
      const dp_port_val value{0, static_cast<__u16>(port - kPort)};
      k_.map(&port_map).update(&key, &value, 0);
    }
    for (uint32_t slot = 0; slot < HOST_SLOTS; slot++)
      k_.map(&free_slots).push(&slot);
    k_.at<dp_fresh>(&fresh_chunks, 0)->limit = HOST_CHUNKS;
    program_ = m.flags & DP_MAP_EGRESS ? doppel_egress : doppel_ingress;
    static constexpr uint32_t isns[] = {0x1000, 0xffffe000, 0x7fffe000, 0xfffffffe};
    for (unsigned i = 0; i < kClients; i++) {
      Client &c = clients_[i];
      c.port = static_cast<uint16_t>(40000 + i);
      c.server_port = static_cast<uint16_t>(kPort + (i == 3));
      c.isn = isns[(bases >> 2 * i) & 3];
      c.timestamps = i % 2;
      connect(c, c.isn);
      c.source = std::make_shared<Source>(c.isn, c.timestamps, c.answered);
      sources_.push_back(c.source);
    }
    tracked_ = !(m.flags & (DP_MAP_ANY_HOST | DP_MAP_EGRESS));
    exact_ = tracked_ && m.n_targets == 1;
    k_.socket = [this](const bpf_sock_tuple &t, host_socket &to) {
      for (const Client &c : clients_)
        if (ntohs(t.ipv4.sport) == c.port)
          return c.source->answer(to, c.answered);
      return false;
    };
    k_.port_in_use = [this](uint16_t port) { return port == busy_port_; };
    k_.preempt = [this] { act(true); };
  }

  // ---- the client's side

  void capture(Skb skb) {
    if (program_ == doppel_egress && skb.data.size() >= 54)
      send_from_socket(skb);
    const Skb before = skb;
    if (skb.data.size() >= 54)
      tell("capture", "from " + std::to_string(get16(&skb.data[34])) + " seq " +
                          std::to_string(get32(&skb.data[38])) + " flags " +
                          std::to_string(skb.data[47]) + " size " +
                          std::to_string(skb.data.size()) + " ttl " + std::to_string(skb.data[22]));
    const int verdict = k_.run(program_, skb);
    require(verdict == -1, "capture's verdict is not TC_ACT_UNSPEC");
    require(skb.data == before.data, "the original's bytes were changed");
    __sk_buff want = before.ctx;
    require(!std::memcmp(&want, &skb.ctx, sizeof want), "the original's metadata was changed");
  }

  // On a client host the packet knows its socket, unless another host's passes through.
  void send_from_socket(Skb &skb) {
    for (const Client &c : clients_)
      if (get16(&skb.data[34]) == c.port && c.source->state() == Source::State::open)
        skb.ctx.sk = &sender_.sock;
  }

  Segment from(Client &c, uint32_t seq, uint8_t flags, uint32_t length) {
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
    fate_ = fate == 1 ? Fate::dropped : fate == 2 ? Fate::unseen : Fate::taken;
    return s;
  }

  // A new connection of the client's.
  static void connect(Client &c, uint32_t isn) {
    c.isn = isn;
    c.next = c.high = isn + 1;
    c.finished = false;
  }

  static int32_t span(uint32_t from, uint32_t to) { return static_cast<int32_t>(to - from); }

  // A client's TCP does not send beyond the window, nor beyond its FIN.
  uint32_t fit(const Client &c, uint32_t seq, uint32_t length) const {
    const uint32_t edge = c.finished ? c.high : tracked_ ? c.source->edge() : seq + length;
    return static_cast<uint32_t>(std::clamp<int64_t>(span(seq, edge), 0, length));
  }

  // One segment of the client's on its way to the source: TC comes first.
  void send(Client &c, const Segment &s) {
    const Fate fate = fate_;
    fate_ = Fate::taken;
    if (c.source->state() == Source::State::listen && !(s.flags & kSyn))
      return; // it never sends before it has an answer
    if (span(c.high, s.seq + s.length) > 0 && !(s.flags & kSyn))
      c.high = s.seq + s.length;
    // A RST, or a FIN, that means more to capture than to the source.
    if ((fate == Fate::unseen && s.length) ||
        ((s.flags & (kFin | kRst)) && (fate == Fate::dropped || c.source->dropped)))
      exact_ = false;
    if (s.ttl == 1 && s.length)
      exact_ = false;
    const auto source = c.source;
    if (fate != Fate::unseen)
      capture(frame(s));
    // What follows is in order for capture, and is not for the source.
    if (source->over() || fate == Fate::dropped || source->dropped)
      source->dropped += s.length;
    if (fate != Fate::dropped)
      source->take(s, c.answered);
    tell("source", "next " + std::to_string(source->next()) + " taken " +
                       std::to_string(source->taken()) + (fate == Fate::dropped ? " DROPPED" : "") +
                       (fate == Fate::unseen ? " UNSEEN" : ""));
  }

  // Somebody sends what the client did not. Its numbers are wrong in one way at least, or (`what`
  // 7) in none: then it fools the source as well, which nobody can tell from here.
  void forge(Client &c, unsigned what) {
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
    capture(frame(s));
    of->take(s, c.answered);
    tell("stranger", text(s) + (of->fooled() ? " FOOLED" : ""));
  }

  // Whose stream a shadow has: of the conversation that its client has when it is first seen.
  void note_shadows() {
    for (uint32_t slot = 0; slot < HOST_SLOTS; slot++) {
      const dp_shadow &sh = shadow_at(slot);
      for (const Client &c : clients_)
        if (sh.gen && ntohs(sh.ep.key.client_port) == c.port)
          whose_.try_emplace({slot, sh.gen}, c.source);
    }
  }

  // The client's bytes that the source has; or, where it got less than capture (a firewall, or it
  // is gone), what would have come next. A stranger's only if the source was fooled, too.
  bool may_have(uint32_t slot, uint32_t seq, uint8_t byte) {
    const bool genuine = byte == content(seq);
    if (!tracked_ || (!genuine && byte != forgery(seq)))
      return genuine;
    const auto of = whose_.find({slot, shadow_at(slot).gen});
    require(of != whose_.end(), "a shadow is nobody's");
    const Source &source = *of->second;
    return source.has(seq, genuine) || (genuine && source.dropped && span(source.next(), seq) >= 0);
  }

  void books(bool bytes) {
    note_shadows();
    check_books(bytes, spoilt_, [this](uint32_t slot, uint32_t seq, uint8_t byte) {
      return may_have(slot, seq, byte);
    });
  }

  // The clients send again what was lost, and the source has all.
  void drain() {
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

  Segment plain(Client &c, uint32_t seq, uint32_t length) {
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

  uint32_t length() {
    static constexpr uint32_t some[] = {1, 16, 100, 528, 1440, 1460, 2048, 2900, 4096, 9000, 30000};
    const unsigned b = in_.u8();
    return b < 200 ? some[b % std::size(some)] : b < 250 ? in_.u8() : in_.u16();
  }

  void syn(Client &c) {
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
    if (what & 1)
      exact_ = false;
    if (c.source->state() == Source::State::listen)
      c.timestamps = what & 8;
    s.ack = 0;
    send(c, s);
  }

  // ---- the target's side

  // What a shadow may not be moved by (RFC 9293, 3.10.7; RFC 5961), from the packet's own numbers.
  bool must_ignore(const dp_shadow &sh, const Segment &s) {
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

  void respond(const Segment &s, bool nested) {
    const uint32_t slot = s.dport - HOST_FIRST_PORT;
    Skb skb = frame(s);
    skb.data[0] = 2; // what the device does with it is another's matter
    const bool ours = slot < HOST_SLOTS && shadow_at(slot).tcp.state != DP_CLOSED &&
                      shadow_at(slot).ep.oif && s.src == ntohl(shadow_at(slot).ep.address.w[3]) &&
                      s.dst == kHost && htons(s.sport) == shadow_at(slot).ep.target_port;
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

  Segment from_target(uint32_t slot) {
    const dp_shadow &sh = shadow_at(slot);
    Segment s;
    s.src = ntohl(sh.ep.address.w[3]);
    s.dst = kHost;
    s.sport = ntohs(sh.ep.target_port);
    s.dport = static_cast<uint16_t>(HOST_FIRST_PORT + slot);
    s.seq = sh.tcp.rcv_nxt;
    s.ack = sh.tcp.nxt;
    if (sh.tcp.flags & DP_SH_TS)
      s.options = timestamp(sh.tcp.ts_recent + 1, sh.tcp.ts_val);
    return s;
  }

  void target_acts(unsigned what, bool nested) {
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

  // ---- nobody's side

  // A good packet with some bytes overwritten, cut or stretched.
  void spoil() {
    Client &c = clients_[in_.u8() % kClients];
    const bool response = in_.u8() & 1;
    Segment s = response ? from_target(in_.u8() % HOST_SLOTS) : from(c, c.next, kAck, in_.u8());
    Skb skb = frame(s);
    for (unsigned n = in_.u8() % 8; n > 0; n--) {
      const size_t at = in_.u8() % std::min<size_t>(skb.data.size(), 94);
      skb.data[at] = in_.u8();
      if (at >= 54 && !response)
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

  void command(dp_command op, uint32_t slot, uint32_t gen, uint32_t seconds = 0,
               const dp_flow_key *key = nullptr) {
    Skb skb = frame(Segment{});
    skb.data.resize(60);
    if (key)
      std::memcpy(&skb.data[14], key, sizeof *key);
    skb.ctx.cb[DP_CMD_CB_OP] = op;
    skb.ctx.cb[DP_CMD_CB_SLOT] = slot;
    skb.ctx.cb[DP_CMD_CB_GEN] = gen;
    skb.ctx.cb[DP_CMD_CB_SECONDS] = seconds;
    tell("command", std::to_string(op) + " slot " + std::to_string(slot));
    k_.run(doppel_command, skb);
  }

  void expire(dp_command op, uint32_t seconds) {
    exact_ = false;
    std::vector<dp_flow_key> keys;
    k_.map(&flows).for_each([&keys](const void *key, void *) {
      keys.push_back(*static_cast<const dp_flow_key *>(key));
    });
    for (const dp_flow_key &key : keys)
      command(op, DP_NO_SLOT, 0, seconds, &key);
  }

  void wait(uint64_t ms) {
    tell("wait", std::to_string(ms));
    const uint64_t until = k_.now + ms * 1000000;
    for (int ticks = 0; ticks < 60 && k_.timer_at && k_.timer_at < until; ticks++)
      k_.advance(k_.timer_at - k_.now);
    if (k_.now < until)
      k_.advance(until - k_.now);
  }

  // DOPPEL_FUZZ_TRACE=1 tells a play act by act.
  void tell(const char *what, const std::string &more = {}) {
    static const bool wanted = std::getenv("DOPPEL_FUZZ_TRACE") != nullptr;
    if (!wanted)
      return;
    std::fprintf(stderr, "%6llu ms  cpu %u  %s %s\n",
                 static_cast<unsigned long long>(k_.now / 1000000 % 1000000), k_.cpu, what,
                 more.c_str());
    for (uint32_t slot = 0; slot < HOST_SLOTS; slot++)
      if (const dp_shadow &sh = shadow_at(slot); is_open(sh))
        std::fprintf(stderr,
                     "    slot %u gen %u state %u flags %04x una %08x nxt %08x end %08x fin %08x "
                     "floor %08x wnd %u ahead %08x sacked %u rcv_nxt %08x\n",
                     slot, sh.gen, sh.tcp.state, sh.tcp.flags, sh.tcp.una, sh.tcp.nxt, sh.tcp.end,
                     sh.tcp.fin, sh.tcp.store_start, sh.tcp.wnd, sh.tcp.ahead, sh.tcp.n_sacked,
                     sh.tcp.rcv_nxt);
  }

  static std::string text(const Segment &s) {
    char line[160];
    std::snprintf(line, sizeof line, "%u>%u seq %08x ack %08x flags %02x len %u win %u opt %zu",
                  s.sport, s.dport, s.seq, s.ack, s.flags, s.length, s.window, s.options.size());
    return line;
  }

  void act(bool nested) {
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
        capture(frame(from(c, in_.u32(), in_.u8(), kind)));
      break;
    case 9: {
      Segment s = from(c, c.high, kFin | kAck, in_.u8() & 1 ? length() : 0);
      s.length = fit(c, s.seq, s.length);
      if (c.source->state() == Source::State::listen)
        break;
      send(c, s);
      c.finished = true;
      c.next = c.high;
      break;
    }
    case 10:
      send(c, from(c, c.next, kRst, 0));
      break;
    case 11:
      c.answered += in_.u8();
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
      exact_ = false;
      connect(c, isn);
      unsure_ = unsure_ || (isn & 1); // the former may be taken to go on, as far as numbers tell
      c.source = isn & 1 ? std::make_shared<Source>(isn, c.timestamps, c.answered)
                         : std::make_shared<Source>();
      c.answered = isn & 1 ? c.answered : c.answered + 0x10000;
      sources_.push_back(c.source);
      break;
    }
    case 14: // the source's process is killed
      if (in_.u8() % 3 == 0) {
        c.source->end();
        exact_ = false;
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
      exact_ = false;
      break;
    }
    case 29: {
      const unsigned b = in_.u8();
      exact_ = false;
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
      exact_ = false;
      break;
    }
    default:
      if (nested)
        break;
      k_.preempt_at = 1 + in_.u8() % 6;
      tell("another CPU at lock", std::to_string(k_.preempt_at));
      preempted_ = true;
      exact_ = false;
      unsure_ = true; // two CPUs that begin and end one flow may count a segment twice
      act(false);     // the one that is to be interrupted
    }
  }

  void tear_down() {
    k_.clone_fails_at = k_.update_fails_at = k_.build_fails_at = k_.preempt_at = 0;
    drain();
    for (uint32_t slot = 0; slot < HOST_SLOTS; slot++)
      if (is_open(shadow_at(slot)))
        command(DP_CMD_RESET, slot, shadow_at(slot).gen);
    expire(DP_CMD_EXPIRE, 0);
    wait(200);
    books(true);
    k_.sent.clear();
    require(k_.map(&flows).size() == 0, "flows are left");
    require(k_.map(&store).size() == 0, "chunks of the store are left");
    require(k_.map(&free_slots).size() == HOST_SLOTS, "slots are left");
    require(k_.map(&timer_queue).size() == 0, "slots are still watched");
  }

  Kernel &k_ = kernel();
  Input in_;
  std::array<Client, kClients> clients_;
  int (*program_)(__sk_buff *) = doppel_ingress;
  uint16_t busy_port_ = 0;
  host_socket sender_{};
  Fate fate_ = Fate::taken;
  std::vector<std::shared_ptr<Source>> sources_;
  std::map<std::pair<uint32_t, uint32_t>, std::shared_ptr<Source>> whose_; // by slot and gen
  bool tracked_ = false, exact_ = false, unsure_ = false;
  bool spoilt_ = false, preempted_ = false;
};

} // namespace
} // namespace doppel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  doppel::fuzz::Play(data, size).run();
  return 0;
}
