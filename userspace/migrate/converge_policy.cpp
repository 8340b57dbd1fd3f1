// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/converge_policy.h"

namespace doppel::migrate {

void KeyConvergence::end(End end) {
  act_ = Act::done;
  end_ = end;
}

void KeyConvergence::read(const Look &look) {
  seen_ = look;
  act_ = Act::drain;
}

void KeyConvergence::compared(const Compared &target) {
  target_cas_ = target.cas;
  if (target.there ? target.equal : !seen_.there) {
    found_ = End::equal;
    act_ = Act::settle;
  } else if (!seen_.there) {
    found_ = End::deleted;
    act_ = Act::remove;
  } else {
    found_ = End::repaired;
    act_ = target.there ? Act::replace : Act::add;
  }
}

// What the target has changed since it was compared: by the mirror, or by nobody that is known.
void KeyConvergence::stored(Stored answer) {
  switch (answer) {
  case Stored::stored:
    act_ = Act::settle;
    return;
  case Stored::too_large:
  case Stored::failed:
    return end(End::refused);
  case Stored::there:
  case Stored::changed:
  case Stored::absent:
    return again();
  }
}

void KeyConvergence::removed(Deleted answer) {
  if (answer == Deleted::changed)
    again();
  else
    act_ = Act::settle;
}

void KeyConvergence::confirmed(const Look &look) {
  if (is_same(seen_, look))
    end(found_);
  else
    again();
}

} // namespace doppel::migrate
