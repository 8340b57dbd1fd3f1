// SPDX-License-Identifier: Apache-2.0
// Which connections are shown, how they are summed up, and how they look.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/unit/show_errors.h"
#include "userspace/view/flow_list.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
Endpoint at(const std::string &text) { return parse_endpoint(text).value(); }

// A connection without a shadow.
FlowRow waiting(const std::string &client) {
  FlowRow f;
  f.mapping = "data";
  f.client = at(client);
  f.server = at("10.0.0.1:11211");
  f.target = at("10.0.0.2:11211");
  f.state = kWaiting;
  f.reason = "not_joined";
  f.idle_ms = 90;
  return f;
}

FlowRow open(const std::string &client, uint32_t in_flight) {
  FlowRow f = waiting(client);
  f.shadow = at("10.0.0.1:16384");
  f.state = "ESTABLISHED";
  f.reason = "";
  f.joined = true;
  f.observed = 2048;
  f.delivered = 2048 - in_flight;
  f.in_flight = in_flight;
  f.srtt_us = 1500;
  return f;
}

// Five connections of three clients, one of them over IPv6, of two mappings.
std::vector<FlowRow> some() {
  std::vector<FlowRow> rows = {open("10.1.0.9:40000", 5), waiting("10.1.0.10:40000"),
                               open("10.1.0.9:40001", 700), open("[2001:db8::7]:1", 30),
                               waiting("10.1.0.9:40002")};
  rows[4].mapping = "other";
  rows[4].target = at("10.0.0.3:11211");
  rows[4].reason = "table_full";
  return rows;
}

FlowList list_of(const FlowWords &words, const std::vector<FlowRow> &rows = some()) {
  const auto query = parse_flow_query(words);
  EXPECT_TRUE(query) << show_errors(query.errors());
  FlowList list(*query);
  for (const FlowRow &f : rows)
    list.add(f);
  list.finish();
  return list;
}

std::vector<std::string> clients(const FlowList &list) {
  std::vector<std::string> names;
  for (const FlowRow &f : list.rows())
    names.push_back(f.client.text());
  return names;
}

std::vector<std::string> clients(const FlowWords &words) { return clients(list_of(words)); }

std::string text_of(const FlowList &list) {
  std::ostringstream out;
  print_text(out, list);
  return out.str();
}

Json json_of(const FlowList &list) {
  std::ostringstream out;
  print_json(out, list);
  return Json::parse(out.str());
}

using Texts = std::vector<std::string>;

TEST(Flows, Filters) {
  EXPECT_EQ(clients(FlowWords{}).size(), 5u);
  EXPECT_EQ(clients({.mapping = "other"}), Texts{"10.1.0.9:40002"});
  EXPECT_EQ(clients({.target = "10.0.0.3:11211"}), Texts{"10.1.0.9:40002"});
  EXPECT_TRUE(clients({.target = "10.0.0.3:11212"}).empty());
  EXPECT_EQ(clients({.client = "10.1.0.10"}), Texts{"10.1.0.10:40000"});
  EXPECT_EQ(clients({.client = "10.1.0.8/31"}).size(), 3u);
  EXPECT_EQ(clients({.client = "2001:db8::/32"}), Texts{"[2001:db8::7]:1"});
  EXPECT_EQ(clients({.state = "established"}).size(), 3u);
  EXPECT_EQ(clients({.excluded = "table_full"}), Texts{"10.1.0.9:40002"});
  EXPECT_EQ(clients({.client = "10.1.0.9", .state = "WAITING"}), Texts{"10.1.0.9:40002"});
  const FlowList list = list_of({.mapping = "data", .state = "WAITING"});
  EXPECT_EQ(list.in_all(), 5u);
  EXPECT_EQ(list.matching(), 1u);
}

TEST(Flows, Order) {
  EXPECT_EQ(clients({.sort = "client"}),
            (Texts{"10.1.0.9:40000", "10.1.0.9:40001", "10.1.0.9:40002", "10.1.0.10:40000",
                   "[2001:db8::7]:1"}))
      << "by number, not by text";
  EXPECT_EQ(clients({.sort = "client:desc"}).front(), "[2001:db8::7]:1");
  EXPECT_EQ(clients({.sort = "in_flight"}),
            (Texts{"10.1.0.9:40001", "[2001:db8::7]:1", "10.1.0.9:40000", "10.1.0.9:40002",
                   "10.1.0.10:40000"}))
      << "equal ones by client";
  EXPECT_EQ(clients({.sort = "in_flight:asc"}).back(), "10.1.0.9:40001");
  for (const FlowColumn &c : flow_columns())
    EXPECT_EQ(clients({.sort = c.name}).size(), 5u) << c.name;
}

TEST(Flows, LimitKeepsTheFirstOfTheOrder) {
  for (const FlowColumn &c : flow_columns())
    for (const char *way : {"", ":asc", ":desc"}) {
      const FlowWords all{.sort = std::string(c.name) + way};
      for (uint64_t limit = 1; limit <= 6; limit++) {
        FlowWords some_only = all;
        some_only.limit = limit;
        Texts want = clients(all);
        want.resize(std::min<size_t>(want.size(), limit));
        const FlowList list = list_of(some_only);
        EXPECT_EQ(clients(list), want) << all.sort << " " << limit;
        EXPECT_EQ(list.more(), 5 - want.size());
      }
    }
  EXPECT_EQ(clients({.limit = 2}).size(), 2u);
}

