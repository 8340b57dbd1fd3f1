# SPDX-License-Identifier: Apache-2.0
"""Several targets of a mapping, each for itself; and what share of the load a target gets: a sample of the
connections, or several copies of each."""

import os
import signal
import time

from harness import MODES, case
from lab import doppel, mirror, wait
from lab.keeper import File, Keeper
from lab.load import checked
from lab.memcached import Server
from lab.wait import amount

IP = ("v4", "v6")
SECOND, NOBODY = 11212, 11299  # ports of the target's host
CONNECTIONS = 64


def nobody(scene):
    """An address of the network that no host has."""
    address = scene.lab.target.address
    return address.rsplit(":", 1)[0] + ":99" if ":" in address else address.rsplit(".", 1)[0] + ".99"


def target(scene, port=11211, **more):
    return {"address": scene.lab.target.address, "port": port, **more}


def mapping(targets, **more):
    return {"name": "data", "device": "eth0", "ports": 11211, "targets": targets, **more}


def attach(scene, targets, mapped=None, **settings):
    file = File(scene)
    file.write(mapping(targets, **(mapped or {})), **settings)
    keeper = Keeper(scene, "--config", file.path)
    scene.kept = (keeper, file)
    return file, keeper


def rows(scene):
    """What the ledger says of each target, in their order."""
    return scene.doppel.counters()["mappings"][0]["targets"]


def whole(row, sent):
    return row["bytes"] == {"observed": sent, "delivered": sent, "in_flight": 0, "lost": 0, "excluded": 0}


@case(slow=True, store=("large", "small"), families=IP)
def others_are_down(env, store):
    """One of five targets runs. One is stopped, one refuses, of one the host is gone, one is killed in between:
    the first has all at once. What waits for the stopped one arrives when it goes on, or is counted."""
    scene = env.scene()
    second = Server(scene.lab.target, SECOND)
    third = Server(scene.lab.target, SECOND + 1)
    limits = {"store": "8MiB"} if store == "small" else {"store": "256MiB"}
    attach(scene, [target(scene), target(scene, SECOND), target(scene, NOBODY),
                   {"address": nobody(scene), "port": 11211}, target(scene, SECOND + 1)], **limits)
    # Buffers of the stopped one take a few hundred KiB of each connection.
    count = amount(20000, least=8000)
    load = scene.start("sets", connections=CONNECTIONS, count=count, smallest=200, largest=8000, rate=amount(3000))
    with mirror.Sampler(scene):
        wait.until(lambda: second.stats()["cmd_set"] > count / 20, "a part to arrive", 20)
        os.kill(second.process.pid, signal.SIGSTOP)
        wait.until(lambda: scene.target[0].stats()["cmd_set"] > count / 4, "more to arrive", 30)
        third.kill()
        sent = checked(load.result())["sent"]
        # No time is left for anything that is not there already: the others are down still.
        wait.until(lambda: whole(rows(scene)[0], sent), "the first target to be complete", 10)
        scene.assert_same(keys=count)
        if store == "large":
            assert rows(scene)[1]["bytes"]["in_flight"], rows(scene)[1]["bytes"]
        os.kill(second.process.pid, signal.SIGCONT)
        # The shadows toward the host that is gone try for a while yet.
        wait.until(lambda: not rows(scene)[1]["bytes"]["in_flight"], "the stopped one to take what waits", 60)
    found = rows(scene)
    assert whole(found[0], sent), found[0]
    assert [row["bytes"]["observed"] for row in found] == [sent] * 5, [row["bytes"] for row in found]
    print(f"      stopped: lost {found[1]['bytes']['lost']}, excluded {found[1]['bytes']['excluded']} of {sent}")
    if store == "large":
        assert whole(found[1], sent), found[1]
    else:
        assert found[1]["lost"]["store_full"], found[1]["lost"]
    for row in found[2:4]:
        assert row["bytes"]["delivered"] == 0, row["bytes"]


