// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/run.h"

#include <bpf/bpf.h>
#include <linux/pkt_cls.h>

#include <cerrno>
#include <cstring>
#include <sstream>

#include "tests/packet/explain.h"

namespace doppel::bpftest {

RunResult ProgRun::go() const {
  RunResult r;
  r.data.resize(frame.size() + 4096);
  r.before.mark = 0xfeed0001;
  r.before.priority = 0x00010005;
  r.before.ifindex = ifindex;
  r.before.ingress_ifindex = ifindex;
  r.before.tstamp = 1700000000123456789ull;
  r.before.gso_segs = gso_segs;
  r.before.gso_size = gso_size;
  for (unsigned i = 0; i < 5; i++)
    r.before.cb[i] = cb[i].value_or(0xcb000000u + i);
  LIBBPF_OPTS(bpf_test_run_opts, o);
  o.data_in = frame.data();
  o.data_size_in = static_cast<__u32>(frame.size());
  o.data_out = r.data.data();
  o.data_size_out = static_cast<__u32>(r.data.size());
  o.ctx_in = &r.before;
  o.ctx_size_in = sizeof r.before;
  o.ctx_out = &r.after;
  o.ctx_size_out = sizeof r.after;
  if (bpf_prog_test_run_opts(fd, &o))
    r.error = errno;
  r.verdict = static_cast<int>(o.retval);
  r.data.resize(r.error ? 0 : o.data_size_out);
  return r;
}

std::string harm_done(const ProgRun &run, const RunResult &r) {
  std::ostringstream out;
  if (r.error) {
    out << "BPF_PROG_RUN failed: " << std::strerror(r.error) << "\n";
    return out.str();
  }
  if (r.verdict != TC_ACT_UNSPEC)
    out << "verdict " << r.verdict << ", should be TC_ACT_UNSPEC (-1)\n";
  if (r.data != run.frame)
    out << "the original was changed:\n"
        << packet::diff(packet::parse(run.frame), packet::parse(r.data))
        << packet::hex_dump(r.data, &run.frame);
  const auto same = [&out](const char *name, unsigned long long before, unsigned long long after) {
    if (before != after)
      out << "metadata " << name << " was 0x" << std::hex << before << ", is 0x" << after
          << std::dec << "\n";
  };
  same("mark", r.before.mark, r.after.mark);
  same("priority", r.before.priority, r.after.priority);
  same("tstamp", r.before.tstamp, r.after.tstamp);
  same("ifindex", r.before.ifindex, r.after.ifindex);
  same("ingress_ifindex", r.before.ingress_ifindex, r.after.ingress_ifindex);
  same("vlan_present", r.before.vlan_present, r.after.vlan_present);
  same("vlan_tci", r.before.vlan_tci, r.after.vlan_tci);
  same("gso_segs", r.before.gso_segs, r.after.gso_segs);
  for (unsigned i = 0; i < 5; i++)
    same("cb", r.before.cb[i], r.after.cb[i]);
  return out.str();
}

} // namespace doppel::bpftest
