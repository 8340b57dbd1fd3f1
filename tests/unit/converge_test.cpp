// SPDX-License-Identifier: Apache-2.0
// The keys that wait to be compared, what is done with one of them, and what is told of it.
#include <gtest/gtest.h>

#include "userspace/migrate/converge_policy.h"
#include "userspace/migrate/converge_queue.h"
#include "userspace/view/snapshot.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kSettle = 100, kSecond = 1'000'000'000;

using Act = KeyConvergence::Act;
using End = KeyConvergence::End;
using Strings = std::vector<std::string>;

Strings taken(ConvergeQueue &queue, uint64_t now, size_t most = 10) {
  Strings keys;
  for (const NotedKey &k : queue.take(now, most))
    keys.push_back(k.key);
  return keys;
}

TEST(ConvergeQueue, ThoseThatHaveRestedInTheirOrder) {
  ConvergeQueue queue(kSettle, 10);
  EXPECT_EQ(queue.next_due_ns(), UINT64_MAX);
  EXPECT_TRUE(queue.note("b", 10));
  EXPECT_TRUE(queue.note("a", 20));
  EXPECT_TRUE(queue.note("c", 30));
  EXPECT_EQ(queue.next_due_ns(), 110u);
  EXPECT_EQ(taken(queue, 109), Strings{});
  EXPECT_EQ(taken(queue, 120), (Strings{"b", "a"}));
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(queue.next_due_ns(), 130u);
}

TEST(ConvergeQueue, AtMostSoManyAtATime) {
  ConvergeQueue queue(kSettle, 10);
  for (const char *key : {"a", "b", "c"})
    queue.note(key, 0);
  EXPECT_EQ(taken(queue, kSettle, 2), (Strings{"a", "b"}));
  EXPECT_EQ(taken(queue, kSettle, 2), Strings{"c"});
}

// The first note is seen to in its time, and the last when that has rested.
TEST(ConvergeQueue, NotedAgainWhileItRests) {
  ConvergeQueue queue(kSettle, 10);
  for (const uint64_t ns : {10, 50, 90})
    queue.note("a", ns);
  EXPECT_EQ(queue.size(), 1u);
  const auto due = queue.take(110, 10);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_EQ(due[0].first_ns, 10u);
  EXPECT_EQ(queue.oldest_ns(), 90u);
  EXPECT_EQ(queue.next_due_ns(), 190u);
  EXPECT_EQ(taken(queue, 189), Strings{});
  EXPECT_EQ(taken(queue, 190), Strings{"a"});
  EXPECT_EQ(queue.size(), 0u);
}

TEST(ConvergeQueue, OneLookIsForAllThatHasRested) {
  ConvergeQueue queue(kSettle, 10);
  queue.note("a", 10);
  queue.note("a", 50);
  EXPECT_EQ(taken(queue, 150), Strings{"a"});
  EXPECT_EQ(queue.size(), 0u);
}

TEST(ConvergeQueue, NotesOfSeveralCpusComeOutOfOrder) {
  ConvergeQueue queue(kSettle, 10);
  queue.note("a", 50);
  queue.note("a", 10);
  EXPECT_EQ(taken(queue, 149), Strings{});
  EXPECT_EQ(taken(queue, 150), Strings{"a"});
  EXPECT_EQ(queue.size(), 0u) << "the later one has rested";
}

TEST(ConvergeQueue, AHotKeyIsTakenOnceASettle) {
  ConvergeQueue queue(kSettle, 10);
  uint64_t last = 0;
  unsigned times = 0;
  for (uint64_t now = 1; now <= 10 * kSettle; now++) {
    queue.note("a", now);
    for (const std::string &key : taken(queue, now)) {
      EXPECT_EQ(key, "a");
      EXPECT_GE(now - last, kSettle);
      last = now;
      times++;
    }
    EXPECT_EQ(queue.size(), 1u) << "the last note waits";
  }
  EXPECT_EQ(times, 9u);
}

TEST(ConvergeQueue, WhatIsPutBackRestsAndKeepsItsTime) {
  ConvergeQueue queue(kSettle, 10);
  queue.note("a", 10);
  queue.note("b", 20);
  auto due = queue.take(110, 10);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_EQ(queue.oldest_ns(), 20u);
  queue.put_back(std::move(due[0]), 115);
  EXPECT_EQ(queue.oldest_ns(), 10u);
  EXPECT_EQ(taken(queue, 214), Strings{"b"});
  due = queue.take(215, 10);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_EQ(due[0].key, "a");
  EXPECT_EQ(due[0].first_ns, 10u);
}

TEST(ConvergeQueue, WhatIsPutBackAndWasNotedMeanwhileIsOneKey) {
  ConvergeQueue queue(kSettle, 10);
  queue.note("a", 10);
  auto due = queue.take(110, 10);
  ASSERT_EQ(due.size(), 1u);
  queue.note("a", 120);
  queue.put_back(std::move(due[0]), 130);
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(queue.oldest_ns(), 10u);
  EXPECT_EQ(taken(queue, 219), Strings{});
  due = queue.take(220, 10);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_EQ(due[0].first_ns, 10u);
  EXPECT_EQ(queue.size(), 0u);
}