@case(mode=MODES, families=IP)
def one_without_a_route(env, mode):
    """It gets nothing until there is one again. What else changes for the mapping is followed meanwhile."""
    scene = env.scene()
    source, first, second = scene.lab.source, scene.lab.target.address, nobody(scene)
    v6 = ":" in first
    scene.lab.target.run(["ip", "addr", "add", f"{second}/{128 if v6 else 32}", "dev", "eth0",
                          *(["nodad"] if v6 else [])])
    both = [target(scene), {"address": second, "port": 11211}]
    file, keeper = attach(scene, both, {"device": ["eth0", "late*"]})
    ip, bits = ["ip", "-6" if v6 else "-4", "route"], 128 if v6 else 32
    sent = scene.load("sets", connections=10, count=100)["sent"]
    wait.until(lambda: all(whole(row, sent) for row in rows(scene)), "both to have all")
    source.run([*ip, "add", "unreachable", f"{second}/{bits}", "metric", "1"])
    keeper.wait_for("has no route: nothing is sent to it")
    source.run([*ip, "add", f"{first}/{bits}", "dev", "eth0", "mtu", "1300"])
    keeper.wait_for("MTU 1300")
    source.run(["ip", "link", "add", "late0", "up", "type", "veth", "peer", "name", "other0"])
    keeper.wait_for("doppel_ingress runs on late0 ingress")
    sent += scene.load("sets", connections=10, count=100, prefix="more", smallest=2000, largest=3000)["sent"]
    wait.until(lambda: whole(rows(scene)[0], sent), "the first to have all")
    assert 0 < rows(scene)[1]["bytes"]["in_flight"], rows(scene)[1]
    wait.until(lambda: any(f"no route to the target {second}" in p["what"] for p in scene.doppel.health()[1]["problems"]),
               "status to tell")
    file.write(mapping(both, device=["eth0", "late*"], max_bitrate="1Gbit"))
    said = scene.doppel.run("reload").stdout
    assert "the ceiling is 1" in said, said
    source.run(["ip", "link", "del", "late0"])
    keeper.wait_for("it is captured on eth0", times=2)
    source.run([*ip, "del", "unreachable", f"{second}/{bits}", "metric", "1"])
    keeper.wait_for(f"target {second} is reached again")
    wait.until(lambda: all(whole(row, sent) for row in rows(scene)), "both to have all again")
    keeper.stop()


def keys_of(server):
    return {int(k.removeprefix(b"key")) for k in server.contents()}


