// SPDX-License-Identifier: Apache-2.0
// A setting or a counter is one line: include/ here has the lists with one line more, and nothing
// else of what is tested knows of it.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "tests/unit/show_errors.h"
#include "userspace/config/settings.h"
#include "userspace/plan/change.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
Result<Config> with(const std::string &member) {
  return parse_config("{" + member + R"(, "mappings": [{"device": "eth0", "ports": 80,
    "targets": [{"address": "10.0.0.2", "port": 80}]}]})",
                      "f");
}

HostView host() {
  HostView h;
  DeviceView d;
  d.ifindex = 2;
  d.name = "eth0";
  d.ethernet = d.up = true;
  h.devices = {d};
  Route r;
  r.oif = 2;
  r.device = "eth0";
  r.source = *parse_address("10.0.0.1");
  h.routes["10.0.0.2"] = r;
  return h;
}

TEST(OneLine, SettingIsReadAndChecked) {
  EXPECT_EQ(Limits{}.one_more_ms, 500u);
  const auto c = with(R"("one_more": "5s")");
  ASSERT_TRUE(c) << show_errors(c.errors());
  EXPECT_EQ(c->limits.one_more_ms, 5000u);
  const auto former = with(R"("one_more_ms": 70)");
  ASSERT_TRUE(former) << show_errors(former.errors());
  EXPECT_EQ(former->limits.one_more_ms, 70u);
  EXPECT_EQ(former->former.size(), 1u);
  const auto high = with(R"("one_more": "2min")");
  ASSERT_FALSE(high);
  EXPECT_EQ(high.errors()[0].hint, "give a time from \"10ms\" to \"1min\"");
  const auto near = with(R"("one_mroe": "2s")");
  ASSERT_FALSE(near);
  EXPECT_EQ(near.errors()[0].hint, "did you mean \"one_more\"?");
}

TEST(OneLine, SettingReachesTheDataPlane) {
  const auto plan = make_plan(*with(R"("one_more": "5s")"), host());
  ASSERT_TRUE(plan) << show_errors(plan.errors());
  EXPECT_EQ(plan->config.one_more_ms, 5000u);
}

TEST(OneLine, SettingIsKeptAndCompared) {
  const auto was = make_plan(*with(R"("one_more": "5s")"), host());
  const auto is = make_plan(*with(R"("one_more": "6s")"), host());
  ASSERT_TRUE(was && is);
  const auto text = limits_text(was->limits);
  EXPECT_EQ(text.at("one_more"), "5s");
  const auto read = limits_from_text(text);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->one_more_ms, 5000u);
  MirrorState state;
  state.limits = *read;
  state.mode = was->mode;
  EXPECT_TRUE(fixed_differences(state, *was).empty());
  const Errors errors = fixed_differences(state, *is);
  ASSERT_EQ(errors.size(), 1u) << show_errors(errors);
  EXPECT_EQ(errors[0].where, "setting \"one_more\"");
  EXPECT_EQ(errors[0].what, "is 5s in the attached mirror, and would be 6s");
}

TEST(OneLine, SettingIsDocumented) {
  EXPECT_NE(configuration_markdown().find("### `one_more`\n\nA time from \"10ms\" to \"1min\", by "
                                          "default \"500ms\"; fixed while attached."),
            std::string::npos);
  EXPECT_NE(configuration_roff().find(".B one_more\n"), std::string::npos);
}

TEST(OneLine, CounterIsShown) {
  TargetCounters t;
  t.target = "10.0.0.2:80";
  t.sum.one_more = 7;
  Counters c;
  c.mappings.push_back({"data", {t}});
  EXPECT_EQ(to_json(c)["mappings"][0]["targets"][0]["packets"]["one_more"], 7);
  EXPECT_NE(to_text(c).find("  ONE MORE  "), std::string::npos);
  // The manual page lists all_counters().
  EXPECT_TRUE(std::any_of(all_counters().begin(), all_counters().end(), [](const Counter &k) {
    return std::string(k.name) == "one_more" && std::string(k.help) == "one more counter";
  }));
}

} // namespace
} // namespace doppel
