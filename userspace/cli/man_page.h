// SPDX-License-Identifier: Apache-2.0
// The manual page.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace doppel {

// roff, from the table of commands, their options in `app`, and the list of reasons.
std::string man_page(const CLI::App &app);

} // namespace doppel
