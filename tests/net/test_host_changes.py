# SPDX-License-Identifier: Apache-2.0
"""What happens to a host while doppel run keeps its mirror: devices, links, filters and routes come and
go."""

import os
import signal

from harness import MODES, case
from lab import mirror, snapshot, wait
from lab.keeper import File, Keeper
from lab.wait import amount
from test_keeper import assert_unchanged, assert_whole


def told(scene, text):
    """That mirroring is stopped, for that reason."""
    code, said = scene.doppel.health()
    return code == 4 and text in said["problems"][0]["what"]


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


@case()
def device_of_many_ports_gone_and_back(env):
    """There is no room for its rows of before beside those of now."""
    scene = env.scene()
    file = File(scene)
    file.write({"name": "data", "device": "eth0", "ports": "1-40000",
                "targets": [{"address": scene.lab.target.address, "port": 1}]}, shadow_ports="61000-65535")
    keeper = Keeper(scene, "--config", file.path)
    steps = replace_cable(scene, scene.lab.source)
    next(steps)
    keeper.wait_for('there is no device "eth0"')
    next(steps)
    keeper.wait_for("doppel_ingress runs again on eth0 ingress")
    assert_whole(scene)
    scene.assert_all_delivered(scene.load("sets", connections=10, count=200)["sent"])
    keeper.stop()


@case(mode=("clsact",))
def device_back_and_not_to_be_had(env, mode):
    """A qdisc of others keeps capture from its egress: only that is said from then on."""
    scene = env.scene()
    source = scene.lab.source
    file = File(scene)
    file.write(file.mapping("data", 11211, direction="egress"))
    keeper = Keeper(scene, "--config", file.path)
    source.run(["ip", "link", "del", "eth0"])
    keeper.wait_for('there is no device "eth0"')
    source.run(["ip", "link", "add", "new0", "type", "veth"])
    source.run(["tc", "qdisc", "add", "dev", "new0", "ingress"])
    source.run(["ip", "addr", "add", f"{source.address}/24", "dev", "new0"])
    source.run(["ip", "link", "set", "new0", "name", "eth0"])
    source.run(["ip", "link", "set", "eth0", "up"])
    keeper.wait_for("the qdisc `ingress` occupies the place of clsact")
    keeper.wait_for('no longer: ' + file.path + ':3: mappings[0]: there is no device "eth0"')
    keeper.wait_for("no longer: " + file.path + ":8: mappings[0].targets[0]: this host has no route")
    keeper.stop()


@case(mode=MODES, kind=("blackhole", "prohibit", "unreachable"))
def a_route_that_leads_nowhere(env, mode, kind):
    """The host sends nothing there, by its own will, and neither do we; what was asked waits."""
    scene = env.scene()
    source = scene.lab.source
    keeper = Keeper(scene, *scene.mapping())
    sent = scene.load("sets", connections=10, count=100)["sent"]
    scene.assert_all_delivered(sent)
    route = [kind, f"{scene.lab.target.address}/32"]
    source.run(["ip", "route", "add", *route])
    keeper.wait_for("has no route: nothing is sent to it")
    there = scene.target[0].stats()["cmd_set"]
    sent += scene.load("sets", connections=10, count=100, prefix="more")["sent"]
    wait.until(lambda: scene.doppel.ledger()["bytes"]["observed"] == sent, "all to be observed")
    wait.until(lambda: mirror.events(scene).get("syn_retransmit", 0) >= 20, "each to be tried again, twice")
    assert scene.target[0].stats()["cmd_set"] == there, "copies went past the route"
    wait.until(lambda: told(scene, "no route to the target"), "status to tell")
    source.run(["ip", "route", "del", *route])
    keeper.wait_for("no longer: ")
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=200)
    keeper.stop()


