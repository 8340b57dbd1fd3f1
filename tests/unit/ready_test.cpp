// SPDX-License-Identifier: Apache-2.0
// The criteria of `doppel ready`, its windows, and its estimate.
#include "userspace/migrate/ready.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tests/unit/show_errors.h"
#include "userspace/migrate/ends.h"
#include "userspace/migrate/estimate.h"
#include "userspace/migrate/lag.h"
#include "userspace/migrate/ready_read.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kSecond = 1'000'000'000;

Pair a_pair() {
  Pair p;
  p.mapping = "data";
  p.source.host = "127.0.0.1";
  p.target.host = "10.0.0.2";
  return p;
}

PairWindow a_good_pair() {
  PairWindow w;
  w.pair = a_pair();
  w.source = {kSecond, 1000, 900, 100, 50, 0};
  w.target = {kSecond, 1000, 900, 100, 50, 0};
  w.target_now.bytes = 50;
  w.target_now.limit = 100;
  w.coverage = Coverage{1000, 1000};
  return w;
}

RowWindow a_good_row() {
  RowWindow w;
  w.name = {"data", "10.0.0.2:11211"};
  w.over_ns = 10 * kSecond;
  w.now_ns = 100 * kSecond;
  w.before.observed = w.before.delivered = 1000;
  w.after.observed = w.after.delivered = 5000;
  return w;
}

ReadyWindow a_good_window() {
  ReadyWindow w;
  w.mirror.ports = 100;
  w.mirror.ports_free = 90;
  w.mirror.chunks = 10;
  w.mirror.chunks_used = 1;
  w.rows = {a_good_row()};
  w.pairs = {a_good_pair()};
  return w;
}

Finding find(const ReadyWindow &w, const std::string &name, const CriterionLimits &limits = {}) {
  for (const Finding &f : judge_ready(w, limits))
    if (f.criterion->name == name)
      return f;
  ADD_FAILURE() << "no criterion " << name;
  return {};
}

TEST(Ready, AGoodWindowIsReady) {
  const auto findings = judge_ready(a_good_window(), {});
  EXPECT_EQ(findings.size(), all_criteria().size());
  for (const Finding &f : findings)
    EXPECT_TRUE(f.ok) << f.criterion->name << ": " << f.reason;
  EXPECT_TRUE(is_ready(findings));
}

TEST(Ready, NothingIsNotReady) { EXPECT_FALSE(is_ready({})); }

TEST(Ready, APortWithoutAServerIsNotMet) {
  auto w = a_good_window();
  w.unpaired = {{"data 11212", "nobody listens", "start it"}};
  size_t bad = 0;
  for (const Finding &f : judge_ready(w, {}))
    if (!f.ok) {
      bad++;
      EXPECT_EQ(f.criterion->of, CriterionOf::pair);
      EXPECT_EQ(f.subject + ": " + f.reason + ": " + f.remedy,
                "data 11212: nobody listens: start it");
    }
  EXPECT_EQ(bad, 5u);
  w.pairs.clear();
  EXPECT_FALSE(is_ready(judge_ready(w, {})));
}

// As of a mapping of UDP alone.
TEST(Ready, WithoutAPairItsCriteriaAreNotMet) {
  auto w = a_good_window();
  w.pairs.clear();
  const auto findings = judge_ready(w, {});
  EXPECT_EQ(findings.size(), all_criteria().size());
  for (const Finding &f : findings)
    EXPECT_EQ(f.ok, f.criterion->of != CriterionOf::pair) << f.criterion->name;
  EXPECT_FALSE(is_ready(findings));
}

// The server of one of UDP is asked where a mapping of TCP leads to it as well.
TEST(Ready, OfUdpAloneNothingIsKnown) {
  MappingEnds tcp{"tcp", {11211, 11212}, true, {{*parse_address("10.0.0.2"), 11211}}};
  MappingEnds udp = tcp;
  udp.name = "udp";
  udp.udp = true;
  EXPECT_TRUE(udp_alone(udp, {tcp, udp}).empty());
  EXPECT_TRUE(udp_alone(tcp, {tcp, udp}).empty());
  EXPECT_EQ(udp_alone(udp, {udp}).size(), 1u);
  udp.targets.push_back({*parse_address("10.0.0.3"), 11211});
  const auto alone = udp_alone(udp, {tcp, udp});
  ASSERT_EQ(alone.size(), 1u);
  EXPECT_EQ(alone[0].subject, "udp 10.0.0.3:11211");
  udp.targets.pop_back();
  udp.ports.last = 11213;
  EXPECT_EQ(udp_alone(udp, {tcp, udp}).size(), 1u) << "of another port";
  udp.ports = {11212, 11212};
  EXPECT_EQ(udp_alone(udp, {tcp, udp}).size(), 1u) << "to another server there";
  udp.targets[0].port = 11212;
  EXPECT_TRUE(udp_alone(udp, {tcp, udp}).empty());
}

TEST(Ready, LostBytesOfTheWindowAreTold) {
  auto w = a_good_window();
  w.rows[0].before.lost[DP_LOST_store_full] = 7; // before the window
  w.rows[0].after.lost[DP_LOST_store_full] = 7;
  EXPECT_TRUE(find(w, "lost_bytes").ok);
  EXPECT_FALSE(find(w, "missing_bytes").ok) << "these have been missing since";
  w.rows[0].missing_at_since = 7;
  EXPECT_TRUE(find(w, "missing_bytes").ok) << "whoever gave --since has seen to them";
  w.rows[0].after.lost[DP_LOST_target_timeout] = 4000;
  const Finding f = find(w, "lost_bytes");
  EXPECT_FALSE(f.ok);
  EXPECT_EQ(f.value, 4000);
  EXPECT_EQ(f.reason, "target_timeout 3.9 KiB");
  EXPECT_FALSE(find(w, "delivered_share").ok);
  EXPECT_EQ(find(w, "delivered_share").value, 0.5);
  EXPECT_EQ(find(w, "missing_bytes").value, 4000);
}

