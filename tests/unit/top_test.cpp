// SPDX-License-Identifier: Apache-2.0
// The figures of `doppel top`, and how they are shown.
#include "userspace/migrate/top_render.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "userspace/migrate/sparkline.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kSecond = 1'000'000'000;

ServerSample a_sample(uint64_t at_ns, uint64_t gets, uint64_t hits) {
  ServerSample s;
  s.at_ns = at_ns;
  s.pid = 7;
  s.gets = gets;
  s.hits = hits;
  s.misses = gets - hits;
  s.sets = gets / 2;
  s.bytes = 250;
  s.limit = 1000;
  s.items = 25;
  s.connections = 4;
  s.answer_us = 120;
  return s;
}

TopServer a_server(const char *name, const char *side, uint64_t gets, uint64_t hits) {
  TopServer s{name, side, "data", {}, {}, {}};
  s.now = a_sample(2 * kSecond, 100 + gets, 50 + hits);
  s.window = between(a_sample(0, 100, 50), *s.now);
  return s;
}

TopModel a_model() {
  TopModel m;
  m.now = 1000;
  m.interval_s = 2;
  m.servers = {a_server("127.0.0.1:11211", "source", 200, 180),
               a_server("10.0.0.2:11211", "target", 200, 90)};
  m.pairs = {{"data", 0, 1, {std::nullopt, 0.25, 0.5}}};
  Counters c;
  TargetCounters t{"10.0.0.2:11211", {}, {}};
  t.before.observed = t.before.delivered = 1000;
  t.sum.observed = 6000;
  t.sum.delivered = 5000;
  t.sum.in_flight = 900;
  t.sum.lost[DP_LOST_store_full] = 100;
  t.sum.copied = 40;
  t.sum.resent = 3;
  t.sum.open = 2;
  c.mappings = {{"data", {t}}};
  c.over_ns = 2 * kSecond;
  c.now_ns = 10 * kSecond;
  m.counters = c;
  return m;
}

TEST(TopModel, FiguresOfTheInterval) {
  const TopFigures f = figures_of(a_model().servers[0]);
  EXPECT_EQ(f.gets, 200);
  EXPECT_EQ(f.sets, 100);
  EXPECT_EQ(f.gets_s, 100) << "over two seconds";
  EXPECT_EQ(f.sets_s, 50);
  EXPECT_EQ(f.hit_ratio, 0.9);
  EXPECT_EQ(f.usage, 0.25);
  EXPECT_EQ(f.answer_us, 120);
  EXPECT_EQ(f.connections, 4);
}

TEST(TopModel, TheFirstSampleHasNoRates) {
  auto s = a_model().servers[0];
  s.window.reset();
  const TopFigures f = figures_of(s);
  EXPECT_FALSE(f.gets_s);
  EXPECT_FALSE(f.gets);
  EXPECT_FALSE(f.hit_ratio);
  EXPECT_EQ(f.items, 25);
}

TEST(TopModel, AServerThatStartedAnewHasNoInterval) {
  auto after = a_sample(kSecond, 500, 100);
  EXPECT_TRUE(between(a_sample(0, 100, 50), after));
  after.pid = 8;
  EXPECT_FALSE(between(a_sample(0, 100, 50), after));
  EXPECT_FALSE(between(a_sample(0, 100, 50), a_sample(1, 10, 5))) << "stats reset";
  for (uint64_t ServerSample::*grows : {&ServerSample::accepted, &ServerSample::stored,
                                        &ServerSample::read, &ServerSample::written}) {
    auto before = a_sample(0, 100, 50);
    before.*grows = 1;
    EXPECT_FALSE(between(before, a_sample(1, 110, 55))) << "stats reset, and gets since";
  }
}

// memcached counts such a get as a hit, and answers that nothing is there.
TEST(TopModel, AValueThatWentWithItsPageOfFlashIsAMiss) {
  auto before = a_sample(0, 100, 50), after = a_sample(kSecond, 200, 140);
  before.flash_misses = 10;
  after.flash_misses = 40;
  auto w = between(before, after);
  ASSERT_TRUE(w);
  EXPECT_EQ(w->hits, 60u);
  EXPECT_EQ(w->hits + w->misses, (after.hits + after.misses) - (before.hits + before.misses));
  after.flash_misses = 1000;
  EXPECT_EQ(between(before, after)->hits, 0u) << "those of hits before the window";
  after.flash_misses = 9;
  EXPECT_FALSE(between(before, after)) << "stats reset";
}

