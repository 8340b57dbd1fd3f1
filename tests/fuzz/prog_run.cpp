// SPDX-License-Identifier: Apache-2.0
// Hostile packets for the real programs, loaded and attached in a world of its own: valid traffic
// of some clients and a target, with lies in between. A play follows from its seed alone.
//
//   prog_run --seconds 10 | --packets 100000 [--seed N] [--corpus DIR] [--replay FILE]
//
// A corpus is files with a seed a line. The first play that breaks an invariant ends the program,
// with its seed and its last packets; exit code 1. 77: not possible here.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/if_ether.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "doppel/names.h"
#include "tests/bpf/dataplane.h"
#include "tests/bpf/players.h"
#include "tests/bpf/run.h"
#include "tests/bpf/world.h"
#include "tests/fuzz/spoil.h"
#include "tests/packet/explain.h"

using namespace doppel;
using namespace doppel::bpftest;
using namespace doppel::fuzz;
using namespace doppel::packet;

namespace {

class Broken : public std::runtime_error {
  using runtime_error::runtime_error;
};

void require(bool condition, const std::string &what) {
  if (!condition)
    throw Broken(what);
}

class Stage {
public:
  Stage()
      : world(World::enter(AttachMode::tcx)),
        plane(DataPlane::in(world, AttachMode::tcx, config())) {
    free_ports = plane.free_ports();
  }
  static Config config() {
    Config c = default_config();
    c.limits.store_bytes = 1u << 20; // gets full
    c.limits.flow_cap = 256u << 10;
    return c;
  }

  World &world;
  DataPlane &plane;
  unsigned free_ports;
  uint64_t packets = 0, refused = 0, plays = 0, replies = 0;
};

class Play {
public:
  Play(Stage &stage, uint64_t seed) : s_(stage), d_(seed) {
    static uint16_t port = 30000;
    for (Client &c : clients_) {
      port = port >= 60000 ? 30000 : static_cast<uint16_t>(port + 1);
      c.port = port;
      c.isn = c.next = d_.one_in(2) ? d_.u32() : 0u - d_.below(20000);
      c.timestamps = c.offer.timestamps = !d_.one_in(3);
      c.server_port = static_cast<uint16_t>(kPort + d_.below(2));
    }
  }

  void run() {
    for (unsigned n = 20 + d_.below(100); n > 0; n--) {
      act();
      const std::string why = s_.plane.identity_broken();
      require(why.empty(), why);
    }
    end();
    s_.plays++;
  }

  std::string last() const {
    std::string out;
    for (const std::string &line : log_)
      out += "  " + line + "\n";
    return out;
  }

private:
  void note(const char *what, const Bytes &f) {
    log_.push_back(
        std::string(what) + " " + std::to_string(f.size()) + " bytes " +
        to_hex(Bytes(f.begin(), f.begin() + static_cast<long>(std::min<size_t>(f.size(), 100)))));
    if (log_.size() > 40)
      log_.pop_front();
    s_.packets++;
  }

  // BPF_PROG_RUN of a program that must leave this packet alone. bpf_prog_test_run_skb() itself
  // refuses (EINVAL) what no device would hand over: less than an IP header behind an EtherType
  // that promises one, more segments than GSO_MAX_SEGS. False then.
  bool untouched(const char *what, const char *program, const Bytes &f, unsigned segs,
                 unsigned size) {
    note(what, f);
    ProgRun run;
    run.fd = s_.plane.program(program);
    run.frame = f;
    run.ifindex = s_.world.cap_index();
    run.gso_segs = segs;
    run.gso_size = size;
    const RunResult r = run.go();
    if (r.error == EINVAL) {
      s_.refused++;
      return false;
    }
    const std::string harm = harm_done(run, r);
    require(harm.empty(), std::string(what) + ": " + harm);
    return true;
  }

  void capture(const Bytes &f, unsigned segs = 0, unsigned size = 0) {
    if (d_.one_in(16) && f.size() <= 1514 && !segs) {
      note("captured on the device", f);
      s_.world.wire().far().send(f);
    } else {
      untouched("captured", DP_PROG_INGRESS, f, segs, size);
    }
  }

  std::string text() {
    std::string t = "set key 0 0 ";
    t.resize(d_.one_in(8) ? 8000 : 16 + d_.below(1440), 'x');
    return t;
  }

