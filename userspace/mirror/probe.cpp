// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/probe.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <thread>

#include "doppel/names.h"
#include "userspace/kernel/clock.h"
#include "userspace/kernel/clsact.h"
#include "userspace/kernel/host_net.h"
#include "userspace/kernel/host_view.h"
#include "userspace/kernel/ipsec.h"
#include "userspace/kernel/libbpf_log.h"
#include "userspace/kernel/link.h"
#include "userspace/kernel/netfilter.h"
#include "userspace/kernel/pins.h"
#include "userspace/kernel/privileges.h"
#include "userspace/kernel/tcx.h"
#include "userspace/mirror/object.h"
#include "userspace/mirror/reach.h"
#include "userspace/plan/plan_checks.h"
#include "userspace/plan/topology.h"

namespace doppel {
namespace {
constexpr char kOldKernel[] = "; Linux 6.1 or newer is needed";

ProbeRow row(std::string feature, bool ok, bool needed, std::string detail) {
  return {std::move(feature), ok, needed, std::move(detail)};
}

// Nobody knows, and nothing is wrong.
ProbeRow untried(const char *feature, bool needed, const std::string &why) {
  ProbeRow r = row(feature, false, needed, "not tried: " + why);
  r.tried = false;
  return r;
}

std::string problem(const Errors &errors) {
  const Error &e = errors.front();
  return e.where + ": " + e.what + (e.hint.empty() ? "" : "; " + e.hint);
}

ProbeRow probe_kernel() {
  utsname u{};
  ::uname(&u);
  unsigned major = 0, minor = 0;
  std::sscanf(u.release, "%u.%u", &major, &minor);
  bool ok = major > 6 || (major == 6 && minor >= 1);
  return row("kernel", ok, true, std::string("Linux ") + u.release + (ok ? "" : kOldKernel));
}

ProbeRow probe_privileges() {
  auto s = require_privileges("attach", true);
  return row("privileges", static_cast<bool>(s), true,
             s ? "CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON" : problem(s.errors()));
}

ProbeRow probe_bpffs() {
  auto path = find_bpffs();
  if (!path)
    return row("bpffs", false, true, problem(path.errors()));
  const std::string top = *path + "/" DP_PIN_DIR;
  const std::string &dir = ::access(top.c_str(), F_OK) == 0 ? top : *path;
  if (::faccessat(AT_FDCWD, dir.c_str(), W_OK | X_OK, AT_EACCESS))
    return row("bpffs", false, true,
               dir + ": this user may not write there; another, which it may, is named by "
                     "DOPPEL_BPFFS");
  return row("bpffs", true, true, *path);
}

ProbeRow probe_map(const char *feature, bpf_map_type type, uint32_t key, uint32_t value,
                   uint32_t entries, const char *what) {
  Fd fd(bpf_map_create(type, "doppel_probe", key, value, entries, nullptr));
  return row(feature, static_cast<bool>(fd), true,
             fd ? what : std::string(what) + ": " + std::strerror(errno) + kOldKernel);
}

ProbeRow probe_helper(const char *feature, bpf_func_id id, const char *what) {
  int r = libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, id, nullptr);
  std::string detail = what;
  if (r <= 0)
    detail += r < 0 ? std::string(": cannot be tried: ") + std::strerror(-r) : kOldKernel;
  return row(feature, r > 0, true, detail);
}

ProbeRow probe_tcx() {
  bool ok = tcx_supported();
  return row("tcx", ok, false,
             ok ? "attach mode tcx: links, ahead of all filters"
                : "absent (Linux 6.6 has it): attach mode clsact is used instead");
}

ProbeRow probe_conntrack() {
  bool ok = conntrack_can_be_asked();
  bool loaded = ::access("/proc/sys/net/netfilter/nf_conntrack_max", F_OK) == 0;
  return row("conntrack", ok, false,
             ok       ? "services behind DNAT (published container ports, REDIRECT) are mirrored"
             : loaded ? "cannot be asked: where nf_conntrack is a module, attaching takes "
                        "CAP_SYS_ADMIN to mirror services behind DNAT"
                      : "load nf_conntrack before attaching to mirror services behind DNAT");
}

ProbeRow probe_ports() {
  HostView host;
  const Limits limits;
  if (!view_local_ports(host))
    return row("shadow_ports", false, true, "net.ipv4.ip_local_port_range cannot be read");
  const PortRange shadow{limits.port_first, limits.port_last};
  const auto taken = ports_of_the_host(shadow, host);
  return row("shadow_ports", !taken, false,
             "default " + ports_text(shadow) + ", this host's own connections use " +
                 ports_text({host.local_port_first, host.local_port_last}) +
                 (taken ? ": they overlap; " + taken->hint : ""));
}

ProbeRow probe_name() {
  auto nl = Rtnl::open();
  if (!nl)
    return row("names", false, true, problem(nl.errors()));
  for (const char *name : {DP_LINK, DP_LINK_PEER}) {
    auto d = find_device(*nl, name);
    if (!d)
      return row("names", false, true, problem(d.errors()));
    if (!*d)
      continue;
    const auto found = is_our_link(*nl, **d);
    if (!found)
      return row("names", false, true, problem(found.errors()));
    const bool ours = *found;
    return row("names", ours, true,
               std::string("device ") + name +
                   (ours ? " exists: a mirror is attached, see doppel status"
                         : " exists and is not ours: rename it"));
  }
  return row("names", true, true, "no device " DP_LINK " or " DP_LINK_PEER " is in the way");
}

// In a fresh network namespace: a veth pair, clsact on it, and the clock.
std::vector<ProbeRow> probe_devices() {
  auto failed = [](const char *feature, const std::string &why) {
    return row(feature, false, true, why);
  };
  if (::unshare(CLONE_NEWNET)) {
    // That takes CAP_SYS_ADMIN, and mirroring does not: nothing is known, and nothing wrong.
    std::string why = std::string("no network namespace for it: ") + std::strerror(errno);
    return {untried("veth", false, why), untried("clsact", false, why),
            untried("clock", false, why)};
  }
  auto nl = Rtnl::open();
  if (!nl)
    return {failed("veth", problem(nl.errors())), failed("clsact", problem(nl.errors())),
            failed("clock", problem(nl.errors()))};
  auto link = create_link_pair(*nl);
  if (!link)
    return {failed("veth", problem(link.errors())), failed("clsact", "cannot be tried: no veth"),
            failed("clock", "cannot be tried: no veth")};
  std::vector<ProbeRow> rows{row("veth", true, true, "a pair of 65535 bytes MTU can be made")};
  auto clsact = ensure_clsact(*nl, *link, DP_LINK, DP_DIR_INGRESS);
  rows.push_back(row("clsact", static_cast<bool>(clsact), !tcx_supported(),
                     clsact ? "attach mode clsact: filters" : problem(clsact.errors())));
  auto clock = ensure_clock(*nl, ::if_nametoindex(DP_LINK_PEER));
  rows.push_back(row("clock", static_cast<bool>(clock), false,
                     clock ? "qdisc htb: what is lost last is sent again without doppel run"
                           : no_clock(clock.errors().front())));
  return rows;
}

// What netfilter and IPsec do with what this host sends, and with copies they do not.
std::vector<ProbeRow> probe_rules() {
  std::vector<ProbeRow> rows;
  const auto policies = list_ipsec_policies();
  const size_t n = policies ? policies->out.size() : 0;
  if (!policies)
    rows.push_back(untried("ipsec", false, problem(policies.errors())));
  else if (n == 0 && !policies->blocks)
    rows.push_back(row("ipsec", true, false, "no policy for what this host sends"));
  else
    rows.push_back(row("ipsec", false, false,
                       std::to_string(n) + (n == 1 ? " policy" : " policies") +
                           " for what this host sends: a target that one covers is refused"));
  const OutputRules rules = output_rules({Family::v4, Family::v6});
  rows.push_back(row("output_rules", rules.filters.empty(), false,
                     rules.filters.empty() ? "netfilter has no rules for what this host sends"
                                           : "copies are not subject to " + joined(rules.filters)));
  return rows;
}

// Devices on which less is seen than one would think.
std::vector<ProbeRow> probe_traps() {
  std::vector<ProbeRow> rows;
  auto nl = Rtnl::open();
  HostView host;
  if (nl)
    if (auto devices = view_devices(*nl))
      host.devices = std::move(*devices);
  for (const DeviceView &d : host.devices)
    if (const std::string why = trap(host, d); !why.empty())
      rows.push_back(row("device " + d.name, false, false, why));
  return rows;
}

ProbeRow probe_object(const char *feature, bool needed) {
  using Probe = std::function<ProbeRow()>;
  static const std::map<std::string, Probe> all = {
      {"tcx", probe_tcx},
      {"queue",
       [] { return probe_map("queue", BPF_MAP_TYPE_QUEUE, 0, 4, 16, "map of free shadow ports"); }},
      {"ringbuf",
       [] {
         return probe_map("ringbuf", BPF_MAP_TYPE_RINGBUF, 0, 0, 1 << 16, "events to the keeper");
       }},
      {"lru_hash",
       [] {
         return probe_map("lru_hash", BPF_MAP_TYPE_LRU_HASH, 4, 4, 4096, "half-open handshakes");
       }},
      {"clone_redirect",
       [] { return probe_helper("clone_redirect", BPF_FUNC_clone_redirect, "makes copies"); }},
      {"redirect_neigh",
       [] { return probe_helper("redirect_neigh", BPF_FUNC_redirect_neigh, "sends copies"); }},
      {"bpf_timer",
       [] { return probe_helper("bpf_timer", BPF_FUNC_timer_init, "retransmission timeouts"); }},
      {"bpf_loop", [] { return probe_helper("bpf_loop", BPF_FUNC_loop, "bounded loops"); }},
      {"conntrack", probe_conntrack},
  };
  // The kernel says the same to who may not ask as where there is nothing.
  if (!require_privileges("probe", true))
    return untried(feature, needed, "it takes root, or CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON");
  return all.at(feature)();
}

} // namespace

