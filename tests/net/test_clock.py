# SPDX-License-Identifier: Apache-2.0
"""`attach` alone: what is lost last is sent again without another packet, and nothing goes round when nothing
is waited for."""

import socket
import time

from harness import MODES, case
from lab import mirror, snapshot, wait
from lab.keeper import File, Keeper
from lab.traffic import set_command
from lab.wait import amount
from test_client_net import connect, stored

TICKS = 0.1  # s: of the timer and of the clock, rounded up


def attach(scene, **settings):
    file = File(scene)
    file.write(*((f"p{port}", port) for port in scene.ports), **settings)
    scene.doppel.attach("--config", file.path)
    return file


def say(s, key, size=100):
    """A set that is answered; its bytes. Delayed acknowledgements are sent by the time that this returns."""
    request = set_command(key, size)
    s.sendall(request)
    stored(s, 1)
    return len(request)


def captured(scene):
    return scene.doppel.ledger()["packets"]["captured"]


def rounds(scene):
    """How often the clock's packet went round."""
    return int(scene.lab.source.read("/sys/class/net/doppel1/statistics/tx_packets"))


def assert_silent(scene):
    """Settled means that for a second nothing went round."""
    wait.settled(lambda: rounds(scene), "the clock to stand still", quiet=1)


def quiet_now(scene):
    """After the client's last packet; how many there were."""
    return wait.settled(lambda: captured(scene), "the client to be done", quiet=0.1)


def assert_delivered(scene, sent, packets, ticks=TICKS):
    """All of it within the retransmission timeout and some ticks, and by nothing but the clock: no packet of the
    client came meanwhile."""
    within = scene.doppel.longest_rto() + ticks
    begin = time.monotonic()
    wait.until(lambda: scene.doppel.ledger()["bytes"]["delivered"] == sent, f"{sent} bytes to be delivered",
               within)
    took = time.monotonic() - begin
    assert captured(scene) == packets, "the client said something meanwhile"
    print(f"      {took * 1000:.0f} ms after the path was whole again")


def unacknowledged(scene):
    """Segments of the target's that no acknowledgement has come of."""
    shown = scene.lab.target.run(["ss", "-Htin", "state", "established"]).stdout
    return [line for line in shown.splitlines() if "unacked:" in line]


@case(mode=MODES)
def acknowledgements_ride(env, mode):
    """Those of answers go with what the client says next, and the last one alone; no target waits for one for so
    long that it says its answer again."""
    scene = env.scene()
    attach(scene, keepalive="0s")
    client = connect(scene)
    sent = say(client, b"first")
    scene.doppel.wait_idle(observed=sent)
    requests, before = amount(500), scene.health.moved_by("target", "Tcp.InSegs")
    for n in range(requests):
        sent += say(client, b"key%d" % n)
    scene.doppel.wait_idle(observed=sent)
    wait.until(lambda: not unacknowledged(scene), "the last answer to be acknowledged", 1)
    got = scene.health.moved_by("target", "Tcp.InSegs") - before
    print(f"      {got / requests:.2f} segments for a request")
    assert got < 1.5 * requests, (got, requests)
    for name in ("TcpExt.TCPLossProbes", "Tcp.RetransSegs"):  # some of a machine that stood still
        assert scene.health.moved_by("target", name) < requests / 50, (name, scene.health.moved_by("target", name))
    assert_silent(scene)
    scene.assert_all_delivered(sent)
    client.close()
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


