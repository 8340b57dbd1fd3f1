# SPDX-License-Identifier: Apache-2.0
"""A stranger sends what pretends to be the client's. What the source's TCP does not take changes nothing:
every genuine request reaches the target, nothing forged does, and the ledger counts what the source took."""

import random
import time

from harness import case
from lab import mirror, tcp, wait
from lab.books import named, settled, tell
from lab.guest import guest
from lab.keeper import keep
from lab.load import checked
from lab.raw import ACK, FIN, PSH, RST, SYN, WRAP, RawClient, Wire, numbers
from lab.stand_in import StandIn
from lab.traffic import set_command
from test_client_net import connect, stored

MEGABYTE = 1 << 20
FORGED = b"set forged 0 0 6\r\nforged\r\n"
KINDS = ("data", "syn", "syn-ack", "fin", "rst", "ack")
STEP = 4 * MEGABYTE - 1024


class Talker:
    """A genuine connection, whose numbers are known to the test."""

    def __init__(self, scene, name):
        self.name, self.sent, self.turn = name, 0, 0
        self.socket = connect(scene)
        self.ports = (self.socket.getsockname()[1], 11211)

    def talk(self, count):
        for _ in range(count):
            request = set_command(b"%s-%d" % (self.name.encode(), self.turn), 100)
            self.turn += 1
            self.socket.sendall(request)
            stored(self.socket, 1)
            self.sent += len(request)

    def keys(self):
        return {b"%s-%d" % (self.name.encode(), n) for n in range(self.turn)}


class Stranger:
    """A third host that sends in the client's name; with `known`, near the numbers of the connection."""

    def __init__(self, scene, name, number):
        self.scene = scene
        self.host = guest(scene.lab, name, number)
        self.wire = Wire(scene.lab, self.host)
        self.dice = random.Random(number)

    def firewalled(self):
        """The source lets nothing of this host come as far as its TCP."""
        self.scene.lab.source.run(["nft", "-f", "-"], stdin=f"""
table inet stranger {{
  chain keep_out {{
    type filter hook prerouting priority raw; policy accept;
    ether saddr {self.host.mac()} counter drop
  }}
}}
""")
        return self

    def _send(self, talker, seq, ack, flags, payload=b""):
        self.wire.segment(self.scene.lab.client.address, talker.ports, seq, ack, flags, payload)

    def blind(self, talker, kind):
        """1,025 segments that cover the whole space of sequence numbers, and acknowledge what the source has
        never sent."""
        _, rcv = numbers(talker.socket)
        ack = rcv + (1 << 30)
        start = self.dice.randrange(WRAP)
        for n in range(1025):
            self._one(talker, kind, start + n * STEP, ack)

    def near(self, talker, kind):
        """Ahead of the window with a right ACK; in it, and at its very edge, with an ACK that the source must
        refuse; behind it, with other bytes than the client's."""
        snd, rcv = numbers(talker.socket)
        for ahead in (MEGABYTE, 2 * MEGABYTE, 4 * MEGABYTE - 2000, 5 * MEGABYTE, 1 << 30, (1 << 31) + 7):
            self._one(talker, kind, snd + ahead, rcv)
        for ahead in (1, 1000, 20_000):
            self._one(talker, kind, snd + ahead, rcv + (1 << 30))
        if kind != "rst":  # exactly at RCV.NXT a RST is right whatever it acknowledges
            self._one(talker, kind, snd, rcv + (1 << 30))
        for behind in (len(FORGED), 200):
            self._one(talker, kind, snd - behind - (kind in ("fin", "syn", "syn-ack")), rcv)

    def _one(self, talker, kind, seq, ack):
        if kind == "data":
            self._send(talker, seq, ack, ACK | PSH, FORGED)
        elif kind == "syn":
            self._send(talker, seq, 0, SYN)
        elif kind == "syn-ack":  # as if another connection had begun: a SYN and the ACK after it
            self._send(talker, seq - 1, 0, SYN)
            self._send(talker, seq, ack, ACK)
        elif kind == "fin":
            self._send(talker, seq, ack, ACK | FIN)
        elif kind == "rst":
            self._send(talker, seq, ack, RST)
        else:
            self._send(talker, seq, ack, ACK)


def at_rest(scene, talker):
    """Until the target has executed what this connection has sent."""
    last = b"%s-%d" % (talker.name.encode(), talker.turn - 1)
    with scene.target[0].admin() as admin:
        wait.until(lambda: last in admin.keys(), f"{last!r} on the target")
    wait.settled(lambda: scene.doppel.ledger()["bytes"]["delivered"], "its acknowledgement", 0.1)


def spoiled(talkers, have):
    return {t.name: f"{len(t.keys() - have)} of {t.turn} missing" for t in talkers if t.keys() - have}


@case(how=("blind", "near"))
@case(how=("near",), families=("v6", "v6_to_v4"))
def segments(env, how):
    """Each kind against a connection of its own, from a host that the source hears and from one that its
    firewall drops. The connections go on at once, and again when what was forged is 6 s old."""
    scene = env.scene()
    keep(scene)
    strangers = {"heard": Stranger(scene, "stranger", 30), "dropped": Stranger(scene, "dropped", 31).firewalled()}
    talkers = []
    with mirror.Sampler(scene):
        for who, stranger in strangers.items():
            for kind in KINDS:
                talker = Talker(scene, f"{kind}-{who}")
                talkers.append(talker)
                talker.talk(3)
                at_rest(scene, talker)
                getattr(stranger, how)(talker, kind)
                talker.talk(10)
        time.sleep(6)  # the age of what was forged
        for talker in talkers:
            talker.talk(20)
    ledger = settled(scene)
    wanted = set(scene.source[0].contents())
    assert wanted == set().union(*(t.keys() for t in talkers)), "the source itself was deceived"
    have = set(scene.target[0].contents())
    assert not have - wanted, have - wanted
    missing = spoiled(talkers, have)
    assert not missing, f"{missing}; {tell(scene, ledger)}"
    scene.assert_all_delivered(sum(t.sent for t in talkers))
    scene.assert_same()
    scene.assert_same_commands()
    for talker in talkers:
        talker.socket.close()
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless(resets_to_client=True)


