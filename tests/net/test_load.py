# SPDX-License-Identifier: Apache-2.0
"""Loads of every kind on connections opened after attach: the target ends up with the same."""

import os
import time

from harness import MODES, case
from lab import doppel, mirror
from lab.load import checked
from lab.network import FAMILIES
from lab.wait import amount

ALONE = True  # Full speed.

SECONDS = float(os.environ.get("DOPPEL_TEST_SECONDS", "30"))


@case(mode=MODES, offload=("default", "egress-off", "sender-off", "all-off"))
@case(mode=MODES, offload=("all-off",), families=FAMILIES)
def distinct_sets(env, mode, offload):
    """10,000 sets with distinct keys over 64 connections."""
    scene = env.scene(offload=offload)
    scene.attach()
    sent = scene.load("sets", connections=64, count=amount(10000))["sent"]
    ledger = scene.assert_all_delivered(sent)
    assert ledger["flows"]["opened"] == 64, ledger["flows"]
    scene.assert_same(keys=amount(10000))
    scene.assert_harmless()


@case(mode=MODES, finish=("close", "shutdown", "quit"))
@case(mode=MODES[:1], finish=("close",), families=FAMILIES)
def short_connections(env, mode, finish):
    """2,000 connections with a single set each, closed at once. FIN: after the response, right after
    the request, or by the server."""
    scene = env.scene()
    scene.attach()
    sent = scene.load("sets", connections=amount(2000), count=amount(2000), at_once=100, finish=finish)["sent"]
    scene.assert_all_delivered(sent)
    mirror.assert_nothing_left(scene)
    ledger = scene.doppel.ledger()
    assert ledger["flows"]["opened"] == amount(2000), ledger["flows"]
    assert ledger["flows"]["broken"] == 0, ledger["flows"]
    scene.assert_same(keys=amount(2000))
    scene.assert_same_commands()
    scene.assert_harmless()


@case(mode=MODES)
@case(mode=MODES[1:], families=FAMILIES)
def reset_connections(env, mode):
    """Clients that end with a RST: what the source has been given reaches the target before it."""
    scene = env.scene()
    scene.attach()
    sent = scene.load("sets", connections=amount(500), count=amount(500), at_once=50, finish="reset")["sent"]
    scene.assert_all_delivered(sent)
    mirror.assert_nothing_left(scene)
    scene.assert_same(keys=amount(500))
    scene.assert_harmless(resets_to_target=True)


@case(mode=MODES, offload=("default", "egress-off", "sender-off"))
@case(mode=MODES[:1], offload=("default", "sender-off"), families=FAMILIES)
def large_values(env, mode, offload):
    """200 values of 100 KB and 20 of 1 MB; then all of them are read, so 1 MB responses."""
    scene = env.scene(offload=offload)
    scene.attach()
    sent = 0
    for prefix, count, size in (("large", amount(200), 100_000), ("huge", amount(20, 4), 1 << 20)):
        both = {"connections": 4, "count": count, "prefix": prefix}
        sent += scene.load("sets", smallest=size, largest=size, **both)["sent"]
        result = scene.load("gets", **both)
        sent += result["sent"]
        assert result["received"] > count * size, result
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=amount(200) + amount(20, 4))
    scene.assert_same_commands()
    scene.assert_harmless()


@case(mode=MODES)
def chopped_requests(env, mode):
    """Several commands in one segment, one command in many segments."""
    scene = env.scene()
    scene.attach()
    sent = scene.load("chopped", connections=16, count=amount(5000), batch=5, largest=900)["sent"]
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=amount(5000))
    scene.assert_same_commands()
    scene.assert_harmless()


@case(mode=MODES)
def mixed_full_speed(env, mode):
    """Gets, sets and deletes at full speed; the ledger is exact in every sample taken meanwhile."""
    scene = env.scene()
    scene.attach()
    load = scene.start("mixed", processes=2, connections=64, seconds=SECONDS, batch=20)
    samples = moments_in_flight = most = 0
    while load.running():
        counters = scene.doppel.counters()
        wrong = doppel.violations(counters)
        assert not wrong, f"sample {samples} during the load: {wrong}"
        samples += 1
        in_flight = doppel.totals(counters)["bytes"]["in_flight"]
        moments_in_flight += in_flight > 0
        most = max(most, in_flight)
        time.sleep(0.1)  # between samples, so that sampling is not the load
    result = checked(load.result())
    print(f"      {result['commands'] / result['seconds']:.0f} commands/s, {samples} samples, "
          f"{moments_in_flight} with bytes in flight, at most {most}")
    assert samples > amount(SECONDS), f"only {samples} samples"
    scene.assert_all_delivered(result["sent"])
    scene.assert_same_commands()
    scene.assert_same()
    scene.assert_harmless()


@case(mode=MODES)
def two_ports(env, mode):
    """Two servers on ports 11211 and 11212, each mirrored to its own."""
    scene = env.scene(ports=(11211, 11212))
    scene.attach()
    sent = sum(scene.load("sets", port=port, prefix=f"p{port}-", connections=8, count=amount(1000))["sent"]
               for port in scene.ports)
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=amount(1000))
    scene.assert_harmless()


@case(mode=MODES)
def ten_thousand_connections(env, mode):
    """10,000 connections open at the same time."""
    scene = env.scene()
    scene.attach()
    load = scene.start("sets", processes=2, connections=amount(10000), count=amount(10000), wait=True)
    load.go()
    result = checked(load.result())
    assert result["connections"] == amount(10000), result
    ledger = scene.assert_all_delivered(result["sent"])
    assert ledger["flows"]["opened"] == amount(10000), ledger["flows"]
    scene.assert_same(keys=amount(10000))
    scene.assert_harmless()
