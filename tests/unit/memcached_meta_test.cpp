// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/meta.h"

#include <gtest/gtest.h>

#include "userspace/memcached/dump.h"
#include "userspace/memcached/stats.h"

namespace doppel::memcached {
namespace {
TEST(MemcachedMeta, KeysAreWrittenAsTheLineWantsThem) {
  bool base64 = true;
  EXPECT_EQ(meta_key("plain:\xc3\xa4", base64), "plain:\xc3\xa4");
  EXPECT_FALSE(base64);
  EXPECT_EQ(meta_key("a b", base64), "YSBi");
  EXPECT_TRUE(base64);
  EXPECT_EQ(meta_key(std::string("\0", 1), base64), "AA==");
  EXPECT_EQ(meta_key(std::string(250, 'k'), base64).size(), 250u);
  EXPECT_EQ(meta_key(std::string(251, 'k'), base64), "");
  EXPECT_EQ(meta_key(std::string(186, ' '), base64).size(), 248u);
  EXPECT_TRUE(base64);
  EXPECT_EQ(meta_key(std::string(187, ' '), base64), "");
  EXPECT_FALSE(has_name(std::string(187, ' ')));
  const std::string tabs(187, '\t'); // as a client of text may name it
  EXPECT_EQ(meta_key(tabs, base64), tabs);
  EXPECT_FALSE(base64);
  EXPECT_TRUE(has_name(tabs));
  for (const char ends : {' ', '\r', '\n', '\0'})
    EXPECT_FALSE(has_name(tabs + ends));
  EXPECT_EQ(meta_key("", base64), "");
}

TEST(MemcachedMeta, Base64ComesBack) {
  std::string key = " ";
  for (int i = 0; key.size() <= 186; i++) {
    bool base64 = false;
    EXPECT_EQ(key_of_base64(meta_key(key, base64)), key) << i;
    key += static_cast<char>(i * 7 % 256);
  }
  EXPECT_EQ(key_of_base64("YSB"), std::nullopt);
  EXPECT_EQ(key_of_base64("Y!Bi"), std::nullopt);
  for (const char *padding : {"", "====", "A===", "=AAA", "AA=A", "AAAA====", "A==="})
    EXPECT_EQ(key_of_base64(padding), std::nullopt) << padding;
}

TEST(MemcachedMeta, AServerMayRepeatAKeyInBase64) {
  EXPECT_TRUE(names("foo", "foo"));
  EXPECT_TRUE(names("Zm9v", "foo")); // as 1.6.18 does for an item that was stored so
  EXPECT_TRUE(names("Z3LDtsOfZQ==", "gr\xc3\xb6\xc3\x9f"
                                    "e"));
  EXPECT_FALSE(names("Zm9v", "fop"));
  EXPECT_FALSE(names("", "foo"));
  EXPECT_FALSE(names("====", "foo"));
}

TEST(MemcachedMeta, CommandsNameTheKeyThenItsEncoding) {
  std::string request;
  EXPECT_TRUE(add_command(request, "mg", "a", "v u"));
  EXPECT_TRUE(add_command(request, "me", "a b", ""));
  EXPECT_FALSE(add_command(request, "mg", std::string(251, 'k'), "v"));
  EXPECT_TRUE(add_command(request, "mg", "\n", "v"));
  EXPECT_EQ(request, "mg a v u\r\nme YSBi b\r\nmg Cg== b v\r\n");
}

TEST(MemcachedMeta, FlagsOfAnswers) {
  const MetaFlags m = parse_meta("VA 5 t-1 f4294967295 c18446744073709551615 s5 kname O12 W b");
  EXPECT_EQ(m.code, "VA");
  EXPECT_EQ(m.t, -1);
  EXPECT_EQ(m.f, 4294967295u);
  EXPECT_EQ(m.c, UINT64_MAX);
  EXPECT_EQ(m.s, 5u);
  EXPECT_EQ(m.k, "name");
  EXPECT_EQ(m.O, "12");
  EXPECT_TRUE(m.W);
  EXPECT_TRUE(m.b);
  EXPECT_FALSE(m.X);
  EXPECT_FALSE(m.Z);
  const MetaFlags none = parse_meta("EN ");
  EXPECT_EQ(none.code, "EN");
  EXPECT_FALSE(none.c || none.f || none.t || none.s || none.W || none.b);
  EXPECT_TRUE(parse_meta("HD X Z").X);
  EXPECT_TRUE(parse_meta("HD X Z").Z);
  EXPECT_FALSE(parse_meta("HD cx t").c);
}

TEST(MemcachedMeta, Standing) {
  const auto s = parse_standing("ME YSBi exp=-60 la=5 cas=7 fetch=yes cls=1 size=66");
  ASSERT_TRUE(s);
  EXPECT_EQ(s->key, "YSBi");
  EXPECT_EQ(s->exp, 60); // as 1.6.18 writes it
  EXPECT_EQ(s->la, 5u);
  EXPECT_EQ(s->cas, 7u);
  EXPECT_TRUE(s->fetch);
  EXPECT_EQ(s->cls, 1u);
  EXPECT_EQ(s->size, 66u);
  EXPECT_EQ(parse_standing("ME a exp=60 la=0")->exp, 60);
  EXPECT_EQ(parse_standing("ME a exp=-1 la=0")->exp, kNoExpiry);
  EXPECT_FALSE(parse_standing("EN"));
}

TEST(MemcachedDump, LinesAreDecoded) {
  const auto d = parse_dump_line(
      "key=a%20b%25 exp=1700000000 la=1690000000 cas=3 fetch=yes cls=2 size=99 flags=7");
  ASSERT_TRUE(d);
  EXPECT_EQ(d->key, "a b%");
  EXPECT_EQ(d->exp, 1700000000);
  EXPECT_EQ(d->la, 1690000000u);
  EXPECT_EQ(d->cas, 3u);
  EXPECT_TRUE(d->fetch);
  EXPECT_EQ(d->cls, 2u);
  EXPECT_EQ(d->size, 99u);
  EXPECT_EQ(parse_dump_line("key=k exp=-1")->exp, -1);
  EXPECT_EQ(parse_dump_line("key=x=y exp=-1")->key, "x=y");
  for (const char *bad : {"", "exp=1", "key=", "key=%2", "key=%zz exp=1", "key=a exp=x"})
    EXPECT_FALSE(parse_dump_line(bad)) << bad;
}

TEST(MemcachedStats, NumbersOfWhatIsThere) {
  const Stats all = {{"curr_items", "12"}, {"version", "1.6.18"}};
  EXPECT_EQ(number(all, "curr_items"), 12u);
  EXPECT_EQ(number(all, "version"), 0u);
  EXPECT_EQ(number(all, "absent"), 0u);
}

} // namespace
} // namespace doppel::memcached
