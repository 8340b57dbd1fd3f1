// SPDX-License-Identifier: Apache-2.0
// What stands behind -x, in tcpcopy's syntax. Pure.
//
//     LIST   = ENTRY { "," ENTRY }
//     ENTRY  = [ LOCALIP ":" ] PORTS "-" TARGETIP ":" PORT
//     PORTS  = PORT [ "-" PORT ]
//
// An IPv6 address stands in brackets. No address has a "-", so the last one of an entry is that
// before the target. A range maps onto the target's ports from PORT upward. No blanks.
#pragma once

#include <string>
#include <vector>

#include "userspace/config/config.h"

namespace doppel {

inline constexpr char kXForm[] = "[LOCALIP:]LOCALPORT-TARGETIP:TARGETPORT";

// A mapping for each entry, captured on ingress of `devices` and named after its address and
// ports; those with an error are left out. Each error has Exit::usage, and the entry as its place,
// with the character of `text` at which it is, counted from 1.
std::vector<MappingConfig> parse_x_option(const std::vector<std::string> &devices,
                                          const std::string &text, Errors &errors);

} // namespace doppel
