// SPDX-License-Identifier: Apache-2.0
// The binary protocol, as far as to tell why a server does not answer in text.
#pragma once

#include "userspace/memcached/access.h"
#include "userspace/memcached/server.h"
#include "userspace/util/error.h"

namespace doppel::memcached {

// On a connection of its own, after a server closed the one that spoke text. An error: it speaks
// only the binary protocol (memcached -S or -B binary), and whether SASL PLAIN lets us in. Keys
// cannot be listed in that protocol, so nothing is to be had from such a server. Done: it does not
// speak binary either.
Status ask_in_binary(const Server &server, const Access &access);

} // namespace doppel::memcached
