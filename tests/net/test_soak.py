# SPDX-License-Identifier: Apache-2.0
"""Everything that can go wrong, at random and for long: the ledger is exact at every moment, no client
notices, and nothing is left when it is over.

    DOPPEL_SOAK_SECONDS=600 tests/net/run soak      (default 20; 20,000 requests/s if the machine can)
    DOPPEL_SOAK_SEED=7 tests/net/run soak           the faults of that run again
"""

import os
import random
import signal
import time

from harness import MODES, case
from lab import mirror, wait
from lab.keeper import keep
from lab.load import checked
from lab.snapshot import objects
from lab.wait import amount

ALONE = True  # Full speed.

RATE = amount(20000)  # requests a second, of all loads together
CONNECTIONS = 100
LIMIT = 1 << 20  # bytes by which a keeper may grow


def kernel_log():
    """A function that returns what the kernel has warned of since this call. A bridge tells of its ports
    at a lower level."""
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.lseek(log, 0, os.SEEK_END)

    def said():
        lines = []
        while True:
            try:
                line = os.read(log, 8192).decode(errors="replace").strip()
            except BlockingIOError:
                return lines
            if int(line.split(",")[0]) & 7 <= 4:  # KERN_WARNING, or worse
                lines.append(line)
    return said


def resident(keeper):
    with open(f"/proc/{keeper.pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Faults:
    """One at a time; each ends as it began, so that the next finds a whole lab."""

    def __init__(self, scene, keeper, dice):
        self.scene, self.keeper, self.dice = scene, keeper, dice
        self.number = 0
        self.done = {}

    def one(self, until):
        what = self.dice.choice([self.loss, self.restart, self.stop, self.kill_keeper, self.unplug,
                                 self.short, self.large])
        self.number += 1
        self.done[what.__name__] = self.done.get(what.__name__, 0) + 1
        what(until)

    def _last(self, until, low, high):
        """The length of the fault."""
        time.sleep(max(0.1, min(self.dice.uniform(low, high), until - time.monotonic())))

    def loss(self, until):
        tables = [self.scene.lab.lose("source", "target", self.dice.choice((1, 10, 50))),
                  self.scene.lab.lose("target", "source", self.dice.choice((1, 10, 50)))]
        self._last(until, 1, 5)
        for table in tables:
            self.scene.lab.heal(table)

    def restart(self, until):
        self.scene.target[0].kill()
        self._last(until, 0.2, 3)
        self.scene.start_target()

    def stop(self, until):
        pid = self.scene.target[0].process.pid
        os.kill(pid, signal.SIGSTOP)
        self._last(until, 0.5, 4)
        os.kill(pid, signal.SIGCONT)

    def kill_keeper(self, until):
        self.keeper.kill()
        self._last(until, 0.2, 2)
        self.keeper.start("adopted")

    def unplug(self, until):
        self.scene.lab.unplug("target")
        self._last(until, 1, 3)
        self.scene.lab.plug("target")

    def short(self, until):
        self.scene.load("sets", connections=amount(1000), count=amount(1000), at_once=50,
                        prefix=f"short{self.number}-",
                        finish=self.dice.choice(("close", "reset", "quit", "shutdown")))

    def large(self, until):
        self.scene.load("sets", connections=4, count=20, prefix="large", smallest=100_000,
                        largest=900_000)


@case(mode=MODES)
def faults_at_random(env, mode):
    seconds = int(os.environ.get("DOPPEL_SOAK_SECONDS", 20))
    seed = int(os.environ.get("DOPPEL_SOAK_SEED", 0)) or random.randrange(1, 1 << 30)
    env.allow(seconds)
    said = kernel_log()
    scene = env.scene()
    keeper = keep(scene)
    faults = Faults(scene, keeper, random.Random(seed))
    maps = len(objects(scene.lab.source))
    load = scene.start("mixed", connections=CONNECTIONS, seconds=seconds, rate=RATE, batch=10,
                       deadline=seconds + 60)
    with mirror.Sampler(scene, 0.1) as sampler:
        end = time.monotonic() + seconds
        wait.until(lambda: scene.doppel.ledger()["flows"]["open"], "the load to be under way", 20)
        faults.one(end)
        size = resident(keeper)
        while time.monotonic() < end - 1:
            faults.one(end)
        result = checked(load.result())
    print(f"      seed {seed}: {result['commands'] / result['seconds']:.0f} requests/s, slowest "
          f"{result['latency_us']['max'] / 1000:.0f} ms, {sampler.samples} samples, {faults.done}")
    # A shadow whose target was away may be in its longest backoff.
    mirror.assert_nothing_left(scene, timeout=90)
    ledger = scene.doppel.ledger()
    b = ledger["bytes"]
    print(f"      {b}, lost {reasons(ledger, 'lost')}, excluded {reasons(ledger, 'excluded')}")
    assert b["observed"] >= result["sent"], (b, result["sent"])
    assert b["delivered"] > 0.1 * b["observed"], b
    assert resident(keeper) - size < LIMIT, f"the keeper grew from {size} to {resident(keeper)} bytes"
    assert len(objects(scene.lab.source)) == maps, "programs, maps or links came and stayed"
    # As good as new.
    fresh = scene.load("sets", connections=20, count=amount(2000), prefix="after")["sent"]
    after = scene.doppel.wait_idle(observed=b["observed"] + fresh)["bytes"]
    assert after["delivered"] == b["delivered"] + fresh, (b, after, fresh)
    scene.assert_harmless(resets_to_target=True)
    lines = said()
    assert not lines, "the kernel said: " + "; ".join(lines[:5])
    keeper.stop()


def reasons(ledger, part):
    return {name: n for name, n in ledger[part].items() if n}
