# SPDX-License-Identifier: Apache-2.0
"""What `doppel status` and the keeper say of a target: see test_health.py."""

import os
import signal
import socket
import sys
import threading
import time

from harness import case
from lab import shape, tcp, wait
from lab.relay import Relay
from lab.traffic import set_command
from lab.wait import amount
from patient import HOW, TARGET, Patient
from test_client_net import connect, stored
from test_clock import say


@case(how=HOW, slow=True)
def target_killed(env, how):
    p = Patient(env, how)
    p.scene.target[0].kill()
    problem = p.falls_ill({"refusing"}, TARGET, words="refuses connections")
    assert f"{p.scene.lab.target.address}:11211" in problem["what"] and problem["do"], problem
    assert problem["since"], problem
    assert p.state()["state"] == "refusing", p.state()
    p.scene.start_target()
    p.recovers({"refusing"})
    assert p.state()["state"] == "up", p.state()
    p.logged("refuses connections")


@case(how=HOW, slow=True)
def target_stopped(env, how):
    """Its kernel goes on taking what comes, and nobody answers."""
    p = Patient(env, how)
    pid = p.scene.target[0].process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        p.falls_ill({"hung", "silent"}, TARGET, words="answers none")
    finally:
        os.kill(pid, signal.SIGCONT)
    p.recovers({"hung", "silent", "slow"})
    p.logged("answers none")


@case(how=HOW, slow=True)
def target_stopped_from_the_start(env, how):
    """It has never answered anything."""
    scene = env.scene()
    pid = scene.target[0].process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        p = Patient(env, how, scene=scene, load=None)
        client = connect(scene)
        for turn in range(3):
            say(client, b"set%d" % turn)
        p.falls_ill({"hung"}, TARGET, words="answers none")
        p.stays_ill({"hung", "silent"}, 5)
    finally:
        os.kill(pid, signal.SIGCONT)
    p.recovers({"hung", "silent"})
    client.close()


@case(how=HOW, slow=True)
def nobody_asks_again(env, how):
    """A refusal is over when the target is back, and not only when a client finds it so."""
    p = Patient(env, how, load=None)
    client = p.client()
    problem = p.is_refused(client)
    assert ", the last time " in problem["what"], problem
    p.scene.start_target()
    p.recovers({"refusing"})
    p.logged("refuses connections")
    client.close()


@case(how=HOW, slow=True)
def back_beside_one_that_drops_all(env, how):
    """One target's silence keeps nobody from finding that another one is back."""
    scene = env.scene(ports=(11211, 11212))
    p = Patient(env, how, load=None, scene=scene, more=(("drops", 11212),), syn_tries=1)
    scene.lab.lose("source", "target", 1000, "tcp dport 11212")
    client, other = connect(scene), tcp.connect(scene.lab.client, scene.lab.source.address, 11212)
    for one in (client, other):
        say(one, b"one")
    p.until(lambda: scene.doppel.counters()["mappings"][1]["targets"][0]["last"]["gave_up"], "one to be given up")
    p.is_refused(client)
    scene.start_target()
    p.until(lambda: p.state()["state"] == "up", "the target that is back to be found")
    for one in (client, other):
        one.close()


@case(slow=True)
def many_targets_refuse(env):
    """What asks them stays within its descriptors, and finds each that is back."""
    scene = env.scene()
    rows = [{"name": f"m{i}", "device": "eth0", "ports": f"{14000 + 16 * i}-{14015 + 16 * i}",
             "targets": [{"address": scene.lab.target.address, "port": 14000 + 16 * i}]} for i in range(63)]
    p = Patient(env, "run", load=None, scene=scene, more=rows)
    listeners = [scene.lab.source.in_netns(lambda: socket.create_server(("", row["targets"][0]["port"])))
                 for row in rows]
    clients = [tcp.connect(scene.lab.client, scene.lab.source.address, row["targets"][0]["port"]) for row in rows]

    def all_refuse():
        for client in clients:
            client.sendall(b"x")
        return sum(t["state"] == "refusing" for t in scene.doppel.status()["targets"]) == len(rows)
    before = len(os.listdir(f"/proc/{p.keeper.pid}/fd"))
    p.until(all_refuse, "all targets to refuse")
    back = [scene.lab.target.in_netns(lambda: socket.create_server(("", row["targets"][0]["port"])))
            for row in rows]
    counts = []

    def all_back():
        counts.append(len(os.listdir(f"/proc/{p.keeper.pid}/fd")))
        return not [t for t in scene.doppel.status()["targets"] if t["state"] == "refusing"]
    p.until(all_back, "all targets to be back")
    assert before < max(counts) < before + 300, (before, counts)
    for one in (*listeners, *clients, *back):
        one.close()


