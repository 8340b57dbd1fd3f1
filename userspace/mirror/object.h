// SPDX-License-Identifier: Apache-2.0
// The loaded BPF object: sized and configured by a plan, filled, and pinned.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "userspace/kernel/pins.h"
#include "userspace/mirror/meta.h"
#include "userspace/plan/plan.h"

struct doppel_bpf;

namespace doppel {

// Whether programs can ask conntrack, found by loading one. They cannot while nf_conntrack is not
// loaded, nor, where it is a module, without CAP_SYS_ADMIN.
bool conntrack_can_be_asked();

// The programs that mappings of these rows need, of DP_PROGS. The kernel's verifier takes most of
// the time of an attach, so the others are loaded by the reload that needs them.
std::set<std::string> needed_programs(const std::vector<dp_mapping> &rows);

class Object {
public:
  // Creates the maps and verifies the programs that the plan needs: those that ask conntrack, or,
  // where they cannot be had, those that do not. `link`: ifindex of DP_LINK; `clock`: of
  // DP_LINK_PEER, or 0 where it is none. A rejected program gives the end of the verifier's log in
  // the error and the whole of it in a file named there.
  static Result<Object> load(const Plan &plan, uint32_t link, uint32_t clock);

  // The rows that the plan wants, and all free slots. Before anything is attached.
  Status fill(const Plan &plan) const;
  // All maps but those of libbpf's own (.rodata), and all programs.
  Status pin(const Pins &pins) const;

  // Loads those of these programs that are not there yet, for the maps and with the configuration
  // of the mirror that is attached, and pins them.
  static Status load_further(const std::set<std::string> &programs, const Pins &pins,
                             const dp_config &config);

  int prog_fd(const std::string &name) const; // DP_PROG_*; negative: none of that name
  int meta_fd() const;
  const dp_config &config() const; // of the programs

private:
  static Result<Object> load_image(const Plan &plan, uint32_t link, uint32_t clock, bool conntrack);
  static Result<Object> load_image(const std::set<std::string> &programs, const Pins &pins,
                                   const dp_config &config, bool conntrack);
  Status fill_calls() const; // the maps by which programs call others: with those that are loaded

  struct Destroyer {
    void operator()(doppel_bpf *skel) const;
  };
  std::unique_ptr<doppel_bpf, Destroyer> skel_;
};

} // namespace doppel
