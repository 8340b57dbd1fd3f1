# SPDX-License-Identifier: Apache-2.0
"""The lab: hosts client, source and target, joined by a bridge in a fourth namespace, "switch".

    client eth0 ──┐
    source eth0 ──┼── bridge br0 (host "switch"; its ports are named after the hosts)
    target eth0 ──┘

Nothing is made in the machine's own network namespace.
"""

import ipaddress
import itertools

from . import wait
from .host import Host

NET4 = ipaddress.ip_network("10.77.0.0/24")
NET6 = ipaddress.ip_network("fd77::/64")
HOSTS = ("client", "source", "target")

# Which IP version clients speak to the source, and copies to the target; other than IPv4 for both.
FAMILIES = ("v6", "v4_to_v6", "v6_to_v4")


def endpoint(address, port):
    """As it is written, with brackets round IPv6."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

# Who computes checksums: with veth's default nobody does, so that a wrong update stays invisible.
OFFLOADS = {
    "default": (),
    "egress-off": ("source",),
    "sender-off": ("client",),
    "all-off": HOSTS,
}


class Lab:
    def __init__(self, offload="default", static_arp=False, mtu=1500, persistent=False, families="v4"):
        self._tables = itertools.count()
        self.families = families
        self.hosts = {}
        try:
            self._build(mtu, persistent)
            for name in OFFLOADS[offload]:
                self[name].run(["ethtool", "-K", "eth0", "tx", "off"])
            if static_arp:
                self._pin_neighbours()
        except BaseException:
            self.close()
            raise

    @classmethod
    def adopt(cls, pids):
        """The lab that another process made: {host name: pid of its holder}."""
        lab = cls.__new__(cls)
        lab._tables = itertools.count(1000)
        lab.families = "v4"
        lab.hosts = {name: Host(name, pid, persistent=True) for name, pid in pids.items()}
        lab._addresses()
        return lab

    def _build(self, mtu, persistent):
        for name in ("switch", *HOSTS):
            self.hosts[name] = Host(name, persistent=persistent)
        self._addresses()
        self.switch.run(["ip", "-batch", "-"], stdin="\n".join([
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set br0 mtu {mtu} up",
            *(f"link add {name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {self[name].pid}"
              for name in HOSTS),
            *(f"link set {name} master br0 up" for name in HOSTS), ""]))
        for name in HOSTS:
            host = self[name]
            host.run(["ip", "-batch", "-"], stdin="\n".join([
                f"addr add {host.address4}/{NET4.prefixlen} dev eth0",
                f"addr add {host.address6}/{NET6.prefixlen} dev eth0 nodad",
                "link set eth0 up", ""]))
        self.forwards(*HOSTS)

    def forwards(self, *ports):
        """Waits until the switch forwards by these ports of its own: the kernel tells a bridge of a carrier by a
        work queue (net/core/link_watch.c), and until then drops what comes."""
        for port in ports:
            state = f"/sys/class/net/{port}/brport/state"
            wait.until(lambda: self.switch.read(state).strip() == "3", f"port {port} to forward")

    def _addresses(self):
        for number, name in enumerate(HOSTS, 1):
            host = self[name]
            host.address4, host.address6 = str(NET4[number]), str(NET6[number])
            host.address = host.address6 if self.six(name) else host.address4

    def six(self, *names):
        """Whether what goes between these hosts is of IPv6."""
        return self.families in (("v6", "v4_to_v6") if "target" in names else ("v6", "v6_to_v4"))

    def address(self, name, other):
        """Of the first host, as the other one sees it."""
        return self[name].address6 if self.six(name, other) else self[name].address4

    def _pin_neighbours(self):
        for host, other in itertools.permutations(HOSTS, 2):
            for address in (self[other].address4, self[other].address6):
                self[host].run(["ip", "neigh", "replace", address, "lladdr", self[other].mac(),
                                "dev", "eth0", "nud", "permanent"])

    def __getitem__(self, name):
        return self.hosts[name]

    switch = property(lambda self: self["switch"])
    client = property(lambda self: self["client"])
    source = property(lambda self: self["source"])
    target = property(lambda self: self["target"])

    def unplug(self, name):
        """The host vanishes from the network, as if its cable were pulled at the switch."""
        self.switch.run(["ip", "link", "set", name, "nomaster"])

    def plug(self, name):
        self.switch.run(["ip", "link", "set", name, "master", "br0"])
        self.forwards(name)

    def lose(self, sender, receiver, per_mille, which=""):
        """Drops packets from one host to another at random, or those of them that `which` (nft's
        language) matches. Returns the table, for heal()."""
        table = f"loss{next(self._tables)}"
        ip = "ip6" if self.six(sender, receiver) else "ip"
        chance = f"numgen random mod 1000 < {per_mille}" if per_mille < 1000 else ""
        self.switch.run(["nft", "-f", "-"], stdin=f"""
table netdev {table} {{
  chain drop_some {{
    type filter hook ingress device "{sender}" priority 0; policy accept;
    {ip} saddr {self.address(sender, receiver)} {ip} daddr {self.address(receiver, sender)} {which} {chance} counter drop
  }}
}}
""")
        return table

    def heal(self, table):
        self.switch.run(["nft", "delete", "table", "netdev", table])

    def close(self):
        for host in reversed(list(self.hosts.values())):
            host.close()
        self.hosts.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