TEST(Ready, WhatTheConfigurationLeavesOutIsNotMissing) {
  auto w = a_good_window();
  w.rows[0].after.excluded[DP_EXCLUDED_join_never] = 500;
  EXPECT_TRUE(find(w, "excluded_bytes").ok);
  EXPECT_TRUE(find(w, "missing_bytes").ok);
  w.rows[0].after.excluded[DP_EXCLUDED_table_full] = 3;
  EXPECT_EQ(find(w, "excluded_bytes").value, 3);
  EXPECT_FALSE(find(w, "excluded_bytes").ok);
}

TEST(Ready, ASampleAndCopiesAreNoWholeMirror) {
  auto w = a_good_window();
  EXPECT_TRUE(find(w, "partial").ok);
  w.rows[0].portion.sample = 100'000;
  EXPECT_EQ(find(w, "partial").value, 1);
  EXPECT_EQ(find(w, "partial").reason,
            "the target gets 10% of the connections and is unfit for a migration: a key's set and "
            "its delete may come by different connections");
  w.rows[0].portion = {Portion::kAll, 8};
  EXPECT_FALSE(find(w, "partial").ok);
  EXPECT_FALSE(is_ready(judge_ready(w, {})));
  w.rows[0].after.excluded[DP_EXCLUDED_sample] = 4000;
  EXPECT_TRUE(find(w, "excluded_bytes").ok) << "nobody misses these";
}

TEST(Ready, ListsOfClientsAreNoWholeMirror) {
  auto w = a_good_window();
  w.rows[0].chooses_clients = true;
  EXPECT_EQ(find(w, "partial").value, 1);
  EXPECT_EQ(find(w, "partial").reason,
            "the mapping's lists leave clients out: what they write and delete the target lacks");
  EXPECT_FALSE(find(w, "partial").ok);
}

TEST(Ready, AClientThatRunsOnTheTargetIsMissed) {
  auto w = a_good_window();
  w.rows[0].after.excluded[DP_EXCLUDED_loop] = 3;
  EXPECT_EQ(find(w, "excluded_bytes").value, 3);
  EXPECT_EQ(find(w, "excluded_bytes").reason, "loop 3 B");
  EXPECT_FALSE(find(w, "excluded_bytes").ok);
}

TEST(Ready, AQuietWindowClaimsNothing) {
  auto w = a_good_window();
  w.rows[0].after = w.rows[0].before;
  const Finding f = find(w, "delivered_share");
  EXPECT_FALSE(f.value);
  EXPECT_FALSE(f.ok);
  EXPECT_EQ(f.reason, "nothing was sent in the window");
}

