# SPDX-License-Identifier: Apache-2.0
"""A target on the host that mirrors: another port of its own, or a container of its."""

import contextlib
import json
import tempfile

from harness import MODES, case
from lab import memcached, mirror, topology
from lab.keeper import Keeper
from lab.network import endpoint
from lab.raw import RST, Wire
from lab.wait import amount, until

COUNT = amount(2000, 200)
SECOND = 11311
VERSIONS = ("v4", "v6")


def second(scene, address=None, host=None, port=SECOND):
    """The other instance, on the source unless another host is named."""
    made = memcached.Server(host or scene.lab.source, port, address=address, admin_port=11998)
    scene.target = [made]
    return made


def attach(scene, *addresses, device="eth0", check=True, **mapping):
    """Each address of the second instance gets what its own mapping of port 11211 captures."""
    targets = [{"address": address, "port": SECOND} for address in addresses]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"mappings": [{"device": device, "ports": 11211, "targets": targets, **mapping}]}, file)
        file.flush()
        return scene.doppel.attach("--config", file.name, check=check)


def assert_mirrored(scene, server, **options):
    """All of them, none twice, and the ledger exact."""
    sent = scene.load("sets", connections=8, count=COUNT, **options)["sent"]
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=COUNT)
    assert server.stats()["cmd_set"] == COUNT, server.stats()["cmd_set"]
    row = scene.doppel.counters()["mappings"][0]["targets"][0]
    assert row["complete"] == 1 and row["missing"] == 0, row


def traces(host):
    """Programs, qdiscs, addresses, routes and neighbours: all that a mirror could leave."""
    said = [host.run(["ip", *what]).stdout for what in (("-br", "link"), ("-br", "addr"), ("route", "show", "table", "all"),
                                                        ("-6", "route", "show", "table", "all"), ("rule",))]
    return [*said, host.run(["tc", "qdisc"]).stdout, host.run(["tc", "filter", "show", "dev", "lo", "ingress"]).stdout]


@contextlib.contextmanager
def nothing_left(scene):
    before = traces(scene.lab.source)
    yield
    mirror.assert_nothing_left(scene)
    assert scene.doppel.detach().stderr == ""
    assert traces(scene.lab.source) == before, (before, traces(scene.lab.source))


@case(mode=MODES, rp_filter=(0, 1, 2), families=VERSIONS)
def port_of_its_own(env, mode, rp_filter):
    """With the sysctls that Linux has by default, and those of distributions."""
    scene = env.scene(target_runs=False)
    server = second(scene)
    for device in ("all", "default", "eth0", "lo"):
        scene.lab.source.sysctl(f"net/ipv4/conf/{device}/rp_filter", rp_filter)
    with nothing_left(scene):
        attach(scene, scene.lab.source.address)
        assert_mirrored(scene, server)
        code, said = scene.doppel.health()
        assert code == 0 and not said["problems"], (code, said["problems"])
    scene.assert_harmless()


@case(address=("127.0.0.1", "127.0.0.9", "::1"))
def on_loopback_alone(env, address):
    """It is bound to an address that no other host can reach."""
    scene = env.scene(target_runs=False)
    server = second(scene, address=endpoint(address, 0)[:-2])
    with nothing_left(scene):
        attach(scene, address)
        assert_mirrored(scene, server)
    scene.assert_harmless()


@case(families=VERSIONS)
def clients_here_too(env):
    """They come by lo, where copies do as well; theirs have one address with the target."""
    scene = env.scene(target_runs=False)
    own = scene.lab.source.address
    server = second(scene)
    loopback = "::1" if ":" in own else "127.0.0.1"
    with nothing_left(scene):
        attach(scene, own, device="lo")
        sent = 0
        for number, address in enumerate((own, loopback)):
            with scene.lab.source.connect(address, 11211) as client:
                for n, size in enumerate((2000,) * 48 + (60000, 300000)):
                    request = b"set key%d 0 0 %d\r\n%s\r\n" % (50 * number + n, size, bytes([65 + n % 26]) * size)
                    client.sendall(request)
                    sent += len(request)
                    assert client.recv(100) == b"STORED\r\n"
        scene.assert_all_delivered(sent)
        scene.assert_same(keys=100)
        assert server.stats()["cmd_set"] == 100, server.stats()
    scene.assert_harmless()


RULES = """
table inet strict {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state invalid drop
    ct state established accept
    tcp dport 11211 ct state new accept
    iif lo tcp dport { 11311, 11998, 11999 } ct state new accept
    meta l4proto { 1, 58 } accept
  }
  chain output {
    type filter hook output priority 0; policy accept;
    ct state invalid drop
    tcp sport { 11211, 11311 } ct state new drop
  }
}
"""


@case(device=("eth0", "lo"), families=VERSIONS)
def behind_a_firewall(env, device):
    """It takes what conntrack saw begin, and no more: what copies say is a connection of its own to it."""
    scene = env.scene(target_runs=False)
    server = second(scene)
    source = scene.lab.source
    source.run(["nft", "-f", "-"], stdin=RULES)
    with nothing_left(scene):
        attach(scene, source.address, device=device)
        if device == "eth0":
            assert_mirrored(scene, server)
            return
        with source.connect(source.address, 11211) as client:
            for n in range(100):
                client.sendall(b"set key%d 0 0 1\r\nx\r\n" % n)
                assert client.recv(100) == b"STORED\r\n"
        scene.doppel.wait_idle()
        scene.assert_same(keys=100)
        assert server.stats()["cmd_set"] == 100, server.stats()


