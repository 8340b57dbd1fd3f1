# SPDX-License-Identifier: Apache-2.0
"""One mapping on several devices: a list, a pattern, devices that come and go."""

from harness import MODES, case
from lab import udp, wait
from lab.doppel import Doppel
from lab.keeper import File, Keeper
from lab.memcached import Server
from lab.tcp import connect
from lab.traffic import set_command
from lab.wait import amount

FIRST, SECOND = "10.78.0.2", "10.79.0.2"  # of the source, by eth1 and by eth2


def cable(scene, name, address, up=True):
    """From the client to a device of the source, with a network of its own."""
    source, client = scene.lab.source, scene.lab.client
    source.run(["ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", client.pid])
    for host, own in ((source, address), (client, address[:-1] + "9")):
        for device in ("all", "eth0", name):
            host.sysctl(f"net/ipv4/conf/{device}/rp_filter", 0)
        host.run(["ip", "addr", "add", own + "/24", "dev", name])
    client.run(["ip", "link", "set", name, "up"])
    if up:
        source.run(["ip", "link", "set", name, "up"])


def file_of(scene, device, **more):
    return File(scene, {"name": "data", "device": device, "ports": 11211,
                        "targets": [{"address": scene.lab.target.address, "port": 11211}], **more})


def write(file, scene, device):
    file.write({"name": "data", "device": device, "ports": 11211,
                "targets": [{"address": scene.lab.target.address, "port": 11211}]})


def sets(scene, address, prefix, count=None):
    return scene.load("sets", connections=10, count=count or amount(1000), address=address, prefix=prefix)["sent"]


@case(mode=MODES[:1], device=(["eth0", "eth1", "eth2"], ["eth0", "eth[12]"]))
@case(mode=MODES[1:], device=("eth*",))
def all_of_them(env, mode, device):
    scene = env.scene()
    cable(scene, "eth1", FIRST)
    cable(scene, "eth2", SECOND)
    file = file_of(scene, device)
    said = scene.doppel.attach("--config", file.path)
    assert said.stderr == "", said.stderr
    sent = sum(sets(scene, address, prefix) for address, prefix in
               ((scene.lab.source.address, "a"), (FIRST, "b"), (SECOND, "c")))
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=3 * amount(1000))
    code, health = scene.doppel.health()
    assert code == 0 and not health["problems"], health
    assert [m["device"] for m in health["mappings"]] == ["eth0, eth1, eth2"], health["mappings"]
    scene.doppel.detach()
    scene.assert_harmless()
    for name in ("eth0", "eth1", "eth2"):
        hooks = scene.lab.source.run(["tc", "qdisc", "show", "dev", name]).stdout
        assert "clsact" not in hooks, hooks