TEST(Ready, LagIsWhatWaitsAtThePaceOfTheWindow) {
  auto w = a_good_window();
  EXPECT_EQ(find(w, "lag_ms").value, 0);
  w.rows[0].after.in_flight = 4000; // as much as was delivered in ten seconds
  EXPECT_EQ(find(w, "lag_ms").value, 10'000);
  EXPECT_FALSE(find(w, "lag_ms").ok);
  w.rows[0].after.delivered = w.rows[0].before.delivered;
  w.rows[0].after.last.acknowledged = 97 * kSecond;
  EXPECT_EQ(find(w, "lag_ms").value, 3000);
  w.rows[0].after.last.acknowledged = 0; // never
  EXPECT_EQ(find(w, "lag_ms").value, 10'000);
}

dp_converge working_at(uint64_t now_ns) {
  dp_converge c{};
  c.seen_ns = now_ns;
  return c;
}

TEST(Ready, AKeyThatIsNotRepairedYet) {
  auto w = a_good_window();
  EXPECT_EQ(find(w, "unrepaired_ms").reason, "the mapping does not converge");
  auto &row = w.rows[0];
  row.converge = working_at(row.now_ns);
  EXPECT_EQ(find(w, "unrepaired_ms").value, 0);
  EXPECT_TRUE(find(w, "unrepaired_ms").ok);
  row.converge->waiting = 7;
  row.converge->oldest_ns = row.now_ns - 10 * kSecond;
  EXPECT_EQ(find(w, "unrepaired_ms").value, 10'000);
  EXPECT_EQ(find(w, "unrepaired_ms").reason, "7 keys wait");
  EXPECT_TRUE(find(w, "unrepaired_ms").ok);
  row.converge->oldest_ns -= kSecond;
  EXPECT_FALSE(find(w, "unrepaired_ms").ok);
}

TEST(Ready, WhereNothingConvergesNobodyKnowsWhatWaits) {
  auto w = a_good_window();
  w.rows[0].converge = working_at(w.rows[0].now_ns);
  w.rows[0].converge->down_ns = w.rows[0].now_ns;
  const Finding f = find(w, "unrepaired_ms");
  EXPECT_FALSE(f.value);
  EXPECT_FALSE(f.ok);
  EXPECT_EQ(f.reason, "nothing converges at present: doppel status tells why");
}

TEST(Ready, KeysThatWereOverlooked) {
  auto w = a_good_window();
  auto &row = w.rows[0];
  row.after.event[DP_EVENT_key_missed] = 4; // of before the mapping's "converge" was taken out
  EXPECT_EQ(find(w, "missed_keys").reason, "the mapping does not converge");
  EXPECT_TRUE(find(w, "missed_keys").ok);
  row.converge = working_at(row.now_ns);
  EXPECT_EQ(find(w, "missed_keys").value, 4);
  row.converge->missed = 2;
  row.converge->failed = 1;
  EXPECT_EQ(find(w, "missed_keys").value, 7);
  EXPECT_FALSE(find(w, "missed_keys").ok);
  row.missed_at_since = 7;
  EXPECT_EQ(find(w, "missed_keys").value, 0);
  EXPECT_TRUE(find(w, "missed_keys").ok) << "whoever gave --since has seen to them";
}

TEST(Ready, WarmthIsOfGetsThatHitOnTheSource) {
  auto w = a_good_window();
  EXPECT_EQ(find(w, "warmth").value, 1.0);
  w.pairs[0].target.hits = 450;
  w.pairs[0].target.misses = 550;
  EXPECT_EQ(find(w, "warmth").value, 0.5);
  EXPECT_FALSE(find(w, "warmth").ok);
}

TEST(Ready, GetsThatTheTargetHasNotSeenAreMisses) {
  auto w = a_good_window();
  w.pairs[0].target = {kSecond, 10, 9, 1, 0, 0}; // the same ratio, of a hundredth of the gets
  EXPECT_NEAR(*find(w, "warmth").value, 0.01, 1e-9);
}

TEST(Ready, WhereOthersAskTheTargetNobodyKnowsTheWarmth) {
  auto w = a_good_window();
  w.pairs[0].target.hits = 900 + 74; // the hundredth, and the few
  EXPECT_TRUE(find(w, "warmth").ok);
  w.pairs[0].target.hits = 900 + 75;
  const Finding f = find(w, "warmth");
  EXPECT_FALSE(f.value);
  EXPECT_FALSE(f.ok);
  EXPECT_EQ(f.reason, "the source hit 900 of 1,000 gets, the target 975 of 1,075: others ask the "
                      "target as well, and their hits are not those of the source's clients");
  w.pairs[0].late_gets = 1;
  EXPECT_TRUE(find(w, "warmth").ok) << "this one was on its way";
}

TEST(Ready, WithoutGetsThereIsNoWarmth) {
  auto w = a_good_window();
  w.pairs[0].source = w.pairs[0].target = {};
  EXPECT_FALSE(find(w, "warmth").value);
  EXPECT_FALSE(find(w, "warmth").ok);
  EXPECT_EQ(find(w, "warmth").reason, "no gets in the window");
  w.pairs[0].source.misses = 5;
  EXPECT_EQ(find(w, "warmth").reason, "no get of the window hit on the source");
}

TEST(Ready, CoverageIsTheLowerBound) {
  auto w = a_good_window();
  w.pairs[0].coverage = Coverage{100, 100};
  w.pairs[0].coverage->unseen = 1'000'000;
  EXPECT_NEAR(*find(w, "coverage").value, 0.963, 0.001);
  EXPECT_FALSE(find(w, "coverage").ok) << "a hundred are too few to tell";
  w.pairs[0].coverage->unseen = 0;
  EXPECT_EQ(*find(w, "coverage").value, 1) << "there are no others";
  w.pairs[0].coverage->equal = 98;
  EXPECT_FALSE(find(w, "coverage").ok);
  w.pairs[0].coverage = Coverage{99, 99, 1};
  EXPECT_EQ(*find(w, "coverage").value, 0.99) << "the one without a verdict may differ";
  w.pairs[0].coverage = Coverage{0, 0};
  EXPECT_FALSE(find(w, "coverage").value);
  w.pairs[0].coverage.reset();
  w.pairs[0].coverage_absent = "cannot be listed";
  EXPECT_EQ(find(w, "coverage").reason, "cannot be listed");
}

TEST(Ready, EvictionsBeyondTheSource) {
  auto w = a_good_window();
  w.pairs[0].target.evictions = 12;
  EXPECT_EQ(find(w, "target_evictions").value, 12);
  EXPECT_FALSE(find(w, "target_evictions").ok);
  w.pairs[0].source.evictions = 20;
  EXPECT_TRUE(find(w, "target_evictions").ok);
}

TEST(Ready, ANoteIsNoProblem) {
  auto w = a_good_window();
  w.mirror.problems = {{ProblemKind::note, "something", {}, 0, {}}};
  EXPECT_TRUE(find(w, "mirror_problems").ok);
  w.mirror.problems.push_back({ProblemKind::refusing, "it refuses", {}, 0, {}});
  EXPECT_FALSE(find(w, "mirror_problems").ok);
  EXPECT_EQ(find(w, "mirror_problems").reason, "it refuses");
}

TEST(Ready, WithoutAMirrorItsCriteriaAreNotMet) {
  ReadyWindow w;
  w.pairs = {a_good_pair()};
  w.mirror.absent = "not seen: nothing is attached";
  size_t not_seen = 0;
  for (const Finding &f : judge_ready(w, {})) {
    EXPECT_EQ(f.ok, f.criterion->of == CriterionOf::pair) << f.criterion->name;
    not_seen += f.reason == w.mirror.absent ? 1 : 0;
  }
  EXPECT_EQ(not_seen, 12u);
  const std::string text = to_text(Readiness{1, 1000, judge_ready(w, {}), {}});
  EXPECT_TRUE(text.ends_with("what to do:\n  mirror_problems, free_ports, free_store, "
                             "delivered_share, lost_bytes, excluded_bytes, missing_bytes, lag_ms, "
                             "in_flight_bytes, unrepaired_ms, missed_keys, partial: attach a "
                             "mirror, or leave its criteria out: "
                             "--without-mirror\n"))
      << text;
  w.without_mirror = true;
  EXPECT_TRUE(is_ready(judge_ready(w, {})));
}

TEST(Ready, EachPairAndRowIsJudged) {
  auto w = a_good_window();
  w.pairs.push_back(a_good_pair());
  w.pairs[1].pair.target.port = 11212;
  w.pairs[1].absent = "10.0.0.2:11212: cannot be reached";
  size_t bad = 0;
  for (const Finding &f : judge_ready(w, {}))
    if (!f.ok) {
      EXPECT_EQ(f.subject, "127.0.0.1:11211 -> 10.0.0.2:11212");
      EXPECT_EQ(f.reason, w.pairs[1].absent);
      bad++;
    }
  EXPECT_EQ(bad, 5u);
}

TEST(Ready, KeysWithoutAVerdictAreNotCovered) {
  auto w = a_good_window();
  w.pairs[0].coverage = Coverage{900, 900, 100, 0, 1000};
  EXPECT_TRUE(find(w, "coverage").value);
  w.pairs[0].coverage->moving = 101;
  EXPECT_FALSE(find(w, "coverage").ok);
  EXPECT_TRUE(find(w, "coverage").reason.starts_with("101 of 1,001 keys changed"))
      << find(w, "coverage").reason;
  w.pairs[0].coverage = Coverage{0, 0, 50, 0, 50};
  EXPECT_TRUE(find(w, "coverage").reason.starts_with("50 of 50 keys changed"));
}

TEST(Ready, WhatOnlyTheTargetHas) {
  auto w = a_good_window();
  w.pairs[0].coverage = Coverage{1000, 1000, 0, 11, 1000};
  EXPECT_FALSE(find(w, "only_on_target").ok);
  EXPECT_EQ(find(w, "only_on_target").reason, "11 of 1,000 keys");
  w.pairs[0].coverage->extra = 10;
  EXPECT_TRUE(find(w, "only_on_target").ok);
  w.pairs[0].coverage->extra = 500;
  w.pairs[0].source_now.evictions = 1;
  EXPECT_TRUE(find(w, "only_on_target").ok) << "it may have evicted them";
  w.pairs[0].coverage.reset();
  w.pairs[0].coverage_absent = "no answer";
  EXPECT_FALSE(find(w, "only_on_target").ok);
}

TEST(Ready, LimitsOfTheUser) {
  const auto limits =
      parse_limits({"warmth=50%", "lost_bytes=4KiB", "lag_ms=2s", "target_evictions=10"});
  ASSERT_TRUE(limits) << show_errors(limits.errors());
  auto w = a_good_window();
  w.pairs[0].target.hits = 460;
  w.pairs[0].target.misses = 540;
  w.rows[0].after.lost[DP_LOST_store_full] = 4096;
  EXPECT_TRUE(find(w, "warmth", *limits).ok);
  EXPECT_TRUE(find(w, "lost_bytes", *limits).ok);
  EXPECT_EQ(find(w, "lag_ms", *limits).limit, 2000);
}

TEST(Ready, AllWrongLimitsAtOnce) {
  const auto limits =
      parse_limits({"warmht=1", "warmth", "coverage=often", "lag_ms=5", "warmth=0.9", "warmth=0.8",
                    "free_ports=1.5", "target_memory=."});
  ASSERT_FALSE(limits);
  const Errors &e = limits.errors();
  ASSERT_EQ(e.size(), 7u) << show_errors(e);
  EXPECT_EQ(e[0].hint, "did you mean \"warmth\"?");
  EXPECT_EQ(e[1].what, "has no value");
  EXPECT_EQ(e[2].what, "\"often\" is not a share");
  EXPECT_EQ(e[4].what, "warmth has a limit already");
  EXPECT_EQ(e[6].where, "--limit target_memory=.");
  for (const Error &one : e)
    EXPECT_EQ(one.exit, Exit::usage);
}

TEST(Ready, JsonKeepsItsContract) {
  auto w = a_good_window();
  w.rows[0].after.lost[DP_LOST_store_full] = 5;
  const Readiness r{1, 60'000, judge_ready(w, {}), 30};
  const Json j = to_json(r);
  EXPECT_EQ(j["ready"], false);
  EXPECT_EQ(j["ready_in_s"], 30);
  EXPECT_EQ(j["window_ms"], 60'000);
  ASSERT_EQ(j["criteria"].size(), all_criteria().size());
  const Json &lost = j["criteria"][4];
  EXPECT_EQ(lost["name"], "lost_bytes");
  EXPECT_EQ(lost["subject"], "data 10.0.0.2:11211");
  EXPECT_EQ(lost["value"].dump(), "5") << "a whole number";
  EXPECT_EQ(lost["limit"].dump(), "0");
  EXPECT_EQ(lost["ok"], false);
  EXPECT_TRUE(lost["do"].is_string());
  EXPECT_EQ(j["criteria"][3]["limit"], 0.9999);
  EXPECT_TRUE(j["criteria"][3]["value"].is_number_float());
}

TEST(Ready, TextTellsWhatToDo) {
  auto w = a_good_window();
  EXPECT_TRUE(to_text(Readiness{1, 60'000, judge_ready(w, {}), {}})
                  .starts_with("ready (window of 1m 00s)\n"));
  w.pairs[0].target.hits = 0;
  const std::string text = to_text(Readiness{1, 60'000, judge_ready(w, {}), 90});
  EXPECT_TRUE(text.starts_with("not ready: 1 of 17 criteria are not met; at this pace in 1m 30s"))
      << text;
  EXPECT_NE(text.find("\n  warmth: wait, or copy"), std::string::npos) << text;
}

TEST(Ready, TheDocumentHasTheList) {
  std::ifstream file(DOPPEL_SOURCE_DIR "/docs/ready.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_NE(text.find(criteria_markdown()), std::string::npos)
      << "docs/ready.md must have this table:\n"
      << criteria_markdown();
}

Counters counters(uint64_t now_ns, uint64_t observed) {
  Counters c;
  c.attached = 1000;
  c.now_ns = now_ns;
  c.mappings = {{"data", {{"10.0.0.2:11211", {}, {}}}, {}}};
  c.mappings[0].targets[0].sum.observed = observed;
  return c;
}

TEST(ReadyWindow, IsNotClaimedWhereItWasNotWatched) {
  const std::vector<RowName> rows = {{"data", "10.0.0.2:11211"}};
  const auto seen = row_windows(rows, counters(1, 5), counters(2, 9));
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].absent, "");
  EXPECT_EQ(seen[0].before.observed, 5u);
  EXPECT_EQ(seen[0].after.observed, 9u);
  EXPECT_FALSE(seen[0].converge);
  EXPECT_NE(row_windows(rows, counters(1, 9), counters(2, 5))[0].absent, "") << "began anew";
  auto other = counters(2, 9);
  other.attached++;
  EXPECT_NE(row_windows(rows, counters(1, 5), other)[0].absent, "") << "another mirror";
  EXPECT_NE(row_windows({{"more", "10.0.0.2:11211"}}, counters(1, 5), counters(2, 9))[0].absent,
            "");
}

TEST(ReadyWindow, HasWhatConvergesAtItsEnd) {
  auto before = counters(1, 5), after = counters(2, 9);
  before.mappings[0].converge.emplace();
  before.mappings[0].converge->missed = 3;
  after.mappings[0].converge.emplace();
  after.mappings[0].converge->missed = 4;
  const auto seen = row_windows({{"data", "10.0.0.2:11211"}}, before, after);
  ASSERT_EQ(seen.size(), 1u);
  ASSERT_TRUE(seen[0].converge);
  EXPECT_EQ(seen[0].converge->missed, 4u);
}

ReadyLook a_look(uint64_t at_ns, uint64_t gets) {
  ReadyLook l;
  l.at_ns = at_ns;
  l.mirror_absent = "not seen: nothing is attached";
  ReadyLook::Server s;
  s.sample.at_ns = at_ns;
  s.sample.gets = s.sample.hits = gets;
  l.sources = l.targets = {s};
  return l;
}

TEST(ReadyWindow, IsTheDifferenceOfTwoLooks) {
  ReadyWanted wanted;
  wanted.pairs = {a_pair()};
  const auto w = window_of(wanted, a_look(kSecond, 10), a_look(3 * kSecond, 17), {});
  EXPECT_EQ(w.over_ns, 2 * kSecond);
  EXPECT_EQ(w.mirror.absent, "not seen: nothing is attached");
  ASSERT_EQ(w.pairs.size(), 1u);
  EXPECT_EQ(w.pairs[0].absent, "");
  EXPECT_EQ(w.pairs[0].source.hits, 7u);
}

TEST(ReadyWindow, AServerThatWasAwayOrStartedAnew) {
  ReadyWanted wanted;
  wanted.pairs = {a_pair()};
  auto begin = a_look(1, 10), end = a_look(2, 17);
  begin.targets[0].away = "10.0.0.2:11211: refuses";
  EXPECT_EQ(window_of(wanted, begin, end, {}).pairs[0].absent, "10.0.0.2:11211: refuses");
  end.sources[0].sample.pid = 9;
  begin.targets[0].away.clear();
  EXPECT_EQ(window_of(wanted, begin, end, {}).pairs[0].absent,
            "127.0.0.1:11211 was started anew, or its statistics were reset, within the window");
}

TEST(ReadyWindow, IsNotKnownWhereALookInBetweenSawAReset) {
  ReadyWanted wanted;
  wanted.pairs = {a_pair()};
  auto end = a_look(2, 17);
  end.targets[0].began_anew = true;
  EXPECT_EQ(window_of(wanted, a_look(1, 10), end, {}).pairs[0].absent,
            "10.0.0.2:11211 was started anew, or its statistics were reset, within the window");
}

TEST(ReadyWindow, KnowsHowManyGetsWereOnTheirWay) {
  ReadyWanted wanted;
  wanted.pairs = {a_pair()};
  wanted.rows = {{"data", "10.0.0.2:11211"}};
  auto begin = a_look(1, 10), end = a_look(2, 17);
  begin.counters = counters(1, 5);
  end.counters = counters(2, 9);
  begin.counters->mappings[0].targets[0].sum.in_flight = 20;
  begin.counters->mappings[0].converge.emplace();
  end.counters->mappings[0].converge.emplace();
  end.counters->mappings[0].converge->equal = 3;
  end.counters->mappings[0].chooses_clients = true;
  const auto w = window_of(wanted, begin, end, {});
  EXPECT_EQ(w.pairs[0].late_gets, 20 / 2 + 2 * 3);
  EXPECT_TRUE(w.rows[0].chooses_clients);
}

TEST(ReadySince, ReadsWhatCountersPrinted) {
  auto c = counters(1, 100);
  c.mappings[0].targets[0].sum.lost[DP_LOST_store_full] = 42;
  const auto missing = missing_of(json_text(c), "kept.json", 1000);
  ASSERT_TRUE(missing) << show_errors(missing.errors());
  EXPECT_EQ(missing->at("data 10.0.0.2:11211").bytes, 42u);
  EXPECT_EQ(missing->at("data 10.0.0.2:11211").keys, 0u);
  const auto other = missing_of(json_text(c), "kept.json", 1001);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.errors()[0].what,
            "is the ledger of another mirror than the one that is attached");
  for (const char *wrong : {"", "[]", "{}", "{\"attached\": 1}", "{\"mappings\": [{}]}"})
    EXPECT_FALSE(missing_of(wrong, "kept.json", 1000)) << wrong;
  Json j = to_json(c);
  j["mappings"][0]["targets"][0].erase("missing");
  EXPECT_FALSE(missing_of(j.dump(), "kept.json", 1000));
}

// As where the keeper attaches anew while somebody watches.
TEST(ReadySince, AnotherMirrorMeanwhileIsNotHeldAgainstIt) {
  ReadyWanted wanted;
  wanted.pairs = {a_pair()};
  wanted.rows = {{"data", "10.0.0.2:11211"}};
  wanted.at_since = {{"data 10.0.0.2:11211", {42, 1, 0}}};
  auto begin = a_look(1, 10), end = a_look(2, 17);
  begin.counters = counters(1, 5);
  end.counters = counters(2, 9);
  wanted.since_attached = end.counters->attached;
  const auto same = window_of(wanted, begin, end, {});
  EXPECT_EQ(same.rows[0].since_absent, "");
  EXPECT_EQ(same.rows[0].missing_at_since, 42u);
  wanted.since_attached--;
  const auto other = window_of(wanted, begin, end, {});
  EXPECT_NE(other.rows[0].since_absent.find("another mirror was attached at "), std::string::npos);
  EXPECT_EQ(other.rows[0].missing_at_since, 0u);
}

TEST(ReadySince, AReloadBeginsALedgerOfItsOwn) {
  RowWindow row = a_good_row();
  count_from(row, {{"data 10.0.0.2:11211", {42, 1, 0}}});
  EXPECT_EQ(row.missing_at_since, 42u);
  EXPECT_EQ(row.since_absent, "");
  row.since_ns = 2000;
  for (const uint64_t since_ns : {0, 1999}) {
    count_from(row, {{"data 10.0.0.2:11211", {42, 1, since_ns}}});
    EXPECT_NE(row.since_absent.find("a reload made it at "), std::string::npos);
  }
  ReadyWindow w = a_good_window();
  w.rows = {row};
  EXPECT_FALSE(find(w, "missing_bytes").value);
  EXPECT_FALSE(find(w, "missing_bytes").ok);
  auto c = counters(1, 100);
  c.mappings[0].since_ns = row.since_ns;
  const auto missing = missing_of(json_text(c), "kept.json", 1000);
  ASSERT_TRUE(missing);
  row.since_absent.clear();
  count_from(row, *missing);
  EXPECT_EQ(row.since_absent, "");
}

TEST(ReadySince, AWindowInWhichTheLedgerBeganAnewIsNotKnown) {
  auto before = counters(1, 100), after = counters(2, 200);
  EXPECT_EQ(row_windows({{"data", "10.0.0.2:11211"}}, before, after)[0].absent, "");
  after.mappings[0].since_ns = 7;
  EXPECT_NE(row_windows({{"data", "10.0.0.2:11211"}}, before, after)[0].absent, "");
}

TEST(ReadySince, ReadsWhichKeysWereOverlooked) {
  auto c = counters(1, 100);
  c.mappings[0].targets[0].sum.event[DP_EVENT_key_missed] = 5;
  const auto keys = [&c] {
    const auto missing = missing_of(json_text(c), "kept.json", 1000);
    EXPECT_TRUE(missing) << show_errors(missing.errors());
    return missing ? missing->at("data 10.0.0.2:11211").keys : 0;
  };
  EXPECT_EQ(keys(), 5u) << "it did not converge then";
  c.mappings[0].converge.emplace();
  c.mappings[0].converge->missed = 2;
  c.mappings[0].converge->failed = 1;
  EXPECT_EQ(keys(), 8u);
  EXPECT_EQ(keys(), missed_keys(c.mappings[0].targets[0].sum, c.mappings[0].converge));
}

using Points = std::deque<std::pair<double, double>>;

TEST(Estimate, AStraightLine) {
  EXPECT_EQ(seconds_until(Points{{0, 0.5}, {10, 0.6}, {20, 0.7}}, 0.9), 20u);
  EXPECT_EQ(seconds_until(Points{{0, 0.5}, {10, 0.6}}, 0.9), std::nullopt) << "two are no course";
  EXPECT_EQ(seconds_until(Points{{0, 0.7}, {10, 0.6}, {20, 0.5}}, 0.9), std::nullopt);
  EXPECT_EQ(seconds_until(Points{{0, 0.5}, {10, 0.5}, {20, 0.5}}, 0.9), std::nullopt);
  EXPECT_EQ(seconds_until(Points{{0, 0}, {1, 1e-9}, {2, 2e-9}}, 0.9), std::nullopt) << "never";
  EXPECT_EQ(seconds_until(Points{{5, 0.1}, {5, 0.2}, {5, 0.3}}, 0.9), std::nullopt);
}

std::optional<uint64_t> after_three_windows(ReadyWindow w) {
  Estimate estimate;
  std::optional<uint64_t> last;
  for (int i = 0; i < 3; i++) {
    w.pairs[0].target.hits = 450 + 90 * static_cast<uint64_t>(i); // 50, 60, 70 %
    w.pairs[0].target.misses = 1000 - w.pairs[0].target.hits;
    last = estimate.after(10.0 * i, judge_ready(w, {}));
  }
  return last;
}

TEST(Estimate, OfTheSlopeOfWarmth) {
  EXPECT_EQ(after_three_windows(a_good_window()), 28u) << "98 % at one per cent a second";
}

TEST(Estimate, NoneWhereSomethingElseIsInTheWay) {
  auto w = a_good_window();
  w.rows[0].after.lost[DP_LOST_store_full] = 1;
  EXPECT_EQ(after_three_windows(w), std::nullopt);
}

TEST(Estimate, NoneWhereItIsReady) {
  Estimate estimate;
  EXPECT_EQ(estimate.after(0, judge_ready(a_good_window(), {})), std::nullopt);
}

MappingEnds a_mapping() {
  MappingEnds m{"data", {11211, 11213}, true, {}};
  m.targets.push_back({*parse_address("10.0.0.2"), 21211});
  return m;
}

// What is asked, port by port: "10.0.0.1:11211, 10.0.0.9:11211".
std::vector<std::string> asked(const MappingEnds &m, const std::vector<Listener> &listeners) {
  std::vector<std::string> ports;
  const auto sources = sources_of(m, listeners);
  EXPECT_TRUE(sources) << show_errors(sources.errors());
  for (const auto &servers : sources ? sources->ports : MappingSources{}.ports) {
    std::vector<std::string> names;
    for (const auto &server : servers)
      names.push_back(server.text());
    ports.push_back(joined(names));
  }
  return ports;
}

using Asked = std::vector<std::string>;
const Address kOne = *parse_address("10.0.0.1"), kOther = *parse_address("10.0.0.9"),
              kLoopback = *parse_address("127.0.0.1"), kLoopback6 = *parse_address("::1");

TEST(Pairs, OneForEachPortThatIsListenedOn) {
  const std::vector<Listener> listeners = {{kOne, 11211, 0}, {{}, 11213, 0}, {{}, 80, 0}};
  EXPECT_EQ(asked(a_mapping(), listeners), (Asked{"10.0.0.1:11211", "127.0.0.1:11213"}));
  memcached::Server source{"127.0.0.1", 11213, ""};
  EXPECT_EQ(pairs_at(a_mapping(), source).front().text(), "127.0.0.1:11213 -> 10.0.0.2:21213");
}

TEST(Pairs, ALoopbackAddressIsTheSourcesWhereItsSocketHasIt) {
  const Listener any{{}, 11211, 0}, at_one{kOne, 11211, 0}, inner{kLoopback, 11211, 0},
      inner6{kLoopback6, 11211, 0};
  EXPECT_EQ(asked(a_mapping(), {inner, at_one}), Asked{"10.0.0.1:11211"}) << "another server's";
  EXPECT_EQ(asked(a_mapping(), {inner}), Asked{}) << "no client comes there by eth0";
  EXPECT_EQ(asked(a_mapping(), {inner, any}), Asked{"[::1]:11211"});
  EXPECT_EQ(asked(a_mapping(), {inner, inner6, any}), Asked{}) << "it cannot be asked";
  EXPECT_EQ(asked(a_mapping(), {inner, inner6, any, at_one}), Asked{});
  Listener bound = any;
  bound.ifindex = 2;
  EXPECT_EQ(asked(a_mapping(), {bound}), Asked{});
  auto m = a_mapping();
  m.devices = {"lo"};
  EXPECT_EQ(asked(m, {inner}), Asked{"127.0.0.1:11211"}) << "clients come there";
  EXPECT_TRUE(is_one_socket({any}, 11211, kLoopback, kOne));
  EXPECT_FALSE(is_one_socket({inner, any}, 11211, kLoopback, kOne));
  EXPECT_FALSE(is_one_socket({inner}, 11211, kOne, kOther));
}

TEST(Pairs, AllThatTakeTheTrafficOfAPortAreAsked) {
  const Listener any{{}, 11211, 0}, at_one{kOne, 11211, 0}, at_other{kOther, 11211, 0};
  EXPECT_EQ(asked(a_mapping(), {at_one, at_other}), Asked{"10.0.0.1:11211, 10.0.0.9:11211"});
  EXPECT_EQ(asked(a_mapping(), {at_one, any}), Asked{"127.0.0.1:11211, 10.0.0.1:11211"});
  EXPECT_EQ(asked(a_mapping(), {any, any}), Asked{"127.0.0.1:11211"});
}

TEST(Pairs, PortsThatNobodyServesAreOneSentence) {
  auto m = a_mapping();
  const auto some = sources_of(m, {{{}, 11212, 0}});
  ASSERT_TRUE(some);
  const auto told = unserved_ports(m, some->unserved);
  EXPECT_EQ(told.subject, "data 11211, 11213");
  EXPECT_EQ(told.reason, "no server is found among the sockets of this host");
  EXPECT_NE(told.remedy.find("doppel ready SOURCE TARGET"), std::string::npos);
  m.ports = {1, 65535};
  EXPECT_EQ(unserved_ports(m, sources_of(m, {})->unserved).subject, "data 1-65535");
  std::vector<Listener> each_second;
  for (uint16_t port = 2; port < 65534; port += 2)
    each_second.push_back({{}, port, 0});
  m.ports = {1, 99};
  EXPECT_EQ(unserved_ports(m, sources_of(m, each_second)->unserved).subject,
            "data 1, 3, 5, 7 and more");
}

TEST(Pairs, OfIPv6) {
  NamedMapping row;
  row.name = "data";
  row.direction = "ingress";
  row.ports = "11211";
  row.targets = {"[2001:db8::2]:21211", "10.0.0.2:1"};
  const MappingEnds m = ends_of(row);
  ASSERT_EQ(m.targets.size(), 2u);
  Listener only4{{}, 11211, 0}, only6{{}, 11211, 0};
  only4.v6 = false;
  only6.v4 = false;
  const Listener link{*parse_address("fe80::1"), 11211, 2},
      here{*parse_address("2001:db8::1"), 11211, 0};
  EXPECT_EQ(asked(m, {only6}), Asked{"[::1]:11211"});
  EXPECT_EQ(pairs_at(m, {"::1", 11211, ""})[0].text(), "[::1]:11211 -> [2001:db8::2]:21211");
  EXPECT_EQ(asked(m, {only4, only6}), Asked{"127.0.0.1:11211, [::1]:11211"});
  EXPECT_EQ(asked(m, {link, here}), Asked{"[2001:db8::1]:11211"});
  EXPECT_EQ(asked(m, {link}), Asked{}) << "without its scope it is nobody's";
  const auto rows = rows_between({m}, 11211, *parse_address("2001:db8::2"), 21211);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].target, "[2001:db8::2]:21211");
}

TEST(Pairs, TheSourceIsAskedAtTheAddressOfTheMapping) {
  NamedMapping row{"one", {"eth0"}, "ingress", "tcp", "11211", {"10.0.0.2:21211"}, 0};
  row.address = "10.0.0.1";
  NamedMapping rest{"rest", {"eth0"}, "ingress", "tcp", "11211", {"10.0.0.3:21211"}, 1};
  const auto ends = ends_of(std::vector<NamedMapping>{row, rest});
  const Listener any{{}, 11211, 0}, at_one{kOne, 11211, 0}, at_other{kOther, 11211, 0};
  EXPECT_EQ(asked(ends[0], {any}), Asked{"10.0.0.1:11211"});
  EXPECT_EQ(asked(ends[0], {at_other, at_one}), Asked{"10.0.0.1:11211"});
  EXPECT_EQ(asked(ends[0], {at_other}), Asked{});
  EXPECT_EQ(unserved_ports(ends[0], {{11211, 11211}}).reason,
            "no server is found among the sockets of this host at 10.0.0.1");
  // Another mapping has what is asked there.
  EXPECT_EQ(asked(ends[1], {at_one, at_other}), Asked{"10.0.0.9:11211"});
  EXPECT_EQ(asked(ends[1], {at_one}), Asked{});
  memcached::Server source;
  source.port = 11211;
  for (const auto &[host, of_one, of_rest] : {std::tuple{"10.0.0.1", 1u, 0u},
                                              {"10.0.0.9", 0u, 1u},
                                              {"127.0.0.1", 0u, 0u},
                                              {"cache1", 1u, 1u}}) {
    source.host = host;
    EXPECT_EQ(pairs_from(ends[0], source).size(), of_one) << host;
    EXPECT_EQ(pairs_from(ends[1], source).size(), of_rest) << host;
  }
}

TEST(Pairs, OfTheDeviceThatBringsWhatGoesToALoopbackAddress) {
  auto m = a_mapping();
  const memcached::Server source{"127.0.0.1", 11211, ""};
  m.devices = {"eth0"};
  EXPECT_TRUE(pairs_from(m, source).empty()) << "a forged packet";
  m.devices = {"lo"};
  EXPECT_EQ(pairs_from(m, source).size(), 1u);
}

TEST(Pairs, NoneWhereTheSourceIsNotHere) {
  auto m = a_mapping();
  m.here = false;
  EXPECT_FALSE(sources_of(m, {{{}, 11211, 0}}));
}

TEST(Pairs, RowsThatLeadFromTheOneToTheOther) {
  const Address target = *parse_address("10.0.0.2");
  const std::vector<MappingEnds> mappings = {a_mapping()};
  const std::vector<RowName> rows = {{"data", "10.0.0.2:21211"}};
  EXPECT_EQ(rows_between(mappings, 11212, target, 21212), rows);
  EXPECT_TRUE(rows_between(mappings, 11212, target, 21211).empty()) << "another port's";
  EXPECT_TRUE(rows_between(mappings, 11214, target, 21214).empty());
  EXPECT_TRUE(rows_between(mappings, 11211, *parse_address("10.0.0.3"), 21211).empty());
  EXPECT_EQ(rows_of(a_mapping()), rows);
}

TEST(Pairs, EndsOfAMirrorsOwnNotes) {
  const NamedMapping m{"data", {"eth0"}, "ingress", "tcp", "11211-11213", {"10.0.0.2:21211"}, 0};
  const MappingEnds ends = ends_of(m);
  EXPECT_TRUE(ends.here);
  EXPECT_EQ(ends.ports.last, 11213);
  EXPECT_EQ(rows_of(ends), rows_of(a_mapping()));
}

} // namespace
} // namespace doppel::migrate
