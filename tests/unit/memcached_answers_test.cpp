// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/answers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace doppel::memcached {
namespace {
struct Seen {
  std::string line, value;
  bool has_value;
  bool operator==(const Seen &) const = default;
};

// What comes of `stream` when it arrives in pieces of `piece` bytes; "!" at the end: malformed.
std::vector<Seen> read_in(const std::string &stream, size_t piece) {
  Answers answers;
  std::vector<Seen> seen;
  for (size_t at = 0; at < stream.size();) {
    char *to = answers.room();
    const size_t n = std::min({piece, stream.size() - at, answers.room_size()});
    std::copy_n(stream.data() + at, n, to);
    answers.filled(n);
    at += n;
    Answer a;
    for (;;) {
      const auto next = answers.next(a);
      if (next == Answers::Next::more)
        break;
      if (next == Answers::Next::malformed) {
        seen.push_back({"!", "", false});
        return seen;
      }
      seen.push_back({std::string(a.line), std::string(a.value), a.has_value});
    }
  }
  return seen;
}

TEST(MemcachedAnswers, AreTheSameInPiecesOfAnySize) {
  const std::string stream =
      "HD c12\r\nVA 5 t-1 f0\r\na\r\nbc\r\nVALUE k 0 3 7\r\n\r\n\n\r\nEND\r\n"
      "VA 0 W\r\n\r\nkey=a exp=-1\nkey=b exp=2\n\r\nVAGUE 3\r\nSTAT VA 7\r\n";
  const std::vector<Seen> expected = {
      {"HD c12", "", false},
      {"VA 5 t-1 f0", "a\r\nbc", true},
      {"VALUE k 0 3 7", "\r\n\n", true},
      {"END", "", false},
      {"VA 0 W", "", true},
      {"key=a exp=-1", "", false},
      {"key=b exp=2", "", false},
      {"", "", false},
      {"VAGUE 3", "", false},
      {"STAT VA 7", "", false},
  };
  for (const size_t piece : {1, 2, 3, 5, 7, 64, 4096})
    EXPECT_EQ(read_in(stream, piece), expected) << piece;
}

TEST(MemcachedAnswers, LargeValuesComeWhole) {
  std::string value(3'000'000, 'v');
  value[77] = '\n';
  const std::string stream =
      "VA 3000000 f1\r\n" + value + "\r\nHD\r\nVA 3000000\r\n" + value + "\r\n";
  for (const size_t piece : {1'000u, 65'536u, 10'000'000u}) {
    const auto seen = read_in(stream, piece);
    ASSERT_EQ(seen.size(), 3u);
    EXPECT_TRUE(seen[0].value == value);
    EXPECT_EQ(seen[1].line, "HD");
    EXPECT_TRUE(seen[2].value == value);
  }
}

TEST(MemcachedAnswers, AreShownInAscii) {
  EXPECT_EQ(quoted_answer("a \x1b[2J\xc3\x7f"), "\"a \\x1b[2J\\xc3\\x7f\"");
  EXPECT_EQ(quoted_answer(std::string(65, 'a')), "\"" + std::string(64, 'a') + "...\"");
}

TEST(MemcachedAnswers, WhatIsNoMemcachedIsMalformed) {
  const std::vector<Seen> malformed = {{"!", "", false}};
  EXPECT_EQ(read_in(std::string(3'000, 'x'), 100), malformed);
  EXPECT_EQ(read_in(std::string(3'000, 'x') + "\r\n", 10'000), malformed);
  EXPECT_EQ(read_in("VA 3 f1\r\nabcd\r\n", 100), malformed);
  EXPECT_EQ(read_in("VA x f1\r\nabcd\r\n", 100), malformed);
  EXPECT_EQ(read_in("VA -1\r\n", 100), malformed);
  EXPECT_EQ(read_in("VA 1073741825\r\n", 100), malformed);
  EXPECT_EQ(read_in("VALUE k 0\r\n", 100), malformed);
  EXPECT_EQ(read_in(std::string(2'046, 'x') + "\r\n", 100).size(), 1u);
  EXPECT_EQ(read_in(std::string(2'046, 'x') + "\r\n", 100)[0].line.size(), 2'046u);
}

} // namespace
} // namespace doppel::memcached
