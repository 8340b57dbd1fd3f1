# SPDX-License-Identifier: Apache-2.0
"""Packets are lost between source and target: everything arrives all the same, soon."""

import time

from harness import MODES, case
from lab import mirror
from lab.keeper import keep
from lab.network import FAMILIES
from lab.wait import amount

KEYS, CONNECTIONS = amount(20000), 64
AFTER = 30  # s, within which the last byte must be there

measured = []  # rows of the table in docs/loss.md


def deliver(scene, sent, begin):
    """Waits until the target has all; returns how long after `begin` that was."""
    scene.doppel.wait_idle(observed=sent, timeout=AFTER, stuck=AFTER)
    return time.monotonic() - begin


def tell(title, row):
    if not measured:
        print(f"      {'loss':<24} {'load s':>7} {'rest s':>7} {'resent':>7} {'fast':>6} {'timeout':>7}")
    measured.append(title)
    print(f"      {title:<24} {row[0]:>7.1f} {row[1]:>7.1f} {row[2]:>7} {row[3]:>6} {row[4]:>7}", flush=True)


def run(scene, title, paths, **load):
    """20,000 sets with the loss of `paths` [(sender, receiver, per mille)]; then all is there."""
    keeper = keep(scene)
    tables = [scene.lab.lose(*path) for path in paths]
    with mirror.Sampler(scene):
        begin = time.monotonic()
        sent = scene.load("sets", connections=CONNECTIONS, count=KEYS, **load)["sent"]
        over = time.monotonic()
        rest = deliver(scene, sent, over)
    ledger = scene.assert_all_delivered(sent)
    flows = ledger["flows"]
    assert flows["opened"] == CONNECTIONS and not flows["joined"] and not flows["broken"], flows
    said = mirror.events(scene)
    tell(title, (over - begin, rest, ledger["packets"]["resent"], said.get("fast_retransmit", 0),
                 said.get("timeout_retransmit", 0)))
    scene.assert_same(keys=KEYS)
    for table in tables:
        scene.lab.heal(table)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()
    return keeper


@case(mode=MODES)
def none(env, mode):
    """What the others are to be compared with."""
    run(env.scene(), "none", [])


@case(mode=MODES, per_mille=(1, 10, 50), way=("to-target", "from-target", "both"))
@case(mode=MODES[:1], per_mille=(10,), way=("both",), families=FAMILIES)
def one_request_at_a_time(env, mode, per_mille, way):
    """Nothing follows a request that is lost but the next one, after the source's answer."""
    to, back = ("source", "target", per_mille), ("target", "source", per_mille)
    paths = {"to-target": [to], "from-target": [back], "both": [to, back]}[way]
    run(env.scene(), f"{per_mille / 10:g} % {way}", paths)


@case(mode=MODES, per_mille=(10, 50))
def long_flights(env, mode, per_mille):
    """Many segments on the way at once: losses are found by SACK, and several in one flight."""
    run(env.scene(), f"{per_mille / 10:g} % in long flights", [("source", "target", per_mille)],
        smallest=2000, largest=6000, batch=10)


@case(mode=MODES, by=("attach", "run"))
@case(mode=MODES[1:], by=("attach",), families=FAMILIES)
def large_values(env, mode, by):
    """200 values of 100 KB with 1 % lost on the way to the target and back."""
    scene = env.scene()
    if by == "run":
        keep(scene)
    else:
        scene.attach()
    scene.lab.lose("source", "target", 10)
    scene.lab.lose("target", "source", 10)
    sent = scene.load("sets", connections=8, count=200, smallest=100_000, largest=100_000)["sent"]
    deliver(scene, sent, 0)
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=200)


@case(mode=MODES, finish=("close", "reset", "quit"), by=("attach", "run"))
def short_connections(env, mode, finish, by):
    """SYN, SYN-ACK and FIN get lost, too: 2,000 connections of one set each with 5 % lost both ways."""
    scene = env.scene()
    if by == "run":
        keep(scene)
    else:
        scene.attach()
    tables = [scene.lab.lose("source", "target", 50), scene.lab.lose("target", "source", 50)]
    with mirror.Sampler(scene):
        sent = scene.load("sets", connections=amount(2000), count=amount(2000), at_once=100,
                          finish=finish)["sent"]
        deliver(scene, sent, 0)
    ledger = scene.assert_all_delivered(sent)
    assert ledger["flows"]["opened"] == amount(2000) and not ledger["flows"]["broken"], ledger["flows"]
    scene.assert_same(keys=amount(2000))
    for table in tables:
        scene.lab.heal(table)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless(resets_to_target=finish == "reset")
