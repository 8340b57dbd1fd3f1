// SPDX-License-Identifier: Apache-2.0
#include "userspace/config/json_tree.h"

#include <gtest/gtest.h>

#include "tests/unit/show_errors.h"

namespace doppel {
namespace {
using Kind = JsonValue::Kind;

TEST(JsonTree, EveryValueKnowsItsLine) {
  const auto t = parse_json_tree("{\n\"a\": 1\n,\n\"b\": [2,\n3.5\n],\n\n\"c\":\n{\"d\": \"x\\n\"},"
                                 "\n// note\n\"e\": null, \"f\": true}\n",
                                 "f");
  ASSERT_TRUE(t) << show_errors(t.errors());
  ASSERT_EQ(t->kind, Kind::object);
  ASSERT_EQ(t->items.size(), 5u);
  const auto &i = t->items;
  EXPECT_EQ(t->line, 1u);
  EXPECT_EQ(i[0].line, 2u) << "a number that is followed by a newline";
  EXPECT_EQ(i[1].line, 4u);
  EXPECT_EQ(i[1].items[0].line, 4u);
  EXPECT_EQ(i[1].items[1].line, 5u);
  EXPECT_EQ(i[1].items[1].kind, Kind::number);
  EXPECT_EQ(i[2].line, 9u) << "the value's line, not the key's";
  EXPECT_EQ(i[2].items[0].key, "d");
  EXPECT_EQ(i[2].items[0].string, "x\n");
  EXPECT_EQ(i[3].line, 11u);
  EXPECT_EQ(i[3].kind, Kind::null);
  EXPECT_TRUE(i[4].boolean);
}

TEST(JsonTree, RepeatedKeysAreKept) {
  const auto t = parse_json_tree(R"({"a": 1, "a": 2})", "f");
  ASSERT_TRUE(t);
  ASSERT_EQ(t->items.size(), 2u);
  EXPECT_EQ(t->items[0].key, "a");
  EXPECT_EQ(t->items[1].key, "a");
  EXPECT_EQ(t->items[1].integer, 2);
}

TEST(JsonTree, WholeNumbers) {
  const auto t = parse_json_tree("[0, -1, 9223372036854775807, -9223372036854775808, "
                                 "9223372036854775808, 1e3]",
                                 "f");
  ASSERT_TRUE(t);
  EXPECT_EQ(t->items[0].integer, 0);
  EXPECT_EQ(t->items[1].integer, -1);
  EXPECT_EQ(t->items[2].integer, INT64_MAX);
  EXPECT_EQ(t->items[3].integer, INT64_MIN);
  EXPECT_EQ(t->items[4].kind, Kind::number);
  EXPECT_EQ(t->items[5].kind, Kind::number);
}

struct Syntax {
  const char *text, *where;
};

TEST(JsonTree, SyntaxErrorsHaveLineAndColumn) {
  const Syntax cases[] = {
      {"{\"a\": 1,}", "f:1:9"}, {"{\"a\" 1}", "f:1:6"}, {"{\n  \"a\": 1\n  \"b\": 2\n}", "f:3:5"},
      {"[1, 2", "f:1:6"},       {"{} {}", "f:1:4"},     {"tru", "f:1:4"},
      {"[1e999]", "f:1:6"},     {"\"a\x01\"", "f:1:3"}, {"\"\xff\"", "f:1:2"},
  };
  for (const Syntax &c : cases) {
    const auto t = parse_json_tree(c.text, "f");
    ASSERT_FALSE(t) << c.text;
    ASSERT_EQ(t.errors().size(), 1u);
    EXPECT_EQ(t.errors()[0].where, c.where) << c.text << "\n" << show_errors(t.errors());
    EXPECT_EQ(t.errors()[0].what.rfind("not JSON: ", 0), 0u) << t.errors()[0].what;
    EXPECT_EQ(t.errors()[0].what.find("json.exception"), std::string::npos);
  }
}

TEST(JsonTree, SyntaxErrorsQuoteNoControlCharacters) {
  for (const char c : {'\x01', '\x1b', '\x7f'}) {
    const auto t = parse_json_tree(std::string("{\"a") + c + "\" 1}", "f");
    ASSERT_FALSE(t);
    for (const char quoted : t.errors()[0].what)
      EXPECT_TRUE(quoted >= 0x20 && quoted != 0x7f) << show_errors(t.errors());
  }
}

TEST(JsonTree, NestingIsBounded) {
  const auto t = parse_json_tree(std::string(100'000, '['), "f");
  ASSERT_FALSE(t);
  EXPECT_EQ(t.errors()[0].where, "f:1:33");
  EXPECT_EQ(t.errors()[0].what, "nested too deeply");
  EXPECT_EQ(t.errors()[0].hint, "a configuration has at most 4 levels");
}

} // namespace
} // namespace doppel
