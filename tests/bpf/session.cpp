// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/session.h"

#include "doppel/names.h"
#include "tests/bpf/witness.h"
#include "tests/packet/explain.h"
#include "tests/soon.h"

namespace doppel::bpftest {

using namespace packet;

std::string name_of(const testing::TestParamInfo<Mode> &info) {
  const Families f = info.param.families;
  return std::string(info.param.attach == AttachMode::tcx ? "tcx" : "clsact") +
         (info.param.way == Way::run ? "_run" : "_hook") +
         (f.client6   ? f.target6 ? "_v6" : "_v6_to_v4"
          : f.target6 ? "_v4_to_v6"
                      : "");
}

void PrintTo(const Mode &mode, std::ostream *out) { *out << name_of({mode, 0}); }

std::string filler(size_t n, unsigned seed) {
  std::string out(n, 0);
  for (size_t i = 0; i < n; i++)
    out[i] = static_cast<char>('a' + (i * 7 + i / 26 + seed) % 26);
  return out;
}

uint16_t unused_port() {
  static uint16_t last = 40000;
  return ++last;
}

namespace {

// The stack's own questions about its neighbours come whenever they like; doppel asks none here,
// as the target is a permanent one.
constexpr uint16_t kArp = 0x0806;
constexpr uint8_t kHopByHop = 0, kIcmp6 = 58; // RFC 3810, 5: reports are behind a router alert

bool about_neighbours(const View &v) {
  return v.src == cast().host_mac &&
         (v.ethertype == kArp || (v.is_ip6 && (v.protocol == kHopByHop || v.protocol == kIcmp6)));
}

Frames views(std::vector<Received> &&list) {
  Frames out;
  for (Received &r : list)
    if (!about_neighbours(r.view))
      out.push_back(std::move(r.view));
  return out;
}

} // namespace

std::string Frames::text() const {
  std::string out;
  for (const View &v : *this)
    out += "  " + summary(v) + "\n    " + scapy(v) + "\n";
  return out.empty() ? "  nothing\n" : out;
}

void Frames::are(const std::vector<View> &expected, const std::vector<std::string> &ignore) const {
  if (size() != expected.size())
    ADD_FAILURE() << "got:\n"
                  << text() << "expected:\n"
                  << Frames(expected.begin(), expected.end()).text();
  for (size_t i = 0; i < size() && i < expected.size(); i++)
    if (const std::string why = diff(expected[i], at(i), ignore); !why.empty())
      ADD_FAILURE() << "frame " << i << ", " << summary(at(i)) << "\n" << why;
}

void Session::SetUp() {
  if (!World::why_not().empty())
    GTEST_SKIP() << World::why_not();
  world_ = &World::enter(GetParam().attach, GetParam().families);
  attach_witness(*world_);
  plane_ = &DataPlane::in(*world_, GetParam().attach, config());
  collect();
  free_ports_ = plane_->free_ports();
  flow_entries_ = plane_->flow_entries();
  store_entries_ = plane_->store_entries();
  cell_before_ = plane_->cell();
  client_.port = unused_port();
  mark();
  if (!HasFatalFailure())
    begin();
}

void Session::next_client() {
  client_ = Client{};
  client_.port = unused_port();
  target_ = Target{};
}

// Ends what the test left open, so that the next one finds the data plane idle; and whatever
// happened, nothing may have leaked.
void Session::TearDown() {
  if (!plane_)
    return;
  plane_->pause(false);
  for (unsigned slot : plane_->open_slots())
    plane_->command(slot, DP_CMD_RESET);
  collect();
  EXPECT_EQ(plane_->identity_broken(), "");
  EXPECT_TRUE(plane_->open_slots().empty());
  EXPECT_EQ(plane_->free_ports(), free_ports_) << "shadow ports leaked";
  // What was freed in slices takes a few ticks of the timer.
  EXPECT_TRUE(soon([this] { return new_store_entries() == 0; }))
      << "chunks of the store leaked: " << new_store_entries();
  const dp_ledger cell = plane_->cell();
  EXPECT_EQ(cell.in_flight, cell_before_.in_flight);
  EXPECT_EQ(cell.open, cell_before_.open);
  EXPECT_EQ(cell.slots, cell_before_.slots);
  EXPECT_EQ(cell.waiting - cell_before_.waiting, new_flow_entries());
  const dp_client held = plane_->all_clients(), totals = plane_->client_totals();
  EXPECT_EQ(held.chunks, static_cast<int>(plane_->store_entries()));
  EXPECT_EQ(plane_->target_chunks(), held.chunks);
  EXPECT_EQ(held.flows, static_cast<int>(plane_->flow_entries()));
  EXPECT_EQ(held.ports, 0);
  EXPECT_EQ(held.embryonic, 0);
  EXPECT_EQ(totals.flows, held.flows);
  EXPECT_EQ(totals.ports, held.ports);
  EXPECT_EQ(plane_->store_state().used, plane_->chunks_held());
  EXPECT_EQ(plane_->store_state().queued, 0u);
}

Outcome Session::collect() {
  Outcome out;
  out.sent = views(world_->wire().collect());
  out.passed = views(world_->tap().collect());
  return out;
}

Frames Session::through_hook(const Packet &p, std::optional<uint16_t> gso_size) {
  if (gso_size)
    world_->wire().far().send_offloaded(p, *gso_size);
  else
    world_->wire().far().send(p.build());
  Outcome out = collect();
  // Offloaded, the checksum is still to be made; all else must be the same.
  const Bytes original = gso_size ? Packet(p).partial_checksum().build() : p.build();
  EXPECT_EQ(out.passed.size(), 1u) << "the program behind ours did not see the packet once:\n"
                                   << out.passed.text();
  for (const View &v : out.passed)
    EXPECT_EQ(to_hex(v.frame), to_hex(original)) << diff(parse(original), v);
  return out.sent;
}

Frames Session::capture(const Packet &p) {
  if (GetParam().way == Way::hook)
    return through_hook(p, std::nullopt);
  ProgRun run;
  run.fd = plane_->program(DP_PROG_INGRESS);
  run.frame = p.build();
  run.ifindex = world_->cap_index();
  EXPECT_EQ(harm_done(run, run.go()), "") << scapy(parse(run.frame));
  EXPECT_EQ(plane_->identity_broken(), "");
  return collect().sent;
}

Frames Session::capture_gso(const Packet &p, uint16_t gso_size) {
  if (GetParam().way == Way::hook)
    return through_hook(p, gso_size);
  ProgRun run;
  run.fd = plane_->program(DP_PROG_INGRESS);
  run.frame = p.build();
  run.ifindex = world_->cap_index();
  const View v = parse(run.frame);
  run.gso_size = gso_size;
  run.gso_segs = static_cast<unsigned>((v.payload.size() + gso_size - 1) / gso_size);
  EXPECT_EQ(harm_done(run, run.go()), "") << scapy(v);
  EXPECT_EQ(plane_->identity_broken(), "");
  return collect().sent;
}

Outcome Session::respond(const Packet &p) {
  world_->wire().far().send(p.build());
  Outcome out = collect();
  EXPECT_EQ(plane_->identity_broken(), "");
  return out;
}

Frames Session::consumed(const Packet &p) {
  Outcome out = respond(p);
  EXPECT_TRUE(out.passed.empty()) << "not consumed:\n" << out.passed.text();
  return out.sent;
}

void Session::knock() {
  capture(client_.syn()).none();
  const Frames sent = capture(client_.ack());
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  target_.meets(sent[0]);
  target_.timestamps = client_.offer.timestamps && target_.offer.timestamps;
}

void Session::open() {
  knock();
  if (HasFatalFailure())
    return;
  consumed(target_.syn_ack()).are({expected().made(client_.isn + 1, 0)});
}

void Session::deliver(const Frames &frames) {
  for (const View &v : frames) {
    EXPECT_TRUE(v.faults.empty()) << summary(v);
    EXPECT_EQ(target_.takes(v), "");
  }
}

int Session::new_flow_entries() const {
  return static_cast<int>(plane_->flow_entries()) - static_cast<int>(flow_entries_);
}

int Session::new_store_entries() const {
  return static_cast<int>(plane_->store_entries()) - static_cast<int>(store_entries_);
}

void Session::mark() { before_ = counts_of(plane_->cell()); }
Counts Session::moved() const { return difference(counts_of(plane_->cell()), before_); }

void Session::expect_account(const Counts &expected) const {
  EXPECT_EQ(text(account(moved())), text(expected));
}

void Session::expect_flows(const Counts &expected) const {
  EXPECT_EQ(text(flow_counts(moved())), text(expected));
}

} // namespace doppel::bpftest
