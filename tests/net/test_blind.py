# SPDX-License-Identifier: Apache-2.0
"""A mirror that sees nothing says so: `attach` where devices and sockets tell, `status` and the keeper once the
service was asked for half a minute and nothing of it was seen. A mirror that is well says nothing."""

import os
import signal
import socket

from harness import case
from lab import memcached, topology, wait
from lab.keeper import Keeper, keep
from test_netem import lacks


class Clients:
    """Connections over which something is asked as often as one likes."""

    def __init__(self, scene, count=16, address=None, host=None, port=11211):
        host = host or scene.lab.client
        self.sockets = [host.connect(address or scene.lab.source.address, port) for _ in range(count)]
        self.ask()

    def ask(self):
        for s in self.sockets:
            s.sendall(b"version\r\n")
        for s in self.sockets:
            assert s.recv(100).startswith(b"VERSION")


def attach(scene, *words, device="eth0", **mapping):
    """Attaches, and checks that it says all of that. Returns what it said."""
    options = ["--device", device, "-x", f"11211-{scene.lab.target.address}:11211"]
    said = scene.doppel.attach(*options).stderr
    for word in words:
        assert word in said, f"attach does not say {word!r}: {said!r}"
    return said


def status_says(scene, *words, clients=None, timeout=40):
    """Within 40 s, while the clients go on."""
    def says():
        if clients:
            clients.ask()
        said = "\n".join(problem["what"] for problem in scene.doppel.status()["problems"])
        return all(word in said for word in words) and said
    return wait.until(says, f"status to say {words}", timeout, 1)


def status_is_silent(scene, clients=None):
    """It says nothing of requests, at 35 s and in between."""
    passed = [0]

    def old_enough():
        if clients:
            clients.ask()
        said = scene.doppel.status()
        assert said["well"] and not said["warnings"], said
        passed[0] += 1
        return passed[0] > 35
    wait.until(old_enough, "35 s to pass", 80, 1)


@case(slow=True)
def bridge_port(env):
    """Its bridge has another MAC: attach tells, then status, then the keeper; it is over on the bridge."""
    scene = env.scene()
    topology.bridged(scene.lab, same_mac=False)
    attach(scene, "eth0 is a port of bridge br0, which has another MAC", "capture on br0")
    clients = Clients(scene)
    status_says(scene, "no request seen for 30 s on eth0, but the socket of port 11211 has 16 connections, by br0",
                "eth0 is a port of bridge br0; capture on br0", clients=clients)
    scene.doppel.detach()
    attach(scene, device="br0")
    clients.ask()
    assert scene.doppel.ledger()["bytes"]["observed"]


@case()
def bridge_port_of_the_same_mac(env):
    """It works as long as nobody adds a port, and that is said."""
    scene = env.scene()
    topology.bridged(scene.lab, same_mac=True)
    attach(scene, "eth0 is a port of bridge br0", "only as long as br0 has its MAC", "capture on br0")


@case()
def parent_of_vlan(env):
    scene = env.scene()
    address, failed = topology.upper(scene.lab, "eth0.7", "vlan id 7")
    if failed:
        lacks("VLAN device", failed)
    clients = Clients(scene, address=address)
    attach(scene, "eth0.7 (10.78.0.2) is a VLAN device of eth0", "capture on eth0.7")
    clients.ask()
    assert not scene.doppel.ledger()["bytes"]["observed"]


@case(slow=True)
def parent_of_macvlan(env):
    scene = env.scene()
    address, failed = topology.upper(scene.lab, "mv0", "macvlan mode bridge")
    if failed:
        lacks("macvlan", failed)
    attach(scene, "mv0 (10.78.0.2) is a macvlan device of eth0", "capture on mv0")
    status_says(scene, "no request seen for 30 s on eth0", "has 16 connections, by mv0", "capture on mv0",
                clients=Clients(scene, address=address))