  void client_acts() {
    Client &c = clients_[d_.below(3)];
    Packet p;
    unsigned segs = 0, size = 0;
    switch (d_.below(10)) {
    case 0:
    case 1:
      p = c.syn();
      break;
    case 2:
      p = c.ack();
      break;
    case 3:
    case 4:
    case 5: {
      const std::string t = text();
      p = c.data(t);
      if (t.size() > 1440) {
        size = 1440;
        segs = static_cast<unsigned>((t.size() + size - 1) / size);
      }
      break;
    }
    case 6:
      c.next += d_.below(3000);
      p = c.data("get after-a-hole\r\n");
      break;
    case 7:
      p = c.segment(c.next - d_.below(3000), PSH, text());
      break;
    case 8:
      p = c.fin();
      break;
    default:
      p = d_.one_in(3) ? c.rst() : c.ack();
      c.answered(d_.below(500));
    }
    Bytes f = p.build();
    if (d_.one_in(3)) {
      spoil(d_, f);
      if (d_.one_in(4)) {
        segs = d_.u32() & (d_.one_in(2) ? 0xff : 0xffff);
        size = d_.u32() & (d_.one_in(2) ? 0xfff : 0xffff);
      }
    }
    capture(f, segs, size);
  }

  struct Response {
    uint32_t seq = 0, ack = 0;
    uint8_t flags = ACK;
    uint16_t window = 500;
    std::string text;
    std::vector<Bytes> options;
  };

  Bytes from_target(const dp_shadow &sh, const Response &r) {
    return Packet()
        .mac(cast().target_mac, cast().host_mac)
        .ip4(cast().target, cast().host)
        .tcp(ntohs(sh.ep.target_port), ntohs(sh.ep.shadow_port))
        .seq(r.seq)
        .ack_number(r.ack)
        .flags(r.flags)
        .window(r.window)
        .options(r.options)
        .payload(r.text)
        .build();
  }

  std::optional<unsigned> any_shadow() {
    const std::vector<unsigned> open = s_.plane.open_slots();
    if (open.empty())
      return {};
    return open[d_.below(static_cast<unsigned>(open.size()))];
  }

  // Through the device, so that what the shadow answers is sent.
  void target_acts() {
    const std::optional<unsigned> slot = any_shadow();
    if (!slot)
      return;
    const dp_shadow sh = s_.plane.shadow(*slot);
    Response r;
    r.seq = sh.tcp.rcv_nxt;
    r.ack = sh.tcp.nxt;
    if (sh.tcp.flags & DP_SH_TS)
      r.options = opt::linux_data(sh.tcp.ts_recent + 1, sh.tcp.ts_val);
    if (sh.tcp.state == DP_SYN_SENT) {
      r.seq = d_.u32();
      r.flags = d_.one_in(10) ? RST | ACK : SYN | ACK;
      Offer offer;
      offer.sack = !d_.one_in(4);
      offer.wscale = !d_.one_in(4);
      offer.timestamps = !d_.one_in(4);
      r.options = syn_options(offer, 9, sh.tcp.ts_val);
    } else {
      switch (d_.below(8)) {
      case 0:
        r.text = std::string(1 + d_.below(1400), 'r');
        break;
      case 1:
        r.flags |= FIN;
        break;
      case 2:
        r.flags |= d_.one_in(4) ? RST : 0;
        break;
      case 3:
        r.ack = sh.tcp.una;
        r.options = {
            opt::sack({{sh.tcp.una + d_.below(5000), sh.tcp.una + 5000 + d_.below(5000)}})};
        break;
      case 4:
        r.window = static_cast<uint16_t>(d_.one_in(2) ? 0 : d_.u32());
        break;
      default:
        break;
      }
    }
    const Bytes f = from_target(sh, r);
    note("from the target", f);
    s_.world.wire().far().send(f);
    collect();
  }

  // What may change nothing, by the packet's own numbers (RFC 9293, 3.10.7; RFC 5961).
  static bool must_ignore(const dp_shadow &sh, const Response &r) {
    const auto ahead = [](uint32_t a, uint32_t b) { return int64_t{static_cast<int32_t>(a - b)}; };
    const int64_t wnd = int64_t{65535} << sh.tcp.rcv_wscale;
    const auto length = static_cast<uint32_t>(r.text.size());
    if (sh.tcp.state == DP_SYN_SENT)
      return !(r.flags & ACK) || r.ack != sh.tcp.isn + 1 || !(r.flags & (SYN | RST));
    if ((r.flags & SYN) || ahead(r.seq, sh.tcp.rcv_nxt) > wnd ||
        ahead(r.seq + length, sh.tcp.rcv_nxt) < -wnd)
      return true;
    if (r.flags & RST)
      return r.seq != sh.tcp.rcv_nxt;
    const int64_t acked = ahead(r.ack, sh.tcp.una);
    return !(r.flags & ACK) || acked > int64_t{sh.tcp.nxt - sh.tcp.una} ||
           acked < -int64_t{(1u << 30)};
  }

