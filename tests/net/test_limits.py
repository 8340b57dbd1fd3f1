# SPDX-License-Identifier: Apache-2.0
"""What bounds the mirror: half-open shadows, shadow ports, flows, store, bit rate. Whatever is beyond is
left out by whole flows and counted; what is inside stays complete."""

import json
import os
import signal
import time

import test_join
from harness import MODES, case
from lab import bpf, doppel, mirror, snapshot, wait
from lab.crowd import Crowd
from lab.flood import Flood
from lab.keeper import keep
from lab.load import checked
from lab.wait import amount


def memory(scene):
    """Bytes that the kernel holds for the maps of the mirror."""
    total = 0
    for (kind, _), path in snapshot.objects(scene.lab.source).items():
        if kind == "map":
            total += bpf.memlock(scene.lab.source.root("/sys/fs/bpf" + path))
    return total


@case(mode=MODES, what=("syns", "handshakes", "commands"))
def flood(env, mode, what):
    """100,000 spoofed segments (or pairs) while 64 connections work: these lose nothing, and nothing grows
    beyond its bound."""
    scene = env.scene()
    keep(scene)
    load = scene.start("sets", connections=64, count=amount(40000), rate=amount(4000), prefix="good")
    wait.until(lambda: scene.target[0].stats()["cmd_set"] > amount(2000), "the load to be under way", 20)
    before = memory(scene)
    storm = Flood(scene.lab)
    with mirror.Sampler(scene):
        begin = time.monotonic()
        getattr(storm, what)(amount(100_000 if what == "syns" else 30_000))
        print(f"      {what}: sent in {time.monotonic() - begin:.1f} s")
        result = checked(load.result())
    storm.close()
    after = memory(scene)
    grown = after - before
    print(f"      maps: {before >> 10} KiB before, {after >> 10} KiB after")
    ledger = wait.until(lambda: settled(scene, result["sent"]), "the load to be delivered", 20)
    flows = ledger["flows"]
    print(f"      {flows}, {ledger['bytes']}")
    assert ledger["bytes"]["lost"] == 0, ledger
    have = scene.target[0].contents()
    missing = [n for n in range(amount(40000)) if b"good%07d" % n not in have]
    assert not missing, f"{len(missing)} sets are missing, such as {missing[:3]}"
    if what == "syns":
        assert ledger["bytes"]["observed"] == result["sent"], ledger["bytes"]
        assert flows["opened"] == 64 and not flows["joined"], flows
        mirror.assert_nothing_left(scene, timeout=75)
        assert grown < 16 << 20, f"the maps grew by {grown} bytes"
    # A connection that comes after the flood is mirrored like any other.
    scene.load("sets", connections=10, count=100, prefix="after")
    wait.until(lambda: sum(1 for k in scene.target[0].contents() if k.startswith(b"after")) == 100,
               "sets of new connections")


def settled(scene, sent):
    ledger = scene.doppel.ledger()
    return ledger if ledger["bytes"]["delivered"] >= sent else None


@case(mode=MODES)
def half_open_shadows(env, mode):
    """The target does not answer: no more than `embryonic` shadows wait for it."""
    scene = env.scene()
    keep(scene, embryonic=20)
    good = scene.start("sets", connections=10, count=100, wait=True, prefix="good")
    wait.until(lambda: scene.doppel.ledger()["flows"]["open"] == 10, "shadows of the first ten")
    scene.lab.unplug("target")
    sent = scene.load("sets", connections=100, count=100, prefix="late", finish="close")["sent"]
    ledger = scene.doppel.ledger()
    assert ledger["bytes"]["observed"] == sent, ledger["bytes"]
    assert ledger["excluded"]["embryonic"] > 0, ledger["excluded"]
    assert ledger["flows"]["open"] <= 10 + 20, ledger["flows"]
    scene.lab.plug("target")
    good.go()
    sent += checked(good.result())["sent"]
    ledger = scene.doppel.wait_idle(observed=sent)
    assert ledger["bytes"]["lost"] == 0, ledger
    have = scene.target[0].contents()
    assert sum(1 for k in have if k.startswith(b"good")) == 100
    left_out = ledger["excluded"]["embryonic"] + ledger["excluded"]["not_joined"]
    assert ledger["bytes"]["delivered"] == sent - left_out, ledger
    mirror.assert_nothing_left(scene, timeout=75)


