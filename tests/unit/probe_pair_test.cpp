// SPDX-License-Identifier: Apache-2.0
// Whether two memcacheds go together.
#include "userspace/migrate/probe_pair.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "userspace/migrate/slab_fit.h"

namespace doppel::migrate {
namespace {
// As memcached 1.6.18 says it, with 1,000 items of 100 bytes each.
ServerFacts a_server() {
  ServerFacts f;
  f.name = "127.0.0.1:11211";
  f.general = {{"version", "1.6.18"}, {"curr_items", "1000"}, {"hash_power_level", "16"}};
  f.settings = {{"maxbytes", "67108864"},
                {"maxconns", "1024"},
                {"num_threads", "4"},
                {"item_size_max", "1048576"},
                {"evictions", "on"},
                {"growth_factor", "1.25"},
                {"chunk_size", "48"},
                {"slab_chunk_max", "524288"},
                {"cas_enabled", "yes"},
                {"auth_enabled_sasl", "no"},
                {"auth_enabled_ascii", "no"},
                {"lru_crawler", "yes"},
                {"flush_enabled", "yes"},
                {"dump_enabled", "yes"},
                {"ssl_enabled", "no"},
                {"shutdown_command", "no"},
                {"udpport", "0"},
                {"binding_protocol", "auto-negotiate"}};
  f.items = {{"items:2:number", "1000"}, {"items:2:mem_requested", "100000"}};
  f.slabs = {{"2:chunk_size", "120"}, {"2:used_chunks", "1000"}};
  f.features.meta = f.features.meta_base64 = f.features.me = true;
  f.features.cas = f.features.metadump = true;
  return f;
}

PairRow find(const std::vector<PairRow> &rows, const std::string &about) {
  for (const PairRow &r : rows)
    if (r.about == about)
      return r;
  return {PairLevel::ok, "", "no row about " + about, ""};
}

TEST(ProbePair, OfAGoodPairNothingIsToBeDone) {
  const auto rows = judge_pair(a_server(), a_server());
  EXPECT_TRUE(is_fine(rows)) << to_text(rows);
  EXPECT_NE(find(rows, "admin commands").what.find("flush_all"), std::string::npos);
  EXPECT_EQ(to_json(rows)["fine"], true);
}

// A change of one of the two, and the row that tells it.
struct Misfit {
  const char *name;
  std::function<void(ServerFacts &source, ServerFacts &target)> change;
  const char *about;
  PairLevel level;
  const char *remedy; // a part of it
};

std::function<void(ServerFacts &, ServerFacts &)> target_has(const char *setting,
                                                             const char *value) {
  return [=](ServerFacts &, ServerFacts &t) { t.settings[setting] = value; };
}

std::function<void(ServerFacts &, ServerFacts &)> source_has(const char *setting,
                                                             const char *value) {
  return [=](ServerFacts &s, ServerFacts &) { s.settings[setting] = value; };
}

const Misfit kMisfits[] = {
    {"item_size", target_has("item_size_max", "524288"), "item size", PairLevel::fail,
     "-I 1048576"},
    {"no_cas", target_has("cas_enabled", "no"), "cas", PairLevel::fail, "without -C"},
    {"source_no_cas", source_has("cas_enabled", "no"), "cas", PairLevel::fail,
     "without doppel warm"},
    {"no_dump", target_has("dump_enabled", "no"), "list of keys", PairLevel::warn, "without -X"},
    {"source_no_dump", source_has("dump_enabled", "no"), "list of keys", PairLevel::fail,
     "doppel warm"},
    {"source_no_crawler", source_has("lru_crawler", "no"), "list of keys", PairLevel::fail,
     "lru_crawler enable"},
    {"small_memory", target_has("maxbytes", "33554432"), "room to grow", PairLevel::warn, "-m 64"},
    {"connections", target_has("maxconns", "100"), "connections", PairLevel::warn, "-c 1024"},
    {"threads", target_has("num_threads", "1"), "threads", PairLevel::warn, "-t 4"},
    {"no_evictions", target_has("evictions", "off"), "evictions", PairLevel::fail, "without -M"},
    {"source_no_evictions", source_has("evictions", "off"), "evictions", PairLevel::warn,
     "with -M"},
    {"no_flush", target_has("flush_enabled", "no"), "flush_all", PairLevel::warn, "without -F"},
    {"asks_for_users", target_has("auth_enabled_ascii", "/etc/memcached.users"),
     "authentication (-Y FILE)", PairLevel::fail, "without -Y"},
    {"source_asks_for_users", source_has("auth_enabled_sasl", "yes"), "authentication (-S)",
     PairLevel::warn, "with -S"},
    {"tls", target_has("ssl_enabled", "yes"), "TLS", PairLevel::fail, "without -Z"},
    {"source_tls", source_has("ssl_enabled", "yes"), "TLS", PairLevel::fail, "doppel warm"},
    {"protocol", target_has("binding_protocol", "binary"), "protocol", PairLevel::fail,
     "without -B"},
    {"udp", source_has("udpport", "11211"), "UDP", PairLevel::warn, "clients"},
    {"hash_table", [](ServerFacts &s, ServerFacts &) { s.general["hash_power_level"] = "20"; },
     "hash table", PairLevel::warn, "hashpower=20"},
    {"clocks", [](ServerFacts &, ServerFacts &t) { t.ahead_s = -60; }, "clocks", PairLevel::warn,
     "NTP"},
    {"no_meta", [](ServerFacts &, ServerFacts &t) { t.features.meta = false; }, "meta commands",
     PairLevel::fail, "1.6"},
    {"elsewhere", [](ServerFacts &s, ServerFacts &) { s.here = false; }, "this host",
     PairLevel::warn, "source's host"},
    {"flash", [](ServerFacts &s, ServerFacts &) { s.general["extstore_limit_maxbytes"] = "1"; },
     "extstore", PairLevel::warn, "ext_path"},
    {"less_flash",
     [](ServerFacts &s, ServerFacts &t) {
       s.general["extstore_limit_maxbytes"] = "2";
       t.general["extstore_limit_maxbytes"] = "1";
     },
     "extstore", PairLevel::warn, "ext_path"},
    {"flags",
     [](ServerFacts &s, ServerFacts &t) {
       s.settings["client_flags_size"] = "8";
       t.settings.erase("client_flags_size"); // as of before they could be larger
     },
     "client flags", PairLevel::fail, "built with --enable-large-client-flags"},
};

class ProbePairMisfit : public testing::TestWithParam<Misfit> {};

TEST_P(ProbePairMisfit, IsTheOneThatIsTold) {
  const Misfit &m = GetParam();
  ServerFacts source = a_server(), target = a_server();
  m.change(source, target);
  const auto rows = judge_pair(source, target);
  EXPECT_FALSE(is_fine(rows));
  size_t told = 0;
  for (const PairRow &r : rows)
    told += r.level == PairLevel::ok ? 0 : 1;
  EXPECT_EQ(told, 1u) << to_text(rows);
  const PairRow row = find(rows, m.about);
  EXPECT_EQ(row.level, m.level) << row.what;
  EXPECT_NE(row.remedy.find(m.remedy), std::string::npos) << row.remedy;
}

INSTANTIATE_TEST_SUITE_P(Each, ProbePairMisfit, testing::ValuesIn(kMisfits),
                         [](const auto &info) { return std::string(info.param.name); });

TEST(ProbePair, ShutdownIsToldWhereTheTargetTakesIt) {
  auto target = a_server();
  target.settings["shutdown_command"] = "yes";
  EXPECT_NE(find(judge_pair(a_server(), target), "admin commands").what.find("shutdown (-A)"),
            std::string::npos);
}

TEST(ProbePair, ItemsThatDoNotFit) {
  auto source = a_server(), target = a_server();
  source.settings["maxbytes"] = target.settings["maxbytes"] = "1048576"; // a page: 8,738 items
  source.items["items:2:number"] = "8738";
  source.items["items:2:mem_requested"] = "873800";
  EXPECT_EQ(find(judge_pair(source, target), "memory").level, PairLevel::ok);
  source.items["items:2:number"] = "8739";
  source.items["items:2:mem_requested"] = "873900";
  const PairRow row = find(judge_pair(source, target), "memory");
  EXPECT_EQ(row.level, PairLevel::fail);
  EXPECT_EQ(row.remedy, "start the target with -m 3 or more");
}

TEST(ProbePair, ItemsThatGoToFlash) {
  auto source = a_server(), target = a_server();
  source.settings["maxbytes"] = target.settings["maxbytes"] = "1048576";
  source.items["items:2:number"] = "17000";
  source.items["items:2:mem_requested"] = "1700000";
  target.general["extstore_limit_maxbytes"] = "1048576";
  const PairRow fits = find(judge_pair(source, target), "memory");
  EXPECT_EQ(fits.level, PairLevel::warn) << "small ones stay in memory";
  EXPECT_NE(fits.what.find("1.0 MiB of flash"), std::string::npos) << fits.what;
  source.items["items:2:number"] = "18000";
  source.items["items:2:mem_requested"] = "1800000";
  EXPECT_EQ(find(judge_pair(source, target), "memory").level, PairLevel::fail);
}

TEST(SlabFit, ChunksAsMemcachedMakesThem) {
  const auto sizes = chunk_sizes({});
  const std::vector<uint32_t> first(sizes.begin(), sizes.begin() + 6);
  EXPECT_EQ(first, (std::vector<uint32_t>{96, 120, 152, 192, 240, 304})); // 1.6.18, stats slabs
  EXPECT_EQ(sizes.size(), 39u);
  EXPECT_EQ(sizes.back(), 524288u);
  SlabShape coarse;
  coarse.factor = 2;
  EXPECT_EQ(chunk_sizes(coarse)[1], 192u);
}

TEST(SlabFit, AnotherFactorTakesAnotherRoom) {
  const std::vector<ClassLoad> loads = {{10'000, 1'000'000, 120, 10'000}}; // of 100 bytes
  SlabShape target;
  target.memory = 1 << 30;
  EXPECT_EQ(fit_of(loads, target).likely, 2u << 20) << "chunks of 120";
  target.factor = 2; // 96, 192
  const Fit coarse = fit_of(loads, target);
  EXPECT_EQ(coarse.likely, 2u << 20);
  EXPECT_EQ(coarse.at_most, 2u << 20) << "5,461 a page";
  target.factor = 4; // 96, 384
  EXPECT_EQ(fit_of(loads, target).likely, 4u << 20);
}

TEST(SlabFit, LargeItemsAreInPieces) {
  const std::vector<ClassLoad> loads = {{10, 10 * 900'000, 524288, 20}};
  EXPECT_EQ(fit_of(loads, {}).likely, 10u << 20) << "two pieces each, two to a page";
}

TEST(SlabFit, ClassesOfAServer) {
  const auto loads = class_loads(
      {{"items:1:number", "3"}, {"items:5:number", "2"}, {"items:5:mem_requested", "400"}},
      {{"1:chunk_size", "96"}, {"5:chunk_size", "240"}});
  ASSERT_EQ(loads.size(), 2u);
  EXPECT_EQ(loads[0].bytes, 288u) << "without mem_requested, whole chunks";
  EXPECT_EQ(loads[1].bytes, 400u);
  EXPECT_TRUE(class_loads({}, {}).empty());
  EXPECT_EQ(fit_of({}, {}).at_most, 0u);
}

} // namespace
} // namespace doppel::migrate