@case(how=HOW, slow=True)
def far_target_is_back(env, how):
    """What asks a target whether it is back waits for an answer that takes 300 ms, and never resets it."""
    scene = env.scene(offload="all-off")
    far = Relay(scene.lab, 1000, shortest_ms=300, longest_ms=300, sender="target")
    p = Patient(env, how, load=None, scene=scene)
    client = p.client()
    p.is_refused(client)
    p.resets()
    scene.start_target()
    p.recovers({"refusing"})
    assert scene.target[0].stats()["total_connections"] > 1, "nobody asked it"
    assert not p.resets(), "it was reset"
    far.close()
    client.close()


@case(how=HOW, ports=("11210-11214", "11190-11214"), slow=True)
def range_that_is_not_all_served(env, how, ports):
    """A refusal is over when one port of the range takes connections: the others never did."""
    scene = env.scene()
    first = {"address": scene.lab.target.address, "port": int(ports.split("-")[0])}
    p = Patient(env, how, load=None, scene=scene, mapping={"ports": ports, "targets": [first]})
    client = p.client()
    p.is_refused(client)
    scene.start_target()
    p.recovers({"refusing"})
    p.logged("refuses connections")
    client.close()


@case(how=HOW, slow=True)
def slow_reader_is_no_hang(env, how):
    """The source answers for long, and the target did at once; what another says wants no answer."""
    p = Patient(env, how, load=None)
    p.scene.lab.client.sysctl("net/ipv4/tcp_rmem", "4096 4096 4096")
    reader, writer = connect(p.scene), connect(p.scene)
    writer.sendall(set_command(b"big", 900_000))
    stored(writer, 1)
    reader.sendall(b"get big\r\n" * 4)
    end = time.monotonic() + 9
    while time.monotonic() < end:
        assert reader.recv(20_000), "the source closed"
        writer.sendall(b"set small 0 0 5 noreply\r\nhello\r\n")
        time.sleep(0.1)  # as a slow reader would
        code, said = p.scene.doppel.health()
        assert code == 0, said
    for client in (reader, writer):
        client.close()


# A server of sets. Of every second connection it answers so many, and then no more; it reads them all.
HALF = """
import socket, sys, threading
listening = socket.create_server(("", 11211), backlog=100)
def serve(connection, answers):
    lines = connection.makefile("rb")
    while lines.readline() and lines.readline():
        answers -= 1
        if answers >= 0:
            connection.sendall(b"STORED\\r\\n")
    connection.close()
for n in range(1000):
    threading.Thread(target=serve, args=(listening.accept()[0], [1e9, int(sys.argv[1])][n % 2])).start()
"""


def half(env, answers):
    """A scene with such a target."""
    scene = env.scene(target_runs=False)
    scene.lab.target.popen([sys.executable, "-c", HALF, str(answers)])
    wait.until(lambda: scene.lab.target.run(["ss", "-ltnH", "sport = :11211"]).stdout, "the target to listen")
    return scene


@case(how=HOW, answers=(0, 20), slow=True)
def some_connections_hang(env, how, answers):
    """Others are answered, and next to nothing waits: the source's answers on the same connections tell."""
    scene = half(env, answers)
    p = Patient(env, how, load=None, scene=scene)
    load = scene.start("sets", connections=10, count=100_000, rate=amount(400))
    problem = p.falls_ill({"hung"}, TARGET, words="connections to target")
    assert problem["since"], problem
    p.until(lambda: any("5 of 10 connections" in one["what"] for one in scene.doppel.status()["problems"]), "all five")
    assert p.state()["state"] == "hung", p.state()
    load.end()
    p.recovers({"hung"})