def connections_of(keys, each):
    """The connections whose keys these are; all of a connection's keys or none."""
    found = {k // each for k in keys}
    partial = [n for n in found if not all(n * each + i in keys for i in range(each))]
    assert not partial, f"{len(partial)} connections are mirrored in part, such as {partial[0]}"
    return found


@case(slow=True, families=IP)
def a_sample(env):
    """10,000 connections: a tenth to one target, a fifth to the other, none in part; the tenth is a part of
    the fifth, and what is left out is counted as that."""
    scene = env.scene()
    second = Server(scene.lab.target, SECOND)
    attach(scene, [target(scene, sample="10%"), target(scene, SECOND, sample="0.2")], {"seed": 7})
    connections, each = 10000, 3
    sent = scene.load("sets", connections=connections, count=connections * each, at_once=500)["sent"]
    ledger = scene.doppel.wait_idle(observed=2 * sent)
    tenth, fifth = (connections_of(keys_of(s), each) for s in (scene.target[0], second))
    print(f"      {len(tenth)} and {len(fifth)} of {connections} connections")
    # 10 % to 1 % is three standard deviations of so many draws, whose ports are the kernel's choice: four.
    assert abs(len(tenth) - connections / 10) <= 120, len(tenth)
    assert abs(len(fifth) - connections / 5) <= 160, len(fifth)
    assert tenth <= fifth
    assert ledger["bytes"]["observed"] == 2 * sent and not ledger["bytes"]["lost"], ledger["bytes"]
    for row in rows(scene):
        assert row["excluded"]["sample"] == row["bytes"]["excluded"] == sent - row["bytes"]["delivered"], row
        assert row["complete"] == 1 and row["missing"] == 0, row
    code, status = scene.doppel.health()
    assert code == 0, status
    notes = [p for p in status["problems"] if "unfit for a migration" in p["what"]]
    assert len(notes) == 2, status["problems"]
    said = scene.doppel.run("ready", "--mapping", "data", "--window", "1", check=False)
    assert said.returncode == 3 and "partial" in said.stdout, said.stdout + said.stderr
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


@case(families=IP)
def eight_copies(env):
    """64 connections, eight times each: the target counts eight times the commands, and the ledger the bytes."""
    scene = env.scene()
    attach(scene, [target(scene, copies=8)])
    result = scene.load("sets", connections=CONNECTIONS, count=amount(6400))
    ledger = scene.doppel.wait_idle(observed=8 * result["sent"])
    assert ledger["bytes"] == {"observed": 8 * result["sent"], "delivered": 8 * result["sent"], "in_flight": 0,
                               "lost": 0, "excluded": 0}, (result["sent"], ledger["bytes"], ledger["excluded"])
    wait.until(lambda: scene.target[0].stats()["cmd_set"] == 8 * scene.source[0].stats()["cmd_set"],
               "eight times the sets", 10)
    assert ledger["flows"]["opened"] == 8 * CONNECTIONS, ledger["flows"]
    scene.assert_same(keys=result["commands"])
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


@case()
def copies_and_a_sample(env):
    """Both together, and connections that are older than the mirror: all copies of a connection, or none."""
    scene = env.scene()
    count, connections = 4000, 400
    load = scene.start("sets", wait=True, connections=connections, count=count, before=1)
    attach(scene, [target(scene, sample="25%", copies=4)])
    load.go()
    sent = checked(load.result())["sent"]
    ledger = scene.doppel.wait_idle(observed=4 * sent)
    assert ledger["bytes"]["observed"] == 4 * sent, (sent, ledger["bytes"])
    assert ledger["excluded"]["sample"] == ledger["bytes"]["excluded"] and not ledger["bytes"]["lost"], ledger
    keys = {k for k in keys_of(scene.target[0])}
    chosen = connections_of(keys, count // connections)
    assert 0.15 * connections < len(chosen) < 0.35 * connections, len(chosen)
    assert ledger["flows"]["joined"] == 4 * len(chosen), (ledger["flows"], len(chosen))
    wait.until(lambda: scene.target[0].stats()["cmd_set"] == 4 * len(keys), "four sets of each key", 10)
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


@case(slow=True)
def changed_while_it_runs(env):
    """Samples change in place: connections that are known stay as they are. Copies make the mapping a new one.
    Whatever changes, the other mapping loses nothing, and nothing is uncounted."""
    scene = env.scene(ports=(11211, 11212))
    other = {"name": "other", "device": "eth0", "ports": 11212, "targets": [target(scene, 11212)]}
    file, keeper = attach(scene, [target(scene, sample="50%")])

    def change(**portion):
        file.write(mapping([target(scene, **portion)]), other)
        keeper.reload()

    change(sample="50%")
    # Not at full speed: a reload is waited for, and wants a CPU as well.
    pace = {"count": amount(400_000), "rate": amount(3000)}
    steady = scene.start("sets", connections=16, port=11212, prefix="steady", **pace)
    load = scene.start("sets", connections=CONNECTIONS, **pace)
    with mirror.Sampler(scene):
        flows = scene.doppel.ledger
        wait.until(lambda: flows()["flows"]["opened"] >= 16 + CONNECTIONS // 8, "the connections")
        wait.until(lambda: rows(scene)[0]["flows"]["open"] + rows(scene)[0]["flows"]["waiting"] == CONNECTIONS,
                   "all to be known")
        begun = rows(scene)[0]["flows"]
        change(sample="100%")
        had = scene.target[0].stats()["cmd_set"]
        wait.until(lambda: scene.target[0].stats()["cmd_set"] > had + 1000, "more")
        now = rows(scene)[0]["flows"]
        assert now == begun, (begun, now)  # nobody joined, nobody left
        for portion in ({"sample": "1%"}, {"copies": 3}, {"copies": 5, "sample": "50%"}, {"copies": 2}, {}):
            change(**portion)
            had = scene.target[1].stats()["cmd_set"]
            wait.until(lambda had=had: scene.target[1].stats()["cmd_set"] > had + 500, "more")
        wait.until(lambda: rows(scene)[0]["flows"]["open"] == CONNECTIONS, "all to be mirrored")
        checked(load.end())
        sent = checked(steady.end())["sent"]
        scene.doppel.wait_idle()
    found = scene.doppel.counters()["mappings"][1]["targets"][0]
    assert whole(found, sent), (sent, found)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless(resets_to_target=True)


@case(slow=True)
def reloaded_a_hundred_times(env):
    """As fast as it goes, under load: whatever becomes of the second mapping, the first loses nothing and keeps its
    connections."""
    env.allow(180)
    scene = env.scene(ports=(11211, 11212))
    first = {"name": "first", "device": "eth0", "ports": 11211, "targets": [target(scene)]}
    file, keeper = attach(scene, [target(scene, 11212)], mapped={"name": "second", "ports": 11212})
    file.write(first)
    keeper.reload()

    def second(port=11212, portion=None, **more):
        return {"name": "second", "device": "eth0", "ports": 11212, "targets": [target(scene, port, **portion or {})],
                **more}
    turns = ([], [second()], [second(portion={"sample": "50%"})], [second(portion={"copies": 2})], [second(max_bitrate="10Mbit")],
             [second(exclude_clients=["10.9.0.0/16"])], [second(dry_run=True)], [second(application="any")],
             [second(11211)], [second()])
    load = scene.start("mixed", connections=CONNECTIONS, count=10_000_000, rate=20_000, batch=10, deadline=170)
    other = scene.start("sets", connections=16, port=11212, prefix="second", count=10_000_000, rate=500, deadline=170)
    wait.until(lambda: rows(scene)[0]["flows"]["open"] == CONNECTIONS, "the connections", 20)
    begin = time.monotonic()
    with mirror.Sampler(scene, 0.5):
        for turn in range(100):
            file.write(first, *turns[turn % len(turns)])
            keeper.reload()
        took = time.monotonic() - begin
        checked(other.end())
        sent = checked(load.end())["sent"]
        scene.doppel.wait_idle()
    print(f"      100 reloads in {took:.1f} s, {sent} bytes")
    found = scene.doppel.counters()["mappings"][0]["targets"][0]
    assert whole(found, sent) and found["flows"]["opened"] == CONNECTIONS, (sent, found)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless(resets_to_target=True)


@case()
def too_few_ports(env):
    """Sixteen copies of 64 connections, and ports for 256: some copies are left out, and counted; those that
    have a port are whole."""
    scene = env.scene()
    attach(scene, [target(scene, copies=16)], shadow_ports="16384-16639", store="8MiB")
    result = scene.load("sets", connections=CONNECTIONS, count=amount(6400))
    ledger = scene.doppel.wait_idle(observed=16 * result["sent"])
    b = ledger["bytes"]
    assert b["observed"] == 16 * result["sent"] and not b["lost"], (result["sent"], b, ledger["lost"])
    assert ledger["excluded"]["ports_exhausted"], ledger["excluded"]
    assert b["delivered"], b
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


@case(mode=MODES)
def programs_by_need(env, mode):
    """A reload that wants copies loads the program for it; until then only those are there that are needed."""
    scene = env.scene()
    pins = f"/sys/fs/bpf/doppel/v{doppel.abi()}/progs"

    def programs():
        return set(scene.lab.source.run(["ls", pins]).stdout.split())
    file = File(scene)
    file.write(mapping([target(scene)]))
    scene.doppel.attach("--config", file.path)
    few = {"doppel_ingress", "doppel_deliver", "doppel_return", "doppel_command"}
    assert programs() == few, programs()
    first, more = amount(200), amount(300)
    scene.assert_all_delivered(scene.load("sets", connections=4, count=first)["sent"])
    file.write(mapping([target(scene, copies=3)]))
    scene.doppel.run("reload", "--config", file.path)
    assert programs() == few | {"doppel_copies"}, programs()
    sent = scene.load("sets", connections=4, count=more, prefix="more")["sent"]
    wait.until(lambda: whole(rows(scene)[0], 3 * sent), "three copies", 20)
    assert scene.target[0].stats()["cmd_set"] == first + 3 * more
    assert scene.doppel.health()[0] == 0, scene.doppel.status()
    file.write(mapping([target(scene)]))
    scene.doppel.run("reload", "--config", file.path)
    scene.doppel.detach()
    scene.assert_harmless()


@case(families=IP)
def two_are_stopped(env):
    """What waits for both of them is in the store once; the third target's part is gone from it."""
    scene = env.scene()
    stopped = [Server(scene.lab.target, SECOND + n) for n in range(2)]
    attach(scene, [target(scene), target(scene, SECOND), target(scene, SECOND + 1)], store="256MiB")
    count = amount(8000, least=8000)
    load = scene.start("sets", connections=CONNECTIONS, count=count, smallest=2000, largest=16000, rate=amount(3000))
    wait.until(lambda: all(s.stats()["cmd_set"] > count / 20 for s in stopped), "a part to arrive", 20)
    for server in stopped:
        os.kill(server.process.pid, signal.SIGSTOP)
    sent = checked(load.result())["sent"]
    wait.until(lambda: whole(rows(scene)[0], sent), "the first target to be complete", 10)
    store = scene.doppel.counters()["store"]
    used, waits = store["used"] * store["chunk_bytes"], [row["bytes"]["in_flight"] for row in rows(scene)[1:]]
    print(f"      {used} bytes of the store are taken, {waits} wait")
    assert min(waits) > sent / 4, (waits, sent)
    # Each connection has a chunk that is not full, for each of the three.
    assert used < 1.05 * max(waits) + 3 * CONNECTIONS * store["chunk_bytes"], (used, waits)
    for server in stopped:
        os.kill(server.process.pid, signal.SIGCONT)
    wait.until(lambda: all(whole(row, sent) for row in rows(scene)), "all that waits to arrive", 60)
    scene.assert_same(keys=count)
    for server in stopped:
        assert server.contents() == scene.source[0].contents()
    mirror.assert_nothing_left(scene)
