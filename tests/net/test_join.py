# SPDX-License-Identifier: Apache-2.0
"""Connections that are older than the mirror join it, at the beginning of a request and nowhere else."""

import re
import socket
import tempfile

from harness import MODES, case
from lab import dialect, memcached, mirror, wait
from lab.keeper import keep
from lab.load import checked
from lab.network import FAMILIES
from lab.wait import amount


class Log:
    """What the target says of its own: every command it takes and every answer."""

    def __init__(self, scene):
        self.file = tempfile.TemporaryFile()
        scene.target = [memcached.Server(scene.lab.target, p, log=self.file) for p in scene.ports]

    def errors(self):
        """Answers to what is no command: a connection that began inside of a request."""
        self.file.seek(0)
        return [line.decode(errors="replace").strip() for line in self.file
                if re.search(rb"ERROR|too large|bad data|Protocol error|Failed", line)]


def assert_no_errors(log):
    said = log.errors()
    assert not said, f"the target was told what is no command: {len(said)} times, first {said[0]}"


def held(server, prefix):
    return {k: v for k, v in server.contents().items() if k.startswith(prefix)}


def assert_holds(scene, prefix, count):
    """All keys with the prefix are on both sides, and equal."""
    want = held(scene.source[0], prefix)
    assert len(want) == count, f"{len(want)} keys on the source"
    wrong = memcached.differences(want, held(scene.target[0], prefix))
    assert not wrong, "; ".join(wrong)


@case(mode=MODES, before=(0, 3))
def two_hundred_old_connections(env, mode, before):
    """200 connections from before the attach, fresh or used, then 100 sets on each."""
    scene = env.scene(target_runs=False)
    log = Log(scene)
    load = scene.start("sets", wait=True, before=before, connections=200, count=amount(20000), prefix="new")
    keep(scene)
    load.go()
    with mirror.Sampler(scene):
        result = checked(load.result())
    fresh = result["sent"]
    ledger = scene.assert_all_delivered(fresh)
    assert ledger["flows"]["joined"] == 200 and not ledger["flows"]["opened"], ledger["flows"]
    assert_holds(scene, b"new", amount(20000) + 200 * before) if not before else assert_holds(
        scene, b"new0", amount(20000))
    assert scene.target[0].stats()["cmd_set"] == amount(20000)
    assert_no_errors(log)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


@case(mode=MODES, application=("auto", "memcached", "any"), dialect_name=("text", "meta", "binary"))
@case(mode=MODES[1:], application=("auto",), dialect_name=("text",), families=FAMILIES)
def protocols(env, mode, application, dialect_name):
    """Requests on old connections. "any" joins at the second that comes after an answer: the first may
    have begun before the attach."""
    scene = env.scene(target_runs=False)
    log = Log(scene)
    talk = dialect.DIALECTS[dialect_name]
    old = [dialect.Talker(scene.lab.client, scene.lab.source.address, talk) for _ in range(20)]
    for n, talker in enumerate(old):
        talker.set(b"before%d" % n)
    keep(scene, {"application": application})
    with mirror.Sampler(scene):
        for turn in range(5):
            for n, talker in enumerate(old):
                talker.set(b"key%d-%d" % (turn, n))
    late = 2 if application == "any" else 0
    wait.until(lambda: scene.target[0].stats()["cmd_set"] >= 20 * (5 - late), "the sets to arrive")
    ledger = scene.doppel.wait_idle()
    assert ledger["flows"]["joined"] == 20, ledger["flows"]
    for turn in range(late, 5):
        assert_holds(scene, b"key%d-" % turn, 20)
    assert ledger["bytes"]["lost"] == 0, ledger
    assert bool(ledger["excluded"]["not_joined"]) == bool(late), ledger["excluded"]
    assert scene.target[0].stats()["cmd_set"] == 20 * (5 - late)
    assert_no_errors(log)
    for talker in old:
        talker.close()
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


@case(mode=MODES)
def never(env, mode):
    """Old connections stay out, with that reason; new ones are mirrored."""
    scene = env.scene()
    load = scene.start("sets", wait=True, before=1, connections=20, count=amount(1000), prefix="old")
    keep(scene, {"join": "never"})
    load.go()
    old = checked(load.result())["sent"]
    fresh = scene.load("sets", connections=20, count=amount(1000), prefix="new")["sent"]
    ledger = scene.doppel.wait_idle(observed=old + fresh)
    assert ledger["bytes"]["delivered"] == fresh, ledger["bytes"]
    assert ledger["excluded"]["join_never"] == old, ledger["excluded"]
    assert ledger["flows"]["joined"] == 0 and ledger["flows"]["opened"] == 20, ledger["flows"]
    assert_holds(scene, b"new", amount(1000))
    assert not held(scene.target[0], b"old")
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


def suffixes(keys, prefix, connections, count):
    """For each connection of a load, how many of its last keys are in `keys`; no gaps among them."""
    found = []
    for n in range(connections):
        first, end = count * n // connections, count * (n + 1) // connections
        have = [f for f in range(first, end) if b"%s%07d" % (prefix, f) in keys]
        assert have == list(range(end - len(have), end)), (
            f"connection {n} sent keys {first} to {end - 1}, the target has "
            f"{len(have)} from {have[0] if have else None} to {have[-1] if have else None}")
        found.append(len(have))
    return found


@case(mode=MODES, application=("auto", "memcached", "any"),
      shape=("single", "pipelined", "chopped", "upload"))
