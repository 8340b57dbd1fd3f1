# SPDX-License-Identifier: Apache-2.0
"""What cannot be copied is excluded by name and never mangled; and COMPLETE does not hide what is missing."""

import re
import socket
import ssl

from harness import case
from lab import mirror, memcached, wait
from lab.books import named, settled, tell
from lab.guest import guest
from lab.keeper import keep
from lab.raw import RawClient
from lab.stand_in import StandIn
from lab.tcp import connect
from lab.traffic import set_command
from lab.wait import amount

# RFC 8684, 3.1 and 3.2, as in a SYN: version 1 with HMAC-SHA256; address 1 with a token and a random number.
MPTCP = {"capable": b"\x1e\x04\x01\x81", "join": b"\x1e\x0c\x10\x01" + b"tokn" + b"rand"}


@case(option=MPTCP)
def mptcp(env, option):
    """A SYN with MP_CAPABLE or MP_JOIN: the stream may be a part of one, and go on over other connections."""
    scene = env.scene()
    keep(scene)
    client = RawClient(scene.lab, guest(scene.lab, "apple", 50), 51).connect(MPTCP[option])
    for n in range(5):
        client.ask(set_command(b"key%d" % n, 100))
    plain = scene.load("sets", connections=5, count=50, prefix="plain")["sent"]
    ledger = scene.doppel.wait_idle(observed=client.sent + plain)
    assert named(ledger, "mptcp") == client.sent, tell(scene, ledger)
    assert ledger["bytes"]["delivered"] == plain and ledger["flows"]["opened"] == 5, tell(scene, ledger)
    assert not [k for k in scene.target[0].contents() if k.startswith(b"key")]
    client.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case()
def no_room_for_connections(env):
    """The target takes fewer than the source, and ends what is too many: the status tells."""
    scene = env.scene(target_runs=False)
    scene.target = [memcached.Server(scene.lab.target, 11211, connections=30)]
    clients = [connect(scene.lab.client, scene.lab.source.address) for _ in range(40)]
    keep(scene)

    def told():
        for client in clients:
            client.sendall(set_command(b"key", 10))
            assert client.recv(100) == b"STORED\r\n"
        code, said = scene.doppel.health()
        problems = [p for p in said["problems"] if "unjoinable" in p["what"]]
        assert code != 0 or not problems, said
        return problems and "memcached -c" in problems[0]["do"]
    wait.until(told, "the status to tell", 30)


