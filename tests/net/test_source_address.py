# SPDX-License-Identifier: Apache-2.0
"""Copies that come from their clients' addresses, which the target answers by way of this host."""

import json
import socket
import tempfile

from harness import MODES, case
from lab import health, udp, wait
from lab.doppel import Doppel
from lab.memcached import Server
from lab.network import FAMILIES
from lab.tcp import connect
from lab.traffic import set_command
from lab.wait import amount


def attach(scene, check=True, mapped=None, **more):
    target = {"address": scene.lab.target.address, "port": 11211, "source_address": "client", **more}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"mappings": [{"name": "data", "device": "eth0", "ports": 11211, "targets": [target],
                                 **(mapped or {})}]}, file)
        file.flush()
        if check:
            return scene.doppel.attach("--config", file.name)
        return scene.doppel.run("attach", "--config", file.name, check=False)


def lead_back(scene):
    """On the target: to the client by way of the source."""
    client, source, target = (scene.lab[name] for name in ("client", "source", "target"))
    for of in ("4", "6"):
        own = getattr(client, f"address{of}")
        target.run(["ip", f"-{of}", "route", "replace", f"{own}/{32 if of == '4' else 128}", "via",
                    getattr(source, f"address{of}"), "dev", "eth0", "onlink"])


def assert_harmless(scene):
    """But for the address that the copies have."""
    found = {what: frames for what, frames in scene.watch.report().items() if what != "foreign-ip"}
    assert not found and not scene.health.moved(), (found, scene.health.moved())


def bound(address, port):
    """A connection to the target from that port; another end of it may be in TIME-WAIT."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(wait.patience(10))
    s.bind(("", port))
    s.connect((address, 11211))
    return s


def ask(s):
    s.sendall(b"version\r\n")
    return s.recv(100)


def peers(host):
    """Addresses that are connected to the host's memcached."""
    rows = host.run(["ss", "-Htn", "state", "established", "sport", "=", ":11211"]).stdout.split("\n")
    ends = [row.split()[3] for row in rows if row.strip()]
    return {end.rsplit(":", 1)[0].strip("[]").removeprefix("::ffff:") for end in ends}


@case(mode=MODES[:1], families=("v4", "v6"))
@case(mode=MODES[1:])
def is_the_clients(env, mode):
    """The target sees the client, everything arrives, and none of its answers is on the way to the client."""
    scene = env.scene()
    lead_back(scene)
    said = attach(scene)
    assert "must lead to this host" in said.stderr, said.stderr
    before = health.counters(scene.lab.client)
    load = scene.start("sets", connections=20, count=amount(4000), reserve=amount(2000))
    wait.until(lambda: scene.target[0].stats()["cmd_set"] >= amount(1500), "a part to arrive", 20)
    client = scene.lab.address("client", "target")
    assert client in peers(scene.lab.target), (client, peers(scene.lab.target))
    load.go()
    scene.assert_all_delivered(load.result()["sent"])
    scene.assert_same(keys=amount(4000))
    after = health.counters(scene.lab.client)
    assert after["Tcp.OutRsts"] == before["Tcp.OutRsts"], (before["Tcp.OutRsts"], after["Tcp.OutRsts"])
    scene.doppel.detach()
    assert_harmless(scene)


@case(families=FAMILIES[1:])
def of_another_version(env):
    """Then the source's is the one that there is."""
    scene = env.scene()
    lead_back(scene)
    attach(scene)
    scene.assert_all_delivered(scene.load("sets", connections=10, count=amount(500))["sent"])
    with connect(scene.lab.client, scene.lab.source.address) as s:
        request = set_command(b"one", 10)
        s.sendall(request)
        assert s.recv(100) == b"STORED\r\n"
        wait.until(lambda: scene.lab.address("source", "target") in peers(scene.lab.target), "the connection", 10)
    scene.doppel.detach()


@case()
def of_this_host_itself(env):
    """A client by lo: 127.0.0.1 would be the target's own."""
    scene = env.scene()
    lead_back(scene)
    attach(scene, mapped={"device": "lo"})
    with scene.lab.source.connect("127.0.0.1", 11211) as one:
        request = set_command(b"key", 10)
        one.sendall(request)
        assert one.recv(100) == b"STORED\r\n"
        scene.assert_all_delivered(len(request))
        assert scene.lab.source.address in peers(scene.lab.target), peers(scene.lab.target)
    scene.doppel.detach()


