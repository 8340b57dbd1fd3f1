# SPDX-License-Identifier: Apache-2.0
"""Error counters of a host's network stack, from /proc/net."""

# What must not move on any host while a mirror works: a copy with a wrong checksum or header.
CORRUPTION = ("Ip.InHdrErrors", "Ip.InUnknownProtos", "Tcp.InErrs", "Tcp.InCsumErrors",
              "Udp.InCsumErrors", "IpExt.InCsumErrors", "Icmp.InCsumErrors",
              "Ip6InHdrErrors", "Ip6InTruncatedPkts", "Ip6InUnknownProtos", "Icmp6InCsumErrors")
# What shows that a host was disturbed.
DISTURBANCE = ("Tcp.AttemptFails", "Tcp.EstabResets", "Tcp.OutRsts", "TcpExt.TCPAbortOnTimeout")
# What tells a failed test's reader why.
CLUES = ("Tcp.RetransSegs", "TcpExt.TCPSynRetrans", "TcpExt.TCPTimeouts", "TcpExt.TCPSYNChallenge",
         "TcpExt.TCPChallengeACK", "TcpExt.ListenOverflows", "TcpExt.ListenDrops", "TcpExt.TCPReqQFullDoCookies",
         "TcpExt.TCPBacklogDrop")


def counters(host):
    """{"Tcp.InSegs": n, "Ip6InReceives": n, ...}"""
    found = {name: int(n) for name, n in map(str.split, host.proc_net("snmp6").splitlines())}
    for name in ("snmp", "netstat"):
        lines = host.proc_net(name).splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            group = names.split(":")[0]
            found.update((f"{group}.{n}", int(v))
                         for n, v in zip(names.split()[1:], values.split()[1:]))
    return found


class Baseline:
    """The counters of all hosts of a lab at one moment, to compare with later."""

    def __init__(self, lab):
        self.lab = lab
        self.then = {name: counters(host) for name, host in lab.hosts.items() if name != "switch"}

    def moved(self, names=CORRUPTION, hosts=("client", "source", "target")):
        """Sentences about the counters that moved."""
        said = []
        for name in hosts:
            now = counters(self.lab[name])
            for counter in names:
                by = now.get(counter, 0) - self.then[name].get(counter, 0)
                if counter == "Tcp.InErrs":  # a SYN on an established connection is none (RFC 5961, 4)
                    by -= min(by, self.moved_by(name, "TcpExt.TCPSYNChallenge"))
                if by:
                    said.append(f"{name}: {counter} moved by {by}")
        return said

    def moved_by(self, host, counter):
        return counters(self.lab[host])[counter] - self.then[host][counter]
