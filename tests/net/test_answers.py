# SPDX-License-Identifier: Apache-2.0
"""Answers of the target are taken on whichever device they come in, with a priority tag or without; and what is
no longer this host's device is left alone."""

import json
import socket

from harness import MODES, case
from lab import wait
from lab.keeper import Keeper
from lab.relay import TAG_VID_0, Relay
from lab.wait import amount


def second_link(scene, up=True):
    """A cable between source and target, by which the target answers."""
    source, target = scene.lab.source, scene.lab.target
    source.run(["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", target.pid])
    for host, address in ((source, "10.78.0.2/24"), (target, "10.78.0.3/24")):
        for name in ("all", "eth0", "eth1"):
            host.sysctl(f"net/ipv4/conf/{name}/rp_filter", 0)
        host.run(["ip", "addr", "add", address, "dev", "eth1"])
    target.run(["ip", "link", "set", "eth1", "up"])
    if up:
        source.run(["ip", "link", "set", "eth1", "up"])
        answer_by(target, source, "eth1")


def answer_by(target, source, device):
    target.run(["ip", "route", "replace", f"{source.address}/32", "dev", device])


def assert_no_resets(scene):
    moved = scene.health.moved(names=("Tcp.OutRsts",), hosts=("source",))
    assert not moved, moved
    scene.assert_harmless()


@case(mode=MODES)
def by_a_second_link(env, mode):
    """Requests leave by eth0, answers come in by eth1: an asymmetric route."""
    scene = env.scene()
    second_link(scene)
    scene.attach()
    sent = scene.load("sets", connections=20, count=amount(2000))["sent"]
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=amount(2000))
    assert_no_resets(scene)
    before = scene.doppel.ledger()
    answer_by(scene.lab.target, scene.lab.source, "eth0")  # and back again, in the midst of it
    sent += scene.load("sets", connections=20, count=amount(2000), prefix="back")["sent"]
    after = scene.assert_all_delivered(sent)
    assert after["packets"]["responses"] > before["packets"]["responses"]
    assert_no_resets(scene)
    scene.doppel.detach()
    for host in ("eth0", "eth1"):
        hooks = scene.lab.source.run(["tc", "qdisc", "show", "dev", host]).stdout
        assert "clsact" not in hooks, hooks


@case(mode=MODES)
def moves_in_the_midst(env, mode):
    """The target's answers move to the other link while a load runs."""
    scene = env.scene()
    second_link(scene)
    scene.attach()
    answer_by(scene.lab.target, scene.lab.source, "eth0")
    load = scene.start("sets", connections=20, count=amount(10000), rate=amount(4000), reserve=amount(4000))
    wait.until(lambda: scene.target[0].stats()["cmd_set"] > amount(2000), "a part of the load to arrive", 20)
    answer_by(scene.lab.target, scene.lab.source, "eth1")
    load.go()
    scene.assert_all_delivered(load.result()["sent"])
    scene.assert_same(keys=amount(10000))
    assert_no_resets(scene)


@case(mode=MODES)
def by_a_device_that_comes_later(env, mode):
    scene = env.scene()
    keeper = Keeper(scene, *scene.mapping())
    second_link(scene, up=False)
    scene.lab.source.run(["ip", "link", "set", "eth1", "up"])
    keeper.wait_for("doppel_return runs on eth1 ingress")
    answer_by(scene.lab.target, scene.lab.source, "eth1")
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(2000))["sent"])
    assert_no_resets(scene)
    scene.lab.source.run(["ip", "link", "del", "eth1"])
    scene.assert_all_delivered(scene.doppel.ledger()["bytes"]["observed"])
    assert not scene.doppel.status()["missing"], scene.doppel.status()
    keeper.stop()


@case(mode=MODES, sender=("target", "client"))
def priority_tagged(env, mode, sender):
    """Frames with a tag of VLAN 0 are untagged ones to the stack, and so to the mirror."""
    scene = env.scene(offload="all-off")
    relay = Relay(scene.lab, 1000, longest_ms=0, sender=sender, tag=TAG_VID_0)
    scene.attach()
    sent = scene.load("sets", connections=8, count=amount(500))["sent"]
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=amount(500))
    assert relay.delayed > amount(100), "no frame was tagged"
    relay.close()
    moved = scene.health.moved(names=("Tcp.OutRsts",), hosts=("source",))
    assert not moved, moved


@case(mode=MODES)
def device_moves_away(env, mode):
    """In another network namespace nothing is captured, and status says where the device is."""
    scene = env.scene()
    scene.attach()
    scene.assert_all_delivered(scene.load("sets", connections=4, count=20)["sent"])
    before = scene.doppel.ledger()["packets"]["captured"]
    lab = scene.lab
    lab.source.run(["ip", "link", "set", "eth0", "netns", lab.client.pid, "name", "moved"])
    lab.client.run(["ip", "addr", "flush", "dev", "eth0"])
    lab.client.run(["ip", "addr", "add", f"{lab.source.address}/24", "dev", "moved"])
    lab.client.run(["ip", "link", "set", "moved", "up"])

    def serve():
        return socket.create_server((lab.source.address, 11211))
    server = lab.client.in_netns(serve)
    lab.switch.run(["ip", "addr", "add", "10.77.0.77/24", "dev", "br0"])
    with lab.switch.connect(lab.source.address, 11211) as there:
        accepted, _ = server.accept()
        there.sendall(b"set moved 0 0 1\r\nx\r\n")
        accepted.settimeout(wait.patience(10))
        assert accepted.recv(100)
    now = scene.doppel.ledger()["packets"]["captured"]
    assert now == before, f"{now - before} packets were captured in another namespace"
    missing = json.loads(scene.doppel.run("status", "--json", check=False).stdout)["missing"]
    where = "another network namespace" if mode == "tcx" else "eth0 ingress: the device is gone"
    assert any(where in sentence for sentence in missing), missing
