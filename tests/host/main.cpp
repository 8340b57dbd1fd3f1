// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/host/host.h"

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  if (testing::GTEST_FLAG(list_tests))
    return RUN_ALL_TESTS();
  std::string reason = doppel::hosttest::why_not();
  if (reason.empty())
    return RUN_ALL_TESTS();
  std::printf("skipped: %s\n", reason.c_str());
  return 77;
}
