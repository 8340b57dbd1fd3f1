# SPDX-License-Identifier: Apache-2.0
"""Capture is gone for a while, in the middle of one connection: what passed meanwhile is counted to the byte, and
the flow is mirrored again from a request's beginning on."""

import test_join
from harness import case
from lab import capture, mirror
from lab.books import settled, tell
from lab.keeper import keep
from lab.traffic import set_command
from test_client_net import connect, stored

PIECE = b"set gap 0 0 1000000\r\n" + b"x" * 1_000_000 + b"\r\n"


def _gone(env, megabytes, inside):
    scene = env.scene(target_runs=False)
    log = test_join.Log(scene)
    keeper = keep(scene)
    client = connect(scene, timeout=60)
    sent = 0

    def one_by_one(prefix, count):
        nonlocal sent
        for n in range(count):
            request = set_command(b"%s%d" % (prefix, n), 100)
            client.sendall(request)
            stored(client, 1)
            sent += len(request)

    one_by_one(b"before", 10)
    scene.doppel.wait_idle(observed=sent)
    capture.remove(scene, keeper)
    gap = 0
    for _ in range(megabytes):
        client.sendall(PIECE)
        stored(client, 1)
        gap += len(PIECE)
    if inside:
        client.sendall(PIECE[:len(PIECE) // 2])
        gap += len(PIECE) // 2
    capture.restore(scene, keeper)
    sent += gap
    with mirror.Sampler(scene):
        if inside:
            client.sendall(PIECE[len(PIECE) // 2:])
            stored(client, 1)
            sent += len(PIECE) - len(PIECE) // 2
        one_by_one(b"after", 50)
        ledger = settled(scene, 15)
    have = set(scene.target[0].contents())
    said = f"{sent} bytes sent, {gap} of them unseen; {tell(scene, ledger)}"
    print(f"      {said}")
    missing = [n for n in range(50) if b"after%d" % n not in have]
    assert not missing or missing[-1] < 2, f"{len(missing)} sets after the gap are missing: {said}"
    assert {b"before%d" % n for n in range(10)} <= have, have
    assert b"gap" not in have, "the target executed a request that was not whole"
    test_join.assert_no_errors(log)
    b = ledger["bytes"]
    assert b["observed"] == sent, said
    assert b["lost"] + b["excluded"] >= gap, said
    client.close()
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


@case(megabytes=(2, 12, 100), back=("between", "inside"))
def gone_and_back(env, megabytes, back):
    """It comes back between two requests, or inside of one."""
    _gone(env, megabytes, back == "inside")


@case()
def gone_for_gigabytes(env):
    """More than half of the space of sequence numbers."""
    env.allow(60)
    _gone(env, 3000, False)


@case()
def gone_for_a_whole_turn(env):
    """A single small request passes unseen: the hole is as long as that request, and nothing waits for it."""
    scene = env.scene()
    keeper = keep(scene)
    clients = [connect(scene) for _ in range(20)]
    sent = 0

    def turn(prefix):
        nonlocal sent
        for n, client in enumerate(clients):
            request = set_command(b"%s-%d" % (prefix, n), 100)
            client.sendall(request)
            sent += len(request)
            stored(client, 1)
    turn(b"before")
    scene.doppel.wait_idle(observed=sent)
    capture.remove(scene, keeper)
    unseen = sent
    turn(b"unseen")
    unseen = sent - unseen
    capture.restore(scene, keeper)
    for n in range(10):
        turn(b"after%d" % n)
    ledger = settled(scene, 15)
    have = set(scene.target[0].contents())
    missing = [n for n in range(10) if any(b"after%d-%d" % (n, c) not in have for c in range(20))]
    assert not missing or missing[-1] < 1, f"turns {missing} are not whole: {tell(scene, ledger)}"
    assert ledger["bytes"]["observed"] == sent, (sent, tell(scene, ledger))
    assert ledger["lost"]["client_gap"] >= unseen, (unseen, tell(scene, ledger))
    for client in clients:
        client.close()
    mirror.assert_nothing_left(scene, timeout=75)