@case(how=HOW, slow=True)
def connections_left_alone(env, how):
    """Their clients said something once; the target has never answered them."""
    scene = half(env, 0)
    p = Patient(env, how, load=None, scene=scene)
    clients = [connect(scene) for _ in range(4)]
    for client in clients:
        say(client, b"once")
    p.falls_ill({"hung"}, TARGET, words="connections to target")
    p.until(lambda: any("2 of 4 connections" in one["what"] for one in scene.doppel.status()["problems"]), "both")
    for client in clients:
        client.close()
    p.recovers({"hung"})


@case(how=HOW, slow=True)
def payload_alone_is_cut(env, how):
    """The target answers the keepalives of others: its window is not what is shut."""
    p = Patient(env, how, load=None, keepalive="1s")
    quiet, asking = connect(p.scene), connect(p.scene)
    for client in (quiet, asking):
        say(client, b"one")
    p.scene.doppel.wait_idle()
    cut = p.scene.lab.lose("source", "target", 1000, "tcp dport 11211 ip length > 100")
    say(asking, b"two")
    problem = p.falls_ill({"silent"}, TARGET, words="acknowledges nothing: ")
    assert "window" not in problem["what"], problem
    p.scene.lab.heal(cut)
    p.recovers({"silent"})
    for client in (quiet, asking):
        client.close()


@case(how=HOW, slow=True)
def window_shut(env, how):
    """Its kernel answers, and takes nothing: also between two probes, which are ever more seldom."""
    p = Patient(env, how, load=None)
    pid = p.scene.target[0].process.pid
    client = connect(p.scene)
    os.kill(pid, signal.SIGSTOP)
    try:
        for turn in range(20):
            say(client, b"large%d" % turn, 500_000)
        problem = p.falls_ill({"silent"}, TARGET, words="that its window is shut")
        assert "takes nothing: it said" in problem["what"], problem
    finally:
        os.kill(pid, signal.SIGCONT)
    p.recovers({"silent", "slow", "hung"})
    client.close()


@case(how=HOW, slow=True)
def target_host_gone(env, how):
    p = Patient(env, how)
    p.scene.lab.unplug("target")
    problem = p.falls_ill({"silent"}, TARGET, words="acknowledges nothing: ")
    assert "wait for it" in problem["what"], problem
    assert p.state()["waits"] > 0, p.state()
    p.scene.lab.plug("target")
    p.recovers({"silent"})
    p.logged("acknowledges nothing: ")


@case(how=HOW, slow=True)
def target_slow(env, how):
    """Its link takes a twentieth of what is mirrored, and never stands still."""
    p = Patient(env, how, load={"smallest": 6000, "largest": 6000})
    shape.narrow(p.scene.lab, "target", 1, 100)
    problem = p.falls_ill({"slow"}, TARGET, words="is slow")
    assert "wait for it" in problem["what"], problem
    shape.widen(p.scene.lab, "target")
    p.recovers({"slow", "silent", "hung"})


class Closing:
    """A server at that host that reads a request and closes: a proxy whose own server is gone."""

    def __init__(self, host):
        self.listener = host.in_netns(lambda: socket.create_server((host.address, 11211), backlog=1000))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            client.recv(65536)
            client.close()

    def end(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@case(how=HOW, slow=True)
def closes_without_an_answer(env, how):
    """Its connections are short, so that none is open and owed for long."""
    scene = env.scene(target_runs=False)
    closing = Closing(scene.lab.target)
    p = Patient(env, how, load=None, scene=scene)
    over = threading.Event()

    def ask():
        while not over.is_set():
            client = connect(scene)
            say(client, b"short")
            client.close()
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        p.falls_ill({"hung"}, TARGET, words="answers none")
        p.stays_ill({"hung"}, 3)
        closing.end()
        scene.start_target()
        p.recovers({"hung", "refusing"})
    finally:
        over.set()
        asking.join()
