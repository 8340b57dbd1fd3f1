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

// How long answers are waited for where somebody waits for them, ms. What answers later than its
// connection is closed gets a RST of this host's kernel.
inline constexpr unsigned kReachMs = 2000;

// Connections to one port of each target, all at once, as any program of this host would make them.
// Changes nothing here; the target sees a connection without a byte.
class Connects {
public:
  explicit Connects(const std::vector<TargetConfig> &targets); // begins them
  Connects(Connects &&) noexcept;
  Connects &operator=(Connects &&) noexcept;
  ~Connects(); // closes them

  // Up to so long, for answers. True: each of them has one.
  bool wait(unsigned ms);
  std::vector<Reached> answers(); // as far as they are there: the others are silent

private:
  struct Attempt;
  std::vector<Attempt> attempts_;
};

// To the first port of every target, for kReachMs at most.
std::vector<Reached> connect_to_targets(const Config &config);

// Of the targets that only the kernel's own translation leads to, a sentence each. Connects only
// where something on this host may translate.
std::vector<std::string> translated_targets(const Config &config);

} // namespace doppel
