# SPDX-License-Identifier: Apache-2.0
"""Mappings with "converge", while what is around them changes: mappings, servers, processes, the path."""

import os
import signal
import subprocess
import time

from harness import case
from lab import doppel, memcached, tcp, wait
from lab.converging import CONVERGE, at_rest, children, converging, events, state, tell
from lab.keeper import File, Keeper, keep


def incr(scene, *numbers, port=11211):
    """One request for each of these keys, which are preloaded."""
    with tcp.connect(scene.lab.client, scene.lab.source.address, port) as s:
        reader = s.makefile("rb")
        for n in numbers:
            s.sendall(b"incr key%d 1\r\n" % n)
            assert reader.readline() == b"1001\r\n"


def compared(scene, name):
    """Keys that are the same now. One that was repaired and not confirmed is compared once more, and is equal then."""
    now = state(scene, name)
    return now["equal"] + now["repaired"]


def kill_companion(keeper):
    """Who converges; the keeper starts it again."""
    [child] = children(keeper.pid)
    os.kill(child, signal.SIGKILL)
    keeper.wait_for("was ended by signal 9")


@case()
def a_reload_turns_it_on_and_off(env):
    """The shadows of the mapping stay, and with it on its keys are noted."""
    scene = env.scene()
    scene.source[0].preload(100, b"1000")
    keeper = keep(scene, {"application": "memcached"})
    _, file = scene.kept
    with tcp.connect(scene.lab.client, scene.lab.source.address) as s:
        reader = s.makefile("rb")
        for n, on in enumerate((True, False, True)):
            file.write(file.mapping("p11211", 11211, application="memcached", converge=on))
            keeper.reload()
            if on:
                wait.until(lambda: state(scene)["working"], "the mapping to converge", 20)
            s.sendall(b"incr key%d 1\r\n" % n)
            assert reader.readline() == b"1001\r\n"
            if on:
                at_rest(scene)
            else:
                assert state(scene) is None
    assert set(scene.target[0].contents()) == {b"key0", b"key2"}
    assert scene.doppel.ledger()["flows"]["opened"] == 1, scene.doppel.ledger()
    assert events(scene)["key_noted"] == 2, events(scene)


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


@case()
def who_converges_is_killed_at_once(env):
    """However soon it dies, a note is taken up by the next, or counted as missed; and once."""
    scene, keeper = converging(env)
    incr(scene, *range(50))
    kill_companion(keeper)
    at_rest(scene)
    now = state(scene)
    assert now["missed"] + now["repaired"] == 50, now
    wait.until(lambda: children(keeper.pid), "it to be started again", 40)
    kill_companion(keeper)
    wait.until(lambda: children(keeper.pid), "it to be started again", 60)
    incr(scene, 77)
    at_rest(scene)
    then = state(scene)
    assert then["repaired"] == now["repaired"] + 1 and then["missed"] == now["missed"], (now, then)


@case()
def a_reload_renames_the_mapping(env):
    """What waits is repaired all the same."""
    scene, keeper = converging(env)
    _, file = scene.kept
    incr(scene, *range(50))
    wait.until(lambda: state(scene)["waiting"] == 50, "the keys to be taken up", 20)
    file.write(file.mapping("other", 11211, **CONVERGE))
    keeper.reload()
    incr(scene, *range(50, 60))
    wait.until(lambda: compared(scene, "other") == 60, "the keys to be repaired", 60)
    assert len(scene.target[0].contents()) == 60
    assert state(scene, "other")["missed"] == 0, state(scene, "other")


@case()
def a_key_that_no_server_takes(env):
    """Encoded as no encoder would. It is counted, since nobody knows what the source makes of it."""
    scene, _ = converging(env)
    with tcp.connect(scene.lab.client, scene.lab.source.address) as s:
        reader = s.makefile("rb")
        for key in (b"====", b"A===", b"=AAA"):  # memcached 1.6.18 refuses some of them
            s.sendall(b"mg %s b T5\r\n" % key)
            assert reader.readline()
    incr(scene, 1)
    at_rest(scene)
    now = state(scene)
    assert now["repaired"] == 1 and now["missed"] == 3 and now["noted"] == 4, now


@case()
def a_key_in_base64(env):
    """memcached repeats the key of such an item encoded, whatever it is asked by."""
    scene, _ = converging(env)
    tell(scene, (b"ms Z3LDtsOfZQ== 1 b T1000 ME\r\n1\r\n", b"HD\r\n"), (b"ms Zm9v 1 b T1000 ME\r\n1\r\n", b"HD\r\n"),
         (b"ma Zm9v b N0 J5\r\n", b"HD\r\n"), (b"append gr\xc3\xb6\xc3\x9fe 0 0 1\r\n7\r\n", b"STORED\r\n"))
    incr(scene, 1)
    at_rest(scene)
    now = state(scene)
    assert now["missed"] == 0 and now["failed"] == 0, now
    here, there = scene.source[0].contents(), scene.target[0].contents()
    assert there == {key: here[key] for key in there} and len(there) == 3, (there, now)