@case()
def parent_of_vxlan(env):
    scene = env.scene()
    address = topology.vxlan(scene.lab)
    clients = Clients(scene, address=address)
    attach(scene, "vxlan0 (10.79.0.2) is a VXLAN device of eth0", "capture on vxlan0")
    clients.ask()
    assert not scene.doppel.ledger()["bytes"]["observed"]


def serve_behind(scene, **how):
    scene.source[0].kill()
    scene.source = [memcached.Server(topology.container(scene.lab, **how))]


@case(slow=True)
def docker_bridge(env):
    """What containers are asked leaves by their bridge; ingress is what they ask."""
    scene = env.scene()
    serve_behind(scene, bridge="docker0")
    topology.publish(scene.lab, 11211)
    attach(scene, "bridge docker0 leads to containers", "direction egress", device="docker0")
    status_says(scene, "no request seen for 30 s on docker0",
                "16 connections to port 11211 are passed on to 172.17.0.2, and leave by docker0",
                "capture there with direction egress, or on eth0", clients=Clients(scene))


@case(slow=True)
def veth_of_a_container(env):
    scene = env.scene()
    serve_behind(scene)
    topology.publish(scene.lab, 11211)
    attach(scene, device="container")
    status_says(scene, "no request seen for 30 s on container", "capture there with direction egress",
                clients=Clients(scene))


@case()
def device_down(env):
    """attach tells, and status; and no longer when it is up."""
    scene = env.scene()
    scene.lab.source.run(["ip", "link", "add", "e9", "type", "veth", "peer", "name", "e8"])
    attach(scene, "device e9 is down", device="e9")
    status_says(scene, "device e9 is down", timeout=5)
    scene.lab.source.run(["ip", "link", "set", "e9", "up"])
    status_says(scene, "device e9 has no carrier", timeout=5)
    scene.lab.source.run(["ip", "link", "set", "e8", "up"])
    said = scene.doppel.status()
    assert said["well"] and not said["warnings"], said


@case(slow=True)
def second_nic(env):
    """Requests come by e1: all of them at first, then some. The answers leave by eth0, so that attach cannot know."""
    scene = env.scene()
    address = topology.second_nic(scene.lab)
    clients = Clients(scene, address=address)
    assert attach(scene) == ""
    status_says(scene, "no request seen for 30 s on eth0, but the socket of port 11211 has 16 connections, by e1",
                "capture on e1", clients=clients)
    more = Clients(scene, count=4)
    more.ask()
    status_says(scene, "16 of 20 connections of port 11211 are not seen on eth0: they come by e1",
                clients=clients)


@case()
@case(families=("v6_to_v4",))
def second_nic_of_another_network(env):
    scene = env.scene()
    address = "fd80::2" if scene.lab.six("client", "source") else "10.80.0.2"
    clients = Clients(scene, address=topology.second_nic(scene.lab, address))
    attach(scene, "port 11211 has 16 connections, by e1, and none by eth0; capture on e1")
    clients.ask()
    assert not scene.doppel.ledger()["bytes"]["observed"]


@case()
def service_of_another_address(env):
    """It listens on the other device's address alone."""
    scene = env.scene()
    address = topology.second_nic(scene.lab, "10.80.0.2")
    scene.source[0].kill()
    scene.source.clear()
    with scene.lab.source.in_netns(socket.create_server, (address, 11211)):
        attach(scene,
               f"port 11211 listens on {address} alone, which is reached by e1, not by eth0; capture on e1")


@case(slow=True)
def synproxy(env):
    """The handshake that the client sees is not the service's."""
    scene = env.scene()
    scene.lab.source.sysctl("net/netfilter/nf_conntrack_tcp_loose", 0)
    made = scene.lab.source.run(["nft", "-f", "-"], check=False, stdin="""
table ip shield {
  chain first { type filter hook prerouting priority raw; policy accept;
    tcp dport 11211 tcp flags syn notrack
  }
  chain in { type filter hook input priority filter; policy accept;
    tcp dport 11211 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
    tcp dport 11211 ct state invalid drop
  }
}
""")
    if made.returncode:
        lacks("SYNPROXY", made)
    attach(scene)
    clients = Clients(scene)
    status_says(scene, "11211", "SYNPROXY", clients=clients)