TEST(ConvergeQueue, NoRoomIsTold) {
  ConvergeQueue queue(kSettle, 2);
  EXPECT_TRUE(queue.note("a", 10));
  EXPECT_TRUE(queue.note("b", 10));
  EXPECT_FALSE(queue.note("c", 10));
  EXPECT_TRUE(queue.note("a", 20)) << "it waits already";
  EXPECT_EQ(queue.size(), 2u);
  auto due = queue.take(110, 1);
  EXPECT_FALSE(queue.note("c", 110)) << "a is to be looked at again";
  queue.take(120, 1);
  EXPECT_TRUE(queue.note("c", 120));
  queue.put_back(std::move(due[0]), 120);
  EXPECT_EQ(taken(queue, 220), (Strings{"a", "c"})) << "what had room has it again";
}

TEST(ConvergeQueue, TheOldest) {
  ConvergeQueue queue(kSettle, 10);
  EXPECT_EQ(queue.oldest_ns(), UINT64_MAX);
  queue.note("a", 30);
  queue.note("b", 10);
  queue.note("a", 40);
  EXPECT_EQ(queue.oldest_ns(), 10u);
}

const Look kItem{true, 7, 3, kNever};
const Look kOther{true, 8, 3, kNever};

KeyConvergence compared_key(const Look &source, const Compared &target) {
  KeyConvergence key;
  EXPECT_EQ(key.act(), Act::read);
  key.read(source);
  EXPECT_EQ(key.act(), Act::drain);
  key.drained();
  EXPECT_EQ(key.act(), Act::compare);
  key.compared(target);
  EXPECT_EQ(key.ended(), End::open);
  return key;
}

void expect_confirmed(KeyConvergence key, const Look &source, End end) {
  EXPECT_EQ(key.act(), Act::settle);
  key.settled();
  EXPECT_EQ(key.act(), Act::confirm);
  KeyConvergence moved = key;
  moved.confirmed(kOther);
  EXPECT_EQ(moved.act(), Act::read) << "what came meanwhile begins it anew";
  EXPECT_EQ(moved.ended(), End::open);
  key.confirmed(source);
  EXPECT_EQ(key.act(), Act::done);
  EXPECT_EQ(key.ended(), end);
}

TEST(KeyConvergence, WhatIsEqualIsConfirmed) {
  expect_confirmed(compared_key(kItem, {true, 3, true}), kItem, End::equal);
  expect_confirmed(compared_key({}, {}), {}, End::equal);
}

TEST(KeyConvergence, WhatIsMissingIsAdded) {
  KeyConvergence key = compared_key(kItem, {});
  EXPECT_EQ(key.act(), Act::add);
  key.stored(Stored::stored);
  expect_confirmed(key, kItem, End::repaired);
}

TEST(KeyConvergence, WhatDiffersIsReplacedByItsCas) {
  KeyConvergence key = compared_key(kItem, {true, 3, false});
  EXPECT_EQ(key.act(), Act::replace);
  EXPECT_EQ(key.target_cas(), 3u);
  key.stored(Stored::stored);
  expect_confirmed(key, kItem, End::repaired);
}

TEST(KeyConvergence, WhatTheSourceHasNotIsDeletedByItsCas) {
  for (const Deleted answer : {Deleted::deleted, Deleted::absent}) {
    KeyConvergence key = compared_key({}, {true, 3, false});
    EXPECT_EQ(key.act(), Act::remove);
    EXPECT_EQ(key.target_cas(), 3u);
    key.removed(answer);
    expect_confirmed(key, {}, End::deleted);
  }
}

TEST(KeyConvergence, WhatTheTargetHasChangedBeginsAnew) {
  for (const Stored answer : {Stored::there, Stored::changed, Stored::absent}) {
    KeyConvergence key = compared_key(kItem, {true, 3, false});
    key.stored(answer);
    EXPECT_EQ(key.act(), Act::read);
  }
  KeyConvergence key = compared_key({}, {true, 3, false});
  key.removed(Deleted::changed);
  EXPECT_EQ(key.act(), Act::read);
  EXPECT_EQ(key.ended(), End::open);
}

TEST(KeyConvergence, AnewItMayEndOtherwise) {
  KeyConvergence key = compared_key(kItem, {});
  key.stored(Stored::there);
  key.read(kItem);
  key.drained();
  key.compared({true, 4, true});
  expect_confirmed(key, kItem, End::equal);
}

TEST(KeyConvergence, WhatTheTargetDoesNotTakeIsRefused) {
  for (const Stored answer : {Stored::too_large, Stored::failed}) {
    KeyConvergence key = compared_key(kItem, {});
    key.stored(answer);
    EXPECT_EQ(key.act(), Act::done);
    EXPECT_EQ(key.ended(), End::refused);
  }
}

TEST(Converging, IsTrueWhileItSaysSoAndBothServersAnswer) {
  dp_converge row{};
  EXPECT_FALSE(is_converging(row, 5 * kSecond)) << "nobody ever did";
  row.seen_ns = 100 * kSecond;
  EXPECT_TRUE(is_converging(row, 100 * kSecond));
  EXPECT_TRUE(is_converging(row, 99 * kSecond)) << "it has said so since the look";
  EXPECT_TRUE(is_converging(row, 110 * kSecond - 1));
  EXPECT_FALSE(is_converging(row, 110 * kSecond));
  row.down_ns = 100 * kSecond;
  EXPECT_FALSE(is_converging(row, 100 * kSecond));
}

TEST(Converging, TheKeyThatWaitsLongest) {
  dp_converge row{};
  EXPECT_EQ(unrepaired_ms(row, 5 * kSecond), 0u);
  row.oldest_ns = 2 * kSecond;
  EXPECT_EQ(unrepaired_ms(row, 5 * kSecond), 3000u);
  EXPECT_EQ(unrepaired_ms(row, kSecond), 0u) << "noted since the look";
}

} // namespace
} // namespace doppel::migrate
