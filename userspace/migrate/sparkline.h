// SPDX-License-Identifier: Apache-2.0
// A row of small bars.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace doppel::migrate {

// One character for each of the last `width` values, from 0 to 1 (what is beyond counts as that);
// one that is not known is a blank. Bars of Unicode (U+2581 to U+2588), or ASCII.
std::string sparkline(const std::vector<std::optional<double>> &values, size_t width, bool unicode);

} // namespace doppel::migrate
