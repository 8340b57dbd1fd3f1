# SPDX-License-Identifier: Apache-2.0
"""Devices that go to another network namespace and come back, with the links of TCX that are on them."""

import json

from harness import MODES, case
from lab import memcached, snapshot, topology, wait
from lab.host import Host
from lab.keeper import File, Keeper
from lab.wait import amount


def take_away(scene, device, renumber=False):
    """To another network namespace, where it keeps its number, or gets the lowest other one, with all that is on it.
    Answers with how to fetch it back: under its number, or under another if a device has taken that one meanwhile."""
    lab, source = scene.lab, scene.lab.source
    away = lab.hosts[f"away-{device}"] = Host(f"away-{device}")
    before = source.ifindex(device)
    known = json.loads(source.run(["ip", "-json", "-4", "addr", "show", "dev", device]).stdout)[0]["addr_info"][0]
    if renumber:
        away.run(["ip", "link", "add", "instead", "index", before, "type", "bridge"])
    source.run(["ip", "link", "set", device, "netns", away.pid])

    def back(number="same", name=device, address=f"{known['local']}/{known['prefixlen']}"):
        if number == "other":
            source.run(["ip", "link", "add", f"other{before}", "index", before, "type", "veth"])
        away.run(["ip", "link", "set", device, "netns", source.pid, "name", name])
        assert (source.ifindex(name) == before) == (number == "same" and not renumber)
        if address:
            source.run(["ip", "addr", "add", address, "dev", name])
        source.run(["ip", "link", "set", name, "up"])
    return back


def assert_well(scene, timeout=10):
    """Soon, and status says so, of all programs."""
    def well():
        code, said = scene.doppel.health()
        return code == 0 and said["attached"] and not said["missing"] and not said["problems"]
    wait.until(well, "all to be well", timeout)


@case(mode=MODES, how=("attach", "run"), number=("same", "other"), name=("eth0", "wan0"))
def captured_device(env, mode, how, number, name):
    """The links of TCX go along with it, and are still on it when it comes back."""
    scene = env.scene()
    source = scene.lab.source
    before = snapshot.take(source)["bpffs"]
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path) if how == "run" else scene.doppel.attach("--config", file.path)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(1000), prefix="one")["sent"])
    back = take_away(scene, "eth0")
    wait.until(lambda: scene.doppel.health()[0] == 4, "the loss to be told", 10)
    back(number, name)
    if name != "eth0":
        file.write(file.mapping("data", 11211, device=name))
    if how == "attach" or name != "eth0":
        scene.doppel.run("reload")
    assert_well(scene)
    sent = scene.doppel.ledger()["bytes"]["observed"]
    sent += scene.load("sets", connections=20, count=amount(1000), prefix="two")["sent"]
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=2 * amount(1000))
    if how == "run":
        keeper.stop()
    else:
        scene.doppel.detach()
    assert snapshot.take(source)["bpffs"] == before


@case(mode=MODES, capture=("container", "eth0"), number=("same", "other"))
def container_device(env, mode, capture, number):
    """Capture is on its egress hook, or answers may come in by it."""
    scene = env.scene()
    source = scene.lab.source
    before = snapshot.take(source)["bpffs"]
    inside = topology.container(scene.lab)
    if capture == "container":
        scene.source[0].kill()
        scene.source = [memcached.Server(inside)]
        topology.publish(scene.lab, 11211)
    direction = "egress" if capture == "container" else "ingress"
    file = File(scene)
    file.write(file.mapping("data", 11211, device=capture, direction=direction))
    keeper = Keeper(scene, "--config", file.path)

    def programs():
        return sorted((hook["program"], hook["device"], hook["hook"]) for hook in scene.doppel.status()["hooks"]
                      if hook["ours"])
    wanted = programs()
    assert ("doppel_return", "container", "ingress") in wanted, wanted
    assert ("doppel_" + direction, capture, direction) in wanted, wanted
    back = take_away(scene, "container")
    wait.until(lambda: not [p for p in programs() if p[1] == "container"], "the device to be gone", 10)
    keeper.come_to_rest()
    back(number)
    wait.until(lambda: programs() == wanted, "all programs to run", 10)
    assert_well(scene)
    assert "would be reset" not in keeper.said(), keeper.said()
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(1000))["sent"])
    scene.assert_same(keys=amount(1000))
    keeper.stop()
    assert snapshot.take(source)["bpffs"] == before


