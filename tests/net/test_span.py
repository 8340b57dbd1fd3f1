# SPDX-License-Identifier: Apache-2.0
"""A mirror port that does not deliver everything: what is missing there was on the server all the same, as the
client's later bytes prove. It costs the requests that were hit, and hardly more."""

from harness import case
from lab import memcached, mirror, tcp, wait
from lab.books import named, settled, tell
from lab.keeper import File, Keeper
from lab.load import checked
from lab.span import Span
from lab.traffic import set_command
from lab.wait import amount
from test_client_net import stored

ALONE = True  # A mirror port that must keep up.


def span_scene(env):
    """The source is the mirror's host; the server is another."""
    scene = env.scene()
    scene.source[0].kill()
    span = Span(scene.lab)
    scene.source = [memcached.Server(span.server)]
    file = File(scene)
    file.write(span.mapping())
    scene.kept = (Keeper(scene, "--config", file.path), file)
    return scene, span


def assert_bounded(scene, span, sent, requests):
    """Missing: at most twice the requests that were hit; in flight: nothing."""
    ledger = settled(scene, 15)
    span.assert_fast_enough()
    want, have = scene.source[0].contents(), scene.target[0].contents()
    assert len(want) == requests, len(want)
    missing = len(want.keys() - have.keys())
    said = f"{span.hit} frames with requests hit of {span.frames}; {missing} missing; {tell(scene, ledger)}"
    print(f"      {said}")
    assert span.hit > 0, said
    assert missing <= 2 * span.hit, said
    wrong = memcached.differences({k: want[k] for k in have}, have)
    assert not wrong, wrong
    assert ledger["bytes"]["observed"] == sent, f"{sent} sent; {said}"
    return ledger


def _load(scene, span, count=amount(6000), **faults):
    """Sets on 16 connections, one at a time; the faults begin when all are open."""
    load = scene.start("sets", connections=16, count=count, rate=amount(2000), wait=True,
                       address=span.server.address)
    wait.until(lambda: scene.doppel.ledger()["flows"]["open"] == 16, "shadows for all")
    for name, value in faults.items():
        setattr(span, name, value)
    load.go()
    with mirror.Sampler(scene):
        result = checked(load.result())
    for name in faults:
        setattr(span, name, 0)
    return result["sent"], count


@case()
def whole(env):
    """What the others are to be compared with."""
    scene, span = span_scene(env)
    sent, count = _load(scene, span)
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=count)
    span.assert_fast_enough()
    span.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case(per_mille=(1, 10))
def frames_lost(env, per_mille):
    scene, span = span_scene(env)
    # Of one in a thousand frames some must be hit, on a slow machine as well.
    sent, count = _load(scene, span, count=6000 if per_mille == 1 else amount(6000), drop=per_mille / 1000)
    assert_bounded(scene, span, sent, count)
    span.close()


@case()
def frames_cut(env):
    """1 % of the frames arrive without their ends, as at a port with a smaller MTU or a snap length."""
    scene, span = span_scene(env)
    sent, count = _load(scene, span, cut=0.01)
    ledger = assert_bounded(scene, span, sent, count)
    # Where a second one hits a flow that waits for a boundary, it is told as that.
    assert span.hit_bytes / 2 < named(ledger, "truncated") <= span.hit_bytes, (span.hit_bytes, tell(scene, ledger))
    span.close()


@case(then=("more", "fin"))
def a_request_lost(env, then):
    """100 connections: the second of four requests is not seen; or the last, with only a FIN behind it."""
    scene, span = span_scene(env)
    span.lose = lambda payload: b"hole" in payload
    sent = 0
    for n in range(100):
        client = tcp.connect(scene.lab.client, span.server.address)
        for turn in range(4):
            hole = turn == (1 if then == "more" else 3)
            request = set_command(b"%s%d-%d" % (b"hole" if hole else b"key", n, turn), 100)
            client.sendall(request)
            stored(client, 1)
            sent += len(request)
        client.close()
    ledger = assert_bounded(scene, span, sent, 400)
    assert span.hit == 100, span.hit
    assert ledger["lost"]["client_gap"] >= span.hit_bytes, (span.hit_bytes, tell(scene, ledger))
    mirror.assert_nothing_left(scene, timeout=20)
    span.close()
