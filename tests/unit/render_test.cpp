// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/render.h"
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include <set>

#include "userspace/util/text.h"

namespace doppel {
namespace {
Counters sample() {
  TargetCounters t;
  t.target = "192.168.2.184:11211";
  t.sum.observed = 10'000;
  t.sum.delivered = 8'991;
  t.sum.in_flight = 4;
  t.sum.lost[DP_LOST_target_timeout] = 3;
  t.sum.lost[DP_LOST_store_full] = 2;
  t.sum.excluded[DP_EXCLUDED_not_joined] = 1'000;
  t.sum.opened = 5;
  t.sum.joined = 1;
  t.sum.closed = 2;
  t.sum.broken = 1;
  t.sum.open = 2;
  t.sum.waiting = 1;
  t.sum.captured = 70;
  t.sum.copied = 60;
  t.sum.resent = 6;
  t.sum.responses = 50;
  t.sum.event[DP_EVENT_out_of_order] = 12;
  Counters c;
  c.mappings.push_back({"data", {t}});
  c.global.event[DP_EVENT_foreign_on_doppel0] = 2;
  c.ports = 100;
  c.ports_free = 98;
  c.chunks = 1024;
  c.chunks_used = 3;
  return c;
}

std::vector<std::string> keys(const Json &j) {
  std::vector<std::string> list;
  for (const auto &item : j.items())
    list.push_back(item.key());
  return list;
}

using Keys = std::vector<std::string>;

// Written out, and not generated: a reason that loses its name breaks users.
const Keys lost_keys = {"target_refused", "target_reset", "target_closed", "target_timeout",
                        "store_full",     "flow_cap",     "client_gap",    "detached",
                        "superseded",     "expired",      "not_sent"};
const Keys excluded_keys = {"not_joined", "table_full",  "ports_exhausted",
                            "fragment",   "ip_options",  "tcp_auth",
                            "loop",       "hops",        "backoff",
                            "shed",       "paused",      "join_never",
                            "embryonic",  "mptcp",       "tls",
                            "unjoinable", "truncated",   "urgent",
                            "sample",     "client_list", "dry_run",
                            "own",        "ring"};
const Keys event_keys = {"clone_failed",       "build_failed",
                         "foreign_on_doppel0", "bad_checksum",
                         "malformed",          "unacceptable",
                         "half_open_reset",    "port_in_use",
                         "out_of_order",       "client_retransmit",
                         "fast_retransmit",    "timeout_retransmit",
                         "syn_retransmit",     "window_full",
                         "late_response",      "dsack",
                         "no_socket",          "idle",
                         "source_gone",        "resumed",
                         "contended",          "tail_loss_probe",
                         "path_mtu",           "icmp_error",
                         "keepalive",          "idle_break",
                         "key_noted",          "key_missed",
                         "early_retransmit",   "error_answer"};

TEST(Reasons, StandAtTheirNumber) {
  for (unsigned i = 0; i < DP_LOST_N; i++)
    EXPECT_EQ(lost_reasons[i].number, i);
  for (unsigned i = 0; i < DP_EXCLUDED_N; i++)
    EXPECT_EQ(excluded_reasons[i].number, i);
  for (unsigned i = 0; i < DP_EVENT_N; i++)
    EXPECT_EQ(event_reasons[i].number, i);
}

TEST(Reasons, HaveUniqueNamesAndHelpWithoutFullStop) {
  std::set<std::string> names;
  const auto check = [&](const Reason *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
      EXPECT_TRUE(names.insert(list[i].name).second) << list[i].name;
      const std::string help = list[i].help;
      ASSERT_FALSE(help.empty());
      EXPECT_NE(help.back(), '.') << help;
    }
  };
  check(lost_reasons, DP_LOST_N);
  check(excluded_reasons, DP_EXCLUDED_N);
  check(event_reasons, DP_EVENT_N);
}

TEST(CountersJson, KeysAreTheContract) {
  const Json j = to_json(sample());
  EXPECT_EQ(keys(j), (Keys{"mappings", "removed", "events", "store", "shadow_ports", "time",
                           "attached", "rates_over_ms"}));
  EXPECT_EQ(keys(j["store"]), (Keys{"chunk_bytes", "chunks", "used"}));
  EXPECT_EQ(keys(j["shadow_ports"]), (Keys{"total", "free"}));
  EXPECT_EQ(keys(j["mappings"][0]),
            (Keys{"name", "ports", "targets", "since", "since_ns", "converge"}));
  EXPECT_TRUE(j["mappings"][0]["converge"].is_null());
  const Json &t = j["mappings"][0]["targets"][0];
  EXPECT_EQ(keys(t), (Keys{"target", "sample", "copies", "complete", "missing", "flows", "bytes",
                           "packets", "lost", "excluded", "events", "rates", "last_loss", "last"}));
  EXPECT_EQ(keys(t["rates"]), (Keys{"observed", "delivered", "captured", "copied", "resent",
                                    "responses", "answers", "lost", "excluded"}));
  EXPECT_EQ(keys(t["last"]), (Keys{"shut", "answered", "erred", "served", "acknowledged", "taken",
                                   "refused", "gave_up", "source_answered", "unanswered"}));
  EXPECT_EQ(keys(t["flows"]), (Keys{"open", "opened", "joined", "closed", "broken", "waiting"}));
  EXPECT_EQ(keys(t["bytes"]), (Keys{"observed", "delivered", "in_flight", "lost", "excluded"}));
  EXPECT_EQ(keys(t["packets"]), (Keys{"captured", "copied", "resent", "responses", "answers"}));
  EXPECT_EQ(keys(t["lost"]), lost_keys);
  EXPECT_EQ(keys(t["excluded"]), excluded_keys);
  EXPECT_EQ(keys(t["events"]), event_keys);
  EXPECT_EQ(keys(j["events"]), event_keys);
}

TEST(CountersJson, OfAMappingThatConverges) {
  Counters c = sample();
  EXPECT_EQ(to_text(c).find("CONVERGING"), std::string::npos);
  c.now_ns = 20'000'000'000;
  dp_converge &row = c.mappings[0].converge.emplace();
  row.seen_ns = 19'000'000'000;
  row.oldest_ns = 18'500'000'000;
  row.noted = 1, row.waiting = 2, row.equal = 3, row.repaired = 4;
  row.deleted = 5, row.failed = 6, row.missed = 7;
  EXPECT_EQ(to_json(c)["mappings"][0]["converge"].dump(),
            R"({"noted":1,"waiting":2,"equal":3,"repaired":4,"deleted":5,"failed":6,"missed":7,)"
            R"("oldest_ms":1500,"working":true})");
  const std::string table =
      "CONVERGING  WORKING  NOTED  WAITING  EQUAL  REPAIRED  DELETED  FAILED  MISSED  OLDEST\n"
      "data        yes          1        2      3         4        5       6       7   1.5 s\n";
  EXPECT_NE(to_text(c).find(table), std::string::npos) << to_text(c);
  row.down_ns = 20'000'000'000;
  EXPECT_EQ(to_json(c)["mappings"][0]["converge"]["working"], false);
  EXPECT_NE(to_text(c).find("\ndata        no "), std::string::npos) << to_text(c);
}

TEST(CountersJson, RemovedMappingsAreSummedUp) {
  Counters c = sample();
  EXPECT_TRUE(to_json(c)["removed"].is_null());
  EXPECT_EQ(to_text(c).find("(removed)"), std::string::npos);
  c.removed_mappings = 2;
  c.removed.observed = c.removed.lost[DP_LOST_detached] = 7;
  const Json j = to_json(c)["removed"];
  EXPECT_EQ(j["mappings"], 2);
  EXPECT_EQ(j["bytes"]["observed"], 7);
  EXPECT_EQ(j["lost"]["detached"], 7);
  EXPECT_NE(to_text(c).find("(removed)"), std::string::npos);
}

TEST(CountersJson, Values) {
  const Json j = to_json(sample());
  const Json &t = j["mappings"][0]["targets"][0];
  EXPECT_EQ(j["mappings"][0]["name"], "data");
  EXPECT_EQ(t["target"], "192.168.2.184:11211");
  EXPECT_DOUBLE_EQ(t["complete"].get<double>(), 8991.0 / 10000.0);
  EXPECT_EQ(t["missing"], 1005);
  EXPECT_EQ(t["flows"].dump(),
            R"({"open":2,"opened":5,"joined":1,"closed":2,"broken":1,"waiting":1})");
  EXPECT_EQ(t["bytes"].dump(),
            R"({"observed":10000,"delivered":8991,"in_flight":4,"lost":5,"excluded":1000})");
  EXPECT_EQ(t["packets"].dump(),
            R"({"captured":70,"copied":60,"resent":6,"responses":50,"answers":0})");
  EXPECT_EQ(t["lost"]["target_timeout"], 3);
  EXPECT_EQ(t["lost"]["expired"], 0);
  EXPECT_EQ(t["excluded"]["not_joined"], 1000);
  EXPECT_EQ(t["events"]["out_of_order"], 12);
  EXPECT_EQ(j["events"]["foreign_on_doppel0"], 2);
  EXPECT_EQ(j["store"].dump(), R"({"chunk_bytes":2048,"chunks":1024,"used":3})");
  EXPECT_EQ(j["shadow_ports"].dump(), R"({"total":100,"free":98})");
}

TEST(CountersJson, ExactBeyondDoubles) {
  Counters c = sample();
  c.mappings[0].targets[0].sum.observed = (1ull << 53) + 1;
  const std::string text = dump(to_json(c), true);
  EXPECT_NE(text.find("\"observed\":9007199254740993"), std::string::npos) << text;
  EXPECT_EQ(text.find('\n'), text.size() - 1);
}

TEST(Completeness, IsAShareOrNothing) {
  dp_ledger l{};
  EXPECT_EQ(completeness(l), std::nullopt);
  l.observed = l.excluded[DP_EXCLUDED_join_never] = 5;
  EXPECT_EQ(completeness(l), std::nullopt);
  l.observed = 10;
  EXPECT_EQ(completeness(l), 0.0);
  l.delivered = 5;
  EXPECT_EQ(completeness(l), 1.0);
  l.delivered = 6;
  EXPECT_EQ(completeness(l), 1.0) << "bounded, even if the ledger were wrong";
  Counters c;
  c.mappings.push_back({"m", {TargetCounters{}}});
  EXPECT_TRUE(to_json(c)["mappings"][0]["targets"][0]["complete"].is_null());
}

// What the target lacks for our own bounds or its failure must lower the share: 100 % means that
// it lacks nothing that the user wanted there.
TEST(Completeness, OnlyWhatTheUserLeftOutOrALoopDoesNotCount) {
  std::set<std::string> unwanted;
  for (const Reason &r : excluded_reasons) {
    dp_ledger l{};
    l.observed = 100;
    l.delivered = 60;
    l.excluded[r.number] = 40;
    EXPECT_EQ(completeness(l), r.unwanted ? 1.0 : 0.6) << r.name;
    EXPECT_EQ(missing(l), r.unwanted ? 0u : 40u) << r.name;
    if (r.unwanted)
      unwanted.insert(r.name);
  }
  EXPECT_EQ(unwanted, (std::set<std::string>{"loop", "join_never", "sample", "client_list",
                                             "dry_run", "own", "ring"}));
}

TEST(Completeness, MissingIsWhatIsNeitherThereNorUnderWay) {
  dp_ledger l{};
  l.observed = 100;
  l.delivered = 50;
  l.in_flight = 10;
  l.lost[DP_LOST_client_gap] = 3;
  l.lost[DP_LOST_expired] = 2;
  l.excluded[DP_EXCLUDED_paused] = 20;
  l.excluded[DP_EXCLUDED_loop] = 15;
  EXPECT_EQ(missing(l), 25u);
  EXPECT_EQ(completeness(l), 50.0 / 85.0);
}

TEST(CountersText, ShowsWhatIsNotZero) {
  EXPECT_EQ(
      to_text(sample()),
      "MAPPING  TARGET               COMPLETE  MISSING  OBSERVED  DELIVERED  IN FLIGHT  LOST  "
      "EXCLUDED\n"
      "data     192.168.2.184:11211   89.91 %   1005 B   9.7 KiB    8.7 KiB        4 B   5 B  "
      "  1000 B\n"
      "\n"
      "MAPPING  TARGET               OPEN  WAITING  OPENED  JOINED  CLOSED  BROKEN  CAPTURED  "
      "COPIED  RESENT  RESPONSES  ANSWERS\n"
      "data     192.168.2.184:11211     2        1       5       1       2       1        70  "
      "    60       6         50        0\n"
      "\n"
      "over the last 0 ms:\n"
      "MAPPING  TARGET               OBSERVED/s  DELIVERED/s  LOST/s  EXCLUDED/s  CAPTURED/s  "
      "COPIED/s  RESENT/s  RESPONSES/s  ANSWERS/s  LAST LOSS\n"
      "data     192.168.2.184:11211           -            -       -           -           -  "
      "       -         -            -          -  -\n"
      "\n"
      "MAPPING  TARGET               WHAT      REASON              AMOUNT  MEANING\n"
      "data     192.168.2.184:11211  lost      target_timeout         3 B  the target did not "
      "acknowledge within the bounded number of tries\n"
      "data     192.168.2.184:11211  lost      store_full             2 B  the store had no room "
      "left for the bytes of this flow\n"
      "data     192.168.2.184:11211  excluded  not_joined          1000 B  the connection is "
      "older than its shadow and no request boundary was seen yet\n"
      "data     192.168.2.184:11211  event     out_of_order            12  a captured segment "
      "that arrived ahead of a hole in the client's stream\n"
      "-        -                    event     foreign_on_doppel0       2  a frame on doppel0 "
      "that is not ours was dropped\n"
      "\n"
      "store: 6.0 KiB of 2.0 MiB used   shadow ports: 2 of 100 used\n");
}

// The later of two looks has the rates since the earlier one.
TEST(CountersTime, RatesAndTheLastLoss) {
  constexpr uint64_t second = 1'000'000'000;
  Counters before = sample(), now = sample();
  before.attached = now.attached = 1'700'000'000;
  before.now = 1'700'000'100, before.now_ns = 100 * second;
  now.now = 1'700'000'102, now.now_ns = 102 * second;
  now.over_ns = 102 * second;
  dp_ledger &l = now.mappings[0].targets[0].sum;
  EXPECT_EQ(to_json(now)["mappings"][0]["targets"][0]["rates"]["observed"], 98) << "since attach";
  l.observed += 4096;
  l.lost[DP_LOST_store_full] += 20;
  l.captured += 9;
  l.last.lost[DP_LOST_store_full] = 95 * second;
  l.last.lost[DP_LOST_target_timeout] = 90 * second;
  l.last.answered = 101 * second;
  measure_rates(now, before);
  const Json j = to_json(now), &t = j["mappings"][0]["targets"][0];
  EXPECT_EQ(t["rates"].dump(), R"({"observed":2048,"delivered":0,"captured":5,"copied":0,)"
                               R"("resent":0,"responses":0,"answers":0,"lost":10,"excluded":0})");
  EXPECT_EQ(j["rates_over_ms"], 2000);
  EXPECT_EQ(j["time"], iso_time(1'700'000'102));
  EXPECT_EQ(j["attached"], iso_time(1'700'000'000));
  EXPECT_EQ(t["last_loss"]["at"], iso_time(1'700'000'095));
  EXPECT_EQ(t["last_loss"]["reason"], "store_full");
  EXPECT_EQ(t["last"]["answered"], iso_time(1'700'000'101));
  EXPECT_TRUE(t["last"]["refused"].is_null());
  const std::string text = to_text(now);
  EXPECT_TRUE(text.starts_with(iso_time(1'700'000'102) + ", attached since " +
                               iso_time(1'700'000'000) + " (1m 42s)\n\nMAPPING"))
      << text;
  EXPECT_NE(text.find("over the last 2.0 s:\n"), std::string::npos) << text;
  EXPECT_NE(text.find("store_full, 7.0 s ago\n"), std::string::npos) << text;
  Counters other = before;
  other.attached++;
  Counters fresh = sample();
  fresh.attached = before.attached, fresh.now_ns = now.now_ns;
  measure_rates(fresh, other);
  EXPECT_EQ(fresh.over_ns, 0u) << "of another mirror";
}

TEST(Status, JsonAndText) {
  StatusView s;
  EXPECT_EQ(to_text(s), "not attached\n");
  EXPECT_EQ(exit_of(s), Exit::detached);
  EXPECT_FALSE(is_whole(s));
  s.attached = true;
  EXPECT_TRUE(is_whole(s));
  EXPECT_EQ(exit_of(s), Exit::ok);
  s.since = "2025-01-02T03:04:05+01:00";
  s.config_source = "/etc/doppel/doppel.json";
  s.mappings.push_back({"data", {"eth0"}, "ingress", "tcp", "11211-11212", {"10.0.0.2:1", "b:2"}});
  AttachedProgram h;
  h.what = {"doppel_ingress", "eth0", 2, DP_DIR_INGRESS};
  h.mechanism = AttachMode::tcx;
  h.prog_id = 7;
  h.link_id = 8;
  h.position = 1;
  h.ours = true;
  s.hooks.push_back(h);
  s.missing.push_back("doppel_return is gone from eth0 ingress");
  s.warnings.push_back("device eth0 is down");
  EXPECT_FALSE(is_whole(s));
  s.now = 1'700'000'012;
  s.problems = {{ProblemKind::program, s.missing[0], "", 0, ""},
                {ProblemKind::silent, "b:2 is silent", "look there", 1'700'000'000, ""},
                {ProblemKind::note, "mind this", "", 0, ""}};
  TargetHealth t;
  t.mapping = "data", t.target = "b:2", t.state = TargetState::silent;
  t.waits = 2048, t.quiet_ms = 12'000, t.lost = 5;
  t.lost_at = 1'700'000'010, t.lost_reason = "store_full";
  s.targets = {t};
  s.keeper = {true, true, 77, 0};
  const Json j = to_json(s);
  EXPECT_EQ(keys(j),
            (Keys{"attached", "whole", "since", "config", "abi", "mappings", "hooks", "missing",
                  "warnings", "well", "exit", "time", "problems", "targets", "keeper", "paused"}));
  EXPECT_EQ(keys(j["problems"][0]), (Keys{"class", "exit", "what", "do", "since"}));
  EXPECT_EQ(keys(j["targets"][0]), (Keys{"mapping", "target", "state", "since", "waits", "quiet_ms",
                                         "lost", "lost_in_a_minute", "last_loss"}));
  EXPECT_EQ(keys(j["keeper"]), (Keys{"expected", "alive", "pid", "since"}));
  EXPECT_EQ(j["exit"], 4);
  EXPECT_FALSE(j["well"].get<bool>());
  EXPECT_EQ(j["problems"][0]["class"], "program");
  EXPECT_EQ(j["targets"][0]["state"], "silent");
  EXPECT_EQ(keys(j["mappings"][0]), (Keys{"name", "device", "direction", "protocol", "ports",
                                          "address", "targets", "clients"}));
  EXPECT_TRUE(j["mappings"][0]["clients"].is_null());
  EXPECT_EQ(keys(j["hooks"][0]), (Keys{"device", "hook", "position", "program", "ours", "mechanism",
                                       "prog_id", "link_id", "priority", "handle"}));
  EXPECT_EQ(
      to_text(s),
      "not well: doppel_return is gone from eth0 ingress\n"
      "and: b:2 is silent, since " +
          iso_time(1'700'000'000) +
          " (12.0 s): look there\n"
          "note: mind this\n"
          "attached since 2025-01-02T03:04:05+01:00, from /etc/doppel/doppel.json; kept by "
          "doppel run, process 77\n"
          "\n"
          "MAPPING  DEVICE  DIRECTION  PROTOCOL  PORTS        TARGETS\n"
          "data     eth0    ingress    tcp       11211-11212  10.0.0.2:1, b:2\n"
          "\n"
          "MAPPING  TARGET  STATE   SINCE    WAITS  LAST TAKEN  LOST  LOST IN 60 s  LAST LOSS\n"
          "data     b:2     silent  -      2.0 KiB  12.0 s ago   5 B             -  store_full, "
          "2.0 s ago\n"
          "\n"
          "DEVICE  HOOK     POS  PROGRAM         OURS  BY   PROG ID  LINK ID  PRIO  HANDLE\n"
          "eth0    ingress    1  doppel_ingress  yes   tcx        7        8     -       -\n"
          "warning: device eth0 is down\n");
  s.problems = {{ProblemKind::note, "mind this", "", 0, ""}};
  EXPECT_EQ(exit_of(s), Exit::ok);
  EXPECT_TRUE(to_text(s).starts_with("all well\nnote: mind this\n")) << to_text(s);
}

TEST(Status, TellsWhoseClientsAreMirrored) {
  std::vector<NamedMapping> mappings = {
      {"a", {"eth0"}, "ingress", "tcp", "1", {"10.0.0.2:1"}},
      {"b", {"eth0"}, "ingress", "tcp", "2", {"10.0.0.2:2"}},
  };
  mappings[1].clients = {0, 2, "digest", 1};
  EXPECT_EQ(to_json(mappings)[1]["clients"], (Json{{"include", 0}, {"exclude", 2}}));
  EXPECT_EQ(
      to_text(mappings),
      "MAPPING  DEVICE  DIRECTION  PROTOCOL  PORTS  TARGETS     CLIENTS\n"
      "a        eth0    ingress    tcp       1      10.0.0.2:1  all\n"
      "b        eth0    ingress    tcp       2      10.0.0.2:2  all but those of 2 prefixes\n");
}

// Programs alone are left: nothing is attached, and yet there is something to do.
TEST(Status, RemainsOfAMirror) {
  StatusView s;
  s.problems = {{ProblemKind::remains, "there are remains", "doppel detach removes them", 0, ""}};
  EXPECT_EQ(exit_of(s), Exit::stopped);
  EXPECT_EQ(to_text(s), "not well: there are remains: doppel detach removes them\nnot attached\n");
}

TEST(Probe, JsonAndText) {
  std::vector<ProbeRow> rows = {{"tcx", false, false, "clsact is used"},
                                {"bpffs", true, true, "/x"}};
  EXPECT_TRUE(is_able(rows));
  const Json j = to_json(rows);
  EXPECT_EQ(keys(j), (Keys{"ok", "features"}));
  EXPECT_EQ(keys(j["features"][0]), (Keys{"feature", "ok", "needed", "detail"}));
  EXPECT_EQ(to_text(rows), "FEATURE  FOUND  NEEDED  DETAIL\n"
                           "tcx      no     no      clsact is used\n"
                           "bpffs    yes    yes     /x\n"
                           "\nthis host can mirror\n");
  rows.push_back({"ringbuf", false, true, "not tried", false});
  EXPECT_TRUE(is_able(rows)) << "nothing is known against it";
  EXPECT_FALSE(to_json(rows)["features"][2]["tried"].get<bool>());
  EXPECT_NE(to_text(rows).find("ringbuf  ?      yes     not tried\n"), std::string::npos);
  rows[1].ok = false;
  EXPECT_FALSE(is_able(rows));
  EXPECT_FALSE(to_json(rows)["ok"].get<bool>());
  EXPECT_NE(to_text(rows).find("this host cannot mirror\n"), std::string::npos);
}

TEST(Detach, JsonAndText) {
  DetachReport r;
  EXPECT_EQ(to_text(r), "nothing was attached\n");
  r.was_attached = true;
  r.closed = 1234;
  r.reset = 1;
  r.last = sample();
  EXPECT_EQ(keys(to_json(r)), (Keys{"was_attached", "closed", "reset", "owed", "lost", "ledger",
                                    "counters", "errors"}));
  EXPECT_NE(to_text(r).find("there was no ledger"), std::string::npos);
  r.ledger = true;
  EXPECT_EQ(to_text(r), "detached: 1,234 shadows closed, 1 reset\n\n" + to_text(sample()));
}

TEST(Detach, WhatTheTargetLacksIsAnError) {
  DetachReport r;
  r.was_attached = true;
  r.reset = 1; // of a target that keeps its end open
  EXPECT_TRUE(shortfalls(r).empty());
  r.lost = 750;
  const Errors errors = shortfalls(r);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].exit, Exit::failure);
  EXPECT_NE(to_text(errors).find("750 B of what was captured are lost"), std::string::npos)
      << to_text(errors);
  EXPECT_EQ(to_json(r)["lost"], 750);
  r.lost = 0;
  r.owed = 1;
  EXPECT_NE(to_text(shortfalls(r)).find("1 shadow was reset while the target owed answers"),
            std::string::npos)
      << to_text(shortfalls(r));
  EXPECT_EQ(to_json(r)["owed"], 1);
}

TEST(ErrorsOutput, JsonAndText) {
  const Errors errors = {{"f:1: a", "is wrong", "do this", Exit::usage}, {"", "is bad", "", {}}};
  EXPECT_EQ(to_text(errors), "error: f:1: a: is wrong\nhint: do this\nerror: is bad\n");
  EXPECT_EQ(to_json(errors).dump(),
            R"({"errors":[{"where":"f:1: a","what":"is wrong","hint":"do this"},)"
            R"({"where":"","what":"is bad","hint":""}]})");
}

TEST(Dump, ReplacesInvalidUtf8) { EXPECT_EQ(dump(Json("a\xff"), true), "\"a\xef\xbf\xbd\"\n"); }

} // namespace
} // namespace doppel
