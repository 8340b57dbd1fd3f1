// SPDX-License-Identifier: Apache-2.0
// What capture reads out of memcached's requests (doc/protocol.txt, memcached 1.6).
#include "bpf/keys/lexer.bpf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace doppel {
namespace {

using namespace std::string_literals;
using Found = std::vector<std::string>;

const char *kind_name(unsigned kind) {
  static constexpr const char *names[] = {"none", "read", "store", "delete", "dependent", "flush"};
  return kind < std::size(names) ? names[kind] : "?";
}

std::string found_key(const lexer &l) {
  std::string out = kind_name(l.note.kind);
  out += " " + std::string(reinterpret_cast<const char *>(l.note.key), l.note.length) + " " +
         std::to_string(l.note.size);
  if (l.note.traits & DP_KEY_BASE64)
    out += " base64";
  return out;
}

// Reads on as capture does (bpf/keys/follow.bpf.h). False: the next request is not known.
bool read_on(lexer &l, std::string_view text, Found &found) {
  while (!text.empty()) {
    if (l.skip) {
      const auto n = std::min<size_t>(l.skip, text.size());
      l.skip -= static_cast<__u32>(n);
      text.remove_prefix(n);
      continue;
    }
    switch (lexer_byte(&l, static_cast<__u8>(text[0]))) {
    case LEXER_A_KEY:
      found.push_back(found_key(l));
      break;
    case LEXER_FLUSH:
      found.push_back("flush");
      break;
    case LEXER_LOST:
      found.push_back("lost");
      return false;
    default:
      break;
    }
    text.remove_prefix(1);
  }
  return true;
}

// What is left of the state at the end of a segment, and what else the memory may hold by then.
lexer carried(const lexer &l) {
  lexer out;
  memset(&out, 0xa5, sizeof out);
  if (lexer_is_in_request(&l)) {
    out = l;
  } else {
    memset(&out, 0, offsetof(lexer, note));
    out.skip = l.skip;
    out.protocol = l.protocol;
  }
  return out;
}

// The list, once it is found to be the same wherever the text is cut.
Found read(std::string_view text) {
  Found whole;
  lexer l{};
  const bool known = read_on(l, text, whole);
  const bool over = known && !lexer_is_in_request(&l) && !l.skip;
  if (known && !over)
    whole.push_back("unfinished");
  for (size_t at = 1; at < text.size(); at++) {
    Found cut;
    lexer first{};
    if (read_on(first, text.substr(0, at), cut)) {
      lexer second = carried(first);
      if (read_on(second, text.substr(at), cut) && (lexer_is_in_request(&second) || second.skip))
        cut.push_back("unfinished");
    }
    EXPECT_EQ(cut, whole) << "cut at " << at;
  }
  Found bytes;
  lexer each{};
  bool going = true;
  for (size_t at = 0; going && at < text.size(); at++) {
    each = carried(each);
    going = read_on(each, text.substr(at, 1), bytes);
  }
  if (going && (lexer_is_in_request(&each) || each.skip))
    bytes.push_back("unfinished");
  EXPECT_EQ(bytes, whole) << "byte by byte";
  return whole;
}

struct Row {
  std::string text;
  Found found;
};

void check(const std::vector<Row> &rows) {
  for (const Row &row : rows) {
    SCOPED_TRACE(row.text.substr(0, 80));
    EXPECT_EQ(read(row.text), row.found);
    // The one behind it is found, too.
    Found and_next = row.found;
    if (and_next.empty() || (and_next.back() != "lost" && and_next.back() != "unfinished")) {
      and_next.push_back("dependent next 1");
      EXPECT_EQ(read(row.text + "append next 0 0 1\r\nx\r\n"), and_next);
    }
  }
}

TEST(Lexer, Retrieval) {
  check({
      {"get k\r\n", {"read k 0"}},
      {"gets k\r\n", {"read k 0"}},
      {"get a bb ccc\r\n", {"read a 0", "read bb 0", "read ccc 0"}},
      {"get  a   b \r\n", {"read a 0", "read b 0"}},
      {"get a b\n", {"read a 0", "read b 0"}},
      {"get\r\n", {}},
      {"gat 10 k\r\n", {"dependent k 0"}},
      {"gats 10 a b\r\n", {"dependent a 0", "dependent b 0"}},
      {"gat 10\r\n", {}},
  });
}

TEST(Lexer, ManyKeys) {
  std::string text = "gat 0";
  Found all;
  for (int i = 0; i < 300; i++) {
    text += " k" + std::to_string(i);
    all.push_back("dependent k" + std::to_string(i) + " 0");
  }
  Found found;
  lexer l{};
  EXPECT_TRUE(read_on(l, text + "\r\n", found));
  EXPECT_EQ(found, all);
}

TEST(Lexer, Storage) {
  check({
      {"set k 0 0 3\r\nabc\r\n", {"store k 3"}},
      {"set k 0 0 3 noreply\r\nabc\r\n", {"store k 3"}},
      {"set k 4294967295 -1 3\r\nabc\r\n", {"store k 3"}},
      {"set k 0 0 0\r\n\r\n", {"store k 0"}},
      {"set k 0 0 3\nabc\r\n", {"store k 3"}},
      {"set k 0 0 003\r\nabc\r\n", {"store k 3"}},
      {"add k 0 0 3\r\nabc\r\n", {"dependent k 3"}},
      {"replace k 0 0 3\r\nabc\r\n", {"dependent k 3"}},
      {"append k 0 0 3\r\nabc\r\n", {"dependent k 3"}},
      {"prepend k 0 0 3\r\nabc\r\n", {"dependent k 3"}},
      {"cas k 0 0 3 17\r\nabc\r\n", {"dependent k 3"}},
      {"cas k 0 0 3 17 noreply\r\nabc\r\n", {"dependent k 3"}},
      {"  set k 0 0 3\r\nabc\r\n", {"store k 3"}},
      {"set k 0 0 3000\r\n" + std::string(3000, 'v') + "\r\n", {"store k 3000"}},
      {"set k\tx 0 0 1\r\nv\r\n", {"store k\tx 1"}},
  });
}

TEST(Lexer, OtherCommands) {
  check({
      {"delete k\r\n", {"delete k 0"}},
      {"delete k 0\r\n", {"delete k 0"}},
      {"delete k noreply\r\n", {"delete k 0"}},
      {"incr k 1\r\n", {"dependent k 0"}},
      {"decr k 1 noreply\r\n", {"dependent k 0"}},
      {"touch k 10\r\n", {"dependent k 0"}},
      {"flush_all\r\n", {"flush"}},
      {"flush_all 10\r\n", {"flush"}},
      {"flush_all noreply\r\n", {"flush"}},
      {"stats\r\n", {}},
      {"stats items\r\n", {}},
      {"version\r\n", {}},
      {"verbosity 1\r\n", {}},
      {"cache_memlimit 64\r\n", {}},
      {"slabs reassign 1 2\r\n", {}},
      {"lru mode flat\r\n", {}},
      {"lru_crawler metadump all\r\n", {}},
      {"watch fetchers\r\n", {}},
      {"shutdown\r\n", {}},
      {"quit\r\n", {}},
      {"\r\n", {}},
      {"\n", {}},
      {"\r\n\r\n\n", {}},
      {"   \r\n", {}},
      // Only whole words, in lower case.
      {"SET k 0 0 3\r\n", {}},
      {"sets k 0 0 3\r\n", {}},
      {"set\r\n", {}},
      {"setset k 0 0 3\r\n", {}},
      {"flush_allx\r\n", {}},
      {"prependx k 0 0 3\r\n", {}},
      {"prepends k 0 0 3\r\n", {}},
      {"incr\r\n", {}},
  });
}

TEST(Lexer, Meta) {
  check({
      {"mn\r\n", {}},
      {"me k\r\n", {}},
      {"mg k\r\n", {"read k 0"}},
      {"mg k t v s c f k Obla\r\n", {"read k 0"}},
      {"mg k OTNR\r\n", {"read k 0"}},
      {"mg k v T30\r\n", {"dependent k 0"}},
      {"mg k v N30\r\n", {"dependent k 0"}},
      {"mg k v R30\r\n", {"dependent k 0"}},
      {"mg azpr b v\r\n", {"read azpr 0 base64"}},
      {"mg azpr b T0\r\n", {"dependent azpr 0 base64"}},
      {"mg azpr T0 b\r\n", {"dependent azpr 0 base64"}},
      {"ms k 3\r\nabc\r\n", {"store k 3"}},
      {"ms k 0\r\n\r\n", {"store k 0"}},
      {"ms k 3 T30 F1 q\r\nabc\r\n", {"store k 3"}},
      {"ms k 3 OCIM\r\nabc\r\n", {"store k 3"}},
      {"ms k 3 C17\r\nabc\r\n", {"dependent k 3"}},
      {"ms k 3 I\r\nabc\r\n", {"dependent k 3"}},
      {"ms k 3 ME\r\nabc\r\n", {"dependent k 3"}},
      {"ms k 3 T0 MA N10\r\nabc\r\n", {"dependent k 3"}},
      {"ms azpr 3 b\r\nabc\r\n", {"store azpr 3 base64"}},
      {"ms b 3\r\nabc\r\n", {"store b 3"}},
      {"ms k\r\n", {}},
      {"md k\r\n", {"delete k 0"}},
      {"md k q Ox\r\n", {"delete k 0"}},
      {"md k C17\r\n", {"dependent k 0"}},
      {"md k I\r\n", {"dependent k 0"}},
      {"md k T30\r\n", {"dependent k 0"}},
      {"md k x\r\n", {"dependent k 0"}},
      {"md azpr b\r\n", {"delete azpr 0 base64"}},
      {"ma k\r\n", {"dependent k 0"}},
      {"ma k N0 J13 v\r\n", {"dependent k 0"}},
      {"ma azpr b\r\n", {"dependent azpr 0 base64"}},
  });
}

TEST(Lexer, LengthOfKeys) {
  const std::string most(250, 'k'), more(251, 'k');
  check({
      {"set " + most + " 0 0 1\r\nx\r\n", {"store " + most + " 1"}},
      {"delete " + most + "\r\n", {"delete " + most + " 0"}},
      {"gat 0 " + most + " a\r\n", {"dependent " + most + " 0", "dependent a 0"}},
      // Refused: the line brings no value, and concerns no key.
      {"set " + more + " 0 0 1\r\n", {}},
      {"delete " + more + "\r\n", {}},
      {"incr " + std::string(1000, 'k') + " 1\r\n", {}},
      {"ms " + more + " 1\r\n", {}},
      {"gat 0 " + more + " a\r\n", {"dependent a 0"}},
  });
}

TEST(Lexer, Sizes) {
  for (const char *size : {"-1", "x", "1x", "0x1"}) {
    const std::string number(size);
    check({{"set k 0 0 " + number + "\r\n", {}}, {"ms k " + number + "\r\n", {}}});
  }
  // 1.6.18 takes the sixth for 7.
  for (const char *size : {"+7", "\t7", "2147483646", "4294967296", "4294967300", "4294967303",
                           "99999999999999999999", "18446744073709551617"}) {
    const std::string number(size);
    check({{"set k 0 0 " + number + "\r\n", {"lost"}}, {"ms k " + number + "\r\n", {"lost"}}});
  }
  // Too large for any item: the server reads it, and drops it.
  check({{"set k 0 0 2147483645\r\nabc\r\n", {"store k 2147483645", "unfinished"}},
         {"set k 0 0 1073741825\r\nabc\r\n", {"store k 1073741825", "unfinished"}},
         {"set k 0 0\r\n", {}}});
}

// What 1.6.18 answers with an error, and without reading a value.
TEST(Lexer, RefusedLines) {
  check({
      {"set k x 0 7\r\n", {}},
      {"set k -1 0 7\r\n", {}},
      {"set k 0 x 7\r\n", {}},
      {"set k 0 1-1 7\r\n", {}},
      {"set k 0 0 7 a b\r\n", {}},
      {"cas k 0 0 7\r\n", {}},
      {"cas k 0 0 7 1 a b\r\n", {}},
      {"append k 0\r\n", {}},
      {"set k +1 0 7\r\n", {"lost"}},
      {"cas k 0 0 11 None\r\nincr k 1\r\n", {"dependent k 0"}},
      {"cas k 0 0 11 1x\r\nincr k 1\r\n", {"dependent k 0"}},
  });
}

// Which of these are refused differs, or is not worth knowing.
TEST(Lexer, LinesThatMayBeRefused) {
  check({
      {"cas k 0 0 3 9999999999999999999\r\nabc\r\n", {"dependent k 3"}},
      {"cas k 0 0 3 18446744073709551616\r\n", {"lost"}},
      {"cas k 0 0 3 -1\r\n", {"lost"}},
      {"cas k 0 0 3 +1\r\n", {"lost"}},
  });
  std::string flags;
  for (int i = 0; i < 17; i++)
    flags += " q";
  check({{"ms k 3" + flags + "\r\nabc\r\n", {"store k 3"}},
         {"ms k 3" + flags + " q\r\nabc\r\n", {"lost"}}});
}

TEST(Lexer, ValuesAreNotRead) {
  check({
      {"set k 0 0 18\r\nappend x 0 0 1\r\nx\r\n\r\n", {"store k 18"}},
      {"set k 0 0 2\r\n\r\n\r\n", {"store k 2"}},
      {"ms k 9\r\nflush_all\r\n", {"store k 9"}},
      {"set k 0 0 1\r\n\x80\r\n", {"store k 1"}},
  });
}

TEST(Lexer, Pipelined) {
  check({
      {"get a\r\nset b 0 0 1\r\nx\r\ncas c 0 0 2 1\r\nxy\r\n\r\nincr d 1\r\nmn\r\nflush_all\r\n",
       {"read a 0", "store b 1", "dependent c 2", "dependent d 0", "flush"}},
      {"set a 0 0 1\r\nx\r\nget a\r\n", {"store a 1", "read a 0"}},
      {"gat 1 a\r\ndelete b\r\nget c\r\n", {"dependent a 0", "delete b 0", "read c 0"}},
      {"ms a 1 MA b\r\nx\r\nms b 1\r\nx\r\n", {"dependent a 1 base64", "store b 1"}},
  });
}

TEST(Lexer, ReturnWithinALineIsOfAKey) {
  EXPECT_EQ(read("delete a\rb\r\n"), Found{"lost"});
  EXPECT_EQ(read("set a 0 0 1\r\r\nx\r\n"), Found{"lost"});
}

std::string binary(unsigned opcode, const std::string &extras, const std::string &key,
                   const std::string &value, bool compares = false) {
  std::string out(24, 0);
  const size_t body = extras.size() + key.size() + value.size();
  out[0] = '\x80';
  out[1] = static_cast<char>(opcode);
  out[2] = static_cast<char>(key.size() >> 8);
  out[3] = static_cast<char>(key.size());
  out[4] = static_cast<char>(extras.size());
  for (int i = 0; i < 4; i++)
    out[static_cast<size_t>(8 + i)] = static_cast<char>(body >> (24 - 8 * i));
  out[23] = compares;
  return out + extras + key + value;
}

TEST(Lexer, BinaryOpcodes) {
  const std::string eight(8, '\n'), twenty(20, 's'), four(4, 'e');
  struct Opcode {
    unsigned opcode;
    std::string extras, value;
    const char *kind;
  };
  const std::vector<Opcode> opcodes = {
      {0x00, "", "", "read"},
      {0x09, "", "", "read"},
      {0x0c, "", "", "read"},
      {0x0d, "", "", "read"},
      {0x01, eight, "v", "store"},
      {0x11, eight, "v", "store"},
      {0x02, eight, "v", "dependent"},
      {0x12, eight, "v", "dependent"},
      {0x03, eight, "v", "dependent"},
      {0x13, eight, "v", "dependent"},
      {0x04, "", "", "delete"},
      {0x14, "", "", "delete"},
      {0x05, twenty, "", "dependent"},
      {0x15, twenty, "", "dependent"},
      {0x06, twenty, "", "dependent"},
      {0x16, twenty, "", "dependent"},
      {0x0e, "", "get x\r\n", "dependent"},
      {0x19, "", "v", "dependent"},
      {0x0f, "", "v", "dependent"},
      {0x1a, "", "v", "dependent"},
      {0x1c, four, "", "dependent"},
      {0x1d, four, "", "dependent"},
      {0x1e, four, "", "dependent"},
      {0x23, four, "", "dependent"},
      {0x24, four, "", "dependent"},
  };
  for (const Opcode &o : opcodes) {
    SCOPED_TRACE(o.opcode);
    const std::string size = std::to_string(o.value.size());
    const std::string end = " key\r\n " + size;
    const std::string text = binary(o.opcode, o.extras, "key\r\n", o.value);
    EXPECT_EQ(read(text + text), (Found{o.kind + end, o.kind + end}));
    const std::string kind = o.kind == "store"s || o.kind == "delete"s ? "dependent" : o.kind;
    EXPECT_EQ(read(binary(o.opcode, o.extras, "key\r\n", o.value, true)), Found{kind + end});
  }
}

TEST(Lexer, BinaryWithoutAKeyOfInterest) {
  const std::string next = binary(0x01, std::string(8, 0), "k", "");
  for (unsigned opcode : {0x07u, 0x0au, 0x0bu, 0x10u, 0x17u, 0x1bu, 0x20u, 0x46u}) {
    SCOPED_TRACE(opcode);
    EXPECT_EQ(read(binary(opcode, "", "", "") + next), Found{"store k 0"});
    EXPECT_EQ(read(binary(opcode, "", "", "\x80 get") + next), Found{"store k 0"});
  }
  EXPECT_EQ(read(binary(0x21, "", "PLAIN", "\0u\0p"s) + next), Found{"store k 0"});
  EXPECT_EQ(read(binary(0x10, "", "items", "") + next), Found{"store k 0"});
  for (unsigned opcode : {0x08u, 0x18u}) {
    EXPECT_EQ(read(binary(opcode, "", "", "") + next), (Found{"flush", "store k 0"}));
    EXPECT_EQ(read(binary(opcode, "\0\0\0\5"s, "", "") + next), (Found{"flush", "store k 0"}));
    EXPECT_EQ(read(binary(opcode, "", "all", "") + next), (Found{"flush", "store k 0"}));
  }
}

TEST(Lexer, BinaryLengths) {
  const std::string most(250, '\x80'), value(70000, '\x80');
  EXPECT_EQ(read(binary(0x05, std::string(20, 0), most, "")), Found{"dependent " + most + " 0"});
  EXPECT_EQ(read(binary(0x05, "", most + "k", "")), Found{"lost"});
  std::string lies = binary(0x01, std::string(8, 0), "k", "v");
  lies[11] = 8; // a body that is shorter than extras and key
  EXPECT_EQ(read(lies), Found{"lost"});
  lies[8] = '\xff';
  EXPECT_EQ(read(lies), Found{"lost"});
  lexer l{};
  Found found;
  const std::string get = binary(0x00, "", "a", "");
  EXPECT_TRUE(read_on(l, binary(0x01, std::string(8, 0), "k", value) + get, found));
  EXPECT_EQ(found, (Found{"store k 70000", "read a 0"}));
}

// The first byte of a connection says which one it has, for good (try_read_command_negotiate() of
// memcached): each refuses what the other's requests begin with.
TEST(Lexer, OneProtocolPerConnection) {
  EXPECT_EQ(read("get a\r\n\x80 b\r\nincr c 1\r\n"), (Found{"read a 0", "dependent c 0"}));
  EXPECT_EQ(read("\r\n\x80\r\nincr c 1\r\n"), Found{"dependent c 0"});
  EXPECT_EQ(read(binary(0x00, "", "a", "") + "incr c 1\r\n"), (Found{"read a 0", "lost"}));
}

// Whatever comes, a note has a length and a kind that are in range.
TEST(Lexer, AnyBytes) {
  unsigned random = 1;
  static constexpr std::string_view bytes = "\x80\r\n  get set gat ms mg cas 0123456789 b T\0x";
  for (int i = 0; i < 200; i++) {
    lexer l{};
    for (int n = 0; n < 2000; n++) {
      random = random * 1103515245 + 12345;
      const unsigned pick = random >> 16;
      const __u8 c =
          pick & 0x300 ? static_cast<__u8>(bytes[pick % bytes.size()]) : static_cast<__u8>(pick);
      const lexer_found what = l.skip ? LEXER_NOTHING : lexer_byte(&l, c);
      l.skip = 0;
      ASSERT_LE(l.note.length, LEXER_KEY_MOST);
      if (what == LEXER_A_KEY) {
        ASSERT_GT(l.note.length, 0);
        ASSERT_GT(l.note.kind, DP_KEY_NONE);
        ASSERT_LT(l.note.kind, DP_KEY_FLUSH);
      }
    }
  }
}

} // namespace
} // namespace doppel
