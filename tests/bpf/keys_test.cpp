// SPDX-License-Identifier: Apache-2.0
// Which keys of memcached's requests are told to who lets the servers converge, and what is counted
// where one may have been overlooked (bpf/keys).
#include <arpa/inet.h>

#include <algorithm>
#include <ctime>
#include <set>

#include "bpf/keys/lexer.bpf.h"
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;
using Found = std::vector<std::string>;

// Its place in `key_writers`.
uint32_t place_of(const std::string &key) {
  lexer l{};
  l.hash = 2166136261u;
  for (const char c : key)
    lexer_take_key_byte(&l, static_cast<__u8>(c));
  const uint32_t hash = l.hash ^ kPort;
  return (hash ^ hash >> 16) & 0xffff;
}

// A key that no test of this process has written to. Nor has any written to one that is in the same
// place, which would count as a race.
std::string unused_key() {
  static std::set<uint32_t> used;
  static unsigned n = 0;
  if (used.empty())
    for (const char *key : {"a", "b", "c", "d", "k", "some_key", "azpr", "many1", "many2", "many3"})
      used.insert(place_of(key));
  while (true)
    if (const std::string key = "unused" + std::to_string(++n); used.insert(place_of(key)).second)
      return key;
}

std::string found(const dp_key_note &note) {
  static constexpr const char *kinds[] = {"none", "read", "store", "delete", "dependent", "flush"};
  return std::string(note.kind < std::size(kinds) ? kinds[note.kind] : "?") + " " +
         std::string(reinterpret_cast<const char *>(note.key), note.length) + " " +
         std::to_string(note.size);
}

class Keys : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].application = DP_APP_MEMCACHED;
    c.mappings[0].converge = true;
    return c;
  }
  void begin() override {
    open();
    forget();
  }
  void forget() {
    plane().key_notes();
    mark();
  }
  Found noted() {
    Found out;
    for (const dp_key_note &note : plane().key_notes())
      out.push_back(found(note));
    EXPECT_EQ(moved()["event.key_noted"], static_cast<int64_t>(out.size()));
    return out;
  }
  int64_t missed() const { return moved()["event.key_missed"]; }
  // What was noted since the last call, and how often a key may have been overlooked.
  void expect(const Found &notes, int64_t misses = 0) {
    EXPECT_EQ(noted(), notes);
    EXPECT_EQ(missed(), misses);
    mark();
  }
  void send(std::string_view text) { capture(client_.data(text)); }
  // The client's next segment, which is lost before it gets here.
  Packet lose(std::string_view text) { return client_.data(text); }
};
DOPPEL_ALL_MODES(Keys);

