// SPDX-License-Identifier: Apache-2.0
// Collects what libbpf would print, so that it ends in an Error instead of on the terminal.
#pragma once

#include <string>

#include "userspace/util/error.h"

namespace doppel {

// While one exists, libbpf's warnings go to it; they are printed too if
// show_libbpf() says so. One at a time per process.
class LibbpfLog {
public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog &) = delete;
  LibbpfLog &operator=(const LibbpfLog &) = delete;

  // Says which map or program it was, and why, after loading failed with `err` (positive errno).
  Error load_error(int err) const;

private:
  Error verifier_error(const std::string &program, int err) const;
};

// How much of libbpf's output goes to standard error from now on. 0: nothing, 1: its warnings, 2:
// its debugging output too.
void show_libbpf(int verbosity);

// No output of libbpf but what show_libbpf() asks for, for the rest of the process.
void quiet_libbpf();

} // namespace doppel