@case(mode=MODES)
def foreign_removal(env, mode):
    """Somebody removes our programs from the device: they are put back."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    keeper = Keeper(scene, *scene.mapping())
    keeper.come_to_rest()
    source = scene.lab.source
    if mode == "clsact":
        source.run(["tc", "filter", "del", "dev", "eth0", "ingress"])
    else:
        links = [path for path in snapshot.pins(source) if "/links/doppel_" in path
                 and f"-{source.ifindex()}-" in path]
        assert len(links) == 2, links
        for path in links:  # without any news about the device
            os.unlink(source.root("/sys/fs/bpf" + path))
    keeper.wait_for("runs again on eth0 ingress", times=2, timeout=10)
    assert_whole(scene)
    if mode == "clsact":
        source.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])
        keeper.wait_for("runs again on eth0 ingress", times=4)
        assert_whole(scene)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(2000))["sent"])
    keeper.stop()
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


def rename(host, name, other):
    """Down for a moment: before Linux 6.2 a device that is up keeps its name."""
    for words in (["down"], ["name", other]):
        host.run(["ip", "link", "set", name, *words])
    host.run(["ip", "link", "set", other, "up"])


@case(mode=MODES, how=("attach", "run"), alias=("kept", "changed"))
def own_link_renamed(env, mode, how, alias):
    """The data plane knows it by its number: the mirror goes on, and detach finds it."""
    scene = env.scene()
    source = scene.lab.source
    before = snapshot.take(source)
    keeper = Keeper(scene, *scene.mapping()) if how == "run" else scene.attach()
    for name, other in (("doppel0", "front"), ("doppel1", "back")):
        rename(source, name, other)
        if alias == "changed":
            source.run(["ip", "link", "set", other, "alias", "of the operator"])
    code, said = scene.doppel.health()
    assert any("device doppel0 was renamed to front: the mirror goes on" in w for w in said["warnings"]), said
    if how == "run":
        wait.until(lambda: scene.doppel.health()[0] == 0, "all to be well", 10)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(1000))["sent"])
    hooks = {(h["device"], h["program"]) for h in scene.doppel.status()["hooks"]}
    assert {device for device, program in hooks if program == "doppel_return"} == {"eth0"}, hooks
    if how == "run":
        assert keeper.process.poll() is None and keeper.said().count("attached by") == 1, keeper.said()
        assert "doppel_return runs" not in keeper.said(), keeper.said()
        keeper.stop()
    else:
        assert code == 0, said
        scene.doppel.detach()
    assert_unchanged(source, before)


@case(mode=MODES, how=("attach", "run"))
def captured_device_renamed(env, mode, how):
    """Its capture goes on, under a note; a configuration with the new name takes it as it is."""
    scene = env.scene()
    source = scene.lab.source
    before = snapshot.take(source)
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path) if how == "run" else None
    if not keeper:
        scene.doppel.attach("--config", file.path)
    rename(source, "eth0", "wan0")

    def told():
        code, said = scene.doppel.health()
        notes = [p for p in said["problems"] if "device eth0 was renamed to wan0" in p["what"]]
        return code == 0 and notes and (not keeper or "device eth0 was renamed to wan0" in keeper.said())
    wait.until(told, "the new name to be told", 10)
    sent = scene.load("sets", connections=20, count=amount(1000), prefix="one")["sent"]
    scene.assert_all_delivered(sent)
    refused = scene.doppel.run("reload", check=False)
    assert refused.returncode == 1 and "there is no device" in refused.stderr, refused
    file.write(file.mapping("data", 11211, device="wan0"))
    assert "none changed" in scene.doppel.run("reload").stdout
    wait.until(lambda: scene.doppel.health()[0] == 0 and not scene.doppel.status()["problems"], "all to be well", 10)
    scene.assert_all_delivered(sent + scene.load("sets", connections=20, count=amount(1000), prefix="two")["sent"])
    assert_whole(scene)
    if keeper:
        keeper.stop()
    else:
        scene.doppel.detach()
    rename(source, "wan0", "eth0")
    assert snapshot.take(source)["bpffs"] == before["bpffs"]


@case()
def stopped_while_others_detach(env):
    """What it finds gone when it goes on was detached on purpose: a unit must not start it again."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    keeper = Keeper(scene, *scene.mapping())
    keeper.freeze()
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