@case(mode=MODES[:1], application=("auto",), shape=("pipelined",), families=FAMILIES)
def in_the_middle_of_a_load(env, mode, application, shape):
    """Attach while requests are under way, in every state. Each connection joins at some request, and from
    then on the target gets all of them.

    Not so "any" with "chopped": it knows nothing but who sent when, and a client that sends the rest of a
    request after it got the answer to an earlier one looks exactly like one that begins a new request.
    Nobody can tell them apart without reading; "auto" and "memcached" read. Here the ledger must be exact
    and no client harmed. With "any" and "upload", a connection may end before it had two turns of its own.
    """
    scene = env.scene(target_runs=False)
    log = Log(scene)
    blind = application == "any" and shape == "chopped"
    # The last third comes after the attach, however long that takes.
    options = {"single": {"rate": amount(3000)}, "pipelined": {"batch": 20, "rate": amount(3000)},
               "chopped": {"batch": 5, "largest": 900, "rate": amount(3000)},
               "upload": {"smallest": 50_000, "largest": 200_000, "rate": amount(300)}}[shape]
    kind = "chopped" if shape == "chopped" else "sets"
    count = 1500 if shape == "upload" else 15000
    load = scene.start(kind, connections=30, count=count, reserve=count // 3, prefix="key", **options)
    wait.until(lambda: scene.source[0].stats()["cmd_set"] > count / 15, "the load to be under way", 20)
    keep(scene, {"application": application})
    load.go()
    with mirror.Sampler(scene):
        checked(load.result())
    ledger = scene.doppel.wait_idle()
    if blind:
        mirror.assert_nothing_left(scene, timeout=75)
        scene.assert_harmless(resets_to_target=True)
        return
    assert ledger["bytes"]["lost"] == 0, ledger
    have = held(scene.target[0], b"key")
    want = held(scene.source[0], b"key")
    assert len(want) == count
    wrong = memcached.differences({k: want[k] for k in have}, have)
    assert not wrong, wrong
    there = suffixes(have, b"key", 30, count)
    print(f"      {shape}, {application}: {len(have)} of {count} keys, joined {ledger['flows']['joined']},"
          f" excluded {ledger['bytes']['excluded']}")
    stats = scene.target[0].stats()
    assert stats["cmd_set"] == len(have), f"cmd_set {stats['cmd_set']} for {len(have)} keys"
    assert_no_errors(log)
    assert ledger["flows"]["joined"] == sum(1 for n in there if n), ledger["flows"]
    least = 20 if application == "any" and shape == "upload" else 30
    assert ledger["flows"]["joined"] >= least, ledger["flows"]
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


@case(mode=MODES, application=("auto", "memcached", "any"))
def an_upload_that_straddles_the_attach(env, mode, application):
    """Half of a value goes before the attach. Its second half is full of commands, which must not be
    taken for requests; the next request must."""
    scene = env.scene(target_runs=False)
    log = Log(scene)
    value = b"".join(b"\r\nset bait%d 0 0 4\r\nbait" % n for n in range(3000))
    half = value.index(b"\r\nset bait1500")
    client = scene.lab.client.connect(scene.lab.source.address, 11211)
    with client:
        client.sendall(b"set outer 0 0 %d\r\n" % len(value) + value[:half])
        wait.until(lambda: scene.source[0].stats()["bytes_read"] >= half, "the first half")
        keep(scene, {"application": application})
        client.sendall(value[half:] + b"\r\n")
        assert client.recv(100) == b"STORED\r\n"
        one_by_one(client, 3)
        scene.doppel.wait_idle()
        have = set(scene.target[0].contents())
        late = application == "any"  # at the second turn
        assert have == {b"after%d" % n for n in range(late, 3)}, sorted(have)[:5]
    assert_no_errors(log)


def one_by_one(client, count):
    for n in range(count):
        client.sendall(b"set after%d 0 0 1\r\nx\r\n" % n)
        assert client.recv(100) == b"STORED\r\n"


@case(mode=MODES, application=("auto", "memcached", "any"), first=("whole", "rest"))
def an_answer_that_straddles_the_attach(env, mode, application, first):
    """A multi-get whose answer is still being read at the attach, while the client sends a set in
    three pieces; "rest": the first of them went before the attach.

    For "any", each piece of the "whole" follows an answer: it may take the last one for a request, as in
    in_the_middle_of_a_load."""
    scene = env.scene(target_runs=False)
    log = Log(scene)
    scene.load("sets", connections=1, count=20, smallest=500_000, largest=500_000, prefix="big")
    client = scene.lab.client.connect(scene.lab.source.address, 11211)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client:
        client.sendall(b"get " + b" ".join(b"big%07d" % n for n in range(20)) + b"\r\n")
        taken = client.recv(100_000)
        pieces = [b"set during 0 0 7\r\n", b"1234", b"567\r\n"]
        if first == "rest":
            client.sendall(pieces.pop(0))
        keep(scene, {"application": application})
        client.sendall(pieces.pop(0))
        while len(taken) < 5_000_000:
            taken += client.recv(1 << 20)
        for piece in pieces:
            client.sendall(piece)
            if piece is not pieces[-1]:
                taken += client.recv(1 << 20)
        while not taken.endswith(b"STORED\r\n"):
            taken += client.recv(1 << 20)
        one_by_one(client, 8)
        scene.doppel.wait_idle()
        have = set(scene.target[0].contents())
        if application == "any" and first == "whole":
            return
        assert {b"after6", b"after7"} <= have, have
        # Nothing is begun while the source still answers; and never is a part taken for a request.
        assert b"during" not in have, have
    assert_no_errors(log)