@case()
def checksum_of_a_pseudo_header(env):
    """A segment whose checksum is the bare sum of its pseudo-header is a damaged one: on the wire nobody has
    the rest of it still to come. The real bytes of the same place follow."""
    scene = env.scene()
    keep(scene)
    host = guest(scene.lab, "stranger", 30)
    client = RawClient(scene.lab, host, 50).connect()
    client.ask(set_command(b"before", 50))
    scene.doppel.wait_idle()
    errors = scene.health.moved_by("source", "Tcp.InCsumErrors")
    client.send(set_command(b"forged", 50), "bad-checksum")
    wait.until(lambda: scene.health.moved_by("source", "Tcp.InCsumErrors") > errors, "the source to refuse it")
    client.ask(set_command(b"honest", 50))
    client.ask(set_command(b"after", 50))
    settled(scene)
    have = set(scene.target[0].contents())
    assert have == {b"before", b"honest", b"after"} == set(scene.source[0].contents()), have
    scene.assert_all_delivered(client.sent)
    client.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case()
def eighteen_that_fall_silent(env):
    """18 connections of one host leave nearly 4 MB behind a hole each, and say nothing more. The source takes
    next to nothing of it; others lose nothing, and the store is all but free within a minute."""
    scene = env.scene()
    keep(scene)
    host = guest(scene.lab, "hog", 32)
    hogs = [tcp.connect(host, scene.lab.source.address) for _ in range(18)]
    sent = 0
    for n, hog in enumerate(hogs):
        request = set_command(b"hog%d" % n, 20)
        hog.sendall(request)
        stored(hog, 1)
        sent += len(request)
    wire = Wire(scene.lab, host)
    with mirror.Sampler(scene):
        for hog in hogs:
            wire.beyond(hog, 1000, 4_190_000)
        result = scene.load("sets", connections=16, count=1600, prefix="victim")
    sent += result["sent"]
    have = set(scene.target[0].contents())
    missing = [n for n in range(1600) if b"victim%07d" % n not in have]
    store = scene.doppel.counters()["store"]
    assert not missing, f"{len(missing)} sets of others are missing, {store}, {tell(scene, scene.doppel.ledger())}"

    def free():
        return scene.doppel.counters()["store"]["used"] < store["chunks"] / 20
    wait.until(free, "the store to be free", 60)
    for hog in hogs:
        tcp.reset(hog)
    wire.close()
    mirror.assert_nothing_left(scene, timeout=75)
    ledger = scene.doppel.ledger()
    assert ledger["bytes"]["delivered"] == sent, (sent, tell(scene, ledger))


@case()
def auto_learns_nothing_from_a_stranger(env):
    """One segment of no connection that looks like a memcached command: old connections of another protocol
    join as if it had not come."""
    scene = env.scene(target_runs=False, ports=())
    source, target = (StandIn(host, 7000, talk="lines") for host in (scene.lab.source, scene.lab.target))
    clients = [connect(scene, port=7000) for _ in range(5)]

    def turn(number):
        for n, client in enumerate(clients):
            client.sendall(b"hello %d from %d\n" % (number, n))
            assert client.recv(100) == b"ok\n"
    turn(0)
    scene.ports = (7000,)
    keep(scene)
    stranger = Stranger(scene, "stranger", 30)
    stranger.wire.segment(stranger.host.address, (45678, 7000), 1000, 1, ACK | PSH, b"get a\r\n")
    wait.until(lambda: mirror.events(scene).get("no_socket"), "the forged command to be seen")
    for number in range(1, 13):
        turn(number)
    ledger = settled(scene)
    assert ledger["flows"]["joined"] == 5, tell(scene, ledger)
    assert named(ledger, "not_joined") == ledger["bytes"]["excluded"], tell(scene, ledger)
    have = target.seen()
    assert not have["garbage"] and {f"hello 12 from {n}" for n in range(5)} <= set(have["keys"]), have
    assert source.seen()["requests"] == 13 * 5


@case()
def a_load_goes_on_under_it(env):
    """A stranger sweeps the whole space of sequence numbers of each of 8 busy connections, with all kinds."""
    scene = env.scene()
    keep(scene)
    stranger = Stranger(scene, "stranger", 30)
    load = scene.start("sets", connections=8, count=wait.amount(8000), rate=2000, prefix="busy")
    with mirror.Sampler(scene):
        wait.until(lambda: scene.doppel.ledger()["flows"]["open"] == 8, "eight shadows")
        for flow in scene.doppel.json("flows")["flows"]:
            port = int(flow["client"].rsplit(":", 1)[1])
            for n in range(1025):
                at = stranger.dice.randrange(WRAP)
                stranger.wire.segment(scene.lab.client.address, (port, 11211), at, at ^ 0x55555555,
                                      (ACK | PSH, SYN, ACK | FIN, RST, ACK)[n % 5],
                                      FORGED if n % 5 == 0 else b"")
        result = checked(load.result())
    scene.assert_all_delivered(result["sent"])
    scene.assert_same(keys=wait.amount(8000))
    mirror.assert_nothing_left(scene, timeout=75)
