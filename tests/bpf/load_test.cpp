// SPDX-License-Identifier: Apache-2.0
// Every program loads, and how much the verifier had to look at.
#include <gtest/gtest.h>

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <cstdio>
#include <string>

#include "doppel/names.h"
#include "tests/bpf/dataplane.h"
#include "tests/bpf/world.h"

namespace doppel::bpftest {
namespace {

class Load : public testing::TestWithParam<AttachMode> {};
INSTANTIATE_TEST_SUITE_P(Modes, Load, testing::Values(AttachMode::tcx, AttachMode::clsact),
                         [](const auto &info) {
                           return std::string(info.param == AttachMode::tcx ? "tcx" : "clsact");
                         });

// Both directions, both protocols, and further copies: it needs every program.
Config config_of_all() {
  Config c = default_config();
  const MappingConfig first = c.mappings[0];
  for (const dp_direction direction : {DP_DIR_INGRESS, DP_DIR_EGRESS})
    for (const int protocol : {IPPROTO_TCP, IPPROTO_UDP}) {
      MappingConfig m = first;
      m.name = "more" + std::to_string(c.mappings.size());
      m.direction = direction;
      m.protocol = static_cast<uint8_t>(protocol);
      m.port_first = m.port_last = static_cast<uint16_t>(12000 + c.mappings.size());
      m.targets[0].portion.copies = 2;
      c.mappings.push_back(m);
    }
  return c;
}

TEST_P(Load, OnlyWhatIsNeeded) {
  if (!World::why_not().empty())
    GTEST_SKIP() << World::why_not();
  World &world = World::enter(GetParam()); // default_config() is of the world entered last
  DataPlane &plane = DataPlane::in(world, GetParam(), default_config());
  for (const char *name : {DP_PROG_INGRESS, DP_PROG_DELIVER, DP_PROG_RETURN, DP_PROG_COMMAND})
    EXPECT_TRUE(plane.has_program(name)) << name;
  for (const char *name : {DP_PROG_EGRESS, DP_PROG_COPIES, DP_PROG_UDP_INGRESS, DP_PROG_UDP_EGRESS,
                           DP_PROG_UDP_RETURN, DP_PROG_UDP_DELIVER})
    EXPECT_FALSE(plane.has_program(name)) << name;
}

TEST_P(Load, EveryProgram) {
  if (!World::why_not().empty())
    GTEST_SKIP() << World::why_not();
  World &world = World::enter(GetParam());
  DataPlane &plane = DataPlane::in(world, GetParam(), config_of_all());
  for (const char *name : {DP_PROGS}) {
    bpf_prog_info info{};
    __u32 size = sizeof info;
    ASSERT_EQ(bpf_obj_get_info_by_fd(plane.program(name), &info, &size), 0) << name;
    EXPECT_STREQ(info.name, name);
    EXPECT_EQ(info.type, static_cast<__u32>(BPF_PROG_TYPE_SCHED_CLS));
    // The kernel gives up at a million (BPF_COMPLEXITY_LIMIT_INSNS); older ones need more steps.
    EXPECT_LT(info.verified_insns, 500000u) << name;
    std::printf("verified insns  %-15s %7u   (%u bytes of bytecode)\n", name, info.verified_insns,
                info.xlated_prog_len);
  }
}

} // namespace
} // namespace doppel::bpftest
