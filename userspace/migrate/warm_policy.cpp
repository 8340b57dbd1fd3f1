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

bool is_same_value(const Look &a, const Look &b) {
  Look rest = b;
  rest.ends = a.ends;
  return a.there && is_same(a, rest);
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

// A touch is no new value: the mirror has touched our copy as well, most likely.
void KeyCopy::confirmed(const Look &look, IfChanged how) {
  if (is_same(seen_, look))
    return end(Outcome::added);
  if (how == IfChanged::compare && is_same_value(seen_, look))
    return end(Outcome::contested);
  step_ = Step::undo;
}

void KeyCopy::undone(Deleted answer, IfChanged how) {
  if (answer != Deleted::changed)
    again(how == IfChanged::leave ? kTriesConverging : kTries);
  else if (how == IfChanged::leave)
    end(Outcome::present);
  else if (how == IfChanged::compare)
    end(Outcome::contested);
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

void KeyRepair::look_again() {
  contested_ = true;
  second_ = stored_ = equal_ = false;
  stored_cas_ = 0;
  tries_++;
  step_ = Step::read;
}

void KeyRepair::read(const Look &look) {
  if (!look.there && !contested_)
    return end(Outcome::gone);
  if (second_ && !is_same(seen_, look)) {
    if (!contested_)
      return end(Outcome::moving);
    look_again();
  }
  seen_ = look;
  step_ = Step::drain;
}

void KeyRepair::compared(const Compared &target) {
  if (!target.there)
    return end(seen_.there ? Outcome::absent : Outcome::gone);
  if (!target.equal || !seen_.there)
    return differs(target.cas);
  if (!contested_ || tries_ >= kLooks)
    return end(Outcome::present);
  equal_ = true;
  step_ = Step::settle;
}

void KeyRepair::differs(uint64_t cas) {
  const bool moved = second_ && cas != target_cas_;
  if (moved && !contested_)
    return end(Outcome::moving);
  target_cas_ = cas;
  if (second_ && !moved) {
    step_ = seen_.there ? Step::replace : Step::undo;
  } else if (contested_ && tries_ >= kLooks) {
    given_up_ = true;
    step_ = Step::undo;
  } else {
    tries_ += moved;
    step_ = Step::settle;
  }
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
    return contested_ ? look_again() : end(Outcome::moving);
  case Stored::absent:
    return end(Outcome::absent);
  }
}

// What is equal behind a drain gets each touch that comes later.
void KeyRepair::confirmed(const Look &look, IfChanged how) {
  if (is_same(seen_, look) || (equal_ && is_same_value(seen_, look)))
    return end(equal_ ? Outcome::present : Outcome::repaired);
  if (equal_ || (how == IfChanged::compare && is_same_value(seen_, look)))
    return look_again();
  step_ = Step::undo;
}

// Behind a delete the key is copied anew: it may be at the source by now.
void KeyRepair::undone(Deleted answer, IfChanged how) {
  if (given_up_)
    end(Outcome::undone);
  else if (answer != Deleted::changed)
    end(Outcome::absent);
  else if (how == IfChanged::leave)
    end(Outcome::moving);
  else
    look_again();
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
