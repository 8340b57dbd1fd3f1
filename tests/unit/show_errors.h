// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "userspace/util/error.h"

namespace doppel {

inline std::string show_errors(const Errors &errors) {
  std::string s;
  for (const Error &e : errors)
    s += "[" + e.where + "] [" + e.what + "] [" + e.hint + "]\n";
  return s;
}

} // namespace doppel
