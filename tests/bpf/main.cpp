// SPDX-License-Identifier: Apache-2.0
// Leaves the namespaces of whoever started us before the first test; listing tests needs no rights.
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/bpf/world.h"

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  if (testing::GTEST_FLAG(list_tests))
    return RUN_ALL_TESTS();
  const std::string &reason = doppel::bpftest::World::why_not();
  if (!reason.empty())
    std::printf("skipped: %s\n", reason.c_str());
  const int rc = RUN_ALL_TESTS();
  return rc == 0 && !reason.empty() ? 77 : rc;
}
