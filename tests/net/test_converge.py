# SPDX-License-Identifier: Apache-2.0
"""Mappings with "converge": what mirroring alone cannot bring to the target is repaired there, while clients go on."""

import os
import signal
import subprocess
import time

from harness import case
from lab import doppel, tcp, wait
from lab.converging import CONVERGE, at_rest, converging, difference, events, state, tell, token_of
from lab.jumble import Jumble
from lab.keeper import keep
from lab.network import FAMILIES, NET4
from lab.wait import amount, patience

@case()
@case(families=FAMILIES)
def commands_that_depend_on_what_is_there(env):
    """None of these keys is on the target, so that each of these commands fails there."""
    scene, _ = converging(env)
    tell(scene,
         (b"incr key1 1\r\n", b"1001\r\n"),
         (b"append key2 0 0 1\r\n7\r\n", b"STORED\r\n"),
         (b"replace key3 5 0 3\r\nnew\r\n", b"STORED\r\n"),
         (b"touch key4 5000\r\n", b"TOUCHED\r\n"),
         (b"cas key5 0 0 4 %s\r\nswap\r\n" % token_of(scene, b"key5"), b"STORED\r\n"),
         (b"ma key6 D5\r\n", b"HD\r\n"),
         (b"ms key7 1 MA\r\n8\r\n", b"HD\r\n"),
         (b"prepend key8 0 0 1\r\n9\r\n", b"STORED\r\n"),
         (b"mg key9 T7000\r\n", b"HD\r\n"))
    at_rest(scene)
    target = scene.target[0].contents()
    assert set(target) == {b"key%d" % n for n in range(1, 10)}, (sorted(target), state(scene))
    here = scene.source[0].contents()
    assert {key: here[key] for key in target} == target
    now = state(scene)
    assert (now["repaired"], now["deleted"], now["failed"], now["missed"]) == (9, 0, 0, 0), now
    assert events(scene)["key_noted"] == 9 and events(scene)["key_missed"] == 0, events(scene)
    scene.assert_harmless()


@case()
def what_only_the_target_has(env):
    """An add that fails on the source, because the key is there, and succeeds on the target; then the key goes."""
    scene, _ = converging(env)
    tell(scene, (b"add key1 0 0 5\r\nwrong\r\n", b"NOT_STORED\r\n"))
    at_rest(scene)
    target = scene.target[0].contents()
    assert target == {b"key1": scene.source[0].contents()[b"key1"]}, (target, state(scene))
    with scene.source[0].admin() as admin:  # no mirror sees it
        admin.socket.sendall(b"delete key1\r\n")
        assert admin.reader.readline() == b"DELETED\r\n"
    tell(scene, (b"replace key1 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"))
    at_rest(scene)
    assert scene.target[0].contents() == {}
    assert state(scene)["deleted"] == 1, state(scene)


@case()
def by_a_second_address_of_the_source(env):
    """Of the same network, so that the kernel reaches it from the first one."""
    scene, _ = converging(env)
    second = str(NET4[99])
    scene.lab.source.run(["ip", "address", "add", f"{second}/{NET4.prefixlen}", "dev", "eth0"])
    with tcp.connect(scene.lab.client, second) as client:
        client.sendall(b"incr key1 1\r\n")
        assert tcp.read_lines(client, 1) == b"1001\r\n"
    at_rest(scene)
    now = state(scene)
    assert (now["repaired"], now["missed"]) == (1, 0), now
    assert set(scene.target[0].contents()) == {b"key1"}, scene.target[0].contents()


@case()
def turned_off_for_a_while(env):
    """Nobody looked at what came meanwhile, however short that was."""
    scene, keeper = converging(env)
    _, file = scene.kept
    mapping = "p11211"
    file.write(file.mapping(mapping, 11211, application="memcached"))
    keeper.reload("its servers converge no more")
    wait.until(lambda: not state(scene), "nobody to converge")
    tell(scene, (b"incr key1 1\r\n", b"1001\r\n"))
    file.write(file.mapping(mapping, 11211, **CONVERGE))
    keeper.reload("its servers are made to converge")
    wait.until(lambda: (state(scene) or {"missed": 0})["missed"] > 0, "that to be counted", 20)
    assert state(scene)["missed"] == 1, state(scene)