// Of 10 `mg` with T, one of which misses (memcached 1.6.18).
TEST(TopModel, WhatReadsAndTouchesIsAGet) {
  const auto before = sample_of({{"pid", "1"}, {"cmd_get", "5"}, {"get_hits", "5"}});
  auto after = sample_of({{"pid", "1"},
                          {"cmd_get", "6"},
                          {"get_hits", "5"},
                          {"get_misses", "1"},
                          {"cmd_touch", "9"},
                          {"touch_hits", "9"}});
  const auto w = between(before, after);
  ASSERT_TRUE(w);
  EXPECT_EQ(w->gets, 10u);
  EXPECT_EQ(hit_ratio(*w), 0.9);
}

TEST(TopModel, WhatAPageTakesAlongIsEvicted) {
  const memcached::Stats before = {{"evictions", "5"},
                                   {"slab_reassign_evictions_nomem", "1"},
                                   {"extstore_objects_evicted", "100"}};
  EXPECT_EQ(sample_of(before).evictions, 106u);
  auto now = before;
  EXPECT_EQ(memcached::evictions_since(now, memcached::evictions(before)), 0u);
  now["extstore_objects_evicted"] = "107";
  now["slab_reassign_evictions_nomem"] = "3";
  EXPECT_EQ(memcached::evictions_since(now, memcached::evictions(before)), 9u);
  now["evictions"] = now["slab_reassign_evictions_nomem"] = "0"; // stats reset keeps that of flash
  EXPECT_EQ(memcached::evictions_since(now, memcached::evictions(before)), 7u);
}

TEST(TopModel, TotalsAreOfTheSumsNotOfRatios) {
  auto m = a_model();
  m.servers[1].side = "source";
  m.servers[1].now->limit = 3000;
  const auto both = of_side(m, "source");
  const TopFigures total = total_of(both), average = average_of(both);
  EXPECT_EQ(total.gets, 400);
  EXPECT_EQ(total.hit_ratio, 270.0 / 400);
  EXPECT_EQ(total.usage, 500.0 / 4000);
  EXPECT_FALSE(total.answer_us) << "a time has no sum";
  EXPECT_EQ(average.gets, 200);
  EXPECT_EQ(average.answer_us, 120);
  EXPECT_EQ(average.hit_ratio, total.hit_ratio);
}

TEST(TopModel, WhoIsAwayIsNeitherSummedNorZero) {
  auto m = a_model();
  m.servers[1].side = "source";
  m.servers[1].away = "refuses";
  EXPECT_EQ(average_of(of_side(m, "source")).gets, 200);
  EXPECT_FALSE(difference(figures_of(m.servers[0]), figures_of(m.servers[1])).gets);
  EXPECT_FALSE(warmth_of(m.servers[0], m.servers[1]));
}

TEST(TopModel, DifferenceIsTargetMinusSource) {
  const auto m = a_model();
  const TopFigures d = difference(figures_of(m.servers[0]), figures_of(m.servers[1]));
  EXPECT_EQ(d.hits, -90);
  EXPECT_EQ(d.gets, 0);
  EXPECT_EQ(d.hit_ratio, 0.45 - 0.9);
  EXPECT_EQ(warmth_of(m.servers[0], m.servers[1]), 0.5);
}

TEST(TopModel, RowsOfTheMirror) {
  const auto rows = rows_of(a_model());
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].bits_s, 5000 * 8 / 2);
  EXPECT_EQ(rows[0].segments_s, 20);
  EXPECT_EQ(rows[0].lag_ms, 450) << "900 bytes at 2,000 a second";
  EXPECT_EQ(rows[0].share, 5000.0 / 6000);
  auto first = a_model();
  first.interval_s = 0;
  EXPECT_FALSE(rows_of(first)[0].bits_s) << "averages since attach are none of the interval";
  first.counters.reset();
  EXPECT_TRUE(rows_of(first).empty());
}