@case(slow=True)
def dnat_without_proof(env):
    """A zone of its own, of which a program cannot ask, is as good as no conntrack at all."""
    scene = env.scene()
    serve_behind(scene)
    topology.publish(scene.lab, 11211, more="""
  chain zone {
    type filter hook prerouting priority raw; policy accept;
    ct zone set 5
  }
  chain zone_out {
    type filter hook output priority raw; policy accept;
    ct zone set 5
  }
""")
    attach(scene)
    status_says(scene, "packets to port 11211 on eth0 that no socket of this host takes: DNAT?", "nf_conntrack",
                clients=Clients(scene))


@case(slow=True)
def keeper_tells(env):
    """In its log, when it begins and when it is over."""
    scene = env.scene()
    topology.bridged(scene.lab, same_mac=False)
    keeper = Keeper(scene, *scene.mapping())
    assert "eth0 is a port of bridge br0" in keeper.said(), keeper.said()
    clients = Clients(scene)

    def told(words):
        def says():
            clients.ask()
            return words in keeper.said()
        wait.until(says, f"the keeper to say {words}", 60, 1)
    told("no request seen for 30 s on eth0")
    scene.lab.source.run(["ip", "link", "set", "br0", "address", scene.lab.source.mac()])
    scene.lab.client.run(["ip", "neigh", "flush", "dev", "eth0"])
    told("no longer: mapping 11211: no request seen for 30 s on eth0")
    keeper.stop()


@case(slow=True)
@case(slow=True, families=("v6",))
def a_healthy_mirror_is_silent(env):
    """Requests that are seen, connections of the host with itself, idle ones, and none."""
    scene = env.scene()
    idle = Clients(scene, count=4)  # older than the mirror, and silent
    keep(scene)
    clients = Clients(scene, count=4)
    loopback = "::1" if scene.lab.six("client", "source") else "127.0.0.1"
    Clients(scene, count=4, address=loopback, host=scene.lab.source)
    mine = Clients(scene, count=4, address=scene.lab.source.address, host=scene.lab.source)

    class Both:
        def ask(self):
            clients.ask()
            mine.ask()
    status_is_silent(scene, Both())
    assert len(idle.sockets) == 4
    assert "no request" not in scene.kept[0].said(), scene.kept[0].said()


@case(slow=True)
def an_idle_mirror_is_silent(env):
    """Nobody asks: open connections are no evidence, nor is a service of which nobody knows. Nor are the sockets that
    a service which hangs has of a client that has gone, and was seen."""
    scene = env.scene()
    idle = Clients(scene, count=4)
    assert attach(scene) == ""
    status_is_silent(scene)
    assert len(idle.sockets) == 4
    os.kill(scene.source[0].process.pid, signal.SIGSTOP)
    gone = scene.lab.client.connect(scene.lab.source.address, 11211)
    gone.sendall(b"version\r\n")
    gone.close()
    wait.until(lambda: scene.doppel.ledger()["flows"]["closed"] == 1, "the mirror to be done with it")
    said = scene.doppel.status()
    assert said["well"], said


@case()
def clients_of_both_ip_versions(env):
    """A service that listens on both: all its clients are in one mapping, and mirrored."""
    scene = env.scene()
    lab = scene.lab
    for host in (lab.source, lab.target):
        host.popen(["memcached", "-u", "nobody", "-p", "11300", "-l", "0.0.0.0,[::]"])
    wait.until(lambda: lab.source.listens(11300) and lab.target.listens(11300), "both to listen")
    scene.doppel.attach("--device", "eth0", "-x", f"11300-{lab.target.address}:11300")
    by_four = Clients(scene, 12, port=11300)
    by_six = Clients(scene, 12, address=lab.source.address6, port=11300)
    by_four.ask()
    by_six.ask()
    ledger = scene.assert_all_delivered(4 * 12 * len(b"version\r\n"))
    assert ledger["flows"]["opened"] == 24, ledger["flows"]
    assert scene.doppel.health()[0] == 0, scene.doppel.status()
