// SPDX-License-Identifier: Apache-2.0
// What a play starts from: the host, its clock and commands; and its trace.
#include <arpa/inet.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "tests/fuzz/books.h"
#include "tests/fuzz/play.h"

namespace doppel::fuzz {

void Play::exclude_clients(dp_mapping &m) {
  m.clients = 1;
  dp_prefix_key key{};
  key.length = dp_prefix_length(128);
  key.list = m.clients | (client6_ ? 0 : DP_PREFIX_V4);
  key.address = client6_ ? wide(kClient) : mapped(kClient);
  const uint32_t exclude = DP_PREFIX_EXCLUDE;
  k_.map(&prefixes).update(&key, &exclude, 0);
}

void Play::set_up() {
  k_.reset();
  const unsigned form = in_.u8(), bases = in_.u8();
  dp_mapping m{};
  m.n_targets = 1 + (form & 1);
  const unsigned kind = in_.u8();
  m.application = static_cast<__u8>(kind % 3);
  client6_ = kind / 3 % 4 & 1;
  target6_ = kind / 3 % 4 & 2;
  m.flags = static_cast<__u16>(((form >> 1) & 7) | (form & 0x20 ? DP_MAP_CONVERGE : 0));
  converges_ = m.flags & DP_MAP_CONVERGE;
  if (form & 0x40) // somebody looks at the keys
    *k_.at<dp_key_watch>(&key_watch, 0) = {UINT64_MAX, 2, 0};
  m.ports = 1;
  m.max_bps = form & 0x10 ? 8 * 100000 : 0;
  for (unsigned t = 0; t < 2; t++) {
    m.target[t].address = t == 0 && target6_ ? wide(kTargets[t]) : mapped(kTargets[t]);
    m.target[t].shadow_addr = t == 0 && target6_ ? wide(kHost) : mapped(kHost);
    m.target[t].oif = HOST_DEVICE + 1 + t;
    m.target[t].port = kTargetPort;
    m.target[t].mtu = t ? 576 : 1500;
    m.target[t].n_pools = t && target6_ ? 1 : 2; // the further address is of the first one's family
    m.target[t].pool[1] = m.target[t].n_pools - 1;
  }
  if (kind / 12 % 8 == 7) // a list leaves the clients out
    exclude_clients(m);
  uint32_t row = 0;
  k_.map(&mappings).update(&row, &m, 0);
  for (uint32_t port = kPort; port < kPort + 2u; port++) {
    *k_.at<uint32_t>(&ports, dp_port_word(false, port)) |= dp_port_bit(port);
    dp_port_key key{};
    key.ifindex = HOST_DEVICE;
    key.port = static_cast<__u16>(port);
    key.proto = 6;
    key.direction = m.flags & DP_MAP_EGRESS ? DP_DIR_EGRESS : DP_DIR_INGRESS;
    const dp_port_val value{0, static_cast<__u16>(port - kPort), 0, 0};
    k_.map(&port_map).update(&key, &value, 0);
  }
  for (uint32_t slot = 0; slot < HOST_SLOTS; slot++)
    k_.map(slot < HOST_PORTS ? &host_free_slots : &host_free_further).push(&slot);
  const dp_addr further = target6_ ? wide(kFurther) : mapped(kFurther);
  uint32_t pool = 1;
  k_.at<dp_pool>(&pools, pool)->address = further;
  k_.map(&pool_of).update(&further, &pool, 0);
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
  k_.socket = [this](const bpf_sock_tuple &t, host_socket &to) {
    if (std::exchange(misses_, false))
      return false;
    for (const Client &c : clients_)
      if (ntohs(t.ipv4.sport) == c.port)
        return c.source->answer(to, c.answered);
    return false;
  };
  k_.port_in_use = [this](uint16_t port) { return port == busy_port_; };
  k_.preempt = [this] { act(true); };
}

void Play::wait(uint64_t ms) {
  tell("wait", std::to_string(ms));
  const uint64_t until = k_.now + ms * 1000000;
  for (int ticks = 0; ticks < 60 && k_.timer_at && k_.timer_at < until; ticks++)
    k_.advance(k_.timer_at - k_.now);
  if (k_.now < until)
    k_.advance(until - k_.now);
}

void Play::command(dp_command op, uint32_t slot, uint32_t gen, uint32_t seconds,
                   const dp_flow_key *key) {
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

void Play::expire(dp_command op, uint32_t seconds) {
  std::vector<dp_flow_key> keys;
  k_.map(&flows).for_each(
      [&keys](const void *key, void *) { keys.push_back(*static_cast<const dp_flow_key *>(key)); });
  for (const dp_flow_key &key : keys)
    if (op == DP_CMD_EXPIRE || is_gone(key))
      command(op, DP_NO_SLOT, 0, seconds, &key);
}

// The keeper has looked twice, and no socket has the conversation.
bool Play::is_gone(const dp_flow_key &key) const {
  for (const Client &c : clients_)
    if (ntohs(key.client_port) == c.port)
      return c.source->state() == Source::State::closed ||
             c.source->state() == Source::State::time_wait;
  return true;
}

void Play::tell(const char *what, const std::string &more) {
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
  k_.map(&flows).for_each([](const void *key, void *value) {
    const auto &k = *static_cast<const dp_flow_key *>(key);
    const auto &f = *static_cast<const dp_flow *>(value);
    std::fprintf(stderr,
                 "    flow %u to %u slot %d gen %u excluded %u seen %u next %08x marks %x\n",
                 ntohs(k.client_port), k.target, static_cast<int>(f.slot), f.gen, f.excluded,
                 f.seen, f.next, f.marks);
  });
}

std::string Play::text(const Segment &s) {
  char line[160];
  std::snprintf(line, sizeof line, "%u>%u seq %08x ack %08x flags %02x len %u win %u opt %zu",
                s.sport, s.dport, s.seq, s.ack, s.flags, s.length, s.window, s.options.size());
  return line;
}

} // namespace doppel::fuzz
