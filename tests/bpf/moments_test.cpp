// SPDX-License-Identifier: Apache-2.0
// When things happened last (include/doppel/moments.def).
#include <ctime>

#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

// The clock of the data plane's moments.
uint64_t coarse_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

class Moments : public Session {
protected:
  // What has happened so far has happened before: the clock ticks once.
  void tick() {
    const uint64_t now = coarse_ns();
    while ((since_ = coarse_ns()) == now)
      ;
  }
  // The names of all moments since the last tick().
  std::string moved() {
    const dp_ledger cell = plane().cell();
    std::string names;
#define DP_MOMENT(name, help)                                                                      \
  if (cell.last.name >= since_)                                                                    \
    names += #name " ";
#include "doppel/moments.def"
#define DP_LOST(number, name, help)                                                                \
  if (cell.last.lost[number] >= since_)                                                            \
    names += "lost." #name " ";
#define DP_EXCLUDED(number, name, help)                                                            \
  if (cell.last.excluded[number] >= since_)                                                        \
    names += "excluded." #name " ";
#include "doppel/reasons.def"
    return names;
  }

  // What moves when the client closes, to whom the source has said so much, behind a target that
  // has closed. at_once: the shadow is over by then.
  std::string ended(const char *request, const char *answer, unsigned of_source, bool at_once) {
    next_client();
    open();
    deliver(capture(client_.data(request)));
    consumed(*answer ? target_.response(answer) : target_.ack());
    deliver(consumed(target_.fin()));
    if (at_once)
      consumed(target_.ack());
    client_.answered(of_source);
    tick();
    deliver(capture(client_.fin()));
    if (!at_once)
      consumed(target_.ack());
    return moved();
  }

private:
  uint64_t since_ = 0;
};
DOPPEL_ALL_MODES(Moments);

TEST_P(Moments, OfATargetThatDoesItsWork) {
  tick();
  open();
  EXPECT_EQ(moved(), "taken ");
  tick();
  deliver(capture(client_.data(kGet)));
  EXPECT_EQ(moved(), "");
  consumed(target_.ack()).none();
  EXPECT_EQ(moved(), "acknowledged ");
  tick();
  consumed(target_.ack()).none();
  EXPECT_EQ(moved(), "") << "nothing new is acknowledged";
  tick();
  consumed(target_.response("END\r\n"));
  EXPECT_EQ(moved(), "answered served ");
  tick();
  consumed(target_.response("ERROR\r\n"));
  EXPECT_EQ(moved(), "answered erred ");
}

TEST_P(Moments, OfWhatIsLeftOut) {
  tick();
  const Frames none = capture(client_.data("no command\r\n"));
  none.none();
  EXPECT_EQ(moved(), "excluded.not_joined ");
}

TEST_P(Moments, OfASourceThatAnswers) {
  open();
  deliver(capture(client_.data(kGet)));
  tick();
  capture(client_.ack());
  EXPECT_EQ(moved(), "");
  client_.answered(5);
  capture(client_.ack());
  EXPECT_EQ(moved(), "source_answered ");
}

// A client that reads an answer slowly acknowledges it for long: the target has given its own.
TEST_P(Moments, OfAnAnswerThatTheTargetGaveAsWell) {
  open();
  deliver(capture(client_.data(kGet)));
  consumed(target_.response("END\r\n"));
  tick();
  client_.answered(3);
  capture(client_.ack());
  client_.answered(2);
  capture(client_.ack());
  EXPECT_EQ(moved(), "");
  tick();
  deliver(capture(client_.data(kGet)));
  client_.answered(5);
  capture(client_.ack());
  EXPECT_EQ(moved(), "source_answered ");
}

// A proxy whose server is gone takes requests, and ends each connection.
TEST_P(Moments, OfAnEndWithoutAnAnswer) {
  EXPECT_EQ(ended(kGet, "", 5, true), "unanswered ");
  EXPECT_EQ(ended(kGet, "", 5, false), "") << "the client has closed as well";
}

TEST_P(Moments, OfAnEndThatTheSourceMakesAsWell) {
  EXPECT_EQ(ended("quit\r\n", "", 1, true), "") << "its FIN";
  EXPECT_EQ(ended("quit\r\n", "", 1, false), "");
}

TEST_P(Moments, OfAnEndBehindAnAnswer) {
  EXPECT_EQ(ended(kGet, "END\r\n", 5, true), "");
  EXPECT_EQ(ended(kGet, "END\r\n", 5, false), "");
}

TEST_P(Moments, OfAResetWithoutAnAnswer) {
  open();
  deliver(capture(client_.data(kGet)));
  consumed(target_.ack());
  client_.answered(5);
  capture(client_.ack());
  consumed(target_.rst());
  tick();
  capture(client_.fin());
  EXPECT_EQ(moved(), "unanswered ");
}

// Only on a connection with bytes that wait: what answers for another's sake says nothing.
TEST_P(Moments, OfAWindowThatIsShut) {
  open();
  deliver(capture(client_.data(kGet)));
  tick();
  target_.window = 0;
  consumed(target_.ack()).none();
  EXPECT_EQ(moved(), "acknowledged ") << "nothing waits";
  capture(client_.data(kGet)).none();
  tick();
  consumed(target_.ack()).none();
  EXPECT_EQ(moved(), "shut ");
  tick();
  target_.window = 502;
  deliver(consumed(target_.ack()));
  EXPECT_EQ(moved(), "");
}

TEST_P(Moments, OfARefusal) {
  knock();
  capture(client_.data(kGet)).none();
  tick();
  consumed(target_.segment(0, RST)).none();
  EXPECT_EQ(moved(), "refused lost.target_refused ");
}

TEST_P(Moments, OfARefusalThatCostsNothing) {
  knock();
  tick();
  consumed(target_.segment(0, RST)).none();
  EXPECT_EQ(moved(), "refused ");
}

TEST_P(Moments, OfAResetThatCostsNothing) {
  open();
  deliver(capture(client_.data(kGet)));
  consumed(target_.ack());
  tick();
  consumed(target_.rst());
  EXPECT_EQ(moved(), "") << "nothing was under way";
}

} // namespace
} // namespace doppel::bpftest
