// SPDX-License-Identifier: Apache-2.0
// Which keys `doppel top` counts as hot, and how they are shown.
#include "userspace/migrate/key_heat.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "userspace/migrate/key_misses.h"
#include "userspace/migrate/key_render.h"
#include "userspace/util/address.h"

namespace doppel::migrate {
namespace {

dp_key_note sample(const std::string &key, dp_key_kind kind, uint32_t size = 0,
                   uint16_t mapping = 0) {
  dp_key_note n{};
  n.kind = static_cast<__u8>(kind);
  n.size = size;
  n.mapping = mapping;
  n.length = static_cast<__u8>(key.size());
  std::memcpy(n.key, key.data(), key.size());
  return n;
}

void take(KeyHeat &heat, const std::string &key, int times, dp_key_kind kind = DP_KEY_READ) {
  for (int i = 0; i < times; i++)
    heat.take(sample(key, kind));
}

std::vector<std::string> names(const KeyModel &model) {
  std::vector<std::string> out;
  for (const KeyRow &r : model.rows)
    out.push_back(r.key);
  return out;
}

using Names = std::vector<std::string>;

TEST(KeyHeat, CountsByKindAndKnowsTheLastSize) {
  KeyHeat heat;
  heat.take(sample("a", DP_KEY_STORE, 100));
  heat.take(sample("a", DP_KEY_STORE, 50));
  take(heat, "a", 3);
  take(heat, "a", 1, DP_KEY_DELETE);
  heat.take(sample("a", DP_KEY_DEPENDENT, 7));
  const KeyModel m = heat.end(2, {7, 7, 0});
  ASSERT_EQ(m.rows.size(), 1u);
  const KeyRow &r = m.rows[0];
  EXPECT_EQ(r.reads, 3u);
  EXPECT_EQ(r.stores, 2u);
  EXPECT_EQ(r.deletes, 1u);
  EXPECT_EQ(r.others, 1u);
  EXPECT_EQ(r.calls(), 7u);
  EXPECT_EQ(r.size, 50u) << "a part of a value is no size of it";
  EXPECT_DOUBLE_EQ(r.calls_per_s, 3.5);
  EXPECT_DOUBLE_EQ(*r.bps, 5 * 50 * 8 / 2.0) << "deletes and others bring no value";
}

TEST(KeyHeat, RatesAreScaledByTheShareThatWasTold) {
  KeyHeat heat;
  take(heat, "a", 10);
  const KeyModel m = heat.end(1, {400, 10, 30});
  EXPECT_DOUBLE_EQ(m.one_in(), 40);
  EXPECT_EQ(m.rows[0].calls(), 10u);
  EXPECT_DOUBLE_EQ(m.rows[0].calls_per_s, 400);
  EXPECT_FALSE(m.rows[0].size);
  EXPECT_FALSE(m.rows[0].bps);
}

TEST(KeyHeat, AMissBringsNoValue) {
  KeyHeat heat;
  heat.take(sample("a", DP_KEY_STORE, 1000));
  (void)heat.end(1, {1, 1, 0});
  take(heat, "a", 20);
  KeyModel m = heat.end(2, {40, 20, 0});
  EXPECT_DOUBLE_EQ(*m.rows[0].bps, 20 * 1000 * 8) << "as far as is known";
  m.rows[0].misses = 15;
  m.reckon();
  EXPECT_DOUBLE_EQ(*m.rows[0].bps, 5 * 1000 * 8);
  EXPECT_DOUBLE_EQ(m.rows[0].calls_per_s, 20);
}

TEST(KeyHeat, EachIntervalBeginsAtNothing) {
  KeyHeat heat;
  heat.take(sample("a", DP_KEY_STORE, 9));
  EXPECT_EQ(heat.end(1, {1, 1, 0}).rows.size(), 1u);
  EXPECT_TRUE(heat.end(1, {}).rows.empty());
  EXPECT_DOUBLE_EQ(heat.end(1, {}).one_in(), 1);
  take(heat, "a", 2);
  const KeyModel m = heat.end(1, {2, 2, 0});
  EXPECT_EQ(m.rows[0].calls(), 2u);
  EXPECT_EQ(m.rows[0].size, 9u) << "it stays known";
}

TEST(KeyHeat, OneKeyOfTwoMappingsIsTwo) {
  KeyHeat heat;
  heat.take(sample("a", DP_KEY_READ, 0, 0));
  heat.take(sample("a", DP_KEY_READ, 0, 1));
  EXPECT_EQ(heat.end(1, {2, 2, 0}).rows.size(), 2u);
}

TEST(KeyHeat, OneKeyOfTwoServersIsTwo) {
  KeyHeat heat;
  for (const uint16_t port : {11211, 11212, 11212}) {
    dp_key_note n = sample("a", DP_KEY_STORE, port == 11211 ? 1000 : 10);
    n.server = Address::v4(htonl(0x0a000001)).raw;
    n.server_port = htons(port);
    heat.take(n);
  }
  dp_key_note elsewhere = sample("a", DP_KEY_READ);
  elsewhere.server = Address::v4(htonl(0x0a000002)).raw;
  elsewhere.server_port = htons(11211);
  heat.take(elsewhere);
  const KeyModel m = heat.end(1, {4, 4, 0});
  ASSERT_EQ(m.rows.size(), 3u);
  EXPECT_EQ(m.rows[0].server_text(), "10.0.0.1:11212");
  EXPECT_EQ(m.rows[0].calls(), 2u);
  EXPECT_DOUBLE_EQ(*m.rows[0].bps, 2 * 10 * 8) << "its own size";
  EXPECT_EQ(m.rows[1].server_text(), "10.0.0.1:11211");
  EXPECT_DOUBLE_EQ(*m.rows[1].bps, 1000 * 8);
  EXPECT_EQ(m.rows[2].server_text(), "10.0.0.2:11211");
  EXPECT_FALSE(m.rows[2].size);
  const Json j = Json::parse(key_json(m, 10));
  EXPECT_EQ(j["keys"][0]["server"], "10.0.0.1:11212");
  EXPECT_NE(key_text(m, 10).find("10.0.0.2:11211"), std::string::npos);
}

TEST(KeyHeat, ReadsOfWhatIsNotThereAreMisses) {
  KeyRow r;
  r.reads = 5;
  EXPECT_EQ(misses_of(r, true), 0u);
  EXPECT_EQ(misses_of(r, false), 5u);
  r.deletes = 1; // it may have been there before
  EXPECT_EQ(misses_of(r, true), 0u);
  EXPECT_EQ(misses_of(r, false), std::nullopt);
  r.deletes = 0;
  r.stores = 1; // and this may have come only now
  EXPECT_EQ(misses_of(r, true), std::nullopt);
  EXPECT_EQ(misses_of(r, false), std::nullopt);
  r.stores = 0;
  r.others = 1;
  EXPECT_EQ(misses_of(r, true), std::nullopt);
  EXPECT_EQ(misses_of(r, false), std::nullopt);
}

TEST(KeyHeat, MissesOfAKeyThatIsWrittenToWhileTheServerIsAskedAreNotKnown) {
  KeyHeat heat;
  take(heat, "a", 5);
  take(heat, "b", 4);
  take(heat, "c", 3);
  KeyModel m = heat.end(1, {12, 12, 0});
  ASSERT_EQ(names(m), (Names{"a", "b", "c"}));
  for (KeyRow &row : m.rows)
    row.misses = row.reads;
  take(heat, "a", 1, DP_KEY_DELETE);
  take(heat, "b", 7);
  heat.doubt_misses(m);
  EXPECT_FALSE(m.rows[0].misses);
  EXPECT_EQ(m.rows[1].misses, 4u);
  EXPECT_EQ(m.rows[2].misses, 3u);
  EXPECT_EQ(heat.end(1, {8, 8, 0}).rows.size(), 2u) << "they are of the next interval";
}

TEST(KeyHeat, Base64AndPlainAreOneKey) {
  KeyHeat heat;
  dp_key_note n = sample("YQ==", DP_KEY_READ);
  n.traits = DP_KEY_BASE64;
  heat.take(n);
  take(heat, "a", 1);
  const KeyModel m = heat.end(1, {2, 2, 0});
  ASSERT_EQ(names(m), Names{"a"});
  EXPECT_EQ(m.rows[0].calls(), 2u);
}

TEST(KeyHeat, ForgetsTheColdestOfTooMany) {
  constexpr size_t kMost = 100;
  KeyHeat heat(kMost);
  take(heat, "hot", 50);
  take(heat, "warm", 20);
  for (int i = 0; i < 10'000; i++) {
    take(heat, "cold" + std::to_string(i), 1);
    ASSERT_LE(heat.remembered(), kMost);
  }
  const KeyModel m = heat.end(1, {10'070, 10'070, 0});
  EXPECT_EQ(m.rows[0].key, "hot");
  EXPECT_EQ(m.rows[0].calls(), 50u);
  EXPECT_EQ(m.rows[1].key, "warm");
  uint64_t all = m.unlisted;
  for (const KeyRow &r : m.rows)
    all += r.calls();
  EXPECT_EQ(all, 10'070u) << "what is forgotten is told";
}

TEST(KeyHeat, IsSortedAsIsAsked) {
  KeyHeat heat;
  heat.take(sample("c", DP_KEY_STORE, 1000));
  heat.take(sample("b", DP_KEY_STORE, 600));
  take(heat, "b", 1);
  take(heat, "a", 3);
  KeyModel m = heat.end(1, {6, 6, 0});
  EXPECT_EQ(names(m), (Names{"a", "b", "c"}));
  sort_keys(m.rows, KeyOrder::size);
  EXPECT_EQ(names(m), (Names{"c", "b", "a"}));
  sort_keys(m.rows, KeyOrder::bps);
  EXPECT_EQ(names(m), (Names{"b", "c", "a"}));
  sort_keys(m.rows, KeyOrder::key);
  EXPECT_EQ(names(m), (Names{"a", "b", "c"}));
}

TEST(KeyRender, ControlBytesNeverReachTheTerminal) {
  EXPECT_EQ(shown_key("a b\\"), "a b\\x5c");
  EXPECT_EQ(shown_key(std::string("\x1b[2J\0\x7f\xff", 7)), "\\x1b[2J\\x00\\x7f\\xff");
}

TEST(KeyRender, SaysWhatIsShown) {
  KeyHeat heat;
  heat.take(sample("k\x1b", DP_KEY_STORE, 2048));
  take(heat, "b", 2);
  KeyModel m = heat.end(1, {30, 3, 1});
  m.mapping[0] = "data";
  const Json j = Json::parse(key_json(m, 10));
  EXPECT_EQ(j["sampled_one_in"], 10.0);
  ASSERT_EQ(j["keys"].size(), 2u);
  EXPECT_EQ(j["keys"][0]["key"], "b");
  EXPECT_EQ(j["keys"][0]["calls"], 2);
  EXPECT_EQ(j["keys"][0]["calls_per_s"], 20.0);
  EXPECT_TRUE(j["keys"][0]["size"].is_null());
  EXPECT_EQ(j["keys"][1]["key"], "k\\x1b");
  EXPECT_EQ(j["keys"][1]["mapping"], "data");
  EXPECT_EQ(j["keys"][1]["size"], 2048);
  EXPECT_EQ(Json::parse(key_json(m, 1))["keys"].size(), 1u);
  const std::string text = key_text(m, 10);
  EXPECT_NE(text.find("one in 10.0 sampled, 1 found no room"), std::string::npos) << text;
  EXPECT_NE(text.find("2.0 KiB"), std::string::npos) << text;
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

} // namespace
} // namespace doppel::migrate
