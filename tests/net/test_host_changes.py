# SPDX-License-Identifier: Apache-2.0
"""What happens to a host while doppel run keeps its mirror: devices, links, filters and routes come and
go."""

import os
import signal

from harness import MODES, case
from lab import snapshot, wait
from lab.keeper import Keeper
from lab.wait import amount
from test_keeper import assert_unchanged, assert_whole


def replace_cable(scene, host):
    """The host's device is deleted and made again under the same name."""
    lab = scene.lab
    before, mac = host.ifindex(), host.mac()
    lab.switch.run(["ip", "link", "del", host.name])
    wait.until(lambda: host.run(["ip", "link", "show", "eth0"], check=False).returncode != 0,
               "the device to be gone")
    yield
    lab.switch.run(["ip", "link", "add", host.name, "type", "veth", "peer", "name", "eth0",
                    "address", mac, "netns", host.pid])
    lab.switch.run(["ip", "link", "set", host.name, "master", "br0", "up"])
    host.run(["ip", "addr", "add", f"{host.address}/24", "dev", "eth0"])
    host.run(["ip", "link", "set", "eth0", "up"])
    assert host.ifindex() != before
    yield


@case(mode=MODES)
def device_gone_and_back(env, mode):
    scene = env.scene()
    before = snapshot.take(scene.lab.source)["bpffs"]
    keeper = Keeper(scene, *scene.mapping())
    sent = scene.load("sets", connections=20, count=amount(1000), prefix="one")["sent"]
    scene.assert_all_delivered(sent)
    steps = replace_cable(scene, scene.lab.source)
    next(steps)
    keeper.wait_for("eth0")
    next(steps)
    keeper.wait_for("doppel_ingress runs again on eth0 ingress")
    assert_whole(scene)
    sent += scene.load("sets", connections=20, count=amount(1000), prefix="two")["sent"]
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=2 * amount(1000))
    keeper.stop()
    assert snapshot.take(scene.lab.source)["bpffs"] == before


@case(mode=MODES)
def foreign_removal(env, mode):
    """Somebody removes our programs from the device: they are put back."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    keeper = Keeper(scene, *scene.mapping())
    source = scene.lab.source
    if mode == "clsact":
        source.run(["tc", "filter", "del", "dev", "eth0", "ingress"])
    else:
        links = [path for path in snapshot.pins(source) if "/links/doppel_" in path
                 and f"-{source.ifindex()}-" in path]
        assert len(links) == 2, links
        for path in links:
            os.unlink(source.root("/sys/fs/bpf" + path))
        source.run(["ip", "link", "set", "eth0", "alias", "traffic"])  # news about the device
    keeper.wait_for("runs again on eth0 ingress", times=2)
    assert_whole(scene)
    if mode == "clsact":
        source.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])
        keeper.wait_for("runs again on eth0 ingress", times=4)
        assert_whole(scene)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(2000))["sent"])
    keeper.stop()
    if mode != "clsact":
        source.run(["ip", "link", "set", "eth0", "alias", ""])
    assert_unchanged(source, before)


@case(mode=MODES)
def own_link_removed(env, mode):
    """Without doppel0 there is no data plane: it is attached anew."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    keeper = Keeper(scene, *scene.mapping())
    scene.lab.source.run(["ip", "link", "set", "doppel0", "down"])
    keeper.wait_for("doppel0 was down")
    assert_whole(scene)
    scene.lab.source.run(["ip", "link", "del", "doppel0"])
    keeper.wait_for("attached by", times=2)
    assert_whole(scene)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(2000))["sent"])
    scene.assert_same(keys=amount(2000))
    keeper.stop()
    assert_unchanged(scene.lab.source, before)


@case()
def stopped_while_others_detach(env):
    """What it finds gone when it goes on was detached on purpose: a unit must not start it again."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    keeper = Keeper(scene, *scene.mapping())
    keeper.signal(signal.SIGSTOP)
    scene.doppel.detach()
    keeper.signal(signal.SIGCONT)
    keeper.ended(0)
    assert "another process has detached" in keeper.said(), keeper.said()
    assert_unchanged(scene.lab.source, before)


@case(mode=MODES)
def others_detach(env, mode):
    """The operator's word counts: the keeper ends, and attaches nothing again."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    keeper = Keeper(scene, *scene.mapping())
    scene.doppel.detach()
    keeper.ended(0)
    assert "another process has detached" in keeper.said(), keeper.said()
    assert_unchanged(scene.lab.source, before)


@case(mode=MODES)
def route_changes(env, mode):
    scene = env.scene()
    keeper = Keeper(scene, *scene.mapping())
    route = [f"{scene.lab.target.address}/32", "dev", "eth0"]
    scene.lab.source.run(["ip", "route", "add", *route, "mtu", "1280"])
    keeper.wait_for("MTU 1280")
    sent = scene.load("sets", connections=20, count=amount(2000), smallest=2000, largest=4000)["sent"]
    scene.assert_all_delivered(sent)
    scene.lab.source.run(["ip", "route", "del", *route])
    keeper.wait_for("MTU 1500")
    scene.lab.source.run(["ip", "route", "add", "unreachable", f"{scene.lab.target.address}/32"])
    keeper.wait_for("no route to the target")
    scene.lab.source.run(["ip", "route", "del", "unreachable", f"{scene.lab.target.address}/32"])
    keeper.wait_for("no longer")
    sent += scene.load("sets", connections=20, count=amount(2000), prefix="after")["sent"]
    scene.assert_all_delivered(sent)
    keeper.stop()


@case(mode=MODES)
def target_changes_its_address(env, mode):
    """Of the link layer: that is the kernel's business, and nothing is to be repaired."""
    scene = env.scene()
    keeper = Keeper(scene, *scene.mapping())
    sent = scene.load("sets", connections=20, count=amount(1000), prefix="one")["sent"]
    scene.assert_all_delivered(sent)
    said = keeper.said()
    scene.lab.target.run(["ip", "link", "set", "eth0", "address", "02:00:00:00:77:03"])
    scene.lab.source.run(["ip", "neigh", "flush", "dev", "eth0"])
    sent += scene.load("sets", connections=20, count=amount(1000), prefix="two")["sent"]
    scene.assert_all_delivered(sent)
    assert keeper.said() == said, keeper.said()
    keeper.stop()
