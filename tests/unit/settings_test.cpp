// SPDX-License-Identifier: Apache-2.0
#include "userspace/config/settings.h"

#include <gtest/gtest.h>

#include <cctype>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/unit/show_errors.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
std::string source_file(const std::string &name) {
  std::ifstream in(std::string(DOPPEL_SOURCE_DIR) + "/" + name);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(Settings, DocumentIsTheGeneratedOne) {
  EXPECT_TRUE(source_file("docs/configuration.md") == configuration_markdown())
      << "build/doppel man-configuration > docs/configuration.md";
}

TEST(Settings, EveryKeyIsExplained) {
  std::set<std::pair<Scope, std::string>> names;
  for (const KeyHelp &key : all_keys()) {
    EXPECT_TRUE(names.insert({key.scope, key.name}).second) << key.name;
    EXPECT_TRUE(std::string(key.help).ends_with('.')) << key.name;
    EXPECT_EQ(key.required, key.standard.empty()) << key.name;
    bool choices = false;
    for (const Choice &c : all_choices())
      choices |= std::string(c.key) == key.name;
    EXPECT_EQ(choices, key.form.empty()) << key.name;
    EXPECT_NE(configuration_roff().find(".B " + std::string(key.name) + "\n"), std::string::npos);
  }
  for (const Choice &c : all_choices())
    EXPECT_FALSE(std::string(c.help).ends_with('.')) << c.key << " " << c.name;
}

// What is documented as the default is what a file without the key means.
TEST(Settings, DefaultsAreAsDocumented) {
  for (const KeyHelp &key : all_keys()) {
    const bool in_words = !key.required &&
                          std::isalpha(static_cast<unsigned char>(key.standard[0])) != 0 &&
                          key.standard != "true" && key.standard != "false";
    if (key.required || in_words)
      continue;
    const std::string member = "\"" + std::string(key.name) + "\": " + key.standard + ", ";
    const auto of = [&](Scope scope) { return key.scope == scope ? member : ""; };
    const auto c = parse_config("{" + of(Scope::file) + "\"mappings\": [{" + of(Scope::mapping) +
                                    R"("device": "eth0", "ports": 80, "targets": [{)" +
                                    of(Scope::target) + R"("address": "10.0.0.2", "port": 80}]}]})",
                                "f");
    ASSERT_TRUE(c) << key.name << show_errors(c.errors());
    const MappingConfig &m = c->mappings[0], standard;
    EXPECT_EQ(limits_text(c->limits), limits_text(Limits{})) << key.name;
    EXPECT_EQ(c->attach_mode, Config{}.attach_mode);
    EXPECT_TRUE(m.direction == standard.direction && m.protocol == standard.protocol &&
                m.application == standard.application && m.join == standard.join &&
                m.any_host == standard.any_host && m.bypass_ipsec == standard.bypass_ipsec &&
                m.converge == standard.converge && m.max_bps == standard.max_bps &&
                m.seed == standard.seed && !m.clients && m.targets[0].portion == Portion{})
        << key.name;
  }
}

TEST(Settings, TextIsReadBack) {
  Limits l;
  l.flows = 99;
  l.port_first = 20000;
  l.port_last = 20009;
  l.store_bytes = 3u << 20;
  l.idle_s = 0;
  l.rto_min_ms = 33;
  const auto text = limits_text(l);
  EXPECT_EQ(text.at("shadow_ports"), "20000-20009");
  EXPECT_EQ(text.at("rto_min"), "33ms");
  const auto back = limits_from_text(text);
  ASSERT_TRUE(back);
  EXPECT_EQ(limits_text(*back), text);
  EXPECT_EQ(back->rto_min_ms, 33u);
  EXPECT_EQ(back->port_last, 20009);
}

TEST(Settings, TextOfAnotherVersion) {
  const auto old = limits_from_text({{"flows", "99"}, {"gone", "1"}});
  ASSERT_TRUE(old);
  EXPECT_EQ(old->flows, 99u);
  EXPECT_EQ(old->tries, Limits{}.tries);
  EXPECT_FALSE(limits_from_text({{"flows", "99 and more"}}));
  EXPECT_FALSE(limits_from_text({{"shadow_ports", "7-"}}));
}

} // namespace
} // namespace doppel