@case()
def away_for_a_while(env):
    """So short that no look found it gone: its row is as it was, and its clients went on."""
    scene, keeper = converging(env)
    _, file = scene.kept
    tell(scene, (b"incr key1 1\r\n", b"1001\r\n"))
    at_rest(scene)
    assert state(scene)["missed"] == 0, state(scene)
    file.write(file.mapping("other", 11299, application="memcached"))
    keeper.reload("removed p11211")
    file.write(file.mapping("p11211", 11211, **CONVERGE))
    keeper.reload("added p11211")
    wait.until(lambda: (state(scene) or {"missed": 0})["missed"] > 0, "that to be counted", 20)


@case(look=(True, False))
def another_target_for_a_while(env, look):
    """Each reload makes a row of its own; the first target has not what its clients did meanwhile."""
    scene, keeper = converging(env)
    _, file = scene.kept
    here = file.mapping("p11211", 11211, **CONVERGE)
    there = {**here, "targets": [{"address": scene.lab.target.address, "port": 11212}]}
    tell(scene, (b"incr key1 1\r\n", b"1001\r\n"))
    at_rest(scene)
    assert state(scene)["missed"] == 0, state(scene)
    file.write(there)
    keeper.reload("changed p11211")
    if look:
        wait.until(lambda: (state(scene) or {"working": False})["working"], "the other target to be looked after", 20)
        assert state(scene)["missed"] == 0, state(scene)
    file.write(here)
    keeper.reload("changed p11211")
    wait.until(lambda: (state(scene) or {"missed": 0})["missed"] > 0, "that to be counted", 20)


@case(slow=True, per_mille=(0, 10))
def under_load(env, per_mille):
    """Several connections write to the same keys, on a good path, and where one packet in a hundred is lost."""
    scene = env.scene()
    keys = amount(5000)
    scene.source[0].preload(keys, b"1000")
    keep(scene, CONVERGE)
    tables = [scene.lab.lose("source", "target", per_mille)] if per_mille else []
    jumble = Jumble(scene.lab, keys=keys, rate=amount(1000), connections=8)
    scene.doppel.run("warm", f"{scene.lab.source.address}:11211", f"{scene.lab.target.address}:11211",
                     "--settle", "0.5", "--rate", str(amount(1000)), timeout=120)
    jumble.assert_going_on()
    assert jumble.end() > 0
    for table in tables:
        scene.lab.heal(table)
    at_rest(scene)
    now = state(scene)
    assert now["repaired"] > 0 and now["missed"] == 0 and now["failed"] == 0, now
    assert events(scene)["key_missed"] == 0, events(scene)
    difference(scene)
    assert not scene.doppel.ledger()["bytes"]["lost"]


def stop_now_and_then(process, until):
    """SIGSTOP for a second, each five seconds."""
    while time.monotonic() < until:
        time.sleep(4)  # the length of what goes well
        process.send_signal(signal.SIGSTOP)
        time.sleep(1)  # and of the stop
        process.send_signal(signal.SIGCONT)


def bring_to_the_same(env, per_mille, stops, keys, rate, seconds):
    """The mirror, converge and warm, beside whatever clients do; then they stop."""
    scene = env.scene()
    scene.source[0].preload(keys, b"1000")
    keep(scene, CONVERGE)
    tables = [scene.lab.lose("source", "target", per_mille)] if per_mille else []
    jumble = Jumble(scene.lab, keys=keys, rate=rate, connections=4, processes=4)
    until = time.monotonic() + seconds
    warm = scene.lab.source.popen([doppel.binary(), "warm", f"{scene.lab.source.address}:11211",
                                   f"{scene.lab.target.address}:11211", "--rate", str(keys // 20), "--timeout", "30"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    if stops:
        stop_now_and_then(scene.source[0].process, until)
    else:
        wait.until(lambda: time.monotonic() >= until, "the time to be over", seconds + 10)
    jumble.assert_going_on()
    commands = jumble.end()
    assert warm.wait(patience(120)) in (0, 3), "warm failed"
    for table in tables:
        scene.lab.heal(table)
    at_rest(scene, timeout=120)
    now = state(scene)
    print(f"      {commands} commands, {events(scene)['key_noted']} notes, {now}")
    assert now["missed"] == 0 and now["failed"] == 0 and events(scene)["key_missed"] == 0, (now, events(scene))
    difference(scene)
    assert not scene.doppel.ledger()["bytes"]["lost"]


@case(long=True, per_mille=(0, 10), stops=(False, True))
def ten_minutes(env, per_mille, stops):
    env.allow(1200)
    bring_to_the_same(env, per_mille, stops, keys=100_000, rate=5000,
                      seconds=float(os.environ.get("DOPPEL_TEST_SECONDS", 600)))
