# SPDX-License-Identifier: Apache-2.0
"""The way between client and source is bad, or the client's TCP does what few do: the target gets what
the source got, once and in order."""

import os
import signal
import socket
import time

from harness import MODES, case
from lab import mirror, tcp, wait
from lab.flood import Flood
from lab.keeper import keep
from lab.load import checked
from lab.relay import Relay
from lab.traffic import keys, set_command
from lab.wait import amount


def sets(prefix, count, size=100, first=0):
    return b"".join(set_command(k, size) for k in keys(prefix, first, count))


def stored(s, count):
    answer = tcp.read_lines(s, count)
    assert answer == b"STORED\r\n" * count, answer[-200:]


def talk(s, prefix, count=10, size=100):
    """Sets, sent together and answered; returns their bytes."""
    data = sets(prefix, count, size)
    s.sendall(data)
    stored(s, count)
    return len(data)


def connect(scene, **wishes):
    return tcp.connect(scene.lab.client, scene.lab.source.address, **wishes)


@case(mode=MODES, kind=("chopped", "large"))
def loss_and_reordering(env, mode, kind):
    """1 % lost, 20 % late by up to 3 ms and so out of order, some of them twice."""
    scene = env.scene(offload="sender-off")
    keep(scene)
    relay = Relay(scene.lab, 200, duplicates=0.1)
    table = scene.lab.lose("client", "source", 10)
    options = ({"batch": 5, "largest": 900, "count": amount(12000)} if kind == "chopped" else
               {"smallest": 20_000, "largest": 60_000, "count": 1200})
    with mirror.Sampler(scene):
        load = scene.start("chopped" if kind == "chopped" else "sets", connections=32, **options)
        result = checked(load.result())
        scene.assert_all_delivered(result["sent"])
    said = mirror.events(scene)
    print(f"      {kind}: {relay.delayed} late, {relay.doubled} twice, {said}")
    assert said.get("out_of_order") and said.get("client_retransmit"), said
    scene.assert_same(keys=options["count"])
    scene.assert_same_commands()
    scene.lab.heal(table)
    relay.close()
    mirror.assert_nothing_left(scene, timeout=75)
    # What comes twice and late both ends themselves refuse, a SYN even as an error of TCP's.
    scene.assert_harmless(hosts=("target",), resets_to_client=True)


@case(mode=MODES)
def the_first_segment_comes_second(env, mode):
    """The handshake's ACK and the first segment are lost: the second is the first to reach the source."""
    scene = env.scene()
    keep(scene)
    table = scene.lab.lose("client", "source", 1000, "tcp flags & (syn | fin | rst) == 0")
    client = connect(scene)
    first, second = sets(b"first", 1), sets(b"second", 1)
    client.sendall(first)
    scene.lab.heal(table)
    client.sendall(second)
    stored(client, 2)
    sent = len(first + second) + talk(client, b"more", 5)
    ledger = scene.assert_all_delivered(sent)
    assert ledger["flows"]["opened"] == 1 and not ledger["flows"]["joined"], ledger["flows"]
    scene.assert_same(keys=7)
    client.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case(mode=MODES, end=("close", "reset"))
def a_duplicate_after_the_end(env, mode, end):
    """A request that the network held back comes once more when its connection is over: the source
    refuses it, so the target must not get it, and no flow may come to life."""
    scene = env.scene()
    keep(scene)
    isn = 1_000_000
    client = connect(scene, isn=isn)
    port = client.getsockname()[1]
    old = b"set key 0 0 3\r\nold\r\n"
    for request in (old, b"set key 0 0 3\r\nnew\r\n"):
        client.sendall(request)
        stored(client, 1)
    if end == "close":
        client.close()
    else:
        tcp.reset(client)
    mirror.assert_nothing_left(scene, timeout=75)
    storm = Flood(scene.lab)
    storm.duplicate(scene.lab.client.address, port, isn + 1, old)
    wait.settled(scene.doppel.ledger, "the duplicate to be through", 1)
    scene.doppel.wait_idle()
    scene.assert_same(keys=1)
    ledger = scene.doppel.ledger()
    assert ledger["flows"]["joined"] == 0, ledger["flows"]
    mirror.assert_nothing_left(scene)


