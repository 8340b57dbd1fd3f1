# SPDX-License-Identifier: Apache-2.0
"""The client's path to the source is slow, drops in bursts, or is gone for a while. The source's TCP gets
everything in the end, so the target gets it, too: no number of holes and no age of one is a reason to break."""

import socket
import time

from harness import case
from lab import mirror, shape, tcp
from lab.books import tell
from lab.keeper import keep
from lab.traffic import keys, set_command
from test_client_net import connect, stored

SO_SNDBUFFORCE = 32


@case(sender=("tso", "no-tso"))
def burst_loss(env, sender):
    """50 Mbit/s with 100 KB of queue: slow start overruns it, and a window has scores of holes."""
    scene = env.scene()
    keep(scene)
    if sender == "no-tso":
        scene.lab.client.run(["ethtool", "-K", "eth0", "tso", "off", "gso", "off"])
    shape.narrow(scene.lab, "source", 50, 100)
    with mirror.Sampler(scene):
        sent = scene.load("sets", connections=4, count=16, smallest=2_000_000, largest=2_000_000)["sent"]
        ledger = scene.assert_all_delivered(sent)
    lost = shape.drops(scene.lab, "source")
    print(f"      {lost} packets dropped; {tell(scene, ledger)}")
    assert lost > 50, f"the queue has dropped {lost} packets: this is no burst"
    scene.assert_same(keys=16)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


@case()
def every_second_segment(env):
    """A window of 120 segments loses every second of its first 80: 40 holes at once."""
    scene = env.scene()
    keep(scene)
    client = scene.lab.client
    client.run(["ethtool", "-K", "eth0", "tso", "off", "gso", "off"])
    client.run(["ip", "route", "replace", "10.77.0.0/24", "dev", "eth0", "proto", "kernel", "scope", "link",
                "src", client.address, "initcwnd", "120"])
    first = set_command(b"first", 400_000)  # opens the source's window
    s = connect(scene, timeout=30)
    scene.lab.client.sysctl("net/ipv4/tcp_slow_start_after_idle", 0)
    s.sendall(first)
    stored(s, 1)
    scene.lab.switch.run(["nft", "-f", "-"], stdin=f"""
table netdev holes {{
  chain drop_some {{
    type filter hook ingress device "client" priority 0; policy accept;
    ip saddr {client.address} ip length > 1000 numgen inc mod 2 == 0 quota until 60000 bytes counter drop
  }}
}}
""")
    data = b"".join(set_command(key, 40_000) for key in keys(b"key", 0, 20))
    s.sendall(data)
    stored(s, 20)
    dropped = scene.lab.switch.run(["nft", "list", "table", "netdev", "holes"]).stdout
    assert "counter packets 40 " in dropped, dropped
    ledger = scene.assert_all_delivered(len(first) + len(data))
    print(f"      {tell(scene, ledger)}")
    scene.assert_same(keys=21)
    s.close()
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


class Outage:
    """Four connections, each with a request of 9 segments under way when their path fails: one has lost its
    first segment and no other, one every second, one all after the third, one everything."""

    WHICH = ("0", "0, 2, 4, 6, 8", "3, 4, 5, 6, 7, 8", "0, 1, 2, 3, 4, 5, 6, 7, 8")
    SEGMENT = 1000

    def __init__(self, scene):
        self.scene, self.sent = scene, 0
        scene.lab.client.run(["ethtool", "-K", "eth0", "tso", "off", "gso", "off"])
        try:  # a client need not wait for longer than the outage (Linux 6.15)
            scene.lab.client.sysctl("net/ipv4/tcp_rto_max_ms", 1000)
            scene.lab.client.sysctl("net/ipv4/tcp_retries2", 200)
        except FileNotFoundError:
            pass
        self.clients = []
        for n in range(len(self.WHICH)):
            client = connect(scene, isn=1_000_000 * (n + 1), timeout=150)
            self.ask(client, b"before%d-" % n)
            self.clients.append(client)

    def ask(self, client, prefix, count=5):
        for key in keys(prefix, 0, count):
            request = set_command(key, 100)
            client.sendall(request)
            stored(client, 1)
            self.sent += len(request)

    def begin(self):
        """Every copy of a segment that begins at one of the lost places is lost, so the holes stay."""
        lost = []
        for n, (client, which) in enumerate(zip(self.clients, self.WHICH)):
            first = 1_000_000 * (n + 1) + 1 + self._before(n)
            begins = ", ".join(str(first + int(at) * self.SEGMENT) for at in which.split(","))
            lost.append(f"tcp sport {client.getsockname()[1]} tcp sequence {{ {begins} }}")
        rules = "\n".join(f"    ip saddr {self.scene.lab.client.address} {rule} counter drop" for rule in lost)
        self.scene.lab.switch.run(["nft", "-f", "-"], stdin=f"""
table netdev outage {{
  chain drop_some {{
    type filter hook ingress device "client" priority 0; policy accept;
{rules}
  }}
}}
""")
        for n, client in enumerate(self.clients):
            request = set_command(b"during%d" % n, 9 * self.SEGMENT - 200)
            for at in range(0, len(request), self.SEGMENT):
                client.sendall(request[at:at + self.SEGMENT])
            self.sent += len(request)

    @staticmethod
    def _before(n):
        return sum(len(set_command(key, 100)) for key in keys(b"before%d-" % n, 0, 5))

    def end(self):
        self.scene.lab.heal("outage")
        for n, client in enumerate(self.clients):
            stored(client, 1)
            self.ask(client, b"after%d-" % n)


def _outage(scene, seconds):
    keep(scene)
    outage = Outage(scene)
    with mirror.Sampler(scene):
        outage.begin()
        time.sleep(seconds)  # the length of the outage
        outage.end()
        scene.assert_all_delivered(outage.sent)
    scene.assert_same(keys=4 * 11)
    scene.assert_same_commands()
    for client in outage.clients:
        client.close()
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


@case()
def outage_of_eight_seconds(env):
    _outage(env.scene(), 8)


@case(long=True)
def outage_of_a_minute(env):
    env.allow(180)
    _outage(env.scene(), 60)


@case()
def unplugged_client(env):
    """The client's cable is out for 3 s inside of a pipelined upload, twice."""
    scene = env.scene()
    keep(scene)
    client = connect(scene, timeout=60)
    # All of a part is handed over while the cable is out; net.core.wmem_max, small by default, bounds SO_SNDBUF.
    client.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
    data = b"".join(set_command(key, 50_000) for key in keys(b"key", 0, 60))
    sent = 0
    with mirror.Sampler(scene):
        for _ in range(2):
            scene.lab.unplug("client")
            client.sendall(data[sent:sent + 1_500_000])
            sent += len(data[sent:sent + 1_500_000])
            time.sleep(3)  # the length of the outage
            scene.lab.plug("client")
        client.sendall(data[sent:])
        stored(client, 60)
        scene.assert_all_delivered(len(data))
    scene.assert_same(keys=60)
    tcp.reset(client)
    mirror.assert_nothing_left(scene, timeout=75)