@case(mode=MODES)
def shadow_ports(env, mode):
    """Fewer shadow ports than connections: whole flows are left out, and take part when ports are free."""
    scene = env.scene()
    keep(scene, shadow_ports="20000-20063")
    with mirror.Sampler(scene):
        sent = scene.load("sets", connections=200, count=amount(4000), rate=amount(2000))["sent"]
    ledger = scene.doppel.wait_idle(observed=sent)
    b = ledger["bytes"]
    assert b["lost"] == 0 and 0 < b["delivered"] < sent, b
    assert b["excluded"] == ledger["excluded"]["ports_exhausted"] + ledger["excluded"]["not_joined"], ledger
    mirror.assert_nothing_left(scene, timeout=75)
    before = ledger["bytes"]["delivered"]
    more = scene.load("sets", connections=60, count=amount(600), prefix="more")["sent"]
    ledger = scene.doppel.wait_idle(observed=sent + more)
    assert ledger["bytes"]["delivered"] == before + more, ledger["bytes"]
    scene.assert_harmless(resets_to_target=True)


@case(mode=MODES)
def flow_table(env, mode):
    """Fewer places for flows than connections."""
    scene = env.scene()
    keep(scene, flows=64)
    with mirror.Sampler(scene):
        sent = scene.load("sets", connections=200, count=amount(4000), rate=amount(2000))["sent"]
    ledger = scene.doppel.wait_idle(observed=sent)
    b = ledger["bytes"]
    assert b["lost"] == 0 and 0 < b["delivered"] < sent, b
    assert ledger["excluded"]["table_full"] > 0, ledger
    mirror.assert_nothing_left(scene, timeout=75)


@case()
def flows_are_found(env):
    """400 connections of two addresses and fewer shadow ports: `flows` filters, sorts, cuts and sums up, and
    what it says agrees."""
    scene = env.scene()
    keep(scene, shadow_ports="20000-20149")
    crowd = Crowd(scene.lab.client, scene.lab.source.address, scene.ports, ["10.77.0.101", "10.77.0.102"])
    crowd.grow(400)
    scene.doppel.wait_idle(observed=crowd.sent)

    def flows(*options):
        return json.loads(scene.doppel.run("flows", "--json", *options).stdout)

    everything = flows()
    rows = everything["flows"]
    assert len(rows) == everything["matching"] == 400 and everything["more"] == 0, everything["in_all"]
    waiting = [f for f in rows if f["state"] == "WAITING"]
    assert 250 <= len(waiting) < 400 and {f["reason"] for f in waiting} == {"ports_exhausted"}, waiting[:3]
    for options, want in (
            (["--state", "WAITING"], lambda f: f["state"] == "WAITING"),
            (["--excluded", "ports_exhausted", "--client", "10.77.0.101"],
             lambda f: f["reason"] == "ports_exhausted" and f["client"].startswith("10.77.0.101:")),
            (["--client", "10.77.0.102/31"], lambda f: f["client"].startswith("10.77.0.102:")),
            (["--mapping", rows[0]["mapping"], "--target", rows[0]["target"]], lambda f: True),
            (["--target", "10.77.0.3:1"], lambda f: False)):
        found = flows(*options)
        assert sorted(f["client"] for f in found["flows"]) == sorted(f["client"] for f in rows if want(f)), options
        assert found["in_all"] == 400, options
    first = flows("--sort", "observed", "--limit", "30")
    assert [f["observed"] for f in first["flows"]] == sorted((f["observed"] for f in rows), reverse=True)[:30]
    assert first["more"] == 370, first["more"]
    said = scene.doppel.run("flows", "--limit", "30").stdout.splitlines()
    assert len(said) == 32 and said[-1] == "370 more: without --limit all 400 are shown", said[-2:]
    summary = flows("--summary", "--client", "10.77.0.101")["summary"]
    assert summary["total"]["flows"] == 200 and summary["more_clients"] == 0, summary
    assert [c["client"] for c in summary["clients"]] == ["10.77.0.101"], summary["clients"]
    for group in ("states", "targets", "clients"):
        for key, n in summary["total"].items():
            assert n == sum(one[key] for one in summary[group]), (group, key, summary)


@case(limit=("flow-table", "half-open"))
def one_client_leaves_room(env, limit):
    """One address opens more connections than there are places, in the flow table or for shadows that the
    target has not answered. The connections of another address, which come later, are mirrored."""
    scene = env.scene()
    bounds = {"flows": 256} if limit == "flow-table" else {"embryonic": 64}
    keep(scene, **bounds)
    greedy = Crowd(scene.lab.client, scene.lab.source.address, scene.ports, ["10.77.0.101"])
    if limit == "half-open":
        scene.lab.unplug("target")
    greedy.grow(400)
    ledger = scene.doppel.ledger()
    name = "table_full" if limit == "flow-table" else "embryonic"
    assert ledger["excluded"][name] > 0, ledger["excluded"]
    before = ledger["bytes"]["excluded"]
    others = scene.start("sets", connections=3, count=3, wait=True, prefix="other")
    others.go()
    sent = checked(others.result())["sent"]
    if limit == "half-open":
        scene.lab.plug("target")
    ledger = scene.doppel.wait_idle(observed=greedy.sent + sent)
    have = scene.target[0].contents()
    missing = [n for n in range(3) if b"other%07d" % n not in have]
    print(f"      {ledger['flows']}, {ledger['excluded'][name]} bytes of {greedy.sent} are left out")
    assert not missing and ledger["bytes"]["excluded"] == before, f"{missing} are missing: {ledger}"
    assert ledger["bytes"]["lost"] == 0, ledger["lost"]