  void forge() {
    const std::optional<unsigned> slot = any_shadow();
    if (!slot)
      return;
    const dp_shadow before = s_.plane.shadow(*slot);
    Response r;
    r.seq = before.tcp.rcv_nxt + wild(d_);
    r.ack = d_.one_in(2) ? before.tcp.una : before.tcp.nxt + wild(d_);
    r.flags = d_.one_in(3) ? d_.u8()
                           : d_.of({uint8_t{ACK}, uint8_t{RST}, uint8_t{RST | ACK},
                                    uint8_t{SYN | ACK}, uint8_t{FIN | ACK}});
    r.window = static_cast<uint16_t>(d_.u32());
    r.text = std::string(d_.below(200), 'f');
    for (unsigned n = d_.below(3); n > 0; n--)
      r.options.push_back(d_.one_in(2) ? opt::sack({{wild(d_), wild(d_)}})
                                       : opt::timestamps(wild(d_), wild(d_)));
    if (r.options.size() > 2)
      r.options.resize(2);
    Bytes f = from_target(before, r);
    const bool damaged = d_.one_in(6), ignore = damaged || must_ignore(before, r);
    if (damaged)
      f[50] ^= 0x55;
    note("forged", f);
    ProgRun run;
    run.fd = s_.plane.program(DP_PROG_RETURN);
    run.frame = f;
    run.ifindex = s_.world.cap_index();
    const RunResult result = run.go();
    require(result.error == 0,
            "BPF_PROG_RUN of return: " + std::string(std::strerror(result.error)));
    require(result.verdict != -1, "a shadow's packet would reach our stack");
    if (!ignore)
      return;
    const dp_shadow after = s_.plane.shadow(*slot);
    std::string moved;
    const auto same = [&moved](const char *name, uint64_t was, uint64_t is) {
      if (was != is)
        moved += std::string(" ") + name + " " + std::to_string(was) + " -> " + std::to_string(is);
    };
    same("gen", before.gen, after.gen);
    same("state", before.tcp.state, after.tcp.state);
    same("una", before.tcp.una, after.tcp.una);
    same("nxt", before.tcp.nxt, after.tcp.nxt);
    same("end", before.tcp.end, after.tcp.end);
    same("wnd", before.tcp.wnd, after.tcp.wnd);
    same("rcv_nxt", before.tcp.rcv_nxt, after.tcp.rcv_nxt);
    same("ts_recent", before.tcp.ts_recent, after.tcp.ts_recent);
    same("delivered", before.tcp.delivered, after.tcp.delivered);
    same("tries", before.tcp.tries, after.tcp.tries);
    same("rto_ms", before.tcp.rto_ms, after.tcp.rto_ms);
    same("srtt_us", before.tcp.srtt_us, after.tcp.srtt_us);
    same("ahead", before.tcp.ahead, after.tcp.ahead);
    same("n_sacked", before.tcp.n_sacked, after.tcp.n_sacked);
    same("sacked", 0,
         std::memcmp(after.tcp.sacked, before.tcp.sacked, sizeof after.tcp.sacked) != 0);
    require(moved.empty(),
            "an unacceptable segment from the target changed its shadow (RFC 5961):" + moved);
  }

  void act() {
    switch (d_.below(20)) {
    case 0: { // noise
      Bytes f = random_bytes(d_, 14 + d_.below(100));
      set16(f, 12, 0x0800);
      untouched("captured", DP_PROG_INGRESS, f, 0, 0);
      break;
    }
    case 1:
      untouched("captured", DP_PROG_INGRESS, ipv6_chain(d_, 40000, kPort), 0, 0);
      break;
    case 2: { // return, of what is no shadow's
      const Client &c = clients_[d_.below(3)];
      Bytes f = Client(c).data("get k\r\n").build();
      if (d_.one_in(2))
        spoil(d_, f);
      if (f.size() < 38 || get16(&f[36]) < kShadowPort || get16(&f[36]) >= kShadowPort + 64)
        untouched("for return", DP_PROG_RETURN, f, 0, 0);
      break;
    }
    case 3:
    case 4:
    case 5:
      forge();
      break;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
      target_acts();
      break;
    case 11:
      if (d_.one_in(3)) {
        for (unsigned slot : s_.plane.open_slots())
          if (d_.one_in(2))
            s_.plane.command(slot, d_.one_in(3) ? DP_CMD_CLOSE : DP_CMD_RESEND);
        break;
      }
      [[fallthrough]];
    default:
      client_acts();
    }
  }