TEST(TopJson, HasTheCountersAsTheyAre) {
  const auto m = a_model();
  const Json j = to_json(m);
  Json mirror = j["mirror"];
  Json &target = mirror["mappings"][0]["targets"][0];
  EXPECT_EQ(target["bits_s"], 20'000.0);
  EXPECT_EQ(target["lag_ms"], 450.0);
  for (const char *more : {"bits_s", "segments_s", "lag_ms"})
    target.erase(more);
  EXPECT_EQ(mirror, to_json(*m.counters));
}

TEST(TopJson, HasEachColumn) {
  const Json j = to_json(a_model());
  ASSERT_EQ(j["servers"].size(), 2u);
  for (const TopColumn &c : top_columns())
    EXPECT_TRUE(j["servers"][0].contains(c.name)) << c.name;
  EXPECT_EQ(j["servers"][0]["gets"].dump(), "200") << "a whole number";
  EXPECT_EQ(j["servers"][1]["up"], true);
  EXPECT_EQ(j["pairs"][0]["warmth"], 0.5);
  EXPECT_EQ(j["pairs"][0]["history"].dump(), "[null,0.25,0.5]");
  EXPECT_EQ(j["pairs"][0]["difference"]["hits"], -90);
  EXPECT_EQ(j["total"]["target"]["gets"], 200);
  EXPECT_FALSE(j["total"].contains("other"));
}

TEST(TopJson, WithoutAMirror) {
  auto m = a_model();
  m.counters.reset();
  m.mirror_absent = "nothing is attached";
  m.servers[1].away = "refuses";
  const Json j = to_json(m);
  EXPECT_TRUE(j["mirror"].is_null());
  EXPECT_EQ(j["mirror_absent"], "nothing is attached");
  EXPECT_EQ(j["servers"][1]["up"], false);
  EXPECT_EQ(j["servers"][1]["why"], "refuses");
  EXPECT_TRUE(j["servers"][1]["items"].is_null());
}

std::string line_with(const std::string &text, const std::string &word) {
  const size_t at = text.find(word);
  if (at == std::string::npos)
    return "no line with " + word + " in:\n" + text;
  const size_t begin = text.rfind('\n', at) + 1;
  return text.substr(begin, text.find('\n', at) - begin);
}

TEST(TopText, ShowsTheSameFigures) {
  const std::string text = to_text(a_model(), {});
  const std::string row = line_with(text, "20.0 kbit/s");
  for (const char *figure : {"data", "10.0.0.2:11211", "83.33 %", "900 B", "450 ms", "store_full"})
    EXPECT_NE(row.find(figure), std::string::npos) << figure << " in " << row;
  const std::string server = line_with(text, "127.0.0.1:11211");
  for (const char *figure : {"source", "25.0 %", "90.0 %", "0.120 ms", "100", "1000 B"})
    EXPECT_NE(server.find(figure), std::string::npos) << figure << " in " << server;
  EXPECT_NE(line_with(text, "  difference").find("-45.0 %"), std::string::npos) << text;
  EXPECT_NE(line_with(text, "warmth").find("50.00 %   ▃▅"), std::string::npos) << text;
}

TEST(TopText, OnePartAlone) {
  TopLook look;
  look.part = TopPart::mirror;
  EXPECT_EQ(to_text(a_model(), look).find("INSTANCE"), std::string::npos);
  look.part = TopPart::servers;
  EXPECT_EQ(to_text(a_model(), look).find("COMPLETE"), std::string::npos);
}

TEST(TopText, AServerThatIsAwayHasItsRow) {
  auto m = a_model();
  m.servers[1].away = "cannot be reached";
  bool told = false;
  for (const TopLine &line : top_lines(m, {}))
    told |= line.kind == TopLine::Kind::alarm &&
            line.text.find("10.0.0.2:11211") != std::string::npos &&
            line.text.find("cannot be reached") != std::string::npos;
  EXPECT_TRUE(told) << to_text(m, {});
}

TEST(TopText, SumsWhereThereAreSeveral) {
  auto m = a_model();
  EXPECT_EQ(to_text(m, {}).find("TOTAL"), std::string::npos) << "of one there is no sum";
  m.pairs.clear();
  for (TopServer &s : m.servers)
    s.side.clear();
  EXPECT_NE(line_with(to_text(m, {}), "TOTAL").find("67.5 %"), std::string::npos);
  EXPECT_NE(line_with(to_text(m, {}), "AVERAGE").find("0.120 ms"), std::string::npos);
}

TEST(TopText, NoLineIsEmptyOfItsBreaks) {
  for (const TopLine &line : top_lines(a_model(), {}))
    EXPECT_EQ(line.text.find('\n'), std::string::npos) << line.text;
  EXPECT_GT(top_help().size(), 6u);
}

TEST(TopText, CutCountsCharacters) {
  EXPECT_EQ(cut("▁▂▃", 2), "▁▂");
  EXPECT_EQ(cut("abc", 5), "abc");
  EXPECT_EQ(cut("abc", 0), "");
}

TEST(Sparkline, EightLevels) {
  EXPECT_EQ(sparkline({0.0, 0.2, 0.5, 0.99, 1.0}, 9, true), "▁▂▅██");
  EXPECT_EQ(sparkline({0.0, 0.2, 0.5, 0.99, 1.0}, 9, false), "_.=##");
  EXPECT_EQ(sparkline({std::nullopt, -1.0, 7.0}, 9, false), " _#");
  EXPECT_EQ(sparkline({0.0, 0.0, 1.0}, 2, false), "_#") << "the last ones";
  EXPECT_EQ(sparkline({}, 5, true), "");
}

} // namespace
} // namespace doppel::migrate
