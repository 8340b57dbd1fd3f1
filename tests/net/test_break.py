# SPDX-License-Identifier: Apache-2.0
"""The target breaks its shadows, or lets them wait: what fell in between is counted by reason, and the
mirror is complete again soon after."""

import bisect
import os
import signal
import time

from harness import MODES, case
from lab import mirror, wait
from lab.keeper import keep
from lab.load import checked
from lab.network import FAMILIES
from lab.wait import amount

CONNECTIONS = 64
BROKEN = {"target_refused", "target_reset", "target_closed", "target_timeout"}
OUT = {"backoff", "not_joined", "embryonic"}


def assert_complete_since(scene, count, first):
    """From its key number `first` on, each connection's keys are all on the target."""
    have = scene.target[0].contents()
    late = []
    for n in range(CONNECTIONS):
        begin, end = count * n // CONNECTIONS, count * (n + 1) // CONNECTIONS
        missing = [k for k in range(begin, end) if b"key%07d" % k not in have]
        if missing and missing[-1] >= first(n):
            late.append(f"connection {n}: {missing[-1]} of {begin}..{end - 1}, not before {first(n)}")
    assert not late, f"{len(late)} connections still miss keys, such as {late[0]}"


class Progress:
    """Which keys the source had at some moment: of each connection the last one, and one more may have been on
    its way."""

    def __init__(self, scene, count):
        self.scene, self.count = scene, count

    def now(self):
        begins = [self.count * n // CONNECTIONS for n in range(CONNECTIONS)]
        last = [begin - 1 for begin in begins]
        with self.scene.source[0].admin() as admin:
            # An item that moves between LRU queues can hide from one crawl.
            keys = [wait.until(admin.dump_keys, "a dump of the keys") for _ in range(2)]
            for key in set.union(*keys):
                number = int(key.removeprefix(b"key"))
                n = bisect.bisect_right(begins, number) - 1
                last[n] = max(last[n], number)
        return lambda n: last[n] + 2


def reasons(ledger, part):
    return {name for name, n in ledger[part].items() if n}


def assert_accounted(scene, sent, lost, excluded):
    ledger = scene.doppel.wait_idle(observed=sent)
    assert ledger["bytes"]["observed"] == sent, (sent, ledger["bytes"])
    assert reasons(ledger, "lost") <= lost, ledger["lost"]
    assert reasons(ledger, "excluded") <= excluded, ledger["excluded"]
    return ledger


@case(slow=True, mode=MODES, how=("killed", "unplugged"))
@case(slow=True, mode=MODES[:1], how=("killed",), families=FAMILIES)
def gone_for_five_seconds(env, mode, how):
    """Killed and started again 5 s later (or off the network for that long)."""
    scene = env.scene()
    keep(scene)
    count, rate = amount(64000), amount(2500)
    progress = Progress(scene, count)
    load = scene.start("sets", connections=CONNECTIONS, count=count, rate=rate)
    with mirror.Sampler(scene):
        wait.until(lambda: scene.target[0].stats()["cmd_set"] > count / 8, "an eighth to arrive", 20)
        if how == "killed":
            scene.target[0].kill()
        else:
            scene.lab.unplug("target")
        time.sleep(5)  # the length of the outage
        if how == "killed":
            scene.start_target()
        else:
            scene.lab.plug("target")
        back = time.monotonic()
        wait.until(lambda: scene.doppel.ledger()["flows"]["open"] == CONNECTIONS
                   and scene.doppel.ledger()["flows"]["waiting"] == 0,
                   "all connections to be mirrored again", 10)
        print(f"      {how}: all joined again after {time.monotonic() - back:.1f} s")
        since = progress.now()
        result = checked(load.result())
    assert result["latency_us"]["max"] < wait.patience(1_500_000) + env.late_us(), result["latency_us"]
    ledger = assert_accounted(scene, result["sent"], BROKEN, OUT)
    if how == "unplugged":
        assert ledger["bytes"]["lost"] == 0, ledger
    else:
        assert ledger["flows"]["broken"] >= CONNECTIONS, ledger["flows"]
        assert ledger["flows"]["joined"] >= CONNECTIONS, ledger["flows"]
    assert_complete_since(scene, count, since)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless(resets_to_target=True)


@case(slow=True, mode=MODES, store=("large", "small"))
def stopped_for_ten_seconds(env, mode, store):
    """SIGSTOP: the windows close. What fits in the store waits there and arrives; what does not is lost,
    and counted; afterwards the mirror is complete."""
    scene = env.scene()
    limits = {"store": "2MiB", "flow_cap": "64KiB"} if store == "small" else {}
    if limits:  # else its sockets grow until they take all of it, where the machine is slow
        scene.lab.target.sysctl("net/ipv4/tcp_rmem", "4096 16384 16384")
    keep(scene, **limits)
    count, rate = amount(40000), amount(2000)
    sizes = {"smallest": 200, "largest": 4000}
    progress = Progress(scene, count)
    load = scene.start("sets", connections=CONNECTIONS, count=count, rate=rate, **sizes)
    with mirror.Sampler(scene):
        wait.until(lambda: scene.target[0].stats()["cmd_set"] > count / 10, "a tenth to arrive", 20)
        os.kill(scene.target[0].process.pid, signal.SIGSTOP)
        time.sleep(10)  # the length of the stop
        os.kill(scene.target[0].process.pid, signal.SIGCONT)
        if store == "small":
            wait.until(lambda: scene.doppel.ledger()["flows"]["waiting"] == 0,
                       "all connections to be mirrored again", 15)
        since = progress.now()
        result = checked(load.result())
    full = {"store_full", "flow_cap"} if store == "small" else set()
    ledger = assert_accounted(scene, result["sent"], full, OUT if full else set())
    print(f"      {store}: lost {ledger['bytes']['lost']}, excluded {ledger['bytes']['excluded']}, "
          f"{mirror.events(scene)}")
    assert bool(ledger["bytes"]["lost"]) == bool(full), ledger["bytes"]
    if full:
        assert_complete_since(scene, count, since)
    else:
        scene.assert_same(keys=count)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless(resets_to_target=True)


@case(mode=MODES)
def the_keeper_is_killed(env, mode):
    """kill -9 under load, with packets being lost, and a new one: no gap."""
    scene = env.scene()
    keeper = keep(scene)
    scene.lab.lose("source", "target", 10)
    load = scene.start("sets", connections=CONNECTIONS, count=amount(300000), rate=amount(3000))
    with mirror.Sampler(scene):
        wait.until(lambda: scene.target[0].stats()["cmd_set"] > amount(5000), "the first to arrive", 20)
        for _ in range(3):
            keeper.kill()
            had = scene.target[0].stats()["cmd_set"]
            wait.until(lambda had=had: scene.target[0].stats()["cmd_set"] > had + amount(3000),
                       "the mirror to go on without a keeper", 10)
            keeper.start()
        result = checked(load.end())
    scene.doppel.wait_idle(observed=result["sent"])
    ledger = scene.assert_all_delivered(result["sent"])
    assert ledger["flows"]["opened"] == CONNECTIONS and not ledger["flows"]["broken"], ledger["flows"]
    scene.assert_same(keys=result["commands"])
    mirror.assert_nothing_left(scene, timeout=75)
    keeper.stop()
    scene.assert_harmless()