TEST(Flows, Json) {
  const Json j = json_of(list_of({.sort = "client", .limit = 4}));
  ASSERT_EQ(j["flows"].size(), 4u);
  EXPECT_EQ(j["more"], 1);
  EXPECT_EQ(j["matching"], 5);
  EXPECT_EQ(j["in_all"], 5);
  Texts keys;
  for (const auto &[key, value] : j["flows"][0].items())
    keys.push_back(key);
  EXPECT_EQ(keys,
            (Texts{"mapping",         "client", "server", "target",   "copy",      "shadow",
                   "state",           "reason", "joined", "observed", "delivered", "in_flight",
                   "waiting_to_send", "window", "cwnd",   "ssthresh", "resent",    "rto_ms",
                   "srtt_us",         "age_ms", "idle_ms"}));
  EXPECT_EQ(j["flows"][0]["shadow"], "10.0.0.1:16384");
  EXPECT_TRUE(j["flows"][0]["reason"].is_null());
  EXPECT_TRUE(j["flows"][3]["shadow"].is_null());
  EXPECT_EQ(j["flows"][3]["reason"], "not_joined");
  EXPECT_EQ(json_of(list_of({}, {})).dump(), R"({"flows":[],"more":0,"matching":0,"in_all":0})");
}

TEST(Flows, Text) {
  const std::string text = text_of(list_of({.mapping = "data", .sort = "client", .limit = 2}));
  EXPECT_NE(text.find("MAPPING  CLIENT "), std::string::npos) << text;
  EXPECT_NE(text.find("ESTABLISHED (joined)  -  "), std::string::npos) << text;
  EXPECT_NE(text.find("1,500 us"), std::string::npos) << text;
  EXPECT_NE(text.find("\n2 more: without --limit all 4 are shown\n4 of 5 flows match\n"),
            std::string::npos)
      << text;
  EXPECT_EQ(text_of(list_of({}, {})), "no flows\n");
  EXPECT_EQ(text_of(list_of({.state = "CLOSED"})), "none of 5 flows matches\n");
  const std::string all = text_of(list_of({}));
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 6) << "a heading and five rows";
}

TEST(Flows, Summary) {
  const FlowList list = list_of({.summary = true});
  const FlowSummary &s = list.summary();
  EXPECT_TRUE(list.rows().empty());
  EXPECT_EQ(s.total.flows, 5u);
  EXPECT_EQ(s.total.in_flight, 735u);
  ASSERT_EQ(s.states.size(), 3u);
  EXPECT_EQ(s.states[0].names, (Texts{"ESTABLISHED", ""}));
  EXPECT_EQ(s.states[0].sum.observed, 3 * 2048u);
  EXPECT_EQ(s.states[1].names, (Texts{"WAITING", "not_joined"}));
  ASSERT_EQ(s.targets.size(), 2u);
  EXPECT_EQ(s.targets[0].names, (Texts{"data", "10.0.0.2:11211"}));
  EXPECT_EQ(s.targets[0].sum.flows, 4u);
  ASSERT_EQ(s.clients.size(), 3u);
  EXPECT_EQ(s.clients[0].names, Texts{"10.1.0.9"});
  EXPECT_EQ(s.clients[0].sum.flows, 3u);
  const Json j = json_of(list);
  EXPECT_EQ(j["summary"]["states"][0]["state"], "ESTABLISHED");
  EXPECT_TRUE(j["summary"]["states"][0]["reason"].is_null());
  EXPECT_EQ(j["summary"]["clients"][0]["flows"], 3);
  EXPECT_EQ(j["summary"]["more_clients"], 0);
  EXPECT_EQ(j["matching"], 5);
}

TEST(Flows, SummaryComposesWithTheRest) {
  const FlowList list =
      list_of({.state = "ESTABLISHED", .sort = "in_flight:asc", .limit = 1, .summary = true});
  EXPECT_EQ(list.summary().total.flows, 3u);
  ASSERT_EQ(list.summary().clients.size(), 1u);
  EXPECT_EQ(list.summary().clients[0].names, Texts{"2001:db8::7"});
  EXPECT_EQ(list.summary().more_clients, 1u);
  const std::string text = text_of(list);
  EXPECT_NE(text.find("more clients: 1; --limit 2 shows all\n3 of 5 flows match\n"),
            std::string::npos)
      << text;
}

TEST(Flows, BadWords) {
  const auto r = parse_flow_query({.target = "10.0.0.2",
                                   .client = "[2001:db8::1]",
                                   .state = "open",
                                   .excluded = "none of it",
                                   .sort = "lag:up"});
  ASSERT_FALSE(r);
  Texts told;
  for (const Error &e : r.errors()) {
    told.push_back(e.where + ": " + e.what);
    EXPECT_FALSE(e.hint.empty());
    EXPECT_EQ(e.exit, Exit::usage);
  }
  EXPECT_EQ(told,
            (Texts{"--target: \"10.0.0.2\" is not an address with a port",
                   "--client: \"[2001:db8::1]\" is neither an address nor a prefix",
                   "--state: \"open\" is not a state", "--excluded: \"none of it\" is not a reason",
                   "--sort: \"lag\" is not what flows can be sorted by",
                   "--sort: \"up\" is not an order"}));
  EXPECT_FALSE(parse_flow_query({.sort = "in_flight:"}));
  EXPECT_FALSE(parse_flow_query({.sort = "flows"})) << "of a summary alone";
  EXPECT_TRUE(parse_flow_query({.sort = "flows", .summary = true}));
  EXPECT_FALSE(parse_flow_query({.sort = "client", .summary = true}));
}

} // namespace
} // namespace doppel
