// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "userspace/util/error.h"

namespace doppel {

// Whether this process may open `n` more files at this moment. What would fail for want of them
// half-way, or be misunderstood (libbpf takes a try that fails for a kernel that lacks something),
// is not begun. `who`: the object of the error.
Status require_descriptors(const std::string &who, size_t n);

} // namespace doppel
