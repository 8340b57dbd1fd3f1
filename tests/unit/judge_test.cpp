// SPDX-License-Identifier: Apache-2.0
// From looks at a mirror to what is wrong with it.
#include <gtest/gtest.h>

#include <set>

#include "userspace/view/vitals.h"

namespace doppel {
namespace {
constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kStart = 5000 * kSecond; // CLOCK_MONOTONIC when the mirror was attached
constexpr std::time_t kAttached = 1'700'000'000;

// A look so many seconds after attach.
Vitals at(double seconds, const dp_ledger &ledger = {}) {
  Vitals v;
  v.now_ns = kStart + static_cast<uint64_t>(seconds * 1e9);
  v.attached = kAttached;
  v.attached_ns = kStart;
  v.now = kAttached + static_cast<std::time_t>(seconds);
  v.flow_rows = 100;
  v.devices = {{"eth0"}};
  v.counters.mappings.push_back({"data", {{"10.0.0.2:80", ledger, {}}}});
  v.counters.chunks = v.counters.ports = v.counters.ports_free = 100;
  return v;
}

uint64_t moment(double seconds) { return kStart + static_cast<uint64_t>(seconds * 1e9); }

TargetState state(const Looks &looks) { return judge_targets(looks).front().state; }

std::vector<std::string> names(const std::vector<Problem> &problems) {
  std::vector<std::string> list;
  list.reserve(problems.size());
  for (const Problem &p : problems)
    list.emplace_back(help_of(p.kind).name);
  return list;
}

using Names = std::vector<std::string>;

dp_ledger healthy(double seconds) {
  dp_ledger l{};
  l.open = 1;
  l.last.taken = moment(1);
  l.last.acknowledged = l.last.answered = l.last.source_answered = moment(seconds);
  return l;
}

TEST(Judge, FreshMirrorIsWell) {
  EXPECT_EQ(state({at(0)}), TargetState::untried);
  EXPECT_TRUE(judge({at(0)}).empty());
  EXPECT_FALSE(wants_another_look({at(0)}));
}

TEST(Judge, WhatASampleLeavesOutIsNoProblem) {
  dp_ledger l = healthy(10), then = healthy(1);
  then.observed = then.excluded[DP_EXCLUDED_sample] = 1000;
  l.observed = l.excluded[DP_EXCLUDED_sample] = 1'000'000;
  Looks looks = {at(1, then), at(10, l)};
  EXPECT_TRUE(judge(looks).empty());
  looks.back().counters.mappings[0].targets[0].portion = {100'000, 8};
  const auto problems = judge(looks);
  ASSERT_EQ(names(problems), Names{"note"});
  EXPECT_EQ(problems[0].what,
            "target 10.0.0.2:80 of mapping data gets 10% of the connections, each 8 times and is "
            "unfit for a migration: a key's set and its delete may come by different connections, "
            "and an incr or append is executed for each copy");
  EXPECT_EQ(exit_of(problems), Exit::ok);
}

// Most of the traffic is of clients that are left out: of the others a part is not little.
TEST(Judge, WhatAListLeavesOutHidesNoProblem) {
  dp_ledger l = healthy(10), then = healthy(1);
  l.observed = then.observed + 1'000'000;
  l.excluded[DP_EXCLUDED_client_list] = 990'000;
  EXPECT_TRUE(judge({at(1, then), at(10, l)}).empty());
  l.excluded[DP_EXCLUDED_shed] = 5'000;
  const auto problems = judge({at(1, then), at(10, l)});
  ASSERT_EQ(names(problems), Names{"left_out"});
  EXPECT_NE(problems[0].what.find("4.8 KiB of 9.7 KiB"), std::string::npos) << problems[0].what;
}

TEST(Judge, BusyTargetIsUp) {
  dp_ledger l = healthy(100);
  l.in_flight = 5;
  EXPECT_EQ(state({at(98, healthy(98)), at(100, l)}), TargetState::up);
  EXPECT_TRUE(judge({at(98, healthy(98)), at(100, l)}).empty());
}

TEST(Judge, RefusalHoldsUntilTheTargetTakesSomething) {
  dp_ledger l = healthy(10);
  l.last.refused = moment(20);
  const Looks looks = {at(1000, l)};
  EXPECT_EQ(state(looks), TargetState::refusing);
  const auto problems = judge(looks);
  EXPECT_EQ(names(problems), Names{"refusing"});
  EXPECT_EQ(problems[0].since, kAttached + 10) << "nothing was taken since";
  EXPECT_NE(problems[0].what.find("10.0.0.2:80"), std::string::npos);
  EXPECT_FALSE(problems[0].hint.empty());
  EXPECT_EQ(exit_of(problems), Exit::target);
  l.last.taken = moment(1000);
  EXPECT_EQ(state({at(1001, l)}), TargetState::up);
}

// A range of ports is one row: one process refuses, and another takes what comes.
TEST(Judge, RefusalBesideWhatIsTakenLastsSeconds) {
  dp_ledger l = healthy(20);
  l.last.refused = moment(19);
  EXPECT_EQ(state({at(20, l)}), TargetState::refusing);
  EXPECT_EQ(state({at(24.5, l)}), TargetState::up);
}

TEST(Judge, ErrorsAreTold) {
  dp_ledger was = healthy(98), l = healthy(100);
  was.answers = 1000, was.event[DP_EVENT_error_answer] = 5;
  l.answers = 1100, l.event[DP_EVENT_error_answer] = 16;
  l.last.served = was.last.served = moment(98);
  l.last.erred = moment(99);
  const auto problems = judge({at(98, was), at(100, l)});
  EXPECT_EQ(names(problems), Names{"errors"});
  EXPECT_NE(problems[0].what.find("11 of the last 100 answers"), std::string::npos);
  EXPECT_EQ(exit_of(problems), Exit::target);
}

TEST(Judge, AFewErrorsAreTheClients) {
  dp_ledger was = healthy(98), l = healthy(100);
  l.answers = 1000, l.event[DP_EVENT_error_answer] = 20; // a fiftieth
  l.last.erred = moment(99.5), l.last.served = moment(99.9);
  EXPECT_TRUE(judge({at(98, was), at(100, l)}).empty());
  was.answers = l.answers = 2, l.event[DP_EVENT_error_answer] = 2; // two in all
  l.last.erred = moment(99.5), l.last.served = 0;
  EXPECT_TRUE(judge({at(98, was), at(100, l)}).empty());
}

// Too seldom for two looks.
TEST(Judge, NothingButErrorsIsToldOfOneLook) {
  dp_ledger l = healthy(100);
  l.answers = l.event[DP_EVENT_error_answer] = 3;
  l.last.erred = moment(60);
  EXPECT_EQ(names(judge({at(100, l)})), Names{"errors"});
  l.last.served = moment(61);
  EXPECT_TRUE(judge({at(100, l)}).empty());
  l.last.served = moment(10);
  EXPECT_TRUE(judge({at(121, l)}).empty()) << "a minute ago";
}

// A client of many makes a mistake now and then, and one may be the last that was answered.
TEST(Judge, TheLastAnswerAloneIsNotNothingButErrors) {
  dp_ledger was = healthy(98), l = healthy(100);
  was.answers = 100'000, l.answers = 100'100;
  was.event[DP_EVENT_error_answer] = 500, l.event[DP_EVENT_error_answer] = 502;
  was.last.served = moment(97.9), l.last.served = moment(99.9);
  l.last.erred = moment(99.92);
  EXPECT_TRUE(judge({at(98, was), at(100, l)}).empty());
  EXPECT_TRUE(judge({at(100, l)}).empty());
  dp_ledger later = l;
  later.event[DP_EVENT_error_answer] = 505;
  later.answers = l.answers + 3;
  later.last.erred = moment(103);
  const auto problems = judge({at(98, was), at(100, l), at(103, later)});
  EXPECT_EQ(names(problems), Names{"errors"}) << "three in a row";
  later.last.erred = moment(110);
  EXPECT_EQ(names(judge({at(110, later)})), Names{"errors"}) << "served nothing for ten seconds";
}

TEST(Judge, WhatIsLeftOutSeldomIsToldOfOneLook) {
  dp_ledger l = healthy(100);
  l.last.acknowledged = 0;
  l.observed = l.excluded[DP_EXCLUDED_mptcp] = 1000;
  l.last.excluded[DP_EXCLUDED_mptcp] = moment(95);
  EXPECT_EQ(names(judge({at(100, l)})), Names{"left_out"});
  EXPECT_TRUE(judge({at(106, l)}).empty()) << "ten seconds ago";
  l.last.acknowledged = moment(96);
  EXPECT_TRUE(judge({at(100, l)}).empty()) << "it goes on";
}

TEST(Judge, SilentIsTheOneThatAcknowledgesNothingWhileBytesWait) {
  dp_ledger l = healthy(100);
  l.in_flight = 1;
  EXPECT_EQ(state({at(102, l), at(104, l)}), TargetState::up) << "patience";
  const Looks looks = {at(104, l), at(106, l)};
  EXPECT_EQ(state(looks), TargetState::silent);
  const auto problems = judge(looks);
  EXPECT_EQ(names(problems), Names{"silent"});
  EXPECT_EQ(problems[0].since, kAttached + 100);
  l.last.acknowledged = moment(106.5);
  l.in_flight = 0, l.delivered = 1;
  EXPECT_EQ(state({looks[0], looks[1], at(107, l)}), TargetState::up);
}

// After an idle hour a request is under way.
TEST(Judge, WhatHasJustBegunToWaitIsNoSilence) {
  const dp_ledger idle = healthy(100);
  dp_ledger asked = idle;
  asked.in_flight = 40;
  EXPECT_EQ(state({at(3700, idle), at(3702, asked)}), TargetState::up);
  EXPECT_TRUE(wants_another_look({at(3702, asked)})) << "one look cannot tell";
  EXPECT_EQ(state({at(3702, asked)}), TargetState::up);
  dp_ledger answered = healthy(3702.1);
  answered.delivered = 40;
  EXPECT_FALSE(wants_another_look({at(3702, asked), at(3702.1, answered)}));
  EXPECT_TRUE(wants_another_look({at(3702, asked), at(3703, asked)}));
  EXPECT_FALSE(wants_another_look({at(3702, asked), at(3704, asked)}));
  EXPECT_EQ(state({at(3702, asked), at(3704, asked)}), TargetState::silent);
}

// Its shadows are given up one after the other, and nothing is in flight between two tries.
TEST(Judge, SilentHoldsBetweenTwoTries) {
  dp_ledger l = healthy(100);
  l.last.gave_up = moment(120);
  EXPECT_EQ(state({at(130, l)}), TargetState::silent);
  l.last.taken = moment(130);
  EXPECT_EQ(state({at(131, l)}), TargetState::up);
}

// Nobody asks, and it is back: a connection of this host's own tells.
TEST(Judge, WhatAcceptsAgainIsOver) {
  dp_ledger l = healthy(100);
  l.last.refused = moment(120);
  Vitals v = at(130, l);
  const std::string key =
      target_key(v.counters.mappings[0].name, v.counters.mappings[0].targets[0].target);
  EXPECT_EQ(in_doubt_since(v, key), moment(120));
  EXPECT_EQ(state({v}), TargetState::refusing);
  EXPECT_NE(judge({v})[0].what.find("the last time 10.0 s ago"), std::string::npos);
  v.tried[key] = {v.now_ns - 1'000'000'000, false, false};
  EXPECT_EQ(state({v}), TargetState::refusing);
  EXPECT_NE(judge({v})[0].what.find("the last time 10.0 s ago"), std::string::npos) << "no answer";
  v.tried[key].refused = true;
  EXPECT_NE(judge({v})[0].what.find("the last time 1.0 s ago"), std::string::npos);
  v.tried[key].accepted = true;
  EXPECT_EQ(state({v}), TargetState::up);
  dp_ledger &now = v.counters.mappings[0].targets[0].sum;
  now.last.refused = moment(129.5);
  EXPECT_EQ(state({v}), TargetState::refusing) << "since then";
  now.last.refused = 0;
  now.last.gave_up = moment(120);
  EXPECT_EQ(state({v}), TargetState::up);
  now.last.taken = moment(130);
  EXPECT_EQ(in_doubt_since(v, key), 0u);
}

TEST(Judge, NeverReachedCountsFromAttach) {
  dp_ledger l{};
  l.in_flight = 40;
  EXPECT_EQ(state({at(2, l), at(4, l)}), TargetState::untried);
  const Looks looks = {at(4, l), at(6, l)};
  EXPECT_EQ(state(looks), TargetState::silent);
  EXPECT_EQ(judge(looks)[0].since, kAttached);
  EXPECT_NE(judge(looks)[0].what.find("never"), std::string::npos);
}

TEST(Judge, AWallClockThatWasSetBackHidesNothing) {
  dp_ledger l{};
  l.in_flight = 40;
  Looks looks = {at(4, l), at(6, l)};
  for (Vitals &v : looks)
    v.now -= 3600;
  EXPECT_EQ(state(looks), TargetState::silent);
}

TEST(Judge, ShutWindowIsToldApart) {
  dp_ledger l = healthy(100);
  l.in_flight = 40;
  auto problems = judge({at(108, l), at(110, l)});
  EXPECT_EQ(names(problems), Names{"silent"});
  EXPECT_NE(problems[0].what.find("acknowledges nothing"), std::string::npos) << problems[0].what;
  l.last.shut = moment(109);
  problems = judge({at(108, l), at(110, l)});
  EXPECT_EQ(names(problems), Names{"silent"});
  EXPECT_NE(problems[0].what.find("said 1.0 s ago that its window is shut"), std::string::npos)
      << problems[0].what;
}

// The kernel of a stopped process takes bytes for it until its buffers are full.
TEST(Judge, HungIsTheOneThatAnswersNothingWhileTheSourceDoes) {
  dp_ledger l = healthy(100);
  l.last.acknowledged = l.last.source_answered = moment(104);
  EXPECT_EQ(state({at(102, l), at(104, l)}), TargetState::up) << "patience";
  l.last.acknowledged = l.last.source_answered = moment(106);
  const Looks looks = {at(104, l), at(106, l)};
  EXPECT_EQ(state(looks), TargetState::hung);
  EXPECT_EQ(judge(looks)[0].since, kAttached + 100);
  l.last.answered = moment(106.5);
  EXPECT_EQ(state({looks[0], looks[1], at(107, l)}), TargetState::up);
}

// It must have owed an answer all along: one that comes late is none that is missing.
TEST(Judge, HungTakesMoreThanOneLook) {
  const dp_ledger idle = healthy(100);
  dp_ledger asked = idle;
  asked.last.acknowledged = asked.last.source_answered = moment(199);
  EXPECT_EQ(state({at(197, idle), at(199.5, asked)}), TargetState::up);
  EXPECT_EQ(state({at(199.5, asked), at(202, asked)}), TargetState::hung);
}

// One worker of it stands still, or its connections are more than it serves.
TEST(Judge, SomeConnectionsAreHung) {
  dp_ledger l = healthy(106);
  l.open = 50;
  Vitals v = at(106, l);
  EXPECT_EQ(state({v}), TargetState::up);
  v.owed["data 10.0.0.2:80"] = {45, moment(100)};
  EXPECT_EQ(state({v}), TargetState::hung);
  const auto problems = judge({v});
  ASSERT_EQ(names(problems), Names{"hung"});
  EXPECT_NE(problems[0].what.find("45 of 50 connections to target 10.0.0.2:80 of mapping data wait "
                                  "for an answer, one of them for 6.0 s"),
            std::string::npos)
      << problems[0].what;
  EXPECT_EQ(problems[0].grade, 0);
  EXPECT_EQ(problems[0].since, kAttached + 100);
  EXPECT_FALSE(wants_another_look({v}));
  v.owed["data 10.0.0.2:80"] = {50, moment(100)};
  EXPECT_EQ(judge({v})[0].grade, 0) << "the others were answered, and have closed";
  l.last.answered = moment(100);
  v = at(106, l);
  v.owed["data 10.0.0.2:80"] = {50, moment(100)};
  EXPECT_EQ(judge({v})[0].grade, 1);
  EXPECT_TRUE(wants_another_look({v}, true));
}

// The target died with what it owed.
TEST(Judge, WithoutConnectionsNothingIsOwed) {
  dp_ledger l = healthy(100);
  l.last.acknowledged = l.last.source_answered = moment(106);
  l.open = 0;
  EXPECT_EQ(state({at(104, l), at(106, l)}), TargetState::up);
}

// A proxy whose server is gone: none of its connections is open for long.
TEST(Judge, HungIsTheOneThatEndsAllWithoutAnAnswer) {
  dp_ledger l = healthy(100);
  l.open = 0;
  l.last.unanswered = moment(103);
  EXPECT_EQ(state({at(103, l)}), TargetState::up) << "killed, perhaps";
  l.last.unanswered = l.last.acknowledged = moment(106);
  EXPECT_EQ(state({at(106, l)}), TargetState::hung);
  EXPECT_EQ(judge({at(106, l)})[0].since, kAttached + 100);
  l.last.answered = moment(107);
  EXPECT_EQ(state({at(107, l)}), TargetState::up);
  l.last.answered = 0;
  EXPECT_EQ(state({at(107, l)}), TargetState::hung) << "it has never answered";
}

TEST(Judge, RequestsThatNobodyAnswersAreNoHang) {
  dp_ledger l = healthy(100);
  l.last.acknowledged = moment(200);
  EXPECT_EQ(state({at(198, l), at(200, l)}), TargetState::up);
}

TEST(Judge, OneThatHasNeverAnsweredIsHungWhereTheSourceAnswers) {
  dp_ledger l = healthy(100);
  l.last.answered = l.last.source_answered = 0;
  EXPECT_EQ(state({at(198, l), at(200, l)}), TargetState::up) << "nobody answers";
  l.last.source_answered = moment(197);
  EXPECT_EQ(state({at(198, l), at(200, l)}), TargetState::hung);
  EXPECT_EQ(state({at(199, l), at(200, l)}), TargetState::up) << "it may be about to";
  l.last.source_answered = l.last.acknowledged = moment(1);
  EXPECT_EQ(state({at(1, l), at(3, l)}), TargetState::up) << "just attached";
}

TEST(Judge, SlowIsASecondBehind) {
  const auto flowing = [](double seconds, uint64_t delivered) {
    dp_ledger l = healthy(seconds);
    l.in_flight = 1'000'000;
    l.delivered = delivered;
    return l;
  };
  EXPECT_EQ(state({at(98, flowing(98, 0)), at(100, flowing(100, 1'900'000))}), TargetState::slow);
  EXPECT_EQ(state({at(98, flowing(98, 0)), at(100, flowing(100, 2'100'000))}), TargetState::up);
  EXPECT_EQ(names(judge({at(98, flowing(98, 0)), at(100, flowing(100, 1'000))})), Names{"slow"});
  // A look that had to wait for others makes nothing well.
  EXPECT_EQ(state({at(90, flowing(90, 0)), at(100, flowing(100, 1'000))}), TargetState::slow);
  EXPECT_EQ(
      state({at(80, flowing(80, 0)), at(90, flowing(90, 0)), at(100, flowing(100, 20'000'000))}),
      TargetState::up);
}

TEST(Judge, TrickleIsNotSlow) {
  const auto trickle = [](double seconds, uint64_t delivered) {
    dp_ledger l = healthy(seconds);
    l.in_flight = 40;
    l.delivered = delivered;
    return l;
  };
  EXPECT_EQ(state({at(98, trickle(98, 0)), at(100, trickle(100, 40))}), TargetState::up);
}

TEST(Judge, DevicesAndPause) {
  Vitals v = at(10);
  v.paused = true;
  v.devices = {{"eth0", true, false, false},
               {"eth1", false, false, false},
               {"eth2", true, true, false},
               {"eth3"}};
  const auto problems = judge({v});
  EXPECT_EQ(names(problems), (Names{"device", "device", "device", "paused"}));
  EXPECT_NE(problems[0].what.find("eth0 is down"), std::string::npos);
  EXPECT_NE(problems[1].what.find("eth1 is gone"), std::string::npos);
  EXPECT_NE(problems[2].what.find("eth2 has no carrier"), std::string::npos);
  EXPECT_EQ(exit_of(problems), Exit::stopped);
}

// The programs stay on it: nothing is wrong, and the next configuration wants the new name.
TEST(Judge, ARenamedDeviceIsNoted) {
  Vitals v = at(10);
  v.devices = {{"eth0", true, true, true, "wan0"}};
  auto problems = judge({v});
  EXPECT_EQ(names(problems), (Names{"note"}));
  EXPECT_EQ(problems[0].what, "device eth0 was renamed to wan0: its capture goes on");
  EXPECT_EQ(exit_of(problems), Exit::ok);
  v.devices[0].up = false;
  problems = judge({v});
  EXPECT_EQ(names(problems), (Names{"device", "note"}));
  EXPECT_EQ(problems[0].hint, "ip link set wan0 up");
}

TEST(Judge, PoolsAreNearlyFullFrom94To90PerCent) {
  Vitals v = at(10);
  v.counters.chunks_used = 93;
  v.counters.ports_free = 7;
  v.counters.mappings[0].targets[0].sum.waiting = 50;
  v.counters.mappings[0].targets[0].sum.open = 43;
  EXPECT_TRUE(judge({v}).empty());
  v.counters.chunks_used = 94;
  v.counters.ports_free = 6;
  v.counters.mappings[0].targets[0].sum.open = 44;
  const auto full = judge({v});
  EXPECT_EQ(names(full), (Names{"store", "ports", "flows"}));
  EXPECT_EQ(exit_of(full), Exit::scarce);
  v.counters.chunks_used = 90;
  v.counters.ports_free = 11;
  v.counters.mappings[0].targets[0].sum.open = 39;
  EXPECT_EQ(names(judge({v}, full)), Names{"store"});
  EXPECT_TRUE(judge({v}).empty());
}

// Each connection that breaks leaves its room to the others.
TEST(Judge, StoreThatWasJustFullIsNearlyFull) {
  dp_ledger l = healthy(99);
  l.last.lost[DP_LOST_store_full] = moment(95);
  Vitals v = at(99, l);
  v.counters.chunks_used = 80;
  EXPECT_EQ(names(judge({v})), (Names{"store", "loss"}));
  v.counters.chunks_used = 99;
  EXPECT_EQ(names(judge({v})), (Names{"store", "loss"})) << "once";
  EXPECT_TRUE(judge({at(100.5, l)}).empty());
}

TEST(Judge, LossIsFiveSecondsOld) {
  dp_ledger l = healthy(99);
  l.lost[DP_LOST_flow_cap] = 30;
  l.lost[DP_LOST_client_gap] = 12;
  l.last.lost[DP_LOST_flow_cap] = moment(40);
  l.last.lost[DP_LOST_client_gap] = moment(95);
  const auto problems = judge({at(99, l)});
  EXPECT_EQ(names(problems), Names{"loss"});
  EXPECT_NE(problems[0].what.find("client_gap, 42 B in all"), std::string::npos)
      << problems[0].what;
  EXPECT_TRUE(judge({at(100.5, l)}).empty());
  const TargetHealth t = judge_targets({at(100.5, l)}).front();
  EXPECT_EQ(t.lost_reason, "client_gap");
  EXPECT_EQ(t.lost_at, kAttached + 95);
  EXPECT_EQ(t.lost, 42u);
}

TEST(Judge, ConnectionsThatTheTargetEndsAtOnceAreTold) {
  const auto excluded = [](uint64_t bytes) {
    dp_ledger l = healthy(99);
    l.excluded[DP_EXCLUDED_unjoinable] = bytes;
    return l;
  };
  const auto problems = judge({at(20, excluded(5)), at(50, excluded(5)), at(100, excluded(25))});
  EXPECT_EQ(names(problems), Names{"loss"});
  EXPECT_NE(problems[0].what.find("20 B are excluded as unjoinable"), std::string::npos)
      << problems[0].what;
  EXPECT_TRUE(judge({at(20, excluded(5)), at(50, excluded(25)), at(100, excluded(25))}).empty());
}

// With `attach` alone nobody looked before, and the clients may say nothing while somebody does.
TEST(Judge, ConnectionsThatTheTargetEndsAtOnceAreToldOfOneLook) {
  dp_ledger l = healthy(99);
  l.excluded[DP_EXCLUDED_unjoinable] = 25;
  l.last.excluded[DP_EXCLUDED_unjoinable] = moment(95);
  const auto problems = judge({at(100, l)});
  ASSERT_EQ(names(problems), Names{"loss"});
  EXPECT_NE(problems[0].what.find("25 B are excluded as unjoinable in all, the last 5.0 s ago"),
            std::string::npos)
      << problems[0].what;
  EXPECT_TRUE(judge({at(156, l)}).empty()) << "a minute ago";
}

TEST(Judge, RequestsThatNoSocketTakesAnyMoreAreTold) {
  const auto look = [](double seconds, uint64_t strays, uint64_t observed = 1000) {
    dp_ledger l = healthy(seconds);
    l.observed = observed;
    l.event[DP_EVENT_no_socket] = strays;
    return at(seconds, l);
  };
  const auto problems = judge({look(80, 100), look(85, 110), look(91, 120), look(100, 160)});
  ASSERT_EQ(names(problems), Names{"blind"});
  EXPECT_TRUE(problems[0].what.starts_with("mapping data: 40 packets within ten seconds that no "
                                           "socket of this host takes"))
      << problems[0].what;
  EXPECT_TRUE(judge({look(80, 100), look(91, 100), look(100, 160)}).empty())
      << "the service was killed";
  EXPECT_TRUE(judge({look(80, 100), look(91, 160), look(100, 160)}).empty()) << "it is over";
  EXPECT_TRUE(judge({look(80, 100, 500), look(91, 120), look(100, 160)}).empty()) << "others go on";
  EXPECT_TRUE(judge({look(80, 100, 0), look(91, 120, 0), look(100, 160, 0)}).empty())
      << "find_blindness() tells";
}

TEST(Judge, WhatIsLeftOutIsTold) {
  const auto excluded = [](dp_excluded reason, uint64_t bytes, uint64_t observed = 1000) {
    dp_ledger l = healthy(99);
    l.observed = observed;
    l.excluded[reason] = bytes;
    return l;
  };
  const auto looks = [&](dp_excluded reason, uint64_t bytes) {
    return Looks{at(95, excluded(reason, 0, 0)), at(100, excluded(reason, bytes))};
  };
  const auto problems = judge(looks(DP_EXCLUDED_tls, 600));
  EXPECT_EQ(names(problems), Names{"left_out"});
  EXPECT_TRUE(problems[0].what.starts_with("600 B of 1000 B that target 10.0.0.2:80 of mapping "
                                           "data should have got within ten seconds are left out, "
                                           "most of them as tls: "))
      << problems[0].what;
  EXPECT_EQ(exit_of(problems), Exit::scarce);
  EXPECT_TRUE(judge(looks(DP_EXCLUDED_tls, 10)).empty()) << "a hundredth";
  EXPECT_TRUE(judge(looks(DP_EXCLUDED_paused, 600)).empty()) << "it is told otherwise";
  EXPECT_TRUE(judge(looks(DP_EXCLUDED_backoff, 600)).empty()) << "and so is this";
  EXPECT_EQ(names(judge(looks(DP_EXCLUDED_not_joined, 600))), Names{"left_out"});
  EXPECT_TRUE(judge({at(25, excluded(DP_EXCLUDED_not_joined, 0, 0)),
                     at(30, excluded(DP_EXCLUDED_not_joined, 600))})
                  .empty())
      << "connections are being joined";
  const auto before = excluded(DP_EXCLUDED_tls, 600);
  EXPECT_TRUE(
      judge({at(89, excluded(DP_EXCLUDED_tls, 0, 0)), at(91, before), at(100, before)}).empty())
      << "it is over";
  EXPECT_TRUE(wants_another_look({at(100, before)})) << "it may go on";
}

TEST(Judge, WhatTheTargetsAddressAsksIsNoted) {
  dp_ledger l = healthy(100);
  l.observed = 2000, l.excluded[DP_EXCLUDED_loop] = 600;
  l.last.excluded[DP_EXCLUDED_loop] = moment(99);
  const auto problems = judge({at(100, l)});
  ASSERT_EQ(names(problems), Names{"note"});
  EXPECT_EQ(problems[0].what,
            "600 B of mapping data, the last 1.0 s ago, came from the address of its own target "
            "10.0.0.2:80 and are taken for what that one mirrors back: clients that run there are "
            "not mirrored");
  EXPECT_EQ(exit_of(problems), Exit::ok) << "two hosts that mirror to each other are well";
  l.excluded[DP_EXCLUDED_loop] = 700;
  EXPECT_EQ(judge({at(101, l)})[0].id(), problems[0].id()) << "it is told once";
  EXPECT_TRUE(judge({at(109, l)}).empty()) << "ten seconds ago";
}

TEST(Judge, ARingIsToldHoweverLittleItLeavesOut) {
  dp_ledger l = healthy(100);
  l.observed = 1'000'000, l.excluded[DP_EXCLUDED_hops] = 10;
  l.last.excluded[DP_EXCLUDED_hops] = moment(99);
  const auto problems = judge({at(98, healthy(98)), at(100, l)});
  ASSERT_EQ(names(problems), Names{"left_out"});
  EXPECT_NE(problems[0].what.find("in a ring"), std::string::npos) << problems[0].what;
  EXPECT_NE(problems[0].hint.find("take one mapping of the ring away"), std::string::npos);
  EXPECT_EQ(exit_of(problems), Exit::scarce);
  l.excluded[DP_EXCLUDED_hops] = 500'000;
  EXPECT_EQ(judge({at(98, healthy(98)), at(100, l)}).size(), 1u) << "told once";
  EXPECT_TRUE(judge({at(109, l)}).empty()) << "ten seconds ago";
}

TEST(Judge, ARingThatIsKnownIsToldWhereItBegan) {
  dp_ledger l = healthy(100);
  l.observed = 1'000'000, l.excluded[DP_EXCLUDED_ring] = 10;
  l.last.excluded[DP_EXCLUDED_ring] = moment(99);
  const auto problems = judge({at(98, healthy(98)), at(100, l)});
  ASSERT_EQ(names(problems), Names{"left_out"});
  EXPECT_NE(problems[0].what.find("come back to this host"), std::string::npos) << problems[0].what;
  EXPECT_EQ(exit_of(problems), Exit::scarce);
  EXPECT_TRUE(judge({at(109, l)}).empty()) << "ten seconds ago";
}

TEST(Judge, LostInAMinute) {
  const auto lost = [](uint64_t bytes) {
    dp_ledger l{};
    l.lost[DP_LOST_store_full] = bytes;
    return l;
  };
  const Looks looks = {at(100, lost(5)), at(110, lost(7)), at(165, lost(20))};
  EXPECT_EQ(lost_in_a_minute(looks, "data", "10.0.0.2:80"), 13u);
  EXPECT_EQ(lost_in_a_minute(looks, "other", "10.0.0.2:80"), 0u);
}

// A mapping that a reload brought is in the last look alone.
TEST(Judge, RowsMayComeAndGo) {
  Vitals before = at(100);
  before.counters.mappings[0].name = "other";
  dp_ledger l = healthy(100);
  l.in_flight = 10;
  const Looks looks = {before, at(102, l)};
  ASSERT_EQ(judge_targets(looks).size(), 1u);
  EXPECT_EQ(state(looks), TargetState::up);
}

TEST(ProblemList, IsInOrderOfWeightAndEachOnce) {
  const auto list = in_order({{ProblemKind::note, "a", "", 5, ""},
                              {ProblemKind::loss, "b", "", 7, "key"},
                              {ProblemKind::link, "c", "", 9, "key"},
                              {ProblemKind::host, "a", "", 3, ""}});
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].what, "c");
  EXPECT_EQ(list[0].since, 7);
  EXPECT_EQ(list[1].kind, ProblemKind::host);
  EXPECT_EQ(list[1].since, 3);
  EXPECT_EQ(exit_of(list), Exit::stopped);
  EXPECT_EQ(exit_of(std::vector<Problem>{}), Exit::ok);
}

// Written out, and not generated: scripts rely on names and numbers.
TEST(ProblemList, IsTheContract) {
  std::vector<std::pair<std::string, int>> list;
  std::set<std::string> helps;
  for (const ProblemHelp &p : all_problems()) {
    list.emplace_back(p.name, static_cast<int>(p.exit));
    EXPECT_EQ(problem_kind(p.name), p.kind);
    EXPECT_TRUE(helps.insert(p.help).second);
    EXPECT_NE(std::string(p.help).back(), '.');
  }
  EXPECT_EQ(list,
            (std::vector<std::pair<std::string, int>>{
                {"remains", 4}, {"link", 4},  {"program", 4},   {"device", 4},   {"blind", 4},
                {"paused", 4},  {"host", 4},  {"refusing", 5},  {"silent", 5},   {"hung", 5},
                {"errors", 5},  {"slow", 5},  {"neighbour", 5}, {"keeper", 6},   {"store", 7},
                {"ports", 7},   {"flows", 7}, {"loss", 7},      {"left_out", 7}, {"converge", 7},
                {"note", 0}}));
  EXPECT_EQ(problem_kind("of a later version"), ProblemKind::note);
}

} // namespace
} // namespace doppel
