# SPDX-License-Identifier: Apache-2.0
"""Beside a real mirror `doppel top`, `doppel ready` and `doppel counters` tell the same, and a loss makes ready not
ready."""

import contextlib
import json
import tempfile
from datetime import datetime

from harness import case
from lab import doppel, memcached, wait
from lab.keeper import File, Keeper
from lab.ready import Ready
from test_client_net import connect
from test_clock import say

# What no mirror of a moment ago can meet: these have cases of their own (tests/memcached).
SERVERS = ("warmth", "coverage", "target_evictions", "target_memory")


def put(client, first, count):
    """Sets, each answered by the source."""
    for i in range(first, first + count):
        say(client, b"key%d" % i, 1000)


def top(scene):
    return json.loads(scene.doppel.run("top", "--once", "--json", "--interval", "0.2").stdout)


@contextlib.contextmanager
def written(text):
    """The name of a file with that text."""
    with tempfile.NamedTemporaryFile("w", prefix="doppel-ready-") as file:
        file.write(text)
        file.flush()
        yield file.name


def mirror_is_good(criteria):
    return all(c["ok"] for name, c in criteria.items() if name not in SERVERS)


@case()
def all_tell_the_same(env):
    """At rest, field by field; and the rows name both memcacheds by the mapping alone."""
    scene = env.scene()
    scene.attach()
    client = connect(scene)
    put(client, 0, 50)
    scene.doppel.wait_idle()
    shown, counters = top(scene), scene.doppel.counters()
    mirror = shown["mirror"]
    for row in mirror["mappings"][0]["targets"]:
        assert row.pop("lag_ms") == 0 and row.pop("bits_s") == 0 and row.pop("segments_s") == 0, row
    moments = []
    for said in (mirror, counters):
        for moving in ("time", "rates_over_ms"):
            del said[moving]
        for row in said["mappings"][0]["targets"]:
            del row["rates"]
            moments.append({name: at and datetime.fromisoformat(at) for name, at in row.pop("last").items()})
    assert mirror == counters, (mirror, counters)
    # Of whole seconds, reckoned back from the moment of the look.
    assert moments[0].keys() == moments[1].keys() and all(
        at == moments[1][name] or abs((at - moments[1][name]).total_seconds()) <= 1
        for name, at in moments[0].items()), moments
    assert [(s["side"], s["server"], s["mapping"]) for s in shown["servers"]] == [
        ("source", "127.0.0.1:11211", "11211"), ("target", f"{scene.lab.target.address}:11211", "11211")], shown
    assert [s["items"] for s in shown["servers"]] == [50, 50], shown
    ready = Ready(scene.lab.source)
    put(client, 50, 50)
    _, criteria = ready.end()
    assert mirror_is_good(criteria), criteria
    ledger = scene.doppel.ledger()
    share = criteria["delivered_share"]
    assert share["value"] == 1 and share["subject"] == f"11211 {scene.lab.target.address}:11211", share
    assert criteria["missing_bytes"]["value"] == ledger["bytes"]["lost"] + ledger["bytes"]["excluded"] == 0
    assert criteria["in_flight_bytes"]["value"] == ledger["bytes"]["in_flight"] == 0


@case()
def a_loss_is_against_it(env):
    """Bytes that are lost within the window; in the next one they are history, but for missing_bytes."""
    scene = env.scene()
    scene.attach()
    client = connect(scene)
    put(client, 0, 10)
    scene.doppel.wait_idle()
    ready = Ready(scene.lab.source, window=8)
    scene.target[0].kill()
    put(client, 10, 10)
    wait.until(lambda: scene.doppel.ledger()["bytes"]["lost"], "bytes to be lost")
    is_ready, criteria = ready.end()
    lost = scene.doppel.ledger()["bytes"]["lost"]
    assert not is_ready and not criteria["lost_bytes"]["ok"], criteria
    assert 0 < criteria["lost_bytes"]["value"] <= lost and "target_" in criteria["lost_bytes"]["reason"], criteria
    assert not criteria["mirror_problems"]["ok"] and not criteria["warmth"]["ok"], criteria
    scene.start_target()
    client = connect(scene)
    wait.until(lambda: put(client, 20, 1) or scene.doppel.health()[0] == 0, "the mirror to be well", 30)
    scene.doppel.wait_idle()
    kept = scene.doppel.run("counters", "--json").stdout
    ready = Ready(scene.lab.source)
    put(client, 30, 10)
    _, criteria = ready.end()
    assert criteria["lost_bytes"]["ok"] and not criteria["missing_bytes"]["ok"], criteria
    assert criteria["missing_bytes"]["value"] >= lost, criteria
    with written(kept) as file:
        ready = Ready(scene.lab.source, "--since", file)
        put(client, 40, 10)
        _, criteria = ready.end()
    assert mirror_is_good(criteria), criteria