@case(families=("v4", "v6"))
def datagrams(env):
    scene = env.scene(target_runs=False)
    scene.source[0].kill()
    options = ("-U", "11211")
    scene.source = [Server(scene.lab.source, options=options)]
    scene.target = [Server(scene.lab.target, options=options)]
    scene.doppel = Doppel(scene.lab.source, env.mode)
    lead_back(scene)
    attach(scene, mapped={"protocol": "udp"})
    before = udp.sockets_of(scene.lab.client)
    pace = udp.Pace(scene.lab.target)
    clients = [udp.Client(scene.lab.client, scene.lab.source.address, pace=pace) for _ in range(5)]
    for n, client in enumerate(clients):
        for key in range(amount(100)):
            client.set(b"key%d-%d" % (n, key), b"v")
    wait.until(lambda: scene.target[0].stats()["cmd_set"] == 5 * amount(100), "all sets", 10)
    assert scene.doppel.ledger()["bytes"]["delivered"] == sum(c.bytes for c in clients)
    after = udp.sockets_of(scene.lab.client)
    assert after["NoPorts"] == before["NoPorts"], "answers of the target came to the client"
    scene.doppel.detach()
    assert_harmless(scene)


@case()
def answers_that_go_elsewhere(env):
    """Without the route the target is silent, and status says what to look at."""
    scene = env.scene()
    attach(scene)
    scene.load("sets", connections=5, count=100)

    def told():
        code, said = scene.doppel.health()
        return code == 5 and any("ip route get" in (p["do"] or "") for p in said["problems"])
    wait.until(told, "status to tell", 30)
    assert not scene.doppel.ledger()["bytes"]["delivered"]
    lead_back(scene)
    sent = scene.load("sets", connections=5, count=100, prefix="then")["sent"]
    wait.until(lambda: scene.doppel.ledger()["bytes"]["delivered"] >= sent, "what is sent from then on", 60)
    scene.doppel.run("detach", check=False)


@case()
def what_cannot_be(env):
    scene = env.scene()
    for more, said in (({"shadow_addresses": [scene.lab.source.address]}, "leave one of the two out"),
                       ({"address": "127.0.0.1", "port": 11311}, "whose IP takes nothing from a client's address"),
                       ({"source_address": "other"}, 'is none of "host", "client"')):
        told = attach(scene, check=False, **more)
        assert told.returncode and said in told.stderr, (more, told.stderr)


@case()
def the_clients_own_connections(env):
    """From a port of the shadow ports to the target: one that is there before is left alone, and one that begins
    after the shadow is over is not taken for it."""
    scene = env.scene()
    lead_back(scene)
    lab = scene.lab
    lab.source.sysctl("net/ipv4/ip_forward", 1)
    own = [lab.client.in_netns(bound, lab.target.address, 16384 + n) for n in range(4)]
    version = ask(own[0])
    attach(scene)
    with connect(lab.client, lab.source.address) as s:
        request = set_command(b"key", 10)
        s.sendall(request)
        assert s.recv(100) == b"STORED\r\n"
        wait.settled(lambda: scene.doppel.counters()["mappings"][0]["targets"][0]["packets"], "the SYN", quiet=1.0)
    for one in own:
        assert ask(one) == version, "a connection of the client's own is broken"
        one.close()
    assert scene.doppel.ledger()["bytes"]["observed"] == len(request)
    scene.doppel.run("detach", check=False)


@case()
def after_the_shadow(env):
    """Its ends are the client's own again."""
    scene = env.scene()
    lead_back(scene)
    lab = scene.lab
    lab.source.sysctl("net/ipv4/ip_forward", 1)
    attach(scene)
    with connect(lab.client, lab.source.address) as s:
        request = set_command(b"key", 10)
        s.sendall(request)
        assert s.recv(100) == b"STORED\r\n"
        scene.assert_all_delivered(len(request))
        port = int(scene.doppel.json("flows")["flows"][0]["shadow"].rsplit(":", 1)[1])
    wait.until(lambda: not scene.doppel.json("flows")["flows"], "the flow to be over", 20)
    with lab.client.in_netns(bound, lab.target.address, port) as one:
        assert ask(one).startswith(b"VERSION")
    scene.doppel.detach()