@case()
def a_reload_splits_the_mapping(env):
    """Each part goes on with what waits for its ports."""
    scene = env.scene(ports=(11211, 11212))
    for source in scene.source:
        source.preload(10)
    file = File(scene)
    file.write(file.mapping("both", "11211-11212", **CONVERGE) | {
        "targets": [{"address": scene.lab.target.address, "port": 11211}]})
    keeper = Keeper(scene, "--config", file.path)
    wait.until(lambda: state(scene, "both")["working"], "the mapping to converge", 20)
    for port in scene.ports:
        incr(scene, 1, 2, port=port)
    wait.until(lambda: state(scene, "both")["waiting"] == 4, "the keys to be taken up", 20)
    file.write(*(file.mapping(f"p{port}", port, **CONVERGE) for port in scene.ports))
    keeper.reload()
    for port, target in zip(scene.ports, scene.target):
        wait.until(lambda: compared(scene, f"p{port}") == 2, "the keys to be repaired", 60)
        assert set(target.contents()) == {b"key1", b"key2"}
        assert state(scene, f"p{port}")["missed"] == 0, state(scene, f"p{port}")


@case()
def an_item_that_was_marked_as_stale(env):
    """Its token is the application's, for who takes up the work as well."""
    scene, keeper = converging(env)
    tell(scene, (b"md key1 I T3000\r\n", b"HD\r\n"))
    at_rest(scene)
    kill_companion(keeper)
    wait.until(lambda: children(keeper.pid), "it to be started again", 40)
    tell(scene, (b"touch key1 4000\r\n", b"TOUCHED\r\n"))
    incr(scene, 2)
    at_rest(scene)
    assert list(scene.target[0].contents()) == [b"key2"]
    tell(scene, (b"mg key1 k\r\n", b"HD kkey1 X W\r\n"))


@case()
def what_a_client_renews_or_fills(env):
    """It has the token (`mg` with R or N), and a read takes none: such keys converge as others do."""
    scene, _ = converging(env)
    tell(scene, (b"touch key1 600\r\n", b"TOUCHED\r\n"), (b"mg key1 R700\r\n", b"HD W\r\n"),
         (b"mg new N600\r\n", b"HD W\r\n"))
    at_rest(scene)
    now = state(scene)
    assert (now["repaired"], now["failed"], now["missed"]) == (1, 0, 0), now
    tell(scene, (b"ms new 1\r\n5\r\n", b"HD\r\n"), (b"incr new 1\r\n", b"6\r\n"))
    at_rest(scene)
    here = scene.source[0].contents()
    assert scene.target[0].contents() == {key: here[key] for key in (b"key1", b"new")}, state(scene)
    assert state(scene)["missed"] == 0, state(scene)


@case()
def another_program_on_loopback(env):
    """The clients' server is bound to its address, and at 127.0.0.1 something else listens on the same port."""
    scene = env.scene()
    source = scene.lab.source
    scene.source[0].kill()
    scene.source[0] = memcached.Server(source, address=source.address)
    other = source.popen(["memcached", "-u", "root", "-l", "127.0.0.1:11211"], stdin=subprocess.DEVNULL)
    wait.until(lambda: source.listens(11211), "the other to listen")
    scene.source[0].preload(10)
    keep(scene, CONVERGE)
    wait.until(lambda: state(scene)["working"], "the mapping to converge", 20)
    tell(scene, (b"set a 0 0 1\r\n1\r\n", b"STORED\r\n"), (b"append a 0 0 1\r\n5\r\n", b"STORED\r\n"))
    incr(scene, 1)
    at_rest(scene)
    here = scene.source[0].contents()
    assert scene.target[0].contents() == {key: here[key] for key in (b"a", b"key1")}, state(scene)
    assert state(scene)["missed"] == 0, state(scene)
    other.kill()
    other.wait()


@case()
def the_source_moves(env):
    """From all addresses to one: it is asked where its clients come to."""
    scene, _ = converging(env)
    incr(scene, 1)
    at_rest(scene)
    scene.source[0].kill()
    scene.source[0] = memcached.Server(scene.lab.source, address=scene.lab.source.address)
    scene.source[0].preload(10)
    incr(scene, 2)
    at_rest(scene)
    assert set(scene.target[0].contents()) == {b"key1", b"key2"}, state(scene)
    # The keeper looks now and then, and told while the source was away.
    wait.until(lambda: "converge" not in [p["class"] for p in scene.doppel.status()["problems"]], "that to be over", 20)


