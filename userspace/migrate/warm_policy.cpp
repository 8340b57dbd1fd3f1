// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_policy.h"

#include <cstdlib>

namespace doppel::migrate {
namespace {
bool ends_alike(int32_t a, int32_t b, int32_t slack) {
  if (a == kNever || b == kNever)
    return a == b;
  return std::abs(a - b) <= slack;
}

} // namespace

bool is_same(const Look &a, const Look &b, int32_t slack) {
  const bool sizes = a.size == b.size || a.size == kSizeUnknown || b.size == kSizeUnknown;
  return a.there == b.there && a.cas == b.cas && sizes && ends_alike(a.ends, b.ends, slack);
}

void KeyCopy::end(Outcome outcome) {
  step_ = Step::done;
  outcome_ = outcome;
}

void KeyCopy::read(const Look &look) {
  if (!look.there)
    return end(Outcome::gone);
  seen_ = look;
  step_ = Step::drain;
}

void KeyCopy::added(Stored answer, uint64_t cas) {
  switch (answer) {
  case Stored::stored:
    stored_cas_ = cas;
    stored_ = true;
    step_ = Step::settle;
    return;
  case Stored::too_large:
    return end(Outcome::too_large);
  case Stored::failed:
    return end(Outcome::failed);
  case Stored::there:
  case Stored::changed:
  case Stored::absent:
    return end(Outcome::present);
  }
}

void KeyCopy::confirmed(const Look &look) {
  if (is_same(seen_, look))
    return end(Outcome::added);
  step_ = Step::undo;
}

// Changed: by a mirrored write, which is newer, or by a mirrored incr, append or touch, which made
// something of our copy that the source may never have had. Nobody can tell which. Who converges
// was told of the latter, and may have repaired it already: a drop would undo that, and nobody
// would look at the key again.
void KeyCopy::undone(Deleted answer, bool converges) {
  if (answer != Deleted::changed)
    again(converges ? kTriesConverging : kTries);
  else if (converges)
    end(Outcome::present);
  else
    step_ = Step::drop;
}

// A key that a dead warm left costs no try.
void KeyCopy::again(uint8_t tries) {
  const bool tried = stored_;
  stored_ = false;
  stored_cas_ = 0;
  if (tried && ++tries_ >= tries)
    return end(Outcome::undone);
  step_ = Step::read;
}

void KeyRepair::end(Outcome outcome) {
  step_ = Step::done;
  outcome_ = outcome;
}

void KeyRepair::read(const Look &look) {
  if (!look.there)
    return end(Outcome::gone);
  if (second_ && !is_same(seen_, look))
    return end(Outcome::moving);
  seen_ = look;
  step_ = Step::drain;
}

void KeyRepair::compared(const Compared &target) {
  if (!target.there)
    return end(Outcome::absent);
  if (target.equal)
    return end(Outcome::present);
  if (second_ && target.cas != target_cas_)
    return end(Outcome::moving);
  target_cas_ = target.cas;
  step_ = second_ ? Step::replace : Step::settle;
  second_ = true;
}

void KeyRepair::replaced(Stored answer, uint64_t cas) {
  switch (answer) {
  case Stored::stored:
    stored_cas_ = cas;
    stored_ = true;
    step_ = Step::settle;
    return;
  case Stored::too_large:
    return end(Outcome::too_large);
  case Stored::failed:
    return end(Outcome::failed);
  case Stored::there:
  case Stored::changed:
    return end(Outcome::moving);
  case Stored::absent:
    return end(Outcome::absent);
  }
}

void KeyRepair::confirmed(const Look &look) {
  if (is_same(seen_, look))
    return end(Outcome::repaired);
  step_ = Step::undo;
}

void KeyRepair::undone(Deleted answer, bool converges) {
  if (answer != Deleted::changed)
    end(Outcome::absent);
  else if (converges)
    end(Outcome::moving);
  else
    step_ = Step::drop;
}

void KeyRemoval::read(const Look &source) {
  returned_ = source.there && removed();
  step_ = source.there ? Step::done : Step::drain;
}

void KeyRemoval::compared(const Compared &target) {
  if (!target.there || (second_ && target.cas != target_cas_)) {
    returned_ = target.there && removed();
    step_ = Step::done;
    return;
  }
  target_cas_ = target.cas;
  step_ = second_ ? Step::undo : Step::settle;
  second_ = true;
}

void KeyRemoval::undone(Deleted answer) {
  step_ = Step::done;
  if (answer == Deleted::changed)
    returned_ = removed();
  if (answer != Deleted::deleted)
    return;
  second_ = false;
  returned_ = ++removed_ == kTries;
  if (!returned_)
    step_ = Step::settle;
}

} // namespace doppel::migrate