@case(mode=MODES, below=(1, 50, 1000, 2000, 3000, 100_000))
def sequence_wrap(env, mode, below):
    """The client's numbers pass 2^32, at every place that matters: in the SYN, in a segment, in a chunk
    of the store, while many bytes wait; with and without loss."""
    scene = env.scene()
    keep(scene)
    scene.lab.lose("source", "target", 100)
    sent = 0
    clients = []
    for n in range(8):
        clients.append(connect(scene, isn=(1 << 32) - below - n))
        sent += talk(clients[-1], b"a%d-" % n, 20)
    for n, client in enumerate(clients):
        sent += talk(client, b"b%d-" % n, 10, 30_000)
    ledger = scene.assert_all_delivered(sent)
    assert ledger["flows"]["opened"] == 8, ledger["flows"]
    scene.assert_same(keys=240)
    for client in clients:
        client.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case(mode=MODES)
def joined_at_the_wrap(env, mode):
    """A shadow that joins right before the wrap."""
    scene = env.scene()
    clients = [connect(scene, isn=(1 << 32) - 2 - n) for n in range(4)]
    first = [len(sets(b"old%d-" % n, 1)) for n in range(4)]
    for client in clients:
        client.close()
    clients = [connect(scene, isn=(1 << 32) - 1 - first[n] - n) for n in range(4)]
    for n, client in enumerate(clients):
        talk(client, b"old%d-" % n, 1)
    keep(scene)
    sent = sum(talk(client, b"new%d-" % n, 20, 5000) for n, client in enumerate(clients))
    ledger = scene.assert_all_delivered(sent)
    assert ledger["flows"]["joined"] == 4, ledger["flows"]


@case(mode=MODES)
def keepalives(env, mode):
    """Three seconds of nothing but keepalives; then the connection goes on."""
    scene = env.scene()
    keep(scene)
    clients = [connect(scene, keepalive=True) for _ in range(10)]
    sent = sum(talk(c, b"a%d-" % n) for n, c in enumerate(clients))
    before = scene.health.moved_by("client", "TcpExt.TCPKeepAlive")
    wait.until(lambda: scene.health.moved_by("client", "TcpExt.TCPKeepAlive") - before >= 30,
               "three keepalives on each connection", 10)
    sent += sum(talk(c, b"b%d-" % n) for n, c in enumerate(clients))
    ledger = scene.assert_all_delivered(sent)
    assert ledger["flows"]["open"] == 10, ledger["flows"]
    scene.assert_same(keys=200)
    for c in clients:
        c.close()
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


@case(mode=MODES)
def source_with_closed_window(env, mode):
    """The source's memcached is stopped: the client's kernel probes its closed window, and what it had
    sent beyond comes again."""
    scene = env.scene()
    keep(scene)
    client = connect(scene, timeout=30)
    with mirror.Sampler(scene), client:
        sent = talk(client, b"before")
        os.kill(scene.source[0].process.pid, signal.SIGSTOP)
        try:
            data = sets(b"key", 150, 20_000)  # less than flow_cap: it goes on all at once
            client.setblocking(False)
            out = 0
            probes = scene.health.moved_by("client", "TcpExt.TCPWinProbe")

            def full():
                nonlocal out
                try:
                    out += client.send(data[out:])
                except BlockingIOError:
                    pass  # its buffer is full, too
                return scene.health.moved_by("client", "TcpExt.TCPWinProbe") - probes >= 3
            wait.until(full, "zero-window probes", 20)
        finally:
            os.kill(scene.source[0].process.pid, signal.SIGCONT)
        client.settimeout(30)
        client.sendall(data[out:])
        stored(client, 150)
        scene.assert_all_delivered(sent + len(data))
    scene.assert_same(keys=160)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


