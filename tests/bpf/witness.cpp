// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/witness.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <set>
#include <system_error>

#include "tests/bpf/world.h"

namespace doppel::bpftest {

namespace {

constexpr unsigned kPriority = 60000;

int load(unsigned tap) {
  const bpf_insn insns[] = {
      {BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, static_cast<__s32>(tap)},
      {BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, 0},
      {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_clone_redirect},
      {BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, -1}, // TC_ACT_UNSPEC
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
  };
  return bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "witness", "GPL", insns,
                       sizeof insns / sizeof *insns, nullptr);
}

} // namespace

void attach_witness(const World &world) {
  static std::set<const World *> done;
  if (!done.insert(&world).second)
    return;
  const int fd = load(world.tap_index());
  if (fd < 0)
    throw std::system_error(errno, std::generic_category(), "witness program");
  LIBBPF_OPTS(bpf_tc_hook, hook);
  hook.ifindex = static_cast<int>(world.cap_index());
  hook.attach_point = BPF_TC_INGRESS;
  if (int err = bpf_tc_hook_create(&hook); err && err != -EEXIST)
    throw std::system_error(-err, std::generic_category(), "clsact for the witness");
  LIBBPF_OPTS(bpf_tc_opts, opts);
  opts.handle = 1;
  opts.priority = kPriority;
  opts.prog_fd = fd;
  if (int err = bpf_tc_attach(&hook, &opts))
    throw std::system_error(-err, std::generic_category(), "witness filter");
}

} // namespace doppel::bpftest
