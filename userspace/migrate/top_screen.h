// SPDX-License-Identifier: Apache-2.0
// `doppel top` on a terminal.
#pragma once

#include "userspace/migrate/top_reader.h"

namespace doppel::migrate {

// Until q is typed, or a signal ends it (SIGINT, SIGTERM, SIGHUP, SIGQUIT); the terminal is then as
// it was. Fails where the terminal is none that curses know ($TERM).
Status show_top(TopReader &reader, double interval_s);

} // namespace doppel::migrate