@case(mode=MODES)
def client_with_closed_window(env, mode):
    """The client does not read, so the source answers no more and at last reads no more. The target is
    never told to wait."""
    scene = env.scene()
    scene.load("sets", connections=1, count=20, smallest=400_000, largest=400_000, prefix="big")
    keep(scene)
    client = connect(scene, receive=4096, timeout=30)
    with client:
        ask = b"".join(b"get big%07d\r\n" % n for n in range(20)) + sets(b"key", 50)
        client.sendall(ask)
        wait.until(lambda: scene.target[0].stats()["cmd_set"] == 50, "the target to have it all", 10)
        before = scene.source[0].stats()["cmd_set"]
        assert before < 70, "the source should be waiting for the client"
        taken = 0
        tail = b""
        while not tail.endswith(b"STORED\r\n" * 50):
            piece = client.recv(1 << 18)
            assert piece
            taken += len(piece)
            tail = (tail + piece)[-400:]
        assert taken > 8_000_000, taken
        scene.assert_all_delivered(len(ask))
    mirror.assert_nothing_left(scene, timeout=75)


@case(mode=MODES)
def half_close(env, mode):
    """FIN right behind a lot of requests whose answers are all still to come."""
    scene = env.scene()
    keep(scene)
    sent = 0
    clients = [connect(scene, timeout=30) for _ in range(10)]
    for n, client in enumerate(clients):
        data = sets(b"key%d-" % n, 500, 400)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        sent += len(data)
    for client in clients:
        stored(client, 500)
        assert client.recv(1) == b""
        client.close()
    ledger = scene.assert_all_delivered(sent)
    assert ledger["flows"]["closed"] == 10 and not ledger["flows"]["broken"], ledger["flows"]
    scene.assert_same(keys=5000)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


@case(mode=MODES, loss=(0, 100))
def reset_with_unread_answers(env, mode, loss):
    """close() with answers unread makes a RST. What the source took must all be on the target."""
    scene = env.scene()
    keep(scene)
    table = scene.lab.lose("source", "target", loss) if loss else None
    sent = 0
    for n in range(50):
        client = connect(scene)
        data = sets(b"key%d-" % n, 20, 1000)
        client.sendall(data)
        sent += len(data)
        want = 20 * (n + 1)
        wait.until(lambda want=want: scene.source[0].stats()["cmd_set"] >= want, "the source to have it")
        client.close()  # with 20 answers unread
    ledger = scene.assert_all_delivered(sent)
    assert not ledger["flows"]["broken"], ledger["flows"]
    scene.assert_same(keys=1000)
    if table:
        scene.lab.heal(table)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless(resets_to_target=True)


@case(mode=MODES)
def reset_before_the_rest_was_sent(env, mode):
    """A RST while most of a value is in the client's buffers: the target gets no more than the source."""
    scene = env.scene()
    keep(scene)
    for n in range(30):
        client = connect(scene)
        talk(client, b"key%d-" % n, 5)
        client.setblocking(False)
        client.send(b"set never%d 0 0 3000000\r\n" % n + b"x" * 2_900_000)
        tcp.reset(client)
    scene.doppel.wait_idle()
    scene.assert_same(keys=150)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless(resets_to_target=True)


@case(mode=MODES, end=("server-closes", "client-closes", "client-resets", "reset-lost"))
def port_used_again(env, mode, end):
    """The same 5-tuple again at once, after each way to end: 40 connections, one after another."""
    scene = env.scene()
    keep(scene)
    scene.lab.client.sysctl("net/ipv4/tcp_tw_reuse", 1)
    sent = turns = 0
    deadline = time.monotonic() + 60

    def again():
        try:
            return connect(scene, own_port=40000)
        except OSError:
            return None  # the client's own TIME-WAIT lasts a second (tcp_tw_reuse)
    while turns < (5 if end in ("client-closes", "reset-lost") else 40) and time.monotonic() < deadline:
        client = wait.until(again, "the port to be free again", 20)
        turns += 1
        sent += talk(client, b"turn%d-" % turns)
        if end == "server-closes":
            client.sendall(b"quit\r\n")
            sent += 6
            assert client.recv(1) == b""
            client.close()
        elif end == "client-closes":
            client.close()
        elif end == "client-resets":
            tcp.reset(client)
        else:
            table = scene.lab.lose("client", "source", 1000)
            tcp.reset(client)
            scene.lab.heal(table)
    ledger = scene.assert_all_delivered(sent)
    assert ledger["flows"]["opened"] == turns, (turns, ledger["flows"])
    scene.assert_same(keys=10 * turns)
    if end == "reset-lost":
        return
    mirror.assert_nothing_left(scene, timeout=75)
