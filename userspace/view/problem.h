// SPDX-License-Identifier: Apache-2.0
// What is wrong with a mirror. Pure.
#pragma once

#include <ctime>
#include <string>
#include <vector>

#include "userspace/util/error.h"

namespace doppel {

// The gravest first.
enum class ProblemKind {
#define DP_PROBLEM(name, exit, help, hint) name,
#include "doppel/problems.def"
};

struct ProblemHelp {
  ProblemKind kind;
  const char *name;
  Exit exit;
  const char *help; // a sentence without full stop
  const char *hint; // what to do about it, where nothing better is known; may be empty
};
const std::vector<ProblemHelp> &all_problems(); // in their order
const ProblemHelp &help_of(ProblemKind kind);
// Of a name that is none of theirs: a note.
ProblemKind problem_kind(const std::string &name);

struct Problem {
  ProblemKind kind = ProblemKind::note;
  std::string what;      // a sentence without full stop
  std::string hint;      // what to do about it; may be empty
  std::time_t since = 0; // Unix time, seconds; 0: not known
  std::string key;       // two with the same key are the same; empty: `what` is the key
  int grade = 0;         // of the same problem; where it has risen it is told once more

  const std::string &id() const { return key.empty() ? what : key; }
};

// The gravest first, each once: of two with the same id the graver one, with the earlier time.
std::vector<Problem> in_order(std::vector<Problem> problems);

// That of the gravest one; without any: ok.
Exit exit_of(const std::vector<Problem> &in_order);

} // namespace doppel