@case()
def the_target_is_started_anew(env):
    """What was repaired there is gone, and counts as missed."""
    scene, keeper = converging(env)
    incr(scene, *range(50))
    at_rest(scene)
    scene.target[0].kill()
    scene.start_target()
    keeper.wait_for("was started anew")
    wait.until(lambda: state(scene)["missed"] == 1, "that to be told", 20)
    incr(scene, 77)
    at_rest(scene)
    assert list(scene.target[0].contents()) == [b"key77"], state(scene)


@case()
def the_source_is_started_anew(env):
    """What it had is on the target still, also what clients could not delete meanwhile. That counts as missed."""
    scene, keeper = converging(env)
    incr(scene, 1)
    at_rest(scene)
    scene.source[0].kill()
    scene.source[0] = memcached.Server(scene.lab.source, 11211)
    keeper.wait_for(f"{scene.lab.source.address}:11211 was started anew")
    wait.until(lambda: state(scene)["missed"] == 1, "that to be told", 20)


@case()
def copies_that_are_late(env):
    """Two writes to a key, further apart than writers are remembered: no note tells that they may change places."""
    scene, _ = converging(env)
    with tcp.connect(scene.lab.client, scene.lab.source.address) as s:
        reader = s.makefile("rb")
        s.sendall(b"mn\r\n")
        assert reader.readline() == b"MN\r\n"
        scene.doppel.wait_idle()
        table = scene.lab.lose("source", "target", 1000)
        s.sendall(b"set late 0 0 1\r\nA\r\n")
        assert reader.readline() == b"STORED\r\n"
        wait.until(lambda: state(scene)["missed"] > 0, "the copy to be late", 20)
        scene.lab.heal(table)
    at_rest(scene)
    assert events(scene)["key_noted"] == 0


@case()
def a_source_on_two_devices(env):
    """Mapped twice: what has to reach the target before a key is compared is that of both mappings."""
    scene = env.scene()
    source = scene.lab.source
    for command in (["link", "add", "v7", "type", "veth", "peer", "name", "v8"], ["link", "set", "v7", "up"],
                    ["link", "set", "v8", "up"]):
        source.run(["ip", *command])
    for side in (scene.source[0], scene.target[0]):
        side.preload(10)
    file = File(scene)
    file.write({**file.mapping("first", 11211, **CONVERGE), "device": "v7"}, file.mapping("second", 11211, **CONVERGE))
    _keeper = Keeper(scene, "--config", file.path)
    wait.until(lambda: state(scene, "second")["working"], "the mapping to converge", 20)
    with tcp.connect(scene.lab.client, source.address) as s:
        reader = s.makefile("rb")
        s.sendall(b"mn\r\n")
        assert reader.readline() == b"MN\r\n"
        scene.doppel.wait_idle()
        _, port = scene.doppel.json("flows")["flows"][0]["shadow"].split(":")
        table = scene.lab.lose("source", "target", 1000, f"tcp sport {port}")
        s.sendall(b"incr key1 5\r\n")
        assert reader.readline() == b"1005\r\n"
        hits = scene.source[0].stats()["get_hits"]
        wait.until(lambda: scene.source[0].stats()["get_hits"] > hits, "the key to be read at the source", 20)
        wait.until(lambda: scene.doppel.ledger()["bytes"]["in_flight"], "the copy to be on its way still", 20)
        scene.lab.heal(table)
    at_rest(scene, "second")
    here, there = scene.source[0].contents(), scene.target[0].contents()
    assert there[b"key1"] == here[b"key1"], (here[b"key1"], there[b"key1"])


@case()
def what_clients_write_behind_a_switch(env):
    """The mirror is detached, and clients go to the target, while keys wait that were noted: theirs stay."""
    scene = env.scene()
    scene.source[0].preload(100, b"1000")
    file = File(scene)
    file.write(file.mapping("p11211", 11211, **CONVERGE))
    scene.doppel.attach("--config", file.path)
    process = scene.lab.source.popen([doppel.binary(), "converge"], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait.until(lambda: state(scene)["working"], "the mapping to converge", 20)
    for n in range(60):  # for longer than a key rests, so that some are due at each moment after that
        incr(scene, n)
        begin = time.monotonic()
        wait.until(lambda: time.monotonic() - begin > 0.05, "the next", interval=0.01)
    scene.doppel.detach()
    with tcp.connect(scene.lab.client, scene.lab.target.address) as s:
        reader = s.makefile("rb")
        for n in range(60):
            s.sendall(b"set key%d 0 0 3\r\nnew\r\n" % n)
            assert reader.readline() == b"STORED\r\n"
    process.wait(wait.patience(20))
    now = scene.target[0].contents()
    old = sorted(key for key, (_, size, _) in now.items() if size != len(b"new"))
    assert len(now) == 60 and not old, old
