// SPDX-License-Identifier: Apache-2.0
// A mirror of which there is a part: somebody is about to make or end it, or was interrupted.
#pragma once

#include "userspace/kernel/host.h"
#include "userspace/mirror/meta.h"
#include "userspace/util/error.h"
#include "userspace/view/snapshot.h"

namespace doppel {

// That of the mirror. What is not `complete` is waited for, up to five seconds, as long as somebody
// holds the lock on the pins; what there is then is told as a problem of `view`. Takes no lock for
// longer than it takes to ask.
Result<Meta> settled_meta(Host &host, StatusView &view);

// A mirror that is being drained: that its capture is gone is in order then. `locked`: somebody
// held the lock on the pins when the looking began.
void tell_detach_under_way(const Pins &pins, bool locked, StatusView &view);

} // namespace doppel