@case(mode=MODES, kind=("sets", "chopped"))
def bit_rate(env, mode, kind):
    """8 Mbit/s of an offered 25 (or an N-th of both): whole flows are shed, come back, and no request is cut."""
    scene = env.scene(target_runs=False)
    log = test_join.Log(scene)
    ceiling = amount(8_000_000)
    keep(scene, {"max_bitrate": f"{ceiling // 1000}kbit"})
    count = amount(20000)
    load = scene.start(kind, connections=50, count=count, rate=amount(3000), smallest=500, largest=1500,
                       batch=5 if kind == "chopped" else 1)
    begin = time.monotonic()
    with mirror.Sampler(scene):
        result = checked(load.result())
    seconds = time.monotonic() - begin
    ledger = scene.doppel.wait_idle(observed=result["sent"])
    b = ledger["bytes"]
    print(f"      {8 * b['delivered'] / seconds / 1e6:.1f} of {8 * result['sent'] / seconds / 1e6:.1f} Mbit/s,"
          f" {ledger['flows']}, shed {ledger['excluded']['shed']}")
    assert b["observed"] == result["sent"], b
    assert b["lost"] == 0, ledger["lost"]
    assert ledger["excluded"]["shed"] > 0, ledger["excluded"]
    assert 8 * b["delivered"] < 1.15 * ceiling * (seconds + 0.2), b
    have, want = scene.target[0].contents(), scene.source[0].contents()
    assert len(want) == count
    wrong = [k for k in have if have[k] != want.get(k)]
    assert not wrong, wrong[:3]
    test_join.assert_no_errors(log)
    stats = scene.target[0].stats()
    assert stats["cmd_set"] == len(have), (stats["cmd_set"], len(have))
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless(resets_to_target=True)


@case(mode=MODES)
def one_flow_may_hold_so_much(env, mode):
    """flow_cap: one upload into a stopped target ends in a break; others are not touched."""
    scene = env.scene()
    keep(scene, flow_cap="256KiB")
    small = scene.start("sets", connections=10, count=amount(1000), wait=True, prefix="small")
    os.kill(scene.target[0].process.pid, signal.SIGSTOP)
    try:
        sent = scene.load("sets", connections=1, count=10, smallest=900_000, largest=900_000,
                          prefix="big")["sent"]
        small.go()
        sent += checked(small.result())["sent"]
    finally:
        os.kill(scene.target[0].process.pid, signal.SIGCONT)
    ledger = scene.doppel.wait_idle(observed=sent)
    assert ledger["lost"]["flow_cap"] > 0 and ledger["bytes"]["lost"] == ledger["lost"]["flow_cap"], ledger
    assert ledger["flows"]["broken"] >= 1, ledger["flows"]
    have = scene.target[0].contents()
    assert sum(1 for k in have if k.startswith(b"small")) == amount(1000)
    wrong = doppel.violations(scene.doppel.counters())
    assert not wrong, wrong
    mirror.assert_nothing_left(scene, timeout=75)


@case(mode=MODES)
def silent_flows_are_forgotten(env, mode):
    """idle_timeout: flows whose clients say nothing give back what they hold, and join again later."""
    scene = env.scene()
    before = scene.start("sets", connections=10, count=100, wait=True, prefix="old")
    keep(scene, idle_timeout=1)  # the spelling of former versions
    sent = scene.load("sets", connections=1, count=1)["sent"]
    new = scene.start("sets", connections=20, count=200, wait=True, prefix="new")
    wait.until(lambda: scene.doppel.ledger()["flows"]["opened"] == 21, "shadows for all")
    wait.until(lambda: not scene.doppel.ledger()["flows"]["open"], "silent shadows to close")
    mirror.assert_nothing_left(scene)
    before.go()
    new.go()
    sent += checked(before.result())["sent"] + checked(new.result())["sent"]
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=301)
    assert scene.doppel.ledger()["flows"]["joined"] == 30
    assert mirror.events(scene)["idle"] >= 20
    mirror.assert_nothing_left(scene)
