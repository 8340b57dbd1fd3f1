# SPDX-License-Identifier: Apache-2.0
"""Text that continues the stream exactly, and that the source's TCP or IP drops all the same; and connections of
which the first thing seen is not where a request begins. The source's socket decides."""

import os
import signal
import socket
import struct

from harness import case
from lab import mirror, raw, tcp, wait
from lab.books import tell
from lab.guest import guest
from lab.keeper import keep
from lab.stand_in import StandIn
from lab.tcp import connect
from lab.traffic import set_command
from test_client_net import stored

TCP_QUICKACK = 12
FORGED = b"set forged 0 0 6\r\nforged\r\n"


@case(how=("close", "kill"))
def closed(env, how):
    """The source has closed a connection of a pool, or its process is gone. What the client sends there is reset,
    and sent again on a new connection: the target gets it once."""
    scene = env.scene(target_runs=False, ports=())
    source = StandIn(scene.lab.source, 7000, talk="lines", **({"limit": 1} if how == "close" else {}))
    target = StandIn(scene.lab.target, 7000, talk="lines")
    scene.ports = (7000,)
    keep(scene)
    sent = 0

    def ask(client, line):
        nonlocal sent
        client.sendall(line)
        assert client.recv(100) == b"ok\n"
        sent += len(line)
    for n in range(5):
        old = connect(scene.lab.client, scene.lab.source.address, 7000)
        ask(old, b"before-%d\n" % n)
        scene.doppel.wait_idle(observed=sent)
        if how == "kill":
            source.process.kill()
            source.process.wait()
            source = StandIn(scene.lab.source, 7000, talk="lines")
        try:
            assert old.recv(100) == b""
            old.sendall(b"again-%d\n" % n)
            assert old.recv(100) == b""
        except ConnectionResetError:
            pass
        old.close()
        new = connect(scene.lab.client, scene.lab.source.address, 7000)
        ask(new, b"again-%d\n" % n)
        new.close()
    ledger = scene.doppel.wait_idle(observed=sent)
    wanted = [f"{word}-{n}" for n in range(5) for word in ("before", "again")]
    wait.until(lambda: len(target.seen()["keys"]) >= len(wanted), "all lines on the target")
    assert sorted(target.seen()["keys"]) == sorted(wanted), target.seen()["keys"]
    assert ledger["bytes"]["observed"] == ledger["bytes"]["delivered"] == sent, tell(scene, ledger)
    mirror.assert_nothing_left(scene, timeout=75)


def forge(lab, client, kind):
    """The next segment of a connection, as the source's TCP would take it but for one thing."""
    wire = raw.Wire(lab, lab.client)
    seq, ack = raw.numbers(client)
    ends = (socket.inet_aton(lab.client.address), socket.inet_aton(lab.source.address))
    if kind == "ack":
        ack += 5000
    options = b"\x13\x12" + b"signature of 16 " if kind == "signed" else b""
    packet = raw.ip(ends, raw.tcp(ends, (client.getsockname()[1], 11211), seq, ack, raw.ACK | raw.PSH, FORGED,
                                  options=options))
    macs = wire.header
    if kind == "broadcast":
        macs = b"\xff" * 6 + macs[6:]
    elif kind == "multicast":
        macs = bytes.fromhex("01005e000001") + macs[6:]
    elif kind == "damaged":
        packet = packet[:10] + struct.pack("!H", struct.unpack("!H", packet[10:12])[0] ^ 0x1234) + packet[12:]

    def behind_the_bridge():  # which drops a damaged header itself
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        s.bind(("source", 0x0800))
        return s
    with lab.switch.in_netns(behind_the_bridge) as port:
        port.send(macs + packet)
    wire.close()


@case(kind=("broadcast", "multicast", "damaged", "signed", "ack"))
def dropped(env, kind):
    """A segment at the right place that is for everybody, whose IP header is damaged, that is signed, or that
    acknowledges what was never sent. The real bytes of the same place follow."""
    scene = env.scene()
    keep(scene)
    client = connect(scene.lab.client, scene.lab.source.address)
    requests = [set_command(b"key%d" % n, 20) for n in range(4)]
    for n, request in enumerate(requests):
        if n == 2:
            scene.doppel.wait_idle()
            forge(scene.lab, client, kind)
        client.sendall(request)
        stored(client, 1)
    scene.assert_all_delivered(sum(map(len, requests)))
    scene.assert_same(keys=4)
    client.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case(size=(1, 500))
