# SPDX-License-Identifier: Apache-2.0
"""More hosts on the lab's switch, and a container behind the source."""

from .host import Host
from .network import NET4, NET6


def guest(lab, name, number):
    """A host of that name at the switch, with the number'th address of the lab's network."""
    host = lab.hosts[name] = Host(name)
    host.address4, host.address6 = str(NET4[number]), str(NET6[number])
    host.address = host.address6 if lab.six("client", "source") else host.address4
    lab.switch.run(["ip", "-batch", "-"], stdin="\n".join([
        f"link add {name} type veth peer name eth0 netns {host.pid}",
        f"link set {name} master br0 up", ""]))
    host.run(["ip", "-batch", "-"], stdin="\n".join([
        f"addr add {host.address4}/{NET4.prefixlen} dev eth0",
        f"addr add {host.address6}/{NET6.prefixlen} dev eth0 nodad", "link set eth0 up", ""]))
    lab.forwards(name)
    return host


def router(lab, number=30, mtu=1300):
    """A router between source and target, behind which the path takes packets of `mtu` bytes at most. It tells
    that by ICMP, unless mute() is called. The target answers past it."""
    host = guest(lab, "router", number)
    for name in ("all", "eth0"):
        host.sysctl(f"net/ipv4/conf/{name}/send_redirects", 0)
        host.sysctl(f"net/ipv6/conf/{name}/forwarding", 1)
    host.sysctl("net/ipv4/ip_forward", 1)
    lab.source.sysctl("net/ipv6/conf/eth0/accept_redirects", 0)
    host.run(["ip", "route", "add", lab.target.address, "dev", "eth0", "mtu", "lock", str(mtu)])
    lab.source.run(["ip", "route", "add", lab.target.address, "via",
                    host.address6 if lab.six("target") else host.address4])
    return host


def mute(host):
    """The host sends no ICMP."""
    host.run(["nft", "-f", "-"], stdin="""
table inet mute {
  chain out {
    type filter hook output priority 0; policy accept;
    meta l4proto icmp drop
    icmpv6 type { packet-too-big, nd-redirect } drop
  }
}
""")


def published(lab, port, name="container"):
    """A host behind the source, whose port the source publishes as container engines do: by DNAT."""
    host = lab.hosts[name] = Host(name)
    ip, net, bits = ("ip6", "fd99::", 64) if lab.six("client", "source") else ("ip", "172.17.0.", 16)
    host.address = f"{net}2"
    inside = f"[{host.address}]" if ip == "ip6" else host.address
    lab.source.run(["ip", "-batch", "-"], stdin="\n".join([
        f"link add {name} type veth peer name eth0 netns {host.pid}",
        f"addr add {net}1/{bits} dev {name} nodad", f"link set {name} up", ""]))
    host.run(["ip", "-batch", "-"], stdin="\n".join([
        f"addr add {host.address}/{bits} dev eth0 nodad", "link set eth0 up", f"route add default via {net}1", ""]))
    lab.source.sysctl("net/ipv4/ip_forward", 1)
    lab.source.sysctl("net/ipv6/conf/all/forwarding", 1)
    lab.source.run(["nft", "-f", "-"], stdin=f"""
table {ip} {name} {{
  chain publish {{
    type nat hook prerouting priority dstnat; policy accept;
    {ip} daddr {lab.source.address} tcp dport {port} dnat to {inside}:{port}
  }}
}}
""")
    return host
