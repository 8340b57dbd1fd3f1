// SPDX-License-Identifier: Apache-2.0
#include "userspace/config/client_list.h"

#include <gtest/gtest.h>

#include "tests/unit/show_errors.h"

namespace doppel {
namespace {
ClientList::Entry entry(const std::string &text, bool include) {
  return {*parse_client(text), include};
}

std::string text_of(const std::vector<ListedClient> &listed) {
  std::string text;
  for (const ListedClient &l : listed)
    text += l.where + (l.entry.include ? " +" : " -") + l.entry.prefix.text() + "\n";
  return text;
}

TEST(ClientList, ReadsPrefixesAndAddresses) {
  const std::pair<const char *, const char *> good[] = {{"10.0.0.0/8", "10.0.0.0/8"},
                                                        {"10.1.2.3", "10.1.2.3"},
                                                        {"10.1.2.3/32", "10.1.2.3"},
                                                        {"0.0.0.0/0", "0.0.0.0/0"},
                                                        {"2001:db8::/32", "2001:db8::/32"},
                                                        {"2001:DB8::1", "2001:db8::1"},
                                                        {"::/0", "::/0"},
                                                        {"::ffff:10.0.0.0/104", "10.0.0.0/8"},
                                                        {"::ffff:10.1.2.3", "10.1.2.3"}};
  for (const auto &[text, read] : good) {
    const auto prefix = parse_client(text);
    ASSERT_TRUE(prefix) << text;
    EXPECT_EQ(prefix->text(), read) << text;
  }
  for (const char *bad :
       {"", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "/8", "10.0.0/24", "10.1.2.3/8",
        "2001:db8::/129", "2001:db8::1/64", "::/95x", "::ffff:10.0.0.0/95", "monitor",
        "10.0.0.1-10.0.0.9", "[2001:db8::1]", "fe80::1%eth0", "10.0.0.0/8 10.1.0.0/16", "::1/0"})
    EXPECT_FALSE(parse_client(bad)) << bad;
  EXPECT_EQ(parse_client("10.1.2.3/8").errors()[0].hint,
            "write \"10.0.0.0/8\", or the address without a length");
}

TEST(ClientList, FilesHaveCommentsAndEmptyLines) {
  std::vector<ListedClient> listed;
  Errors errors;
  read_client_file(
      "# the office\n\n  10.0.0.0/8\t\r\n2001:db8::/32 # its IPv6\n#10.1.0.0/16\n10.9.9.9", "/l",
      false, listed, errors);
  EXPECT_TRUE(errors.empty()) << show_errors(errors);
  EXPECT_EQ(text_of(listed), "/l:3 -10.0.0.0/8\n/l:4 -2001:db8::/32\n/l:6 -10.9.9.9\n");
  listed.clear();
  read_client_file("", "/l", true, listed, errors);
  EXPECT_TRUE(listed.empty() && errors.empty());
}

TEST(ClientList, AFileThatIsNoListIsToldInBounds) {
  std::vector<ListedClient> listed;
  Errors errors;
  std::string text = "10.0.0.0/8\n";
  for (int i = 0; i < 1000; i++)
    text += "no\n";
  read_client_file(text, "/l", true, listed, errors);
  EXPECT_EQ(listed.size(), 1u);
  ASSERT_EQ(errors.size(), 101u);
  EXPECT_EQ(errors[99].where, "/l:101");
  EXPECT_EQ(errors[100].where, "/l");
  EXPECT_EQ(errors[100].what, "has 900 more lines that are neither an IP address nor a prefix");
}

TEST(ClientList, EachPrefixOnceInAnyOrder) {
  const ClientList a({entry("10.0.0.0/8", true), entry("10.1.0.0/16", false)});
  const ClientList b(
      {entry("10.1.0.0/16", false), entry("10.0.0.0/8", true), entry("10.1.0.0/16", false)});
  EXPECT_EQ(b.entries().size(), 2u);
  EXPECT_TRUE(a.id().has_same_clients(b.id()));
  const ClientList others[] = {ClientList({entry("10.0.0.0/8", true), entry("10.1.0.0/16", true)}),
                               ClientList({entry("10.0.0.0/8", true), entry("10.1.0.0/17", false)}),
                               ClientList({entry("10.0.0.0/8", true)})};
  for (const ClientList &other : others)
    EXPECT_FALSE(a.id().has_same_clients(other.id()));
}

TEST(ClientList, WhatBothListsHaveIsToldOnceForEachPlace) {
  Errors errors;
  EXPECT_EQ(client_list({}, "m", errors), nullptr);
  const auto list = client_list({{entry("10.0.0.0/8", false), "a"},
                                 {entry("10.0.0.0/8", true), "b"},
                                 {entry("10.0.0.0/8", true), "c"},
                                 {entry("10.0.0.0/8", false), "d"},
                                 {entry("10.0.0.0/9", false), "e"}},
                                "m", errors);
  ASSERT_TRUE(list);
  ASSERT_EQ(errors.size(), 2u) << show_errors(errors);
  EXPECT_EQ(errors[0].where, "a");
  EXPECT_EQ(errors[1].where, "d");
  EXPECT_EQ(errors[1].what, "10.0.0.0/8 is in \"include_clients\" as well, at b");
}

TEST(ClientList, NobodyIsAnError) {
  Errors errors;
  client_list({{entry("0.0.0.0/0", false), "a"}}, "m", errors);
  client_list(
      {{entry("0.0.0.0/0", false), "a"}, {entry("::/0", false), "b"}, {entry("::1", true), "c"}},
      "m", errors);
  EXPECT_TRUE(errors.empty());
  client_list({{entry("0.0.0.0/0", false), "a"}, {entry("::/0", false), "b"}}, "m", errors);
  EXPECT_EQ(errors.size(), 1u);
}

TEST(ClientList, IsToldInWords) {
  EXPECT_EQ(clients_text({}), "all");
  EXPECT_EQ(clients_text({0, 1, "x"}), "all but those of 1 prefix");
  EXPECT_EQ(clients_text({2, 0, "x"}), "those of 2 prefixes");
  EXPECT_EQ(clients_text({2, 100000, "x"}), "those of 2 prefixes without those of 100000 prefixes");
}

} // namespace
} // namespace doppel
