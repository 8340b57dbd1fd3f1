# SPDX-License-Identifier: Apache-2.0
"""Mappings with "converge": what mirroring alone cannot bring to the target is repaired there, while clients go on."""

import os
import signal
import subprocess
import time

from harness import case
from lab import doppel, tcp, wait
from lab.jumble import Jumble
from lab.keeper import File, Keeper, keep
from lab.wait import amount, patience

CONVERGE = {"application": "memcached", "converge": True}


def state(scene, name="p11211"):
    """What `counters` says of the mapping: {"waiting": …, "repaired": …, "missed": …, "working": …}"""
    rows = scene.doppel.counters()["mappings"]
    return next(m["converge"] for m in rows if m["name"] == name)


def at_rest(scene, name="p11211", timeout=60):
    """Until all that was noted is compared."""
    scene.doppel.wait_idle()

    def done():
        now = state(scene, name)
        return now["working"] and now["noted"] == events(scene, name)["key_noted"] and now["waiting"] == 0
    wait.until(done, "all keys to be compared", timeout)


def events(scene, name="p11211"):
    rows = scene.doppel.counters()["mappings"]
    return next(m["targets"][0]["events"] for m in rows if m["name"] == name)


def tell(scene, *requests):
    """What a client says and hears: (request, the line that answers it)."""
    with tcp.connect(scene.lab.client, scene.lab.source.address) as s:
        reader = s.makefile("rb")
        for request, answer in requests:
            s.sendall(request)
            said = reader.readline()
            assert said == answer, f"{request!r}: {said!r} instead of {answer!r}"


def difference(scene):
    """What `verify --all` counts, which must be nothing."""
    done = scene.doppel.run("verify", "--all", "--json", f"{scene.lab.source.address}:11211",
                            f"{scene.lab.target.address}:11211", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def converging(env):
    """A source whose hundred keys nobody has copied."""
    scene = env.scene()
    scene.source[0].preload(100, b"1000")
    keeper = keep(scene, CONVERGE)
    wait.until(lambda: state(scene)["working"], "the mapping to converge", 20)
    return scene, keeper


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def token_of(scene, key):
    with scene.source[0].admin() as admin:
        admin.socket.sendall(b"mg %s c\r\n" % key)
        return admin.reader.readline().split()[1][1:]


@case()
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
def a_reload_turns_it_on_and_off(env):
    """The shadows of the mapping stay, and with it on its keys are noted."""
    scene = env.scene()
    scene.source[0].preload(100, b"1000")
    keeper = keep(scene, {"application": "memcached"})
    _, file = scene.kept
    with tcp.connect(scene.lab.client, scene.lab.source.address) as s:
        reader = s.makefile("rb")
        for on in (True, False):
            file.write(file.mapping("p11211", 11211, application="memcached", converge=on))
            keeper.reload()
            if on:
                wait.until(lambda: state(scene)["working"], "the mapping to converge", 20)
            s.sendall(b"incr key%d 1\r\n" % on)
            assert reader.readline() == b"1001\r\n"
            if on:
                at_rest(scene)
    assert list(scene.target[0].contents()) == [b"key1"]
    assert state(scene) is None
    assert scene.doppel.ledger()["flows"]["opened"] == 1, scene.doppel.ledger()
    assert events(scene)["key_noted"] == 1, events(scene)


@case()
def a_reload_adds_a_mapping(env):
    """A key that is noted before who converges knows of the mapping is repaired as well."""
    scene = env.scene(ports=(11211, 11212))
    scene.source[1].preload(10)
    file = File(scene)
    rows = [file.mapping(f"p{port}", port, **CONVERGE) for port in scene.ports]
    file.write(rows[0])
    keeper = Keeper(scene, "--config", file.path)
    wait.until(lambda: state(scene)["working"], "the mapping to converge", 20)
    file.write(*rows)
    keeper.reload()
    with tcp.connect(scene.lab.client, scene.lab.source.address, 11212) as s:
        s.sendall(b"incr key1 1\r\n")
        assert s.makefile("rb").readline() == b"1001\r\n"
    at_rest(scene, "p11212")
    assert state(scene, "p11212")["repaired"] == 1, state(scene, "p11212")
    assert list(scene.target[1].contents()) == [b"key1"]


@case()
def who_converges_is_killed(env):
    """It is started again, and what it had taken up and not done counts as missed: nobody knows of it any more."""
    scene, keeper = converging(env)
    tell(scene, (b"incr key1 1\r\n", b"1001\r\n"))
    wait.until(lambda: state(scene)["waiting"] == 1, "the key to be taken up", 20)
    [child] = children(keeper.pid)
    os.kill(child, signal.SIGKILL)
    keeper.wait_for("was ended by signal 9")
    wait.until(lambda: state(scene)["missed"] == 1, "the key to be missed", 40)
    tell(scene, (b"incr key2 1\r\n", b"1001\r\n"))
    at_rest(scene)
    assert list(scene.target[0].contents()) == [b"key2"]
    [child] = children(keeper.pid)
    keeper.kill()
    wait.until(lambda: not os.path.exists(f"/proc/{child}"), "nobody to outlive the keeper", 20)


@case()
def a_server_is_away(env):
    """`status` tells it, and what was noted meanwhile is repaired when the server is back."""
    scene, keeper = converging(env)
    source = scene.source[0]
    source.process.send_signal(signal.SIGSTOP)
    with tcp.connect(scene.lab.client, scene.lab.source.address) as s:
        s.sendall(b"incr key1 1\r\n")
        wait.until(lambda: "converge" in [p["class"] for p in scene.doppel.status()["problems"]],
                   "status to tell that nothing converges", 60)
        source.process.send_signal(signal.SIGCONT)
        assert s.makefile("rb").readline() == b"1001\r\n"
    at_rest(scene)
    assert list(scene.target[0].contents()) == [b"key1"]
    wait.until(lambda: "converge" not in [p["class"] for p in scene.doppel.status()["problems"]],
               "status to tell that it is over", 20)


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
