// SPDX-License-Identifier: Apache-2.0
// One run of a TC program on one packet (BPF_PROG_RUN), and what came of it.
#pragma once

#include <linux/bpf.h>

#include <optional>
#include <string>

#include "tests/packet/bytes.h"

namespace doppel::bpftest {

struct RunResult {
  int error = 0;      // errno of bpf(2)
  int verdict = 0;    // TC_ACT_*
  packet::Bytes data; // the packet afterwards
  __sk_buff before{}, after{};
};

// `fd` on `frame` as it would arrive at `ifindex`, with recognisable values in every field of the
// context that a neighbour's program or qdisc may use.
struct ProgRun {
  int fd = -1;
  packet::Bytes frame;
  unsigned ifindex = 0;
  unsigned gso_segs = 0, gso_size = 0;
  std::optional<unsigned> cb[5];

  RunResult go() const;
};

// Empty if the run left the packet and its metadata as they were and said TC_ACT_UNSPEC.
std::string harm_done(const ProgRun &run, const RunResult &result);

} // namespace doppel::bpftest