uint64_t clock_ns(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

uint64_t coarse_ns() { return clock_ns(CLOCK_MONOTONIC_COARSE); }

TEST_P(Keys, NoteSaysWhatAndWhere) {
  const uint64_t before = coarse_ns();
  send("cas some_key 0 0 3 17\r\nabc\r\n");
  const std::vector<dp_key_note> notes = plane().key_notes();
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(found(notes[0]), "dependent some_key 3");
  EXPECT_EQ(notes[0].mapping, 0);
  EXPECT_EQ(ntohs(notes[0].server_port), kPort);
  EXPECT_EQ(Address{notes[0].server}, Address{client_side(cast().server)});
  EXPECT_GE(notes[0].ns, before);
  EXPECT_LE(notes[0].ns, coarse_ns());
  EXPECT_EQ(notes[0].traits, 0);
  next_client();
  client_.server_port = kPort + 1;
  target_.port = kTargetPort + 1;
  open();
  send("ma azpr b\r\n");
  const std::vector<dp_key_note> second = plane().key_notes();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(found(second[0]), "dependent azpr 0");
  EXPECT_EQ(ntohs(second[0].server_port), kPort + 1);
  EXPECT_EQ(second[0].traits, DP_KEY_BASE64);
}

TEST_P(Keys, WhatDependsOnTheServer) {
  for (const char *request :
       {"cas %s 0 0 1 7\r\nx\r\n", "add %s 0 0 1\r\nx\r\n", "replace %s 0 0 1\r\nx\r\n",
        "append %s 0 0 1\r\nx\r\n", "prepend %s 0 0 1\r\nx\r\n", "ms %s 1 ME\r\nx\r\n"}) {
    const std::string key = unused_key(), text(request);
    send(std::string(text).replace(text.find("%s"), 2, key));
    expect({"dependent " + key + " 1"});
  }
  for (const char *request : {"incr %s 1\r\n", "decr %s 1 noreply\r\n", "touch %s 10\r\n",
                              "gat 10 %s\r\n", "ma %s\r\n", "md %s C5\r\n", "mg %s v T30\r\n"}) {
    const std::string key = unused_key(), text(request);
    send(std::string(text).replace(text.find("%s"), 2, key));
    expect({"dependent " + key + " 0"});
  }
  send("gats 10 many1 many2 many3\r\n");
  expect({"dependent many1 0", "dependent many2 0", "dependent many3 0"});
}

TEST_P(Keys, WhatIsTheSameWhateverTheServerHasIsNotNoted) {
  const std::string key = unused_key(), other = unused_key();
  send("set " + key + " 0 0 1\r\nx\r\n");
  send("ms " + other + " 1 T30\r\nx\r\n");
  send("delete " + key + "\r\n");
  send("md " + other + " q\r\n");
  send("get " + key + " " + other + "\r\nmg " + key + " v\r\n\r\nmn\r\nversion\r\n");
  expect({});
}

TEST_P(Keys, TwoConnectionsWriteOneKey) {
  const std::string key = unused_key(), set = "set " + key + " 0 0 1\r\nx\r\n";
  send(set);
  send(set);
  expect({});
  Client first = client_;
  next_client();
  open();
  send("get " + key + "\r\n"); // no write
  capture(first.data(set));
  expect({});
  send(set);
  expect({"store " + key + " 1"});
  send(set); // nobody else has since
  expect({});
  capture(first.data("delete " + key + "\r\n"));
  expect({"delete " + key + " 0"});
}

TEST_P(Keys, AWriteThatDependsIsOneOfTwoThatRace) {
  const std::string key = unused_key();
  send("incr " + key + " 1\r\n");
  expect({"dependent " + key + " 0"});
  next_client();
  open();
  send("set " + key + " 0 0 1\r\nx\r\n");
  expect({"store " + key + " 1"});
}

// Two clients whose addresses differ by what their ports differ by, too.
TEST_P(Keys, ClientsThatAreNearlyTheSame) {
  const std::string set = "set " + unused_key() + " 0 0 1\r\nx\r\n";
  Client first = client_;
  next_client();
  client_.ip.host = first.ip.host ^ 8;
  client_.port = first.port ^ 8;
  open();
  capture(first.data(set));
  expect({});
  send(set);
  ASSERT_EQ(noted().size(), 1u);
}

TEST_P(Keys, OfAnotherServerItIsAnotherKey) {
  const std::string set = "set " + unused_key() + " 0 0 1\r\nx\r\n";
  send(set);
  next_client();
  client_.server_port = kPort + 1;
  target_.port = kTargetPort + 1;
  open();
  send(set);
  expect({});
}

TEST_P(Keys, RequestIsCutAnywhere) {
  const std::string request = "cas k 0 0 3 7\r\nabc\r\n";
  for (size_t at = 1; at < request.size(); at++) {
    SCOPED_TRACE(at);
    send(request.substr(0, at));
    send(request.substr(at));
    expect({"dependent k 3"});
  }
  for (size_t at = 1; at + 2 < request.size(); at++) {
    SCOPED_TRACE(at);
    send(request.substr(0, at));
    send(request.substr(at, 2));
    send(request.substr(at + 2));
    expect({"dependent k 3"});
  }
}

TEST_P(Keys, BinaryRequestIsCutAnywhere) {
  std::string request("\x80\x01\0\1\x08\0\0\0\0\0\0\x0b\0\0\0\0\0\0\0\0\0\0\0\7"
                      "flagsexpkvv",
                      35); // a key of one byte; it compares
  send(request);
  expect({"dependent k 2"});
  for (size_t at = 1; at < request.size(); at++) {
    SCOPED_TRACE(at);
    send(request.substr(0, at));
    send(request.substr(at));
    expect({"dependent k 2"});
  }
}

TEST_P(Keys, ACutRequestThatIsSentAgainIsReadOnce) {
  const uint32_t seq = client_.next;
  send("incr a 1\r\nincr b");
  expect({"dependent a 0"});
  capture(client_.segment(seq, PSH, "incr a 1\r\nincr b"));
  expect({});
  // Sent again with more behind it.
  capture(client_.segment(seq, PSH, "incr a 1\r\nincr b 1\r\nincr c"));
  expect({"dependent b 0"});
  client_.next = seq + 26;
  send(" 1\r\n");
  expect({"dependent c 0"});
}

TEST_P(Keys, LostPartOfAValueIsMissedByNobody) {
  send("set " + unused_key() + " 0 0 3000\r\n" + filler(900));
  const Packet lost = lose(filler(1000));
  send(filler(1100) + "\r\nincr a 1\r\n");
  expect({"dependent a 0"});
  capture(lost);
  send("incr b 1\r\n");
  expect({"dependent b 0"});
}

TEST_P(Keys, LostRequestsAreReadWhenTheyCome) {
  const Packet lost = lose("incr a 1\r\nincr b 1\r\n");
  send("incr c 1\r\n");
  expect({"dependent c 0"});
  capture(lost);
  expect({"dependent a 0", "dependent b 0"});
  capture(lost);
  capture(client_.fin());
  expect({});
}

TEST_P(Keys, LostRequestsComeInPieces) {
  const uint32_t seq = client_.next;
  const std::string text = "set " + unused_key() + " 0 0 20\r\n" + filler(20) + "\r\n";
  const auto size = static_cast<uint32_t>(text.size());
  const Packet lost = lose(text + "incr a 1\r\n");
  send("incr b 1\r\n");
  capture(client_.segment(seq, 0, text.substr(0, size - 10)));
  capture(client_.segment(seq + size - 10, 0, text.substr(size - 10)));
  capture(client_.segment(seq + size, 0, "incr a 1\r\n"));
  capture(client_.fin());
  expect({"dependent b 0", "dependent a 0"});
}

TEST_P(Keys, LostEndOfAValue) {
  send("set " + unused_key() + " 0 0 100\r\n" + filler(10));
  const Packet lost = lose(filler(90) + "\r\nincr a 1\r\n");
  send("incr b 1\r\n");
  expect({"dependent b 0"});
  capture(lost);
  capture(client_.fin());
  expect({"dependent a 0"});
}

// A sender may put into one segment what it sent as several (tcp_retrans_try_collapse).
TEST_P(Keys, LostRequestsComeTogetherWithWhatFollowsThem) {
  const uint32_t seq = client_.next;
  lose("incr a 1\r\n");
  send("incr b 1\r\n");
  lose("incr c 1\r\n");
  expect({"dependent b 0"});
  capture(client_.segment(seq, PSH, "incr a 1\r\nincr b 1\r\nincr c 1\r\n"));
  expect({"dependent a 0", "dependent c 0"});
  capture(client_.fin());
  expect({});
}

TEST_P(Keys, LostSegmentThatCutsARequest) {
  send("incr a");
  const Packet lost = lose(" 1\r\nincr b 1\r\n");
  send("incr c 1\r\n");
  expect({"dependent c 0"});
  capture(lost);
  expect({}, 1);
  send("incr d 1\r\n");
  expect({"dependent d 0"});
}

TEST_P(Keys, LostBeginningOfARequest) {
  const Packet lost = lose("incr a 1\r\nincr b");
  send(" 1\r\n");
  expect({}, 1);
  capture(lost);
  expect({"dependent a 0"}, 1);
  send("incr c 1\r\n");
  expect({"dependent c 0"});
}

// What was read behind a hole as a request was the inside of a value.
TEST_P(Keys, ValueThatLooksLikeARequest) {
  const Packet lost = lose("set " + unused_key() + " 0 0 100\r\n" + filler(80));
  send("incr a 1\r\nincr b 1\r\n\r\n");
  noted();
  mark();
  capture(lost);
  expect({}, 1);
}

TEST_P(Keys, HoleThatIsNeverFilled) {
  lose("incr a 1\r\n");
  send("incr b 1\r\n");
  expect({"dependent b 0"});
  lose("incr c 1\r\n");
  send("incr d 1\r\n");
  expect({"dependent d 0"}, 1);
  capture(client_.fin());
  expect({}, 1);
}

TEST_P(Keys, OlderThanTheMirror) {
  next_client();
  send("incr a 1\r\n");
  expect({"dependent a 0"});
  next_client();
  send("half of a value\r\nincr a 1\r\n");
  expect({}, 1);
  send("incr b 1\r\n");
  expect({"dependent b 0"});
}

TEST_P(Keys, WhatIsNoRequest) {
  send(std::string("\x80\x01\xff\xff", 4) + std::string(20, '\0'));
  expect({}, 1);
  send("incr a 1\r\n");
  expect({"dependent a 0"});
}

TEST_P(Keys, OneProtocolPerConnection) {
  send("get a\r\n");
  send("\x80\x01 b\r\n"); // a line that the server refuses
  send("incr c 1\r\n");
  expect({"dependent c 0"});
}

TEST_P(Keys, ASegmentThatIsNoText) {
  capture(client_.data("incr a 1\r\n").wrong_l4_checksum());
  client_.next -= 10;
  capture(client_.ack());
  capture(client_.segment(client_.next - 1, 0, "?")); // a keepalive with an octet (RFC 9293, 3.8.4)
  expect({});
  send("incr b 1\r\n");
  expect({"dependent b 0"});
}

TEST_P(Keys, ANewConnectionOfTheSamePort) {
  send("incr a");
  capture(client_.rst());
  client_.isn = client_.next + 100000;
  capture(client_.syn());
  capture(client_.ack());
  forget();
  send("incr b 1\r\n");
  expect({"dependent b 0"});
}

// Its copies go by another shadow, so the target may have the two writes in the other order.
TEST_P(Keys, TheNextConnectionOfAPortIsAnotherWriter) {
  const std::string set = "set " + unused_key() + " 0 0 1\r\n";
  send(set + "a\r\n");
  expect({});
  capture(client_.fin());
  client_.isn = client_.next + 100000;
  capture(client_.syn());
  capture(client_.ack());
  forget();
  send(set + "b\r\n");
  EXPECT_EQ(noted().size(), 1u);
  forget();
  send(set + "c\r\n");
  expect({});
}

TEST_P(Keys, TextWithTheFin) {
  capture(client_.segment(client_.next, FIN | PSH, "incr a 1\r\n"));
  expect({"dependent a 0"});
}

TEST_P(Keys, FlushConcernsEveryKey) {
  send("flush_all\r\n");
  expect({}, 1);
  send("incr a 1\r\nflush_all 10 noreply\r\nincr b 1\r\n");
  expect({"dependent a 0", "dependent b 0"}, 1);
}

TEST_P(Keys, FullRingIsCounted) {
  // A key of 250 bytes makes an entry of 296 in a ring of 1 MB.
  const std::string key(250, 'k');
  std::string text;
  for (int i = 0; i < 4; i++)
    text += "incr " + key + " 1\r\n";
  constexpr int sent = 4 * 1000;
  for (int i = 0; i < sent / 4; i++)
    send(text);
  const int64_t full = missed(), taken = moved()["event.key_noted"];
  EXPECT_GT(full, 0);
  EXPECT_EQ(full + taken, sent);
  EXPECT_GT(taken, 3000);
  EXPECT_EQ(noted().size(), static_cast<size_t>(taken));
  mark();
  send("incr a 1\r\n");
  expect({"dependent a 0"});
}

// Keys that somebody looks at, of a mapping that need not converge.
class WatchedKeys : public Keys {
protected:
  static constexpr uint64_t kLong = 600'000'000'000;

  Config config() const override {
    Config c = Keys::config();
    c.mappings[0].converge = false;
    return c;
  }
  void begin() override {
    plane().watch_keys(0, 0);
    Keys::begin();
    plane().key_samples();
    before_ = plane().key_sampled();
  }
  void end_watch() { plane().watch_keys(0, 0); }
  Found sampled() {
    Found out;
    for (const dp_key_note &note : plane().key_samples())
      out.push_back(found(note));
    return out;
  }
  // What was counted since the beginning.
  dp_key_sampled counted() {
    const dp_key_sampled now = plane().key_sampled();
    return {now.keys - before_.keys, now.told - before_.told, now.dropped - before_.dropped};
  }
  dp_key_sampled before_{};
};
DOPPEL_ALL_MODES(WatchedKeys);

TEST_P(WatchedKeys, AllKindsWhileSomebodyLooks) {
  send("get early\r\n");
  EXPECT_EQ(sampled(), Found{});
  plane().watch_keys(1, kLong);
  send("get a b\r\nset c 0 0 3\r\nabc\r\ndelete d\r\nincr e 1\r\nmg f v\r\n");
  EXPECT_EQ(sampled(), (Found{"read a 0", "read b 0", "store c 3", "delete d 0", "dependent e 0",
                              "read f 0"}));
  end_watch();
  send("get late\r\n");
  EXPECT_EQ(sampled(), Found{});
  EXPECT_EQ(counted().keys, 6u);
  EXPECT_EQ(counted().told, 6u);
  EXPECT_EQ(noted(), Found{}) << "nobody repairs these";
  EXPECT_EQ(missed(), 0);
}

TEST_P(WatchedKeys, EndsByItself) {
  plane().watch_keys(1, 1);
  const uint64_t over = clock_ns(CLOCK_MONOTONIC);
  while (coarse_ns() <= over) // the data plane's clock, which ticks every few milliseconds
    ;
  send("get a\r\n");
  EXPECT_EQ(sampled(), Found{});
  EXPECT_EQ(counted().keys, 0u);
}

TEST_P(WatchedKeys, OneInSoMany) {
  constexpr unsigned kEvery = 10, kSegments = 200, kKeys = 20;
  plane().watch_keys(kEvery, kLong);
  std::string text;
  for (unsigned i = 0; i < kKeys; i++)
    text += "get a\r\n";
  size_t told = 0;
  for (unsigned i = 0; i < kSegments; i++) {
    send(text);
    told += sampled().size();
  }
  end_watch();
  EXPECT_EQ(counted().keys, kSegments * kKeys);
  EXPECT_EQ(counted().told, told);
  // 400 are expected, with a standard deviation of 19.
  EXPECT_GT(told, 400u - 150);
  EXPECT_LT(told, 400u + 150);
}

TEST_P(WatchedKeys, FullRingDropsAndCounts) {
  plane().watch_keys(1, kLong);
  // A key of 250 bytes makes an entry of 296 in a ring of 256 KB.
  const std::string get = "get " + std::string(250, 'k') + "\r\n", text = get + get + get + get;
  for (int i = 0; i < 400; i++)
    send(text);
  end_watch();
  EXPECT_EQ(counted().keys, 1600u);
  EXPECT_GT(counted().dropped, 0u);
  EXPECT_EQ(counted().told + counted().dropped, 1600u);
  EXPECT_EQ(sampled().size(), counted().told);
  EXPECT_EQ(missed(), 0);
}

// What is told to who lets the servers converge is the same with somebody who looks.
TEST_P(Keys, NotesAreTheSameWhileSomebodyLooks) {
  plane().watch_keys(1, 600'000'000'000);
  send("incr a 1\r\nget b\r\nset " + unused_key() + " 0 0 1\r\nx\r\n");
  plane().watch_keys(0, 0);
  expect({"dependent a 0"});
  EXPECT_EQ(plane().key_samples().size(), 3u);
}

// One play, of which the books are kept with notes and without.
TEST_P(Keys, MirroringIsTheSameWithAndWithout) {
  const auto play = [this] {
    next_client();
    mark();
    open();
    send("set k 0 0 3\r\nabc\r\n");
    const Packet lost = lose("incr k 1\r\n");
    send("incr k");
    send(" 1\r\n");
    capture(lost);
    target_.received_next = client_.next;
    consumed(target_.response("STORED\r\n1\r\n2\r\n"));
    capture(client_.fin());
    send("flush_all\r\n");
    plane().pause(true);
    send("incr k 1\r\n");
    plane().pause(false);
    Counts counts = moved();
    const int64_t found = counts["event.key_noted"] + counts["event.key_missed"];
    EXPECT_EQ(static_cast<int64_t>(plane().key_notes().size()), counts["event.key_noted"]);
    counts.erase("event.key_noted");
    counts.erase("event.key_missed");
    return std::pair(text(counts), found);
  };
  const auto with = play();
  EXPECT_GT(with.second, 0);
  plane().converge(false);
  const auto without = play();
  plane().converge(true);
  EXPECT_EQ(without.second, 0);
  EXPECT_EQ(with.first, without.first);
}

// Super-packets.
class KeysOfOffloads : public Keys {};
DOPPEL_HOOK_MODES(KeysOfOffloads);

TEST_P(KeysOfOffloads, ManyRequests) {
  std::string text;
  Found all;
  while (text.size() < 65000) {
    const std::string key(1, static_cast<char>('a' + all.size() % 3));
    text += "incr " + key + " 1\r\n";
    all.push_back("dependent " + key + " 0");
  }
  capture_gso(client_.data(text), 1448);
  expect(all);
  send("incr a 1\r\n");
  expect({"dependent a 0"});
}

TEST_P(KeysOfOffloads, LargeValue) {
  capture_gso(client_.data("set " + unused_key() + " 0 0 120000\r\n" + filler(60000)), 1448);
  capture_gso(client_.data(filler(60000) + "\r\nincr a 1\r\n"), 1448);
  expect({"dependent a 0"});
}

} // namespace
} // namespace doppel::bpftest