@case(mode=MODES, others=("nothing", "flush", "down"))
def last_segment(env, mode, others):
    """`others` flush the neighbours meanwhile, or set the link down and up."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    attach(scene, keepalive="0s")
    client = connect(scene)
    sent = say(client, b"first")
    scene.doppel.wait_idle(observed=sent)
    table = scene.lab.lose("source", "target", 1000, "tcp dport 11211")
    sent += say(client, b"last")
    packets = quiet_now(scene)
    if others == "flush":
        scene.lab.source.run(["ip", "neigh", "flush", "all"])
    elif others == "down":
        scene.lab.source.run(["ip", "link", "set", "doppel1", "down"])
        scene.lab.source.run(["ip", "link", "set", "doppel1", "up"])
    scene.lab.heal(table)
    if others == "down":  # the packet is lost: the next one of anybody starts the clock again
        wait.settled(lambda: rounds(scene), "the clock to be lost", quiet=0.2)
        sent += say(client, b"one-more")
        packets = quiet_now(scene)
    assert_delivered(scene, sent, packets)
    scene.assert_same(keys=2 + (others == "down"))
    assert_silent(scene)
    client.close()
    mirror.assert_nothing_left(scene)
    scene.doppel.detach()
    changes = snapshot.changes(before, snapshot.take(scene.lab.source))
    assert not changes, "\n".join(changes)
    scene.assert_harmless()


@case(mode=MODES)
def syn(env, mode):
    scene = env.scene()
    attach(scene, keepalive="0s")
    table = scene.lab.lose("source", "target", 1000, "tcp dport 11211")
    client = connect(scene)
    sent = say(client, b"only")
    packets = quiet_now(scene)
    scene.lab.heal(table)
    assert_delivered(scene, sent, packets)
    assert_silent(scene)
    client.close()
    mirror.assert_nothing_left(scene)


@case(mode=MODES)
def fin(env, mode):
    scene = env.scene()
    attach(scene, keepalive="0s")
    client = connect(scene)
    sent = say(client, b"only")
    scene.doppel.wait_idle(observed=sent)
    table = scene.lab.lose("source", "target", 1000, "tcp dport 11211")
    client.close()
    packets = quiet_now(scene)
    assert mirror.leftovers(scene), "the FIN was not lost"
    scene.lab.heal(table)
    mirror.assert_nothing_left(scene, timeout=5)
    assert captured(scene) == packets
    assert_silent(scene)
    scene.assert_harmless()


def reader(host, port=11211):
    """A server that reads when the test does, from a small buffer."""
    def make():
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        s.bind((host.address, port))
        s.listen()
        s.settimeout(wait.patience(10))
        return s
    return host.in_netns(make)


@case(mode=MODES)
def window_update(env, mode):
    """The target's window is shut, and what says that it is open again gets lost."""
    scene = env.scene(target_runs=False)
    server = reader(scene.lab.target)
    attach(scene, keepalive="0s")
    client = connect(scene)
    sent = say(client, b"large", 100_000)
    target, _ = server.accept()
    target.settimeout(wait.patience(10))

    def shut():
        return any(f["window"] == 0 and f["waiting_to_send"] for f in scene.doppel.json("flows")["flows"])
    wait.until(shut, "the target's window to be shut")
    packets = quiet_now(scene)
    table = scene.lab.lose("target", "source", 1000, "tcp sport 11211")
    got = len(target.recv(1 << 20))
    wait.settled(lambda: scene.lab.target.proc_net("snmp"), "the target to have said it", quiet=0.1)
    scene.lab.heal(table)
    while got < sent:
        piece = target.recv(1 << 20)
        assert piece, f"closed after {got} of {sent} bytes"
        got += len(piece)
    assert_delivered(scene, sent, packets)
    assert_silent(scene)
    client.close()


@case(mode=MODES)
def many_at_once(env, mode):
    """Each connection's last request is lost; that takes a few ticks more."""
    scene = env.scene()
    attach(scene, keepalive="0s")
    clients = [connect(scene) for _ in range(amount(500))]
    sent = sum(say(client, b"first%d" % n) for n, client in enumerate(clients))
    scene.doppel.wait_idle(observed=sent)
    table = scene.lab.lose("source", "target", 1000, "tcp dport 11211")
    sent += sum(say(client, b"last%d" % n) for n, client in enumerate(clients))
    packets = quiet_now(scene)
    scene.lab.heal(table)
    assert_delivered(scene, sent, packets, ticks=10 * TICKS)
    scene.assert_same(keys=2 * amount(500))
    assert_silent(scene)
    scene.assert_harmless()


@case(mode=MODES)
def without_its_qdisc(env, mode):
    """Somebody removes it: nothing spins, status tells, and a keeper puts it back."""
    scene = env.scene()
    file = attach(scene, keepalive="0s")
    client = connect(scene)
    sent = say(client, b"first")
    scene.doppel.wait_idle(observed=sent)
    scene.lab.source.run(["tc", "qdisc", "del", "dev", "doppel1", "root"])
    code, told = scene.doppel.health()
    assert code == 4 and "qdisc htb of device doppel1 is gone" in told["problems"][0]["what"], told
    table = scene.lab.lose("source", "target", 1000, "tcp dport 11211")
    then = rounds(scene)
    sent += say(client, b"second")
    quiet_now(scene)
    spun = wait.settled(lambda: rounds(scene), "the clock to stand still", quiet=1) - then
    assert spun < 20, f"{spun} rounds"
    scene.lab.heal(table)
    keeper = Keeper(scene, "--config", file.path, ready="adopted")
    scene.assert_all_delivered(sent)
    scene.lab.source.run(["ip", "link", "set", "doppel1", "alias", "doppel"])  # news: the keeper looks
    scene.lab.source.run(["ip", "link", "set", "eth0", "alias", "traffic"])
    keeper.wait_for("is there again", timeout=40)
    told = scene.doppel.status()["problems"]
    assert not any("qdisc" in problem["what"] for problem in told), told
    keeper.stop()


@case(mode=MODES)
def beside_a_keeper(env, mode):
    """Nothing is sent twice: with a keeper as many resends as without."""
    resent = {}
    for kept in (False, True):
        scene = env.scene()
        if kept:
            keeper = Keeper(scene, *scene.mapping())
        else:
            attach(scene, keepalive="0s")
        clients = [connect(scene) for _ in range(20)]
        sent = sum(say(client, b"first%d" % n) for n, client in enumerate(clients))
        scene.doppel.wait_idle(observed=sent)
        table = scene.lab.lose("source", "target", 1000, "tcp dport 11211")
        sent += sum(say(client, b"last%d" % n) for n, client in enumerate(clients))
        packets = quiet_now(scene)
        scene.lab.heal(table)
        assert_delivered(scene, sent, packets)
        ledger = scene.doppel.ledger()
        resent[kept] = ledger["packets"]["resent"]
        if kept:
            keeper.stop()
        scene.close()
    assert 20 <= resent[True] <= resent[False] + 20, resent
