# SPDX-License-Identifier: Apache-2.0
"""A path to the target that takes smaller packets than either end: behind a router that says so, and behind one
that says nothing."""

import socket
import struct

from harness import case
from lab import health, mirror, wait
from lab.guest import mute, router
from lab.keeper import keep
from lab.raw import ACK, Wire, ip, ones_sum, tcp
from lab.traffic import set_command
from test_client_net import connect, stored


class Talk:
    """One connection, and how many bytes it has said."""

    def __init__(self, scene):
        self.client, self.sent = connect(scene), 0

    def say(self, key, size):
        """A set, and its answer."""
        request = set_command(key, size)
        self.client.sendall(request)
        stored(self.client, 1)
        self.sent += len(request)


def path_scene(env, kept):
    """A router between source and target, with an MTU of 1300 behind it."""
    scene = env.scene()
    hop = router(scene.lab)
    if kept:
        keep(scene)
    else:
        scene.attach()
    return scene, hop


def assert_arrives(scene, connections=4, count=20):
    """Sets of 4,000 bytes all arrive, and this host's stack hears nothing of it."""
    before = health.counters(scene.lab.source)["Icmp.InErrors"]
    sent = scene.load("sets", connections=connections, count=count, smallest=4000, largest=4000)["sent"]
    ledger = scene.assert_all_delivered(sent)
    scene.assert_same(keys=count)
    assert health.counters(scene.lab.source)["Icmp.InErrors"] == before, "ICMP errors reached this host's stack"
    scene.assert_harmless()
    return ledger, mirror.events(scene)


@case(by=("attach", "run"))
@case(by=("run",), families=("v6", "v4_to_v6"))
def a_router_tells(env, by):
    """By ICMP: each segment that was too large is sent again, once, in smaller ones."""
    scene, _ = path_scene(env, by == "run")
    _, events = assert_arrives(scene)
    assert events.get("path_mtu"), events
    assert "timeout_retransmit" not in events, events


@case(by=("attach", "run"))
@case(by=("attach",), families=("v6", "v4_to_v6"))
def nobody_tells(env, by):
    """Full segments vanish, small ones arrive (RFC 4821)."""
    scene, hop = path_scene(env, by == "run")
    mute(hop)
    _, events = assert_arrives(scene)
    assert events.get("path_mtu"), events


@case()
def a_segment_and_a_tail(env):
    """Of each request the full segment vanishes, and a tail arrives."""
    scene, hop = path_scene(env, True)
    mute(hop)
    scene.lab.client.run(["ethtool", "-K", "eth0", "tso", "off", "gso", "off"])  # the router sees single segments
    sent = scene.load("sets", connections=1, count=6, smallest=2000, largest=2000, prefix="first")["sent"]
    scene.assert_all_delivered(sent)
    found = mirror.events(scene)
    assert found.get("path_mtu"), found
    sent += scene.load("sets", connections=1, count=6, smallest=2000, largest=2000, prefix="second")["sent"]
    scene.assert_all_delivered(sent)
    assert mirror.events(scene)["timeout_retransmit"] == found["timeout_retransmit"], (found, mirror.events(scene))
    scene.assert_same(keys=12)


@case()
def short_outages(env):
    """Requests that any path takes wait for a target that is away for a moment, again and again: the path is as
    good as before."""
    scene = env.scene()
    keep(scene)
    talk = Talk(scene)
    talk.say(b"first", 300)
    scene.assert_all_delivered(talk.sent)
    for turn in range(4):
        away = scene.lab.lose("source", "target", 1000)
        before = mirror.events(scene).get("timeout_retransmit", 0)
        for n in range(3):
            talk.say(b"key%d-%d" % (turn, n), 300)
        wait.until(lambda: mirror.events(scene).get("timeout_retransmit", 0) >= before + 4, "four timeouts")
        scene.lab.heal(away)
        scene.assert_all_delivered(talk.sent)
    assert "path_mtu" not in mirror.events(scene), mirror.events(scene)
    talk.client.close()


@case()
def what_was_learnt_is_kept(env):
    """A later connection begins with what the first has found, and has nothing to send again."""
    scene, _ = path_scene(env, True)
    sent = scene.load("sets", connections=1, count=5, smallest=4000, largest=4000, prefix="first")["sent"]
    resent, found = scene.assert_all_delivered(sent)["packets"]["resent"], mirror.events(scene).get("path_mtu")
    sent += scene.load("sets", connections=4, count=20, smallest=4000, largest=4000, prefix="second")["sent"]
    ledger = scene.assert_all_delivered(sent)
    assert found and mirror.events(scene)["path_mtu"] == found, (found, mirror.events(scene))
    assert ledger["packets"]["resent"] == resent, (resent, ledger["packets"])
    scene.assert_same(keys=25)


@case()
def the_route_changes(env):
    """A connection that is open obeys the new MTU of its route: a smaller one, one that is smaller than what a
    router would be believed (552), and a larger one."""
    scene = env.scene()
    keeper = keep(scene)
    talk = Talk(scene)
    copied = 0

    def segments(key):
        """So many copies does a request make."""
        nonlocal copied
        talk.say(key, 4000)
        before, copied = copied, scene.assert_all_delivered(talk.sent)["packets"]["copied"]
        return copied - before
    assert segments(b"before") <= 4
    route = [f"{scene.lab.target.address}/32", "dev", "eth0"]
    scene.lab.source.run(["ip", "route", "add", *route, "mtu", "700"])
    keeper.wait_for("MTU 700")
    wait.until(lambda: segments(b"after") >= 6, "segments of 700 bytes")
    scene.lab.source.run(["ip", "route", "change", *route, "mtu", "400"])
    keeper.wait_for("MTU 400")
    wait.until(lambda: segments(b"least") >= 12, "segments of 400 bytes")
    scene.lab.source.run(["ip", "route", "del", *route])
    keeper.wait_for("MTU 1500")
    wait.until(lambda: segments(b"again") <= 4, "full segments")
    talk.client.close()


@case()
def a_stranger_lies(env):
    """Errors that quote no segment that is on its way change nothing (RFC 5927), nor does their host hear of them."""
    scene = env.scene()
    keep(scene)
    lab = scene.lab
    talk = Talk(scene)
    heard = health.counters(lab.source)["Icmp.InErrors"]
    talk.say(b"before", 4000)
    scene.assert_all_delivered(talk.sent)
    address, port = scene.doppel.json("flows")["flows"][0]["shadow"].split(":")
    ends = socket.inet_aton(address), socket.inet_aton(lab.target.address)
    wire = Wire(lab, lab.client)
    for seq in range(0, 1 << 32, 1 << 24):
        quoted = ip(ends, tcp(ends, (int(port), 11211), seq, 1, ACK, b"x" * 1000))
        error = b"\x03\x04\0\0" + struct.pack("!HH", 0, 600) + quoted[:28]
        error = error[:2] + struct.pack("!H", ones_sum(error) ^ 0xFFFF) + error[4:]
        wire.packet(ip((socket.inet_aton(lab.client.address), ends[0]), error, protocol=1))
    wire.close()
    wait.until(lambda: mirror.events(scene).get("unacceptable") == 256, "all errors to be seen")
    talk.say(b"after", 4000)
    scene.assert_all_delivered(talk.sent)
    assert "path_mtu" not in mirror.events(scene), mirror.events(scene)
    assert health.counters(lab.source)["Icmp.InErrors"] == heard
    talk.client.close()
