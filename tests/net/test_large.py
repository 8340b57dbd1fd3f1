# SPDX-License-Identifier: Apache-2.0
"""One connection carries much while the target is late: as long as the store has room, nothing is lost. When
it has none, those break that lag most."""

import os
import signal
import threading
import time
from types import SimpleNamespace

from harness import case
from lab import load, memcached, mirror, wait
from lab.books import named, settled, tell
from lab.guest import guest
from lab.keeper import keep
from lab.load import checked
from test_client_net import connect

ALONE = True  # Full speed, and gigabytes of memory.

ITEM = ("-I", "32m")


def large_scene(env):
    """Servers that take values of 16 MB."""
    scene = env.scene(target_runs=False)
    scene.source[0].kill()
    scene.source = [memcached.Server(scene.lab.source, memory_mb=1024, options=ITEM)]
    scene.target = [memcached.Server(scene.lab.target, memory_mb=1024, options=ITEM)]
    return scene


def assert_complete(scene, sent, keys):
    ledger = scene.assert_all_delivered(sent)
    print(f"      {tell(scene, ledger)}")
    assert not ledger["flows"]["broken"], ledger["flows"]
    scene.assert_same(keys=keys)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless()


class Pause(threading.Thread):
    """Stops the target once for so long, when it has had so many sets."""

    def __init__(self, scene, seconds, after):
        super().__init__(daemon=True)
        self.scene, self.seconds, self.after = scene, seconds, after
        self.done = False
        self.start()

    def run(self):
        pid = self.scene.target[0].process.pid
        wait.until(lambda: self.scene.target[0].stats()["cmd_set"] >= self.after, "the upload to be under way", 20)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.seconds)  # the length of the pause
        os.kill(pid, signal.SIGCONT)
        self.done = True


@case(megabytes=(8, 16))
def values(env, megabytes):
    """One connection, one value of that size at a time."""
    scene = large_scene(env)
    keep(scene)
    size = megabytes * 1_000_000
    with mirror.Sampler(scene):
        sent = scene.load("sets", connections=1, count=3, smallest=size, largest=size)["sent"]
        assert_complete(scene, sent, 3)


@case()
def back_to_back(env):
    """4 connections, 12 values of 1 MB each, three of them sent together. The target stands still once for 0.3 s."""
    scene = large_scene(env)
    keep(scene)
    pause = Pause(scene, 0.3, 8)
    with mirror.Sampler(scene):
        sent = scene.load("sets", connections=4, count=48, smallest=1_000_000, largest=1_000_000,
                          batch=3)["sent"]
        pause.join(20)
        assert pause.done, "the target was never stopped"
        assert_complete(scene, sent, 48)


@case(milliseconds=(60, 1000))
def stopped_target(env, milliseconds):
    """One connection uploads at 100 MB/s; meanwhile the target stands still for that long. A second of it needs
    a store of its size."""
    scene = large_scene(env)
    keep(scene, **({"store": "256MiB"} if milliseconds == 1000 else {}))
    pause = Pause(scene, milliseconds / 1000, 100)
    count = 400 if milliseconds == 60 else 1500
    with mirror.Sampler(scene):
        result = scene.load("sets", connections=1, count=count, rate=1000, smallest=100_000, largest=100_000)
        pause.join(20)
        assert pause.done, "the target was never stopped"
        assert_complete(scene, result["sent"], count)
    print(f"      {result['sent'] / result['seconds'] / 1e6:.0f} MB/s")


@case()
def one_busy_connection(env):
    """As a proxy does it: all requests of many clients on one connection, many at a time, at full speed."""
    _proxy(env, 5)


@case(long=True)
def one_busy_connection_for_long(env):
    _proxy(env, 30)


def _proxy(env, seconds):
    scene = env.scene()
    env.allow(seconds)
    keep(scene)
    with mirror.Sampler(scene):
        result = scene.load("mixed", connections=1, seconds=seconds, batch=100, smallest=100, largest=8000)
        ledger = scene.assert_all_delivered(result["sent"])
    print(f"      {result['commands'] / result['seconds']:.0f} requests/s, {tell(scene, ledger)}")
    assert not ledger["flows"]["broken"], ledger["flows"]
    scene.assert_same()
    scene.assert_same_commands()


class Uploads:
    """Some connections that upload small values, a few at a time; nobody answers."""

    def __init__(self, scene, count):
        self.scene, self.sent, self.turn = scene, 0, 0
        self.sockets = [connect(scene) for _ in range(count)]

    def fill(self, chunks, least_free, most):
        """Until so few chunks of the store are free, or so many bytes are sent."""
        while self.sent < most:
            free = chunks - self.scene.doppel.counters()["store"]["used"]
            if free <= least_free:
                return
            for n, s in enumerate(self.sockets):
                size = max(500, min(60_000, (free - least_free) * 2048 // len(self.sockets) // 2))
                request = b"set big%d 0 0 %d noreply\r\n%s\r\n" % (n, size, b"x" * size)
                s.sendall(request)
                self.sent += len(request)
            wait.settled(lambda: self.scene.doppel.ledger()["bytes"]["observed"], "the uploads", 0.05, interval=0.02)


@case(where=("same-host", "other-host"))
def store_full(env, where):
    """Six uploads fill the store of a target that stands still, and rest: they have what lags most, so they
    make room. The small requests of 50 others, of the same address or of another, all arrive."""
    scene = env.scene()
    other = guest(scene.lab, "other", 21) if where == "other-host" else scene.lab.client
    keep(scene, store="16MiB")
    small = load.Load(SimpleNamespace(client=other, source=scene.lab.source), "sets", connections=50, count=1000,
                      prefix="small", wait=True)
    uploads = Uploads(scene, 6)
    wait.until(lambda: scene.doppel.ledger()["flows"]["open"] == 56, "56 shadows")
    chunks = scene.doppel.counters()["store"]["chunks"]
    os.kill(scene.target[0].process.pid, signal.SIGSTOP)
    try:
        with mirror.Sampler(scene):
            uploads.fill(chunks, 10, 20 << 20)
            small.go()
            sent = uploads.sent + checked(small.result())["sent"]
    finally:
        os.kill(scene.target[0].process.pid, signal.SIGCONT)
    ledger = settled(scene)
    b = ledger["bytes"]
    have = scene.target[0].contents()
    missing = [n for n in range(1000) if b"small%07d" % n not in have]
    print(f"      {uploads.sent} bytes of uploads, {tell(scene, ledger)}")
    assert not missing, f"{len(missing)} small requests are missing: {tell(scene, ledger)}"
    assert b["observed"] == sent, (sent, b)
    assert b["lost"] > 0 and named(ledger, "store_full") > 0, tell(scene, ledger)
    for s in uploads.sockets:
        s.close()
    mirror.assert_nothing_left(scene, timeout=75)