def hello():
    """What a client says first, of the TLS library of this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


@case(pieces=(1, 3))
def tls(env, pieces):
    """A ClientHello, whole or in pieces: no shadow is opened for it, or none stays."""
    scene = env.scene(target_runs=False, ports=())
    source, target = (StandIn(host, 7443, talk="any") for host in (scene.lab.source, scene.lab.target))
    scene.ports = (7443,)
    keep(scene)
    sent = 0
    clients = [connect(scene.lab.client, scene.lab.source.address, 7443) for _ in range(10)]
    for client in clients:
        said = hello()
        assert said[:2] == b"\x16\x03"
        cuts = [0, *(6 * n for n in range(1, pieces)), len(said)]
        for a, b in zip(cuts, cuts[1:]):
            client.sendall(said[a:b])
            assert client.recv(100) == b"ok\n"
        for _ in range(5):  # application data
            record = b"\x17\x03\x03\x00\x40" + b"?" * 64
            client.sendall(record)
            assert client.recv(100) == b"ok\n"
            sent += len(record)
        sent += len(said)
    ledger = scene.doppel.wait_idle(observed=sent)
    assert named(ledger, "tls") == sent == ledger["bytes"]["observed"], tell(scene, ledger)
    assert target.seen()["requests"] == 0, target.seen()
    assert source.seen()["requests"] == 10 * (pieces + 5)

    def told():
        code, said = scene.doppel.health()
        return code == 7 and [p for p in said["problems"] if p["class"] == "left_out" and "tls" in p["what"]]
    wait.until(told, "status to tell that the target gets nothing", 10)
    for client in clients:
        client.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case()
def urgent(env):
    """Urgent data is read beside the stream: a copy, in which it were a byte of the stream, ends before it."""
    scene = env.scene(target_runs=False, ports=())
    source, target = (StandIn(host, 7000, talk="lines") for host in (scene.lab.source, scene.lab.target))
    scene.ports = (7000,)
    keep(scene)
    client = connect(scene.lab.client, scene.lab.source.address, 7000)

    def ask(line):
        client.sendall(line)
        assert client.recv(100) == b"ok\n"
        return len(line)
    before = ask(b"before\n")
    scene.doppel.wait_idle(observed=before)
    after = client.send(b"!", socket.MSG_OOB) + ask(b"after\n") + ask(b"later\n")
    ledger = scene.doppel.wait_idle(observed=before + after)
    assert named(ledger, "urgent") == after, tell(scene, ledger)
    assert source.seen()["keys"] == ["before", "after", "later"], source.seen()
    assert target.seen()["keys"] == ["before"], target.seen()
    client.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case(application=("auto", "any"))
def unjoinable(env, application):
    """A protocol with a beginning, on old connections: the target breaks off whatever joins in the middle. After
    a few tries that is the end of it, by name, and the log says what to do."""
    scene = env.scene(target_runs=False, ports=())
    StandIn(scene.lab.source, 7000, talk="lines", hello=True)
    target = StandIn(scene.lab.target, 7000, talk="lines", hello=True)
    old = [connect(scene.lab.client, scene.lab.source.address, 7000) for _ in range(4)]

    def turn(line):
        for client in old:
            client.sendall(line)
            assert client.recv(100) == b"ok\n"
        return len(line) * len(old)
    turn(b"HELLO\n")
    scene.ports = (7000,)
    keeper = keep(scene, {"application": application}, backoff_ms=10)
    sent = turns = 0

    def given_up():
        nonlocal sent, turns
        sent += turn(b"line %d\n" % turns)
        turns += 1
        return named(scene.doppel.ledger(), "unjoinable") > 0
    try:
        wait.until(given_up, "the mirror to give up", 15)
    except wait.Timeout as e:
        raise AssertionError(f"{e}; {target.seen()['accepted']} connections at the target, "
                             f"{tell(scene, scene.doppel.ledger())}") from None
    for _ in range(300):
        sent += turn(b"line\n")
    joined = target.seen()["accepted"]
    for _ in range(200):
        sent += turn(b"line\n")
    ledger = scene.doppel.wait_idle(observed=sent)
    assert target.seen()["accepted"] == joined <= 10 * len(old), (joined, target.seen()["accepted"])
    assert ledger["bytes"]["observed"] == sent, (sent, tell(scene, ledger))
    keeper.wait_for('"join": "never"')
    assert keeper.said().count('"join": "never"') == 1, keeper.said()
    new = connect(scene.lab.client, scene.lab.source.address, 7000)
    new.sendall(b"HELLO\n")
    assert new.recv(100) == b"ok\n"
    new.sendall(b"new\n")
    wait.until(lambda: "new" in target.seen()["keys"], "a new connection to be mirrored as any")
    for client in (*old, new):
        client.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case(how=("fragment", "ip_options"))
def a_hole_with_a_name(env, how):
    """One request comes as two fragments, or with IP options: it is counted once, by that name, and the
    conversation is mirrored again from the next request on."""
    scene = env.scene()
    keep(scene)
    client = RawClient(scene.lab, guest(scene.lab, "odd", 50), 51).connect()
    for n in range(3):
        client.ask(set_command(b"before%d" % n, 100))
    odd = set_command(b"odd", 600)
    client.ask(odd, how=how)
    for n in range(10):
        client.ask(set_command(b"after%d" % n, 100))
    ledger = settled(scene)
    assert len(scene.source[0].contents()) == 14
    missing = scene.source[0].contents().keys() - scene.target[0].contents().keys()
    assert missing <= {b"odd", b"after0"}, f"{missing} are missing: {tell(scene, ledger)}"
    assert ledger["bytes"]["observed"] == client.sent, (client.sent, tell(scene, ledger))
    if missing:  # a build may be able to copy it
        assert named(ledger, how) == len(odd), tell(scene, ledger)
    client.close()
    mirror.assert_nothing_left(scene, timeout=75)


def complete(scene):
    """What `doppel counters` shows as COMPLETE, in percent; None for "-"."""
    for line in scene.doppel.run("counters").stdout.splitlines():
        found = re.match(r"p\d+ +\S+ +(?:([\d.]+) %|-) ", line)
        if found:
            return float(found[1]) if found[1] else None
    raise AssertionError("no COMPLETE in the counters")


def share(part, whole):
    return 100 * part / whole


@case(limit=("ports_exhausted", "table_full", "join_never"))
def complete_tells_the_truth(env, limit):
    """COMPLETE is delivered ÷ what the user wanted delivered: what a limit left out is missing; what the user
    left out was not meant."""
    scene = env.scene()
    old = scene.start("sets", wait=True, before=1, connections=50, count=amount(1000), prefix="old")
    mapping, settings = {"ports_exhausted": ({}, {"shadow_ports": "20000-20063"}),
                         "table_full": ({}, {"flows": 64}),
                         "join_never": ({"join": "never"}, {})}[limit]
    keep(scene, mapping, **settings)
    sent = scene.load("sets", connections=150, count=amount(3000), rate=2000)["sent"]
    if limit == "join_never":
        old.go()
        sent += old.result()["sent"]
    ledger = scene.doppel.wait_idle(observed=sent)
    b = ledger["bytes"]
    assert b["excluded"] > 0, tell(scene, ledger)
    assert ledger["excluded"][limit] > 0, tell(scene, ledger)
    wanted = b["observed"] - ledger["excluded"]["join_never"]
    shown = complete(scene)
    assert abs(shown - share(b["delivered"], wanted)) < 0.02, f"COMPLETE {shown} %: {tell(scene, ledger)}"


@case()
def complete_while_the_target_is_away(env):
    """What came while the target refused was meant for it."""
    scene = env.scene()
    keep(scene)
    sent = scene.load("sets", connections=20, count=amount(1000))["sent"]
    scene.doppel.wait_idle(observed=sent)
    scene.target[0].kill()
    sent += scene.load("sets", connections=20, count=amount(3000), rate=3000, prefix="missed")["sent"]
    ledger = scene.doppel.wait_idle(observed=sent)
    b = ledger["bytes"]
    assert b["lost"] + b["excluded"] > b["observed"] / 2, tell(scene, ledger)
    shown = complete(scene)
    assert abs(shown - share(b["delivered"], b["observed"])) < 0.02, f"COMPLETE {shown} %: {tell(scene, ledger)}"
