// SPDX-License-Identifier: Apache-2.0
// One keeper per data plane. The lock is a flock on a directory beside the pins: it ends with the
// process, however that ends, and nobody but root can take it.
#pragma once

#include <sys/types.h>

#include "userspace/kernel/pins.h"

namespace doppel {

class KeeperLock {
public:
  // Fails if there is a keeper already, and names it.
  static Result<KeeperLock> take(const Pins &pins);

  KeeperLock(KeeperLock &&o) noexcept = default;
  KeeperLock &operator=(KeeperLock &&) = delete;
  // Removes the directory, and the one above if it is empty.
  ~KeeperLock();

private:
  KeeperLock(const Pins &pins, Fd dir) : pins_(pins), dir_(std::move(dir)) {}
  Pins pins_;
  Fd dir_;
};

// Process id of the keeper; 0: there is none; -1: there is one, but not to be seen from here
// (another pid namespace).
pid_t find_keeper(const Pins &pins);

} // namespace doppel
