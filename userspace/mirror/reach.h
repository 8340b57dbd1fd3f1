// SPDX-License-Identifier: Apache-2.0
// Whether this host's own connections reach a target, and whether they get there as copies do.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "userspace/config/config.h"

namespace doppel {

struct Reached {
  enum class Answer { accepts, refuses, silent, failed };
  std::string endpoint; // "10.0.0.2:11211"
  Answer answer = Answer::silent;
  // Set: the kernel gives the connection another destination behind our back (DNAT at netfilter's
  // OUTPUT, IPVS, a BPF program), which copies are not given.
  Address other;
  std::string text() const; // a sentence
};

// Connects to the first port of every target, all at once, as any program of this host would, waits
// at most timeout_ms for the answers, and closes again. Changes nothing here; the target sees a
// connection without a byte.
std::vector<Reached> connect_to_targets(const Config &config, unsigned timeout_ms);

// Of the targets that only the kernel's own translation leads to, a sentence each. Connects only
// where something on this host may translate.
std::vector<std::string> translated_targets(const Config &config);

} // namespace doppel