def shut_window(env, size):
    """The source does not read, and its window is shut. Text that probes it is dropped there, and what comes in
    that place later is other text."""
    scene = env.scene(target_runs=False, ports=())
    scene.lab.source.sysctl("net/ipv4/tcp_rmem", "4096 4096 4096")
    source, target = (StandIn(host, 7000, talk="lines") for host in (scene.lab.source, scene.lab.target))
    scene.ports = (7000,)
    keep(scene)
    client = raw.RawClient(scene.lab, guest(scene.lab, "apple", 50), 51, server_port=7000).connect()
    client.ask(b"before\n", b"ok\n")
    os.kill(source.process.pid, signal.SIGSTOP)
    client.fill(b"x")
    for _ in range(3):
        client.probe(b"y" * size)
    ledger = scene.doppel.wait_idle(observed=client.sent)
    assert ledger["bytes"]["observed"] == client.sent, (client.sent, tell(scene, ledger))
    os.kill(source.process.pid, signal.SIGCONT)
    client.wait_for_window()
    client.ask(b"z\nafter\n", b"ok\nok\n")
    scene.assert_all_delivered(client.sent)
    wait.until(lambda: "after" in target.seen()["keys"], "what follows on the target")
    assert target.seen()["keys"] == source.seen()["keys"], target.seen()["keys"]
    client.close()


@case(quickack=(0, 1))
def cookies(env, quickack):
    """Under SYN cookies the source has no request socket: the ACK of the handshake proves itself, also where it
    comes with the first request."""
    scene = env.scene()
    scene.lab.source.sysctl("net/ipv4/tcp_syncookies", 2)
    keep(scene)

    def make():
        s = socket.socket()
        s.settimeout(10)
        s.setsockopt(socket.IPPROTO_TCP, TCP_QUICKACK, quickack)
        s.connect((scene.lab.source.address, 11211))
        return s
    sent = 0
    for n in range(10):
        with scene.lab.client.in_netns(make) as client:
            for turn in range(2):
                request = set_command(b"key%d-%d" % (n, turn), 20)
                client.sendall(request)
                stored(client, 1)
                sent += len(request)
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=20)


@case()
def amid_an_upload(env):
    """Attached in the middle of a value that consists of lines which look like commands, and begin its segments:
    the target executes none of them."""
    scene = env.scene()
    client = connect(scene.lab.client, scene.lab.source.address)
    line = b"set x 0 0 1\r\ny\r\n"
    piece, pieces = line * 90, 200
    client.sendall(b"set big 0 0 %d\r\n" % (len(piece) * pieces))
    client.sendall(piece)
    keep(scene)
    with scene.source[0].admin() as admin:
        for _ in range(pieces - 1):
            client.sendall(piece)
            admin.keys()  # a moment, so that most pieces are segments of their own
    client.sendall(b"\r\n")
    stored(client, 1)
    after = set_command(b"after", 20)
    client.sendall(after)
    stored(client, 1)
    ledger = scene.doppel.wait_idle(observed=len(piece) * (pieces - 1) + 2 + len(after))
    have = set(scene.target[0].contents())
    assert have <= {b"after"}, have
    assert ledger["bytes"]["delivered"] <= len(after), tell(scene, ledger)
    client.close()


@case()
def begins_beyond_a_hole(env):
    """The connection is older than the mirror, the first segment that is seen lies beyond one that was lost: what
    fills the hole is counted with it."""
    scene = env.scene()
    client = tcp.connect(scene.lab.client, scene.lab.source.address)
    client.sendall(set_command(b"old", 20))
    stored(client, 1)
    keep(scene)
    requests = [set_command(b"key%d" % n, 20) for n in range(3)]
    table = scene.lab.lose("client", "source", 1000)
    client.sendall(requests[0])
    client.sendall(requests[1][:5])
    scene.lab.heal(table)
    client.sendall(requests[1][5:])
    stored(client, 2)
    client.sendall(requests[2])
    stored(client, 1)
    ledger = scene.doppel.wait_idle(observed=sum(map(len, requests)))
    have = set(scene.target[0].contents())
    assert ledger["bytes"]["delivered"] == sum(len(set_command(key, 20)) for key in have), (have, tell(scene, ledger))
    client.close()
