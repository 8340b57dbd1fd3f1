// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/loop.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/unit/show_errors.h"

namespace doppel {
namespace {
using namespace std::chrono_literals;

class LoopTest : public testing::Test {
protected:
  void SetUp() override {
    auto opened = Loop::open();
    ASSERT_TRUE(opened) << show_errors(opened.errors());
    loop_ = std::make_unique<Loop>(std::move(*opened));
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    read_ = Fd(ends[0]);
    write_ = Fd(ends[1]);
  }

  void write() { ASSERT_EQ(::write(write_.get(), "x", 1), 1); }
  void read() {
    char c;
    ASSERT_EQ(::read(read_.get(), &c, 1), 1);
  }
  Status note(const std::string &what) {
    said_.push_back(what);
    return Unit{};
  }
  Status stop() {
    loop_->stop();
    return Unit{};
  }

  std::unique_ptr<Loop> loop_;
  Fd read_, write_;
  std::vector<std::string> said_;
};

TEST_F(LoopTest, CallsForWhatIsReadable) {
  ASSERT_TRUE(loop_->add(read_.get(), [&] {
    read();
    (void)note("read");
    return stop();
  }));
  write();
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(said_, (std::vector<std::string>{"read"}));
}

TEST_F(LoopTest, CallsDueTimersOnceAndInTheOrderOfAdding) {
  const auto now = Loop::Clock::now();
  const auto first = loop_->add_timer([&] { return note("first"); });
  const auto second = loop_->add_timer([&] { return note("second"); });
  const auto never = loop_->add_timer([&] { return note("never"); });
  const auto end = loop_->add_timer([&] { return stop(); });
  loop_->set(never, now + 1h);
  loop_->set(end, now + 5ms);
  loop_->set(second, now - 1s);
  loop_->set(first, now);
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(said_, (std::vector<std::string>{"first", "second"}));
  EXPECT_GE(Loop::Clock::now(), now + 5ms);
}

TEST_F(LoopTest, SetEarlierNeverPutsOff) {
  const auto now = Loop::Clock::now();
  const auto timer = loop_->add_timer([&] { return stop(); });
  loop_->set_earlier(timer, now + 1h); // it was not set: that is later than anything
  loop_->set_earlier(timer, now + 1ms);
  loop_->set_earlier(timer, now + 1h);
  ASSERT_TRUE(loop_->run());
  EXPECT_LT(Loop::Clock::now(), now + 1min);
}

TEST_F(LoopTest, ATimerMaySetItselfAgain) {
  Loop::Timer timer = 0;
  timer = loop_->add_timer([&] {
    loop_->set(timer, Loop::Clock::now());
    return said_.size() == 3 ? stop() : note("again");
  });
  loop_->set(timer, Loop::Clock::now());
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(said_.size(), 3u);
}

TEST_F(LoopTest, ForgetsWhileItCalls) {
  ASSERT_TRUE(loop_->add(read_.get(), [&] {
    loop_->forget(read_.get());
    return note("once");
  }));
  const auto end = loop_->add_timer([&] { return stop(); });
  loop_->set(end, Loop::Clock::now() + 5ms);
  write(); // and nobody reads it
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(said_, (std::vector<std::string>{"once"}));
}

TEST_F(LoopTest, NothingIsCalledAfterStop) {
  const auto now = Loop::Clock::now();
  const auto end = loop_->add_timer([&] { return stop(); });
  const auto after = loop_->add_timer([&] { return note("after"); });
  loop_->set(end, now);
  loop_->set(after, now);
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(said_, std::vector<std::string>{});
}

TEST_F(LoopTest, EndsWithTheFirstError) {
  const auto timer = loop_->add_timer([]() -> Status { return Error{"here", "failed", ""}; });
  loop_->set(timer, Loop::Clock::now());
  const auto done = loop_->run();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.errors()[0].where, "here");
}

} // namespace
} // namespace doppel
