# SPDX-License-Identifier: Apache-2.0
"""A service behind destination NAT on this host: a container's published port, a redirected port. Its clients'
requests are addressed to the host, and no socket of the host takes them; conntrack says who does."""

import socket

from harness import case
from lab import memcached, mirror
from lab.books import tell
from lab.guest import guest, published
from lab.keeper import keep
from lab.raw import ACK, PSH, Wire


def container_scene(env):
    """The server is a container whose port 11211 the source publishes."""
    scene = env.scene()
    scene.source[0].kill()
    scene.source = [memcached.Server(published(scene.lab, 11211))]
    keep(scene)
    return scene


def assert_mirrored(scene, sent, keys):
    ledger = scene.doppel.ledger()
    assert ledger["bytes"]["observed"], f"nothing is mirrored: {tell(scene, ledger)}"
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=keys)
    mirror.assert_nothing_left(scene, timeout=75)


@case()
@case(families=("v6", "v6_to_v4"))
def container_port(env):
    """The container publishes 11211 of the source."""
    scene = container_scene(env)
    with mirror.Sampler(scene):
        sent = scene.load("sets", connections=20, count=2000, batch=4)["sent"]
        sent += scene.load("sets", connections=2, count=10, smallest=200_000, largest=200_000,
                           prefix="large")["sent"]
    assert_mirrored(scene, sent, 2010)
    scene.assert_harmless()


class Longest:
    """How long the longest packet is that comes in on a device, as taps see them; bytes."""

    def __init__(self, host, device):
        def opened():
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(0x0800))
            s.bind((device, 0x0800))
            return s
        self.socket = host.in_netns(opened)
        self.longest = 0

    def __call__(self):
        try:
            while True:
                self.longest = max(self.longest, self.socket.recv_into(bytearray(1), 1, socket.MSG_TRUNC))
        except BlockingIOError:
            return self.longest


@case()
def frames_strung_together(env):
    """GRO makes one packet of frames without melting them (rx-gro-list, TCP since kernel 6.10): its pieces keep
    the client's own ACKs and timestamps, which no target takes."""
    scene = container_scene(env)
    host = scene.lab.source
    # veth asks GRO for what comes from a device without TSO alone.
    scene.lab.switch.run(["ethtool", "-K", "source", "tso", "off"])
    host.run(["ethtool", "-K", "eth0", "gro", "on", "rx-gro-list", "on"])
    host.run(["ethtool", "-K", "eth0", "tx-gso-list", "off"])  # as network cards are
    longest = Longest(host, "eth0")
    sent = scene.load("sets", connections=2, count=40, smallest=60_000, largest=60_000)["sent"]
    ledger = scene.assert_all_delivered(sent)
    scene.assert_same(keys=40)
    assert longest() > 3000, f"GRO made no packet of several frames: none is longer than {longest()} bytes"
    assert ledger["packets"]["resent"] == 0, tell(scene, ledger)


@case()
def redirected_port(env):
    """nft's redirect: clients use 11211, the server listens on 7211 of the same host."""
    scene = env.scene()
    scene.source[0].kill()
    scene.source = [memcached.Server(scene.lab.source, 7211)]
    scene.lab.source.run(["nft", "-f", "-"], stdin="""
table ip redirected {
  chain publish {
    type nat hook prerouting priority dstnat; policy accept;
    tcp dport 11211 redirect to :7211
  }
}
""")
    keep(scene)
    sent = scene.load("sets", connections=20, count=2000)["sent"]
    assert_mirrored(scene, sent, 2000)


@case()
def stranger_to_a_published_port(env):
    """A command of no connection to the published port: conntrack knows nothing of it, so nothing comes of it."""
    scene = container_scene(env)
    host = guest(scene.lab, "stranger", 60)
    wire = Wire(scene.lab, host)
    for port in range(50000, 50020):
        wire.segment("10.77.0.61", (port, 11211), 1000, 1, ACK | PSH, b"set forged 0 0 1\r\nx\r\n")
    sent = scene.load("sets", connections=5, count=100)["sent"]
    assert_mirrored(scene, sent, 100)