@case(mode=MODES)
def a_connection_that_changes_its_device(env, mode):
    """Its packets come by another way: it stays one conversation, to the byte."""
    scene = env.scene()
    cable(scene, "eth1", FIRST)
    file = file_of(scene, ["eth0", "eth1"])
    scene.doppel.attach("--config", file.path)
    sent = 0
    with connect(scene.lab.client, scene.lab.source.address) as s:
        for n in range(amount(300)):
            if n % 10 == 0:
                way = f"{scene.lab.source.address}/32"
                scene.lab.client.run(["ip", "route", "replace", way, "dev", ("eth0", "eth1")[n // 10 % 2]])
            request = set_command(b"key%d" % n, 100)
            s.sendall(request)
            assert s.recv(100) == b"STORED\r\n"
            sent += len(request)
        scene.assert_all_delivered(sent)
        assert len(scene.doppel.json("flows")["flows"]) == 1
    scene.assert_same(keys=amount(300))
    scene.doppel.detach()


@case(mode=MODES[:1], by=("run",))
@case(mode=MODES[1:], by=("attach",))
def added_and_taken_away(env, mode, by):
    """A reload changes the list under a load that loses nothing; what comes by the new device is mirrored."""
    scene = env.scene()
    cable(scene, "eth1", FIRST)
    file = file_of(scene, "eth0")
    keeper = None
    if by == "run":
        keeper = Keeper(scene, "--config", file.path)
    else:
        scene.doppel.attach("--config", file.path)

    def change(device):
        write(file, scene, device)
        if keeper:
            keeper.reload()
        else:
            scene.doppel.run("reload", "--config", file.path)
    load = scene.start("sets", connections=20, count=amount(8000), rate=amount(4000), reserve=amount(4000))
    wait.until(lambda: scene.target[0].stats()["cmd_set"] > amount(1000), "a part of the load to arrive", 20)
    change(["eth0", "eth1"])
    sent = sets(scene, FIRST, "by1-")
    change("eth0")
    unseen = sets(scene, FIRST, "unseen-", amount(100))
    load.go()
    sent += load.result()["sent"]
    scene.assert_all_delivered(sent)
    assert unseen and scene.target[0].stats()["cmd_set"] == amount(8000) + amount(1000)
    row, = scene.doppel.counters()["mappings"]
    assert not row["since_ns"], "the mapping was made anew"
    assert [m["device"] for m in scene.doppel.health()[1]["mappings"]] == ["eth0"]
    if keeper:
        keeper.stop()
    else:
        scene.doppel.detach()


@case(mode=MODES[1:])
def moved_to_another(env, mode):
    """From the port of a bond, say, to the bond: connections that are open go on where their packets come now."""
    scene = env.scene()
    cable(scene, "eth1", FIRST)
    file = file_of(scene, "eth0")
    scene.doppel.attach("--config", file.path)
    sent = 0
    with connect(scene.lab.client, scene.lab.source.address) as s:
        for device in ("eth0", "eth1"):
            write(file, scene, [device, "eth0"] if device == "eth1" else device)
            scene.doppel.run("reload", "--config", file.path)
            scene.lab.client.run(["ip", "route", "replace", f"{scene.lab.source.address}/32", "dev", device])
            if device == "eth1":
                write(file, scene, device)
                scene.doppel.run("reload", "--config", file.path)
            for n in range(50):
                request = set_command(b"%s-%d" % (device.encode(), n), 100)
                s.sendall(request)
                assert s.recv(100) == b"STORED\r\n"
                sent += len(request)
        scene.assert_all_delivered(sent)
    scene.assert_same(keys=100)
    scene.doppel.detach()


@case(mode=MODES[:1])
def a_pattern_takes_what_comes_later(env, mode):
    """With a keeper; one that goes is told by nobody, since nobody named it."""
    scene = env.scene()
    file = file_of(scene, "eth*")
    keeper = Keeper(scene, "--config", file.path)
    cable(scene, "eth1", FIRST)
    keeper.wait_for("doppel_ingress runs on eth1 ingress")
    sent = sets(scene, FIRST, "a")
    scene.lab.source.run(["ip", "link", "del", "eth1"])
    sent += sets(scene, scene.lab.source.address, "b")
    scene.assert_all_delivered(sent)
    wait.until(lambda: scene.doppel.health()[1]["mappings"][0]["device"] == "eth0", "eth1 to be gone", 20)
    code, health = scene.doppel.health()
    assert code == 0 and not health["problems"], health
    keeper.stop()


@case(mode=MODES[:1])
def datagrams(env, mode):
    scene = env.scene(target_runs=False)
    cable(scene, "eth1", FIRST)
    scene.source[0].kill()
    options = ("-U", "11211")
    scene.source = [Server(scene.lab.source, options=options)]
    scene.target = [Server(scene.lab.target, options=options)]
    scene.doppel = Doppel(scene.lab.source, env.mode)
    file = file_of(scene, ["eth0", "eth1"], protocol="udp")
    scene.doppel.attach("--config", file.path)
    sent = 0
    for n, address in enumerate((scene.lab.source.address, FIRST)):
        client = udp.Client(scene.lab.client, address)
        for key in range(100):
            client.set(b"key%d-%d" % (n, key), b"v")
        sent += client.bytes
        client.close()
    wait.until(lambda: scene.target[0].stats()["cmd_set"] == 200, "all sets", 10)
    assert scene.doppel.ledger()["bytes"]["delivered"] == sent
    scene.doppel.detach()


@case()
def what_cannot_be(env):
    """Told at attach, with nothing left half done."""
    scene = env.scene()
    lab = scene.lab
    for device, said in ((["eth0", "eth7"], 'there is no device "eth7"'),
                         ("en*", 'no Ethernet device of this host fits "en*"'),
                         (["eth0", "eth0"], '"eth0" is named twice'),
                         ([], "the list of devices is empty"),
                         (["eth0", 7], "must be")):
        file = file_of(scene, device)
        told = scene.doppel.run("attach", "--config", file.path, check=False)
        assert told.returncode and said in told.stderr, (device, told.stderr)
        assert "clsact" not in lab.source.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout


@case(mode=MODES[:1])
def one_of_two_is_missing(env, mode):
    """With a keeper the others go on, and what comes back is taken in again; status tells of the one that is not
    there."""
    scene = env.scene()
    cable(scene, "eth1", FIRST)
    cable(scene, "eth2", SECOND)
    file = file_of(scene, ["eth1", "eth2"])
    keeper = Keeper(scene, "--config", file.path)
    sent = sets(scene, FIRST, "a-", amount(200)) + sets(scene, SECOND, "b-", amount(200))
    for name in ("eth2", "eth1"):
        scene.lab.source.run(["ip", "link", "del", name])
    cable(scene, "eth1", FIRST)
    keeper.wait_for("doppel_ingress runs again on eth1 ingress")
    sent += sets(scene, FIRST, "c-", amount(200))
    scene.assert_all_delivered(sent)

    def told(name):
        return any(name in p["what"] for p in scene.doppel.health()[1]["problems"])
    wait.until(lambda: told("eth2"), "status to tell of eth2", 20)
    assert not told("eth1 ")
    cable(scene, "eth2", SECOND)
    wait.until(lambda: scene.doppel.health()[0] == 0, "all to be well", 20)
    sent += sets(scene, SECOND, "d-", amount(200))
    scene.assert_all_delivered(sent)
    keeper.stop()