  // No frame may leave with an address that is not ours (bpf/deliver.bpf.c).
  void collect() {
    for (const Received &r : s_.world.wire().collect()) {
      const View &v = r.view;
      s_.replies++;
      require(v.src == cast().host_mac, "a frame left with a foreign source MAC");
      require(!v.is_ip4 || v.ip_src == cast().host, "a frame left with a foreign source address");
      require(!v.is_tcp || v.ip_dst == cast().target,
              "a copy left for somebody else: " + summary(v));
    }
  }

  void end() {
    DataPlane &p = s_.plane;
    for (unsigned slot : p.open_slots())
      p.command(slot, DP_CMD_RESET);
    dp_flow_key key;
    for (unsigned n = 0; n < 20000 && !bpf_map_get_next_key(p.map("flows"), nullptr, &key); n++) {
      ProgRun run;
      run.fd = p.program(DP_PROG_COMMAND);
      run.ifindex = p.link_index();
      run.frame = Packet().ip4("0.0.0.0", "0.0.0.0").tcp(0, 0).padding(6).build();
      std::memcpy(run.frame.data() + ETH_HLEN, &key, sizeof key);
      run.cb[DP_CMD_CB_OP] = DP_CMD_EXPIRE;
      run.cb[DP_CMD_CB_SLOT] = DP_NO_SLOT;
      run.cb[DP_CMD_CB_SECONDS] = 0;
      run.go();
    }
    collect();
    require(p.identity_broken().empty(), p.identity_broken());
    require(p.open_slots().empty(), "a shadow is still open");
    require(p.flow_entries() == 0, "flows are left: " + std::to_string(p.flow_entries()));
    require(p.free_ports() == s_.free_ports,
            "shadow ports leaked: " + std::to_string(p.free_ports()));
    require(p.store_entries() == 0,
            "chunks of the store leaked: " + std::to_string(p.store_entries()));
    const dp_ledger c = p.cell();
    require(c.in_flight == 0 && c.open == 0 && c.waiting == 0 && c.slots == 0,
            "a gauge does not return to zero: " + bpftest::text(counts_of(c)));
  }

  Stage &s_;
  Dice d_;
  Client clients_[3];
  std::deque<std::string> log_;
};

bool play(Stage &stage, uint64_t seed) {
  Play one(stage, seed);
  try {
    one.run();
    return true;
  } catch (const Broken &e) {
    std::printf("INVARIANT: %s\nthe last packets:\n%sseed %llu\n", e.what(), one.last().c_str(),
                static_cast<unsigned long long>(seed));
    return false;
  }
}

bool play_file(Stage &stage, const std::string &path) {
  std::ifstream file(path);
  for (uint64_t seed; file >> seed;)
    if (!play(stage, seed))
      return false;
  return true;
}

} // namespace

int main(int argc, char **argv) {
  uint64_t seconds = 0, packets = 0, seed = 1;
  std::string corpus, replay;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--seconds")
      seconds = std::stoull(argv[i + 1]);
    else if (name == "--packets")
      packets = std::stoull(argv[i + 1]);
    else if (name == "--seed")
      seed = std::stoull(argv[i + 1]);
    else if (name == "--corpus")
      corpus = argv[i + 1];
    else if (name == "--replay")
      replay = argv[i + 1];
  }
  if (const std::string &why = World::why_not(); !why.empty()) {
    std::printf("skipped: %s\n", why.c_str());
    return 77;
  }
  Stage stage;
  bool good = true;
  if (!replay.empty())
    return play_file(stage, replay) ? 0 : 1;
  if (!corpus.empty() && std::filesystem::exists(corpus))
    for (const auto &entry : std::filesystem::directory_iterator(corpus))
      good = good && play_file(stage, entry.path());
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (good && (packets ? stage.packets < packets : std::chrono::steady_clock::now() < until))
    good = play(stage, seed++);
  std::printf("%llu plays, %llu frames came of it, %llu packets were refused by BPF_PROG_RUN\n"
              "%llu packets\n",
              static_cast<unsigned long long>(stage.plays),
              static_cast<unsigned long long>(stage.replies),
              static_cast<unsigned long long>(stage.refused),
              static_cast<unsigned long long>(stage.packets));
  return good ? 0 : 1;
}