@case(bridge=(None, "docker0"))
def container(env, bridge):
    """The second instance, in another network namespace behind a veth or a bridge of this host."""
    scene = env.scene(target_runs=False)
    inside = topology.container(scene.lab, bridge=bridge)
    server = second(scene, host=inside)
    with nothing_left(scene):
        attach(scene, inside.address)
        assert_mirrored(scene, server)
    scene.assert_harmless()


@case()
def two_ways(env):
    """Clients here and elsewhere, a mapping each, into one target."""
    scene = env.scene(target_runs=False)
    server = second(scene)
    own = scene.lab.source.address
    with nothing_left(scene):
        target = {"address": own, "port": SECOND}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"mappings": [{"name": device, "device": device, "ports": 11211, "targets": [target]}
                                    for device in ("eth0", "lo")]}, file)
            file.flush()
            scene.doppel.attach("--config", file.name)
        with scene.lab.source.connect(own, 11211) as client:
            client.sendall(b"set here 0 0 1\r\nx\r\n")
            assert client.recv(100) == b"STORED\r\n"
        scene.load("sets", connections=8, count=COUNT)
        scene.doppel.wait_idle()
        scene.assert_same(keys=COUNT + 1)
        assert server.stats()["cmd_set"] == COUNT + 1


@case(families=VERSIONS)
def nobody_elsewhere(env):
    """An address of this host that comes from another is forged, and no answer of the target's."""
    scene = env.scene(target_runs=False)
    server = second(scene)
    own = scene.lab.source.address
    attach(scene, own)
    wire = Wire(scene.lab, scene.lab.client)
    with scene.lab.client.connect(own, 11211) as client:
        client.sendall(b"set one 0 0 1\r\nx\r\n")
        assert client.recv(100) == b"STORED\r\n"
        scene.doppel.wait_idle()
        shadow = scene.doppel.json("flows")["flows"][0]["shadow"]
        before = mirror.events(scene)
        for n in range(20):
            wire.segment(own, (SECOND, int(shadow.rsplit(":", 1)[1])), n, 1, RST)
        client.sendall(b"set two 0 0 1\r\nx\r\n")
        assert client.recv(100) == b"STORED\r\n"
        scene.doppel.wait_idle()
    assert mirror.events(scene) == before, (before, mirror.events(scene))
    assert server.stats()["cmd_set"] == 2


@case()
def not_there_yet(env):
    """Nothing listens at its port: status tells, and all is well once it does."""
    scene = env.scene(target_runs=False)
    own = scene.lab.source.address
    attach(scene, own)
    scene.load("sets", connections=4, count=COUNT, prefix="early")
    until(lambda: scene.doppel.health()[0] == 5, "the target to be told")
    problems = scene.doppel.status()["problems"]
    assert any("refuses" in p["what"] for p in problems), problems
    server = second(scene)
    until(lambda: scene.doppel.health()[0] == 0, "the target to be well", 20)
    scene.load("sets", connections=4, count=COUNT, prefix="late")
    scene.doppel.wait_idle()
    assert server.stats()["cmd_set"] == COUNT, server.stats()
    scene.doppel.detach()
    scene.assert_harmless()


@case(families=VERSIONS)
def migration(env):
    """What the commands of a migration say of two instances on one host."""
    scene = env.scene(target_runs=False)
    server = second(scene)
    own = scene.lab.source.address
    scene.source[0].preload(COUNT)
    attach(scene, own, application="memcached")
    pair = endpoint(own, 11211), endpoint(own, SECOND)
    lacks = scene.doppel.run("verify", "--all", *pair, check=False)
    assert lacks.returncode == 3, lacks
    scene.doppel.run("warm", *pair)
    scene.load("sets", connections=4, count=COUNT, prefix="new")
    scene.doppel.wait_idle()
    scene.doppel.run("verify", "--all", *pair)
    scene.assert_same(keys=2 * COUNT)
    probed = scene.doppel.run("probe", *pair, check=False)
    assert probed.returncode == 0, probed.stdout + probed.stderr
    scene.load("sets", connections=4, count=COUNT, prefix="new")
    assert server.stats()["curr_items"] == 2 * COUNT


@case()
def no_loop(env):
    """A port that is captured gets no copies, whatever device it is captured on."""
    scene = env.scene(target_runs=False)
    own = scene.lab.source.address
    said = scene.doppel.attach("--device", "eth0", "-x", f"11211-{own}:{SECOND}", "-x", f"{SECOND}-{own}:11211",
                                check=False)
    assert said.returncode == 2 and said.stderr.count("captures") == 2, said
    said = attach(scene, own, ports=SECOND, check=False)
    assert said.returncode == 2 and "every copy would be copied again" in said.stderr, said


@case()
def address_comes_and_goes(env):
    """A keeper has nothing to mend, and follows an address of this host that goes elsewhere and comes back."""
    scene = env.scene(target_runs=False)
    source, floating = scene.lab.source, "10.77.0.99"
    source.run(["ip", "addr", "add", f"{floating}/32", "dev", "lo"])
    server = second(scene)
    keeper = Keeper(scene, "--device", "eth0", "-x", f"11211-{floating}:{SECOND}")
    sent = scene.load("sets", connections=4, count=COUNT, prefix="one")["sent"]
    scene.assert_all_delivered(sent)
    assert "is reached" not in keeper.said(), keeper.said()
    source.run(["ip", "addr", "del", f"{floating}/32", "dev", "lo"])
    keeper.wait_for("is reached through another device")
    source.run(["ip", "addr", "add", f"{floating}/32", "dev", "lo"])
    keeper.wait_for("is reached through another device", 2)
    scene.load("sets", connections=4, count=COUNT, prefix="two")
    until(lambda: server.stats()["curr_items"] == 2 * COUNT, "the copies")
    until(lambda: scene.doppel.health()[0] == 0, "all to be well", 20)
    keeper.stop()