std::vector<ProbeRow> probe_host() {
  quiet_libbpf();
  std::vector<ProbeRow> rows{probe_kernel(), probe_privileges(), probe_bpffs(),
                             probe_object("tcx", false)};
  const auto add = [&](std::vector<ProbeRow> more) {
    rows.insert(rows.end(), more.begin(), more.end());
  };
  std::vector<ProbeRow> devices;
  std::thread([&] { devices = probe_devices(); }).join();
  add(devices);
  for (const char *feature : {"queue", "ringbuf", "lru_hash", "clone_redirect", "redirect_neigh",
                              "bpf_timer", "bpf_loop"})
    rows.push_back(probe_object(feature, true));
  rows.push_back(probe_object("conntrack", false));
  rows.push_back(probe_ports());
  rows.push_back(probe_name());
  add(probe_rules());
  add(probe_traps());
  return rows;
}

std::vector<ProbeRow> probe_config(const Config &config) {
  std::vector<ProbeRow> rows;
  const auto host = view_host(config);
  const auto plan = host ? make_plan(config, *host) : Result<Plan>(host.errors());
  if (!plan) {
    for (const Error &e : plan.errors())
      rows.push_back(row("plan", false, true, problem({e})));
  } else {
    for (const auto *list : {&plan->warnings, &plan->notes})
      for (const std::string &sentence : *list)
        rows.push_back(row("plan", false, false, sentence));
    if (rows.empty())
      rows.push_back(row("plan", true, true, "the devices carry what is to be mirrored"));
  }
  for (const Reached &r : connect_to_targets(config))
    rows.push_back(
        row("target", r.answer == Reached::Answer::accepts && !r.other.is_set(), false, r.text()));
  return rows;
}

} // namespace doppel
