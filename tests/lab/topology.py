# SPDX-License-Identifier: Apache-2.0
"""Other ways in which a host of the lab may be joined to the network than by eth0 alone."""

import ipaddress

from .host import Host
from .network import NET4


def batch(host, *lines):
    host.run(["ip", "-batch", "-"], stdin="\n".join([*lines, ""]))


def bridged(lab, same_mac):
    """The source's eth0 becomes a port of br0, which has its address and, or not, its MAC."""
    host = lab.source
    mac = host.mac() if same_mac else "02:00:00:00:77:99"
    batch(host, "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
          f"link set br0 address {mac}", f"addr del {host.address}/24 dev eth0", "link set eth0 master br0",
          "link set br0 up", f"addr add {host.address}/24 dev br0")


def upper(lab, name, kind, number=78, hosts=None):
    """A device of that kind upon eth0 of client and source, with addresses of 10.NUMBER.0.0/24; the source's."""
    for n, host in enumerate(hosts or (lab.client, lab.source), 1):
        done = host.run(["ip", "link", "add", "link", "eth0", "name", name, "type", *kind.split()], check=False)
        if done.returncode:
            return None, done
        # Else eth0 answers for the address as well, with its own MAC, and the first answer wins.
        host.sysctl("net/ipv4/conf/all/arp_ignore", 1)
        batch(host, f"addr add 10.{number}.0.{n}/24 dev {name}", f"link set {name} up")
    return f"10.{number}.0.2", None


def vxlan(lab, number=79):
    """A VXLAN between client and source, over eth0; the source's address in it."""
    for n, (host, other) in enumerate(((lab.client, lab.source), (lab.source, lab.client)), 1):
        batch(host, f"link add vxlan0 type vxlan id 7 dev eth0 remote {other.address} dstport 4789",
              f"addr add 10.{number}.0.{n}/24 dev vxlan0", "link set vxlan0 up")
    return f"10.{number}.0.2"


def mirror_tunnel(lab, kind):
    """tunnel0 of that kind between client and source, without an address, as a mirror's has none. Nothing, or
    what `ip` answers where the kernel has no such device."""
    how = {"vxlan": "vxlan id 7 dev eth0 remote {other} dstport 4789", "gretap": "gretap local {own} remote {other}",
           "erspan": "erspan local {own} remote {other} seq key 7 erspan_ver 1 erspan 7"}[kind]
    for host, other in ((lab.client, lab.source), (lab.source, lab.client)):
        made = host.run(["ip", "link", "add", "tunnel0", "type",
                         *how.format(own=host.address, other=other.address).split()], check=False)
        if made.returncode:
            return made
        host.run(["ip", "link", "set", "tunnel0", "up"])
    return None


def second_nic(lab, address=None):
    """The source's e1 at the same switch, in the same network or in another; its address."""
    size = 64 if address and ":" in address else 24
    if address:
        batch(lab.client, f"addr add {ipaddress.ip_interface(f'{address}/{size}').network[1]}/{size} dev eth0 nodad")
    address = address or str(NET4[12])
    batch(lab.switch, f"link add e1 type veth peer name e1 netns {lab.source.pid}", "link set e1 master br0 up")
    for name in ("all", "e1", "eth0"):
        lab.source.sysctl(f"net/ipv4/conf/{name}/rp_filter", 0)
        # Each device speaks for its own address alone.
        lab.source.sysctl(f"net/ipv4/conf/{name}/arp_ignore", 1)
        lab.source.sysctl(f"net/ipv4/conf/{name}/arp_announce", 2)
    batch(lab.source, f"addr add {address}/{size} dev e1 nodad", "link set e1 up")
    lab.forwards("e1")
    return address


def container(lab, name="container", bridge=None):
    """A host behind the source with the address 172.17.0.2, by a veth, or by a veth on a bridge as Docker has
    it. The source forwards to it."""
    host = lab.hosts[name] = Host(name)
    host.address = "172.17.0.2"
    gateway = bridge or name
    lines = [f"link add {name} type veth peer name eth0 netns {host.pid}"]
    if bridge:
        lines += [f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                  f"link set {name} master {bridge}", f"link set {bridge} up"]
    batch(lab.source, *lines, f"addr add 172.17.0.1/16 dev {gateway}", f"link set {name} up")
    batch(host, f"addr add {host.address}/16 dev eth0", "link set eth0 up", "route add default via 172.17.0.1")
    lab.source.sysctl("net/ipv4/ip_forward", 1)
    return host


def publish(lab, port, address="172.17.0.2", more=""):
    """The source gives what comes for the port to that address, by DNAT."""
    lab.source.run(["nft", "-f", "-"], stdin=f"""
table ip publish {{
  {more}
  chain publish {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr {lab.source.address} tcp dport {port} dnat to {address}:{port}
  }}
}}
""")