@case()
def a_reload_while_it_watches(env):
    """The mapping that it adds is judged from the next window on."""
    scene = env.scene(ports=(11211, 11212))
    file = File(scene, ("one", 11211))
    keeper = Keeper(scene, "--config", file.path)
    child = scene.lab.source.popen([doppel.binary(), "ready", "--watch", "--window", "0.5", "--json"],
                                   stdout=-1, stderr=-1, text=True)

    def subjects():
        return " ".join(c["subject"] or "" for c in json.loads(child.stdout.readline())["criteria"])
    assert "two" not in subjects()
    file.write(("one", 11211), ("two", 11212))
    keeper.reload("added two")
    wait.until(lambda: "two" in subjects(), "the new mapping to be judged", 20, 0.01)
    child.terminate()
    child.communicate(timeout=wait.patience(20))
    assert child.returncode == 3, child.returncode


@case()
def a_reload_within_the_window(env):
    """Nobody looked at what it added: the window is not enough, however well the others are."""
    scene = env.scene(ports=(11211, 11212))
    file = File(scene, ("one", 11211))
    keeper = Keeper(scene, "--config", file.path)
    ready = Ready(scene.lab.source, window=4)
    file.write(("one", 11211), ("two", 11212))
    keeper.reload("added two")
    is_ready, criteria = ready.end()
    assert not is_ready, criteria
    assert "two" in str([c for c in criteria.values() if not c["ok"]]), criteria


@case()
def a_mapping_that_a_reload_made(env):
    """Its ledger begins at nothing: what was lost before is in none that is not older."""
    scene = env.scene()
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path)
    before = scene.doppel.run("counters", "--json").stdout
    ready = Ready(scene.lab.source)
    file.write(file.mapping("data", 11211, application="memcached"))
    keeper.reload("changed data")
    client = connect(scene)
    put(client, 0, 10)
    _, criteria = ready.end()
    for name in ("delivered_share", "lost_bytes", "missing_bytes"):
        assert criteria[name]["value"] is None and "newer than the window" in criteria[name]["reason"], criteria[name]

    def missing(*arguments):
        ready = Ready(scene.lab.source, *arguments)
        put(client, 10, 10)
        _, criteria = ready.end()
        assert criteria["delivered_share"]["ok"], criteria
        return criteria["missing_bytes"]
    with written(before) as older:
        for arguments in ((), ("--since", older)):
            bytes_missing = missing(*arguments)
            assert not bytes_missing["ok"] and bytes_missing["value"] is None, bytes_missing
            assert "a reload made it at " in bytes_missing["reason"], bytes_missing
    with written(scene.doppel.run("counters", "--json").stdout) as newer:
        bytes_missing = missing("--since", newer)
        assert bytes_missing["ok"] and bytes_missing["value"] == 0, bytes_missing


@case()
def two_words_find_their_mapping(env):
    """And a pair that no mapping leads between does not borrow another's figures."""
    scene = env.scene(ports=(11211, 11212))
    scene.attach()
    client = connect(scene)
    target = scene.lab.target.address
    ready = Ready(scene.lab.source, "127.0.0.1:11211", f"{target}:11211")
    put(client, 0, 5)
    _, criteria = ready.end()
    assert mirror_is_good(criteria), criteria
    assert criteria["lost_bytes"]["subject"] == f"11211 {target}:11211", criteria
    _, criteria = Ready(scene.lab.source, "127.0.0.1:11211", f"{target}:11212", window=0.5).end()
    assert not criteria["lost_bytes"]["ok"] and "no mapping leads" in criteria["lost_bytes"]["reason"], criteria


