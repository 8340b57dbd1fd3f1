# SPDX-License-Identifier: Apache-2.0
"""More hosts on the lab's switch, and a container behind the source."""

from .host import Host
from .network import NET4


def guest(lab, name, number):
    """A host of that name at the switch, with the number'th address of the lab's network."""
    host = lab.hosts[name] = Host(name)
    host.address = str(NET4[number])
    lab.switch.run(["ip", "-batch", "-"], stdin="\n".join([
        f"link add {name} type veth peer name eth0 netns {host.pid}",
        f"link set {name} master br0 up", ""]))
    host.run(["ip", "-batch", "-"], stdin="\n".join([
        f"addr add {host.address}/{NET4.prefixlen} dev eth0", "link set eth0 up", ""]))
    return host


def published(lab, port, name="container"):
    """A host behind the source, whose port the source publishes as container engines do: by DNAT."""
    host = lab.hosts[name] = Host(name)
    host.address = "172.17.0.2"
    lab.source.run(["ip", "-batch", "-"], stdin="\n".join([
        f"link add {name} type veth peer name eth0 netns {host.pid}",
        f"addr add 172.17.0.1/16 dev {name}", f"link set {name} up", ""]))
    host.run(["ip", "-batch", "-"], stdin="\n".join([
        f"addr add {host.address}/16 dev eth0", "link set eth0 up", "route add default via 172.17.0.1", ""]))
    lab.source.sysctl("net/ipv4/ip_forward", 1)
    lab.source.run(["nft", "-f", "-"], stdin=f"""
table ip {name} {{
  chain publish {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr {lab.source.address} tcp dport {port} dnat to {host.address}:{port}
  }}
}}
""")
    return host
