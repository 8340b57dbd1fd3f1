# SPDX-License-Identifier: Apache-2.0
"""`doppel top --keys`: the keys that clients ask for most, and nothing of it while nobody looks."""

import base64
import json
import os
import signal
import struct
import subprocess
import threading
import time

from harness import case
from lab import bpf, doppel, snapshot, tcp, wait
from lab.keeper import File
from lab.network import NET4
from lab.screen import Screen

HOT, WARM, ROUND = 12, 4, 20  # requests for them, of so many


class Client(threading.Thread):
    """Of every 20 requests 12 ask for one key, 4 for another, and 4 store to keys of their own."""

    def __init__(self, scene):
        super().__init__(daemon=True)
        self.socket = tcp.connect(scene.lab.client, scene.lab.source.address)
        self.rounds, self.error, self.over = 0, None, threading.Event()
        self.start()

    def turn(self, reader):
        stores = b"".join(b"set own%d 0 0 100\r\n%s\r\n" % (self.rounds * 4 + n, b"x" * 100) for n in range(4))
        self.socket.sendall(b"get hot\r\n" * HOT + b"get warm\r\n" * WARM + stores)
        for line in [b"END\r\n"] * (HOT + WARM) + [b"STORED\r\n"] * 4:
            assert reader.readline() == line
        self.rounds += 1

    def run(self):
        try:
            reader = self.socket.makefile("rb")
            while not self.over.wait(0.01):  # its pace
                self.turn(reader)
        except (OSError, AssertionError) as e:
            self.error = e

    def goes_on(self):
        """Until it has done some more."""
        before = self.rounds
        wait.until(lambda: self.error or self.rounds > before + 5, "the client to go on")

    def end(self):
        self.over.set()
        self.join(wait.patience(20))
        self.socket.close()
        assert not self.error, self.error


def pin(scene, name):
    host = scene.lab.source
    return host.root("/sys/fs/bpf" + next(p for p in snapshot.pins(host) if p.endswith(f"/maps/{name}")))