@case()
def a_range_is_a_mapping_of_several_pairs(env):
    scene = env.scene(ports=(11211, 11212))
    config = {"mappings": [{"name": "data", "device": "eth0", "ports": "11211-11219", "targets": [
        {"address": scene.lab.target.address, "port": 11211}]}]}
    with written(json.dumps(config)) as file:
        scene.doppel.attach("--config", file)
        by_file = scene.doppel.run("ready", "--config", file, "--window", "0.2", "--json", check=False)
    shown = top(scene)
    assert [pair["source"] for pair in shown["pairs"]] == ["127.0.0.1:11211", "127.0.0.1:11212"], shown
    done = scene.doppel.run("ready", "--mapping", "data", "--window", "0.2", "--json", check=False)
    said = json.loads(done.stdout)
    assert done.returncode == 3, done
    warmth = [c["subject"] for c in said["criteria"] if c["name"] == "warmth"]
    assert warmth == [f"127.0.0.1:{port} -> {scene.lab.target.address}:{port}" for port in (11211, 11212)] + [
        "data 11213-11219"], said
    assert len([c for c in said["criteria"] if c["name"] == "lost_bytes"]) == 1, said
    assert [c["subject"] for c in json.loads(by_file.stdout)["criteria"]] == [c["subject"] for c in said["criteria"]]
    wrong = scene.doppel.run("ready", "--mapping", "dta", check=False)
    assert wrong.returncode == 2 and '"data"' in wrong.stderr, wrong


@case()
def clients_that_a_list_leaves_out(env):
    """What they delete stays on the target, and no byte of it is missing in the ledger."""
    scene = env.scene()
    config = {"mappings": [{"name": "data", "device": "eth0", "ports": 11211,
                            "exclude_clients": [f"{scene.lab.client.address}/32"],
                            "targets": [{"address": scene.lab.target.address, "port": 11211}]}]}
    with written(json.dumps(config)) as file:
        scene.doppel.attach("--config", file)
    ready = Ready(scene.lab.source)
    put(connect(scene), 0, 10)
    _, criteria = ready.end()
    assert criteria["excluded_bytes"]["ok"], criteria
    assert not criteria["partial"]["ok"] and "leave clients out" in criteria["partial"]["reason"], criteria


@case()
def another_server_at_the_loopback_address(env):
    """The mirrored one listens at the address of eth0: what answers at 127.0.0.1 is not taken for it."""
    scene = env.scene()
    lab = scene.lab
    scene.source[0].kill()
    scene.source = [memcached.Server(lab.source, 11211, address=lab.source.address),
                    memcached.Server(lab.source, 11211, address="127.0.0.1", admin_port=12002)]
    scene.attach()
    target = f"{lab.target.address}:11211"
    done = scene.doppel.run("ready", "--window", "0.2", "--json", check=False)
    warmth = [c["subject"] for c in json.loads(done.stdout)["criteria"] if c["name"] == "warmth"]
    assert warmth == [f"{lab.source.address}:11211 -> {target}"], done
    done = scene.doppel.run("warm", "127.0.0.1:11211", target, check=False)
    assert "no mapping leads from 127.0.0.1:11211" in done.stderr, done
    done = scene.doppel.run("warm", f"{lab.source.address}:11211", target, check=False)
    assert "no mapping" not in done.stderr, done


@case()
def two_servers_of_one_port(env):
    """No target can be equal to both; one that listens at two addresses is one server."""
    scene = env.scene()
    lab = scene.lab
    scene.source[0].kill()
    scene.source = [memcached.Server(lab.source, 11211, address=f"127.0.0.1:11211,{lab.source.address}")]
    lab.source.run(["ip", "addr", "add", "10.99.0.1/32", "dev", "lo"])
    scene.attach()
    target = f"{lab.target.address}:11211"
    done = scene.doppel.run("warm", "127.0.0.1:11211", target, check=False)
    assert "no mapping" not in done.stderr, done
    scene.source.append(memcached.Server(lab.source, 11211, address="10.99.0.1", admin_port=12002))
    done = scene.doppel.run("ready", "--window", "0.2", check=False)
    assert done.returncode == 3 and "are two servers" in done.stdout and '"address"' in done.stdout, done
