// SPDX-License-Identifier: Apache-2.0
// RFC 4648, 4.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace doppel {

// The bytes; nothing: this is no base64, or encodes none. No line ends are taken.
std::optional<std::string> from_base64(std::string_view text);

} // namespace doppel