@case(mode=MODES)
def while_another_stays_away(env, mode):
    """What waits for the other device does not keep the programs of the number that the first one had."""
    scene = env.scene()
    source = scene.lab.source
    source.run(["ip", "link", "add", "extra", "type", "veth"])
    file = File(scene)
    file.write(("data", 11211), file.mapping("more", 11212, device="extra"))
    keeper = Keeper(scene, "--config", file.path)
    back = take_away(scene, "eth0")
    source.run(["ip", "link", "del", "extra"])
    keeper.wait_for("device extra is gone")
    back("other")

    def well():
        status = scene.doppel.status()
        return not [p for p in status["missing"] if " on eth0 " in p] and not [
            p for p in status["problems"] if "eth0" in p["what"]]
    wait.until(well, "all to be well on eth0", 10)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(1000))["sent"])
    keeper.stop()


def mirror_whose_device_is_away(env):
    """(scene, its pins before, keeper, the number that eth0 had, how to fetch it back)"""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)["bpffs"]
    keeper = Keeper(scene, *scene.mapping())
    number = scene.lab.source.ifindex()
    back = take_away(scene, "eth0")
    keeper.wait_for("device eth0 is gone")
    return scene, before, keeper, number, back


@case(mode=MODES)
def another_takes_the_place_of_one_away(env, mode):
    """Its name and its number: what the pins hold is on the first one, which comes back under another name."""
    scene, before, keeper, number, back = mirror_whose_device_is_away(env)
    lab, source = scene.lab, scene.lab.source
    source.run(["ip", "link", "add", "eth0", "index", number, "type", "veth", "peer", "name", "again",
                "netns", lab.switch.pid])
    lab.switch.run(["ip", "link", "set", "again", "master", "br0", "up"])
    source.run(["ip", "addr", "add", f"{source.address}/24", "dev", "eth0"])
    source.run(["ip", "link", "set", "eth0", "up"])
    lab.forwards("again")
    assert_well(scene)
    lab.switch.run(["ip", "link", "set", "source", "nomaster"])
    back("taken", "old0", address=None)
    keeper.come_to_rest()
    assert_well(scene)
    for host in (lab.client, lab.target):
        host.run(["ip", "neigh", "flush", "dev", "eth0"])
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(1000))["sent"])
    keeper.stop()
    assert snapshot.take(source)["bpffs"] == before


@case(mode=MODES)
def another_takes_the_number_of_one_away(env, mode):
    """It is not the captured device under a new name, and nothing is put on it."""
    scene, before, keeper, number, back = mirror_whose_device_is_away(env)
    source = scene.lab.source
    source.run(["ip", "link", "add", "foreign", "index", number, "type", "bridge"])
    source.run(["ip", "link", "set", "foreign", "up"])
    keeper.come_to_rest()
    status = scene.doppel.status()
    assert not [h for h in status["hooks"] if h["device"] not in ("doppel0", "eth0") and h["ours"]
                and h["program"] != "doppel_return"], status["hooks"]
    assert not [p for p in status["problems"] if "renamed" in p["what"]], status["problems"]
    assert [p for p in status["problems"] if "device eth0 is gone" in p["what"]], status["problems"]
    back("taken")
    assert_well(scene)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(1000))["sent"])
    keeper.stop()
    assert snapshot.take(source)["bpffs"] == before


@case(mode=MODES)
def devices_exchange_their_numbers(env, mode):
    """What ends on one of them ends nothing on the other."""
    scene = env.scene()
    source = scene.lab.source
    before = snapshot.take(source)["bpffs"]
    # A new namespace counts from 1, which is lo, and skips what is taken.
    numbers = {"eth0": 2, "extra": 3}
    source.run(["ip", "link", "add", "extra", "type", "veth", "peer", "name", "extra", "netns", scene.lab.client.pid])
    source.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "extra"])
    assert {name: source.ifindex(name) for name in numbers} == numbers
    file = File(scene)
    file.write(("data", 11211), file.mapping("more", 11212, device="extra"))
    scene.doppel.attach("--config", file.path)
    for back in [take_away(scene, name, renumber=True) for name in numbers]:
        back()
    assert {name: source.ifindex(name) for name in numbers} == {"eth0": 3, "extra": 2}
    file.write(("data", 11211))
    scene.doppel.run("reload")
    assert_well(scene)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(1000))["sent"])
    scene.doppel.detach()
    assert snapshot.take(source)["bpffs"] == before