def seen(scene):
    """How many keys capture has read for somebody who looks."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as f:
        cpus = int(f.read().strip().rsplit("-", maxsplit=1)[-1]) + 1
    row = bpf.lookup(pin(scene, "key_sampled"), struct.pack("=I", 0), 24 * cpus)
    return sum(struct.unpack(f"={3 * cpus}Q", row)[::3])


def watched(scene):
    return struct.unpack("=QII", bpf.lookup(pin(scene, "key_watch"), struct.pack("=I", 0), 16))[0] != 0


def assert_not_read(scene, client):
    """Somebody who looked would have seen these."""
    before = seen(scene)
    client.goes_on()
    assert seen(scene) == before, (seen(scene), before)


def popen(scene, *options):
    return scene.lab.source.popen([doppel.binary(), "top", "--keys", "--json", *options],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@case(tcx=True)
def the_hottest_key_is_first(env):
    scene = env.scene()
    scene.attach()
    client = Client(scene)
    client.goes_on()
    assert_not_read(scene, client)

    first, began = client.rounds, time.monotonic()
    said = json.loads(scene.doppel.run("top", "--keys", "--once", "--json", "--interval", "2").stdout)
    rate = (client.rounds - first) / (time.monotonic() - began)

    hot, warm = said["keys"][:2]
    assert (hot["key"], warm["key"]) == ("hot", "warm"), said["keys"][:2]
    assert hot["calls"] == hot["reads"] and hot["stores"] == hot["deletes"] == 0, hot
    assert hot["size"] is None and hot["mapping"], hot
    assert hot["misses"] == hot["reads"] and warm["misses"] == warm["reads"], (hot, warm)
    # All of so few are sampled, but that an interval may begin and end within a round.
    assert said["sampled"] == said["requested"] and said["sampled_one_in"] == 1, said
    assert abs(hot["calls"] - said["requested"] * HOT / ROUND) <= ROUND, (hot, said["requested"])
    assert abs(warm["calls"] - said["requested"] * WARM / ROUND) <= ROUND, (warm, said["requested"])
    assert abs(hot["calls_per_s"] / (rate * HOT) - 1) < 0.5, (hot, rate)
    own = said["keys"][2]
    assert own["key"].startswith("own") and own["size"] == 100 and own["stores"] == 1, own

    assert not watched(scene)
    assert_not_read(scene, client)
    events = scene.doppel.counters()["mappings"][0]["targets"][0]["events"]
    assert events["key_noted"] == events["key_missed"] == 0, events
    client.end()
    scene.doppel.wait_idle()
    scene.assert_same()
    scene.assert_same_commands()
    scene.assert_harmless()


@case()
def a_second_one_is_told(env):
    scene = env.scene()
    scene.attach()
    top = popen(scene, "--interval", "0.1")
    json.loads(top.stdout.readline())
    second = scene.doppel.run("top", "--keys", "--once", check=False)
    assert second.returncode == 1 and "another doppel top" in second.stderr, second
    top.send_signal(signal.SIGTERM)
    top.communicate()
    assert top.returncode == 0
    assert not watched(scene)
    scene.doppel.run("top", "--keys", "--once", "--interval", "0.1")


@case()
def a_killed_one_is_forgotten(env):
    """Capture stops by itself."""
    scene = env.scene()
    scene.attach()
    client = Client(scene)
    top = popen(scene, "--interval", "0.1")
    wait.until(lambda: json.loads(top.stdout.readline())["keys"], "keys to be shown")
    top.kill()
    top.communicate()
    assert watched(scene), "nobody has ended it"

    def at_rest():
        before = seen(scene)
        client.goes_on()
        return seen(scene) == before
    wait.until(at_rest, "capture to read no keys any more")
    scene.doppel.run("top", "--keys", "--once", "--interval", "0.1")
    client.end()


@case()
def a_token_to_renew_stays_its_clients(env):
    """The reads and the mark are in one segment, so that the interval that counts them ends with a stale item."""
    scene = env.scene()
    scene.attach()
    key = base64.b64encode(b"user 1")
    client = tcp.connect(scene.lab.client, scene.lab.source.address)
    reader = client.makefile("rb")
    client.sendall(b"ms %s 1 b T0\r\nx\r\n" % key)
    assert reader.readline().startswith(b"HD"), key
    top = popen(scene, "--interval", "0.5")
    json.loads(top.stdout.readline())

    client.sendall(b"mg %s b v\r\n" % key * 5 + b"md %s b I T30\r\n" % key)
    assert [reader.readline() for _ in range(11)] == [b"VA 1\r\n", b"x\r\n"] * 5 + [b"HD\r\n"]
    rows = wait.until(lambda: json.loads(top.stdout.readline())["keys"], "the reads to be shown")
    client.sendall(b"mg %s b v\r\n" % key)
    assert sorted(reader.readline().split()[2:]) == [b"W", b"X"]
    assert [(r["key"], r["reads"], r["misses"]) for r in rows] == [("user 1", 5, None)], rows

    top.send_signal(signal.SIGTERM)
    top.communicate()
    client.close()


@case()
def a_key_has_a_row_for_each_server(env):
    """Two memcacheds behind one mapping, each with a key that the other does not have."""
    scene = env.scene(ports=(11211, 11212))
    for server, key in zip(scene.source, (b"first", b"second")):
        with server.admin() as admin:
            admin.socket.sendall(b"set %s 0 0 1\r\nx\r\n" % key)
            assert admin.reader.readline() == b"STORED\r\n"
    file = File(scene)
    file.write({**file.mapping("data", 11211, application="memcached"), "ports": "11211-11212"})
    scene.doppel.attach("--config", file.path)
    clients = [tcp.connect(scene.lab.client, scene.lab.source.address, port) for port in scene.ports]
    top = popen(scene, "--interval", "0.5")
    json.loads(top.stdout.readline())

    clients[0].sendall(b"get first\r\nget second\r\n" * 10 + b"set third 0 0 1\r\nx\r\n")
    clients[1].sendall(b"get first\r\nget second\r\nget third\r\n" * 20)
    rows = {}

    def all_shown():
        for r in json.loads(top.stdout.readline())["keys"]:
            rows[r["key"], r["server"]] = (r["reads"], r["misses"])
        return len(rows) == 6
    wait.until(all_shown, "the reads to be shown")
    first, second = (f"{scene.lab.source.address}:{port}" for port in scene.ports)
    assert rows == {("first", first): (10, 0), ("second", first): (10, 10), ("third", first): (0, None),
                    ("first", second): (20, 20), ("second", second): (20, 0), ("third", second): (20, 20)}, rows

    top.send_signal(signal.SIGTERM)
    top.communicate()
    for client in clients:
        client.close()


@case()
def a_write_by_another_address_is_one_to_the_key(env):
    """One memcached, two addresses: what is read by the one may have come by the other meanwhile."""
    scene = env.scene()
    other = str(NET4[99])
    scene.lab.source.run(["ip", "address", "add", f"{other}/{NET4.prefixlen}", "dev", "eth0"])
    scene.attach()
    writer = tcp.connect(scene.lab.client, scene.lab.source.address)
    reader = tcp.connect(scene.lab.client, other)
    top = popen(scene, "--interval", "0.5")
    json.loads(top.stdout.readline())

    def both_shown():
        """Within one interval."""
        writer.sendall(b"set key 0 0 1\r\nx\r\n")
        assert tcp.read_lines(writer, 1)
        reader.sendall(b"get absent\r\nget key\r\n" * 5)
        assert tcp.read_lines(reader, 20)
        rows = {(r["key"], r["server"]): (r["reads"], r["misses"]) for r in json.loads(top.stdout.readline())["keys"]}
        return rows if len(rows) == 3 else None
    rows = wait.until(both_shown, "reads and writes in one interval")
    by_one, by_other = f"{scene.lab.source.address}:11211", f"{other}:11211"
    reads = rows["absent", by_other][0]
    assert reads and rows == {("key", by_one): (0, None), ("key", by_other): (reads, None),
                              ("absent", by_other): (reads, reads)}, rows

    top.send_signal(signal.SIGTERM)
    top.communicate()
    for client in (writer, reader):
        client.close()


@case()
def servers_that_are_stopped(env):
    """Capture goes on for 3 s without top, which is less than eight of them would take."""
    scene = env.scene(ports=tuple(range(11211, 11219)), memory_mb=64)
    scene.attach()
    clients = [tcp.connect(scene.lab.client, scene.lab.source.address, port) for port in scene.ports]
    top = popen(scene, "--interval", "0.5")
    json.loads(top.stdout.readline())
    for server in scene.source:
        server.process.send_signal(signal.SIGSTOP)
    for client in clients:
        client.sendall(b"get key\r\n")
    documents = []

    def all_shown():
        documents.append(json.loads(top.stdout.readline()))
        return sum(len(d["keys"]) for d in documents) == len(clients)
    wait.until(all_shown, "the reads to be shown")
    documents.append(json.loads(top.stdout.readline()))  # in this interval the last ones were asked
    assert max(d["interval_s"] for d in documents) < wait.patience(3), documents
    for server in scene.source:
        server.process.send_signal(signal.SIGCONT)

    top.send_signal(signal.SIGTERM)
    top.communicate()
    for client in clients:
        client.close()


@case()
def a_write_while_the_servers_are_asked(env):
    """The second one is asked late, as the first one is stopped: its key is gone then, and was there for all reads."""
    scene = env.scene(ports=(11211, 11212))
    with scene.source[1].admin() as admin:
        admin.socket.sendall(b"set key 0 0 1\r\nx\r\n")
        assert admin.reader.readline() == b"STORED\r\n"
    scene.attach()
    address = scene.lab.source.address
    clients = [tcp.connect(scene.lab.client, address, port) for port in scene.ports]
    top = popen(scene, "--interval", "0.5")
    json.loads(top.stdout.readline())
    scene.source[0].process.send_signal(signal.SIGSTOP)
    clients[1].sendall(b"get key\r\n" * 10)
    assert tcp.read_lines(clients[1], 30)
    clients[0].sendall(b"get other\r\n")
    wait.until(lambda: scene.lab.source.run(["ss", "-Htn", "state", "established", "dst", f"{address}:11211"]).stdout,
               "top to ask the one that is stopped")
    clients[1].sendall(b"delete key\r\n")
    assert tcp.read_lines(clients[1], 1) == b"DELETED\r\n"
    rows = wait.until(lambda: [r for r in json.loads(top.stdout.readline())["keys"] if r["key"] == "key"],
                      "the reads to be shown")
    assert [(r["reads"], r["deletes"]) for r in rows] == [(10, 0)], rows
    assert rows[0]["misses"] in (None, 0), rows  # 0: this machine was slow, and the key was there still
    scene.source[0].process.send_signal(signal.SIGCONT)

    top.send_signal(signal.SIGTERM)
    top.communicate()
    for client in clients:
        client.close()


@case()
def a_read_that_missed_brings_no_value(env):
    scene = env.scene()
    scene.attach()
    client = tcp.connect(scene.lab.client, scene.lab.source.address)
    top = popen(scene, "--interval", "0.5")
    json.loads(top.stdout.readline())

    def shown(request, lines, kind):
        client.sendall(request)
        assert tcp.read_lines(client, lines)
        return wait.until(lambda: [r for r in json.loads(top.stdout.readline())["keys"] if r[kind]],
                          f"the {kind} to be shown")
    shown(b"set key 0 0 1000\r\n%s\r\n" % (b"x" * 1000), 1, "stores")
    row, = shown(b"get key\r\n" * 10, 30, "reads")
    assert row["size"] == 1000 and row["misses"] == 0 and row["bps"] > 0, row
    assert abs(row["bps"] / (row["calls_per_s"] * 8000) - 1) < 1e-6, row
    shown(b"delete key\r\n", 1, "deletes")
    row, = shown(b"get key\r\n" * 10, 10, "reads")
    assert row["size"] == 1000 and row["misses"] == 10 and row["bps"] == 0, row

    top.send_signal(signal.SIGTERM)
    top.communicate()
    client.close()


@case()
def a_view_of_the_screen(env):
    scene = env.scene()
    scene.attach()
    client = Client(scene)
    screen = Screen(scene.lab.source)
    screen.shows("OBSERVED")
    assert_not_read(scene, client)
    screen.press("k")
    screen.shows("hot")
    assert watched(scene)
    screen.press("s")  # keys of a known size leave no room for it
    screen.shows("own")
    screen.press("c")
    screen.shows("hot")
    screen.press("k")
    screen.shows("OBSERVED")
    assert not watched(scene)
    assert_not_read(scene, client)
    screen.press("k")
    screen.shows("warm")
    screen.press("q")
    screen.assert_ended()
    assert not watched(scene)
    client.end()


@case()
def other_applications_are_not_read(env):
    scene = env.scene()
    file = File(scene)
    file.write(file.mapping("p11211", 11211, application="any"))
    scene.doppel.attach("--config", file.path)
    client = Client(scene)
    client.goes_on()
    said = json.loads(scene.doppel.run("top", "--keys", "--once", "--json", "--interval", "0.5").stdout)
    assert said["keys"] == [] and said["requested"] == 0, said
    client.end()
