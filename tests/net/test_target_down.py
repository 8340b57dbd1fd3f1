# SPDX-License-Identifier: Apache-2.0
"""The target is not there, from the start or from the middle of a load on: clients do not notice,
and the ledger says what became of every byte."""

import json

from harness import MODES, case
from lab import doppel, wait
from lab.load import checked
from lab.wait import amount

# What the ledger may say of bytes that a target without a listener did not take.
REFUSED = {"target_refused", "target_reset", "target_closed", "backoff"}


def accounted(scene, sent):
    """The ledger, once it has seen all that was sent; its identity is checked on the way."""
    def seen():
        ledger = scene.doppel.ledger()
        return ledger if ledger["bytes"]["observed"] == sent else None
    return wait.until(seen, f"{sent} bytes observed", 10)


def latencies(scene, port):
    """Of single requests, one after another, and of new connections with one request each."""
    steady = scene.load("sets", port=port, connections=1, count=amount(3000), prefix="steady")
    fresh = scene.load("sets", port=port, connections=amount(500), count=amount(500), at_once=1, prefix="fresh")
    return steady, fresh


def slower(before, after):
    """Sentences. Loose bounds: a shared machine is noisy; waiting for a target costs 200 ms or more."""
    said = []
    for then, now in zip(before, after):
        for name, bound in (("p50", lambda us: 2 * us + wait.patience(200)),
                            ("p99", lambda us: 4 * us + wait.patience(5000)),
                            ("max", lambda us: us + wait.patience(150_000))):
            a, b = then["latency_us"][name], now["latency_us"][name]
            if b > bound(a):
                said.append(f"{name}: {a} us became {b} us")
    return said


@case(mode=MODES, what=("port-closed", "host-down", "host-down-static-arp"))
def from_the_start(env, mode, what):
    mirrored, other = ports = (11211, 11212)
    scene = env.scene(ports=ports, target_runs=False, static_arp=what.endswith("static-arp"))
    if what.startswith("host-down"):
        scene.lab.unplug("target")
    scene.doppel.attach("--device", "eth0", "-x", f"{mirrored}-{scene.lab.target.address}:{mirrored}")
    sent, attempts = 0, 3
    for attempt in range(attempts):  # noise does not come three times, a wait of ours would
        before = latencies(scene, other)  # just before: what else the machine does changes
        after = latencies(scene, mirrored)
        sent += sum(part["sent"] for part in after)
        worse = slower(before, after)
        if not worse:
            break
    assert not worse, f"in each of {attempts} attempts; in the last: {worse}"
    ledger = accounted(scene, sent)
    assert ledger["bytes"]["delivered"] == 0, ledger
    if what == "port-closed":
        scene.doppel.wait_idle(observed=sent)
        ledger = scene.doppel.ledger()
        reasons = {r for part in ("lost", "excluded") for r, n in ledger[part].items() if n}
        assert reasons and reasons <= REFUSED, ledger
    scene.assert_harmless(resets_to_target=True)
    stored = scene.source[0].stats()["cmd_set"]
    assert stored == (attempt + 1) * (amount(3000) + amount(500)), f"the source has {stored} sets"


@case(mode=MODES, what=("port-closes", "host-vanishes"))
def in_mid_load(env, mode, what):
    scene = env.scene()
    scene.attach()
    load = scene.start("sets", connections=50, count=amount(30000), rate=amount(6000), prefix="mid")
    wait.until(lambda: scene.target[0].stats()["cmd_set"] > amount(3000), "a tenth of the load to arrive", 20)
    if what == "port-closes":
        scene.target[0].kill()
    else:
        scene.lab.unplug("target")
    result = checked(load.result())
    assert result["latency_us"]["max"] < wait.patience(500_000), result
    ledger = accounted(scene, result["sent"])
    b = ledger["bytes"]
    assert 0 < b["delivered"] < result["sent"], b
    if what == "port-closes":
        reasons = {r for part in ("lost", "excluded") for r, n in ledger[part].items() if n}
        assert reasons and reasons <= REFUSED, ledger
    assert scene.source[0].stats()["cmd_set"] == amount(30000)
    scene.assert_harmless(resets_to_target=True)


@case(mode=MODES)
def undelivered_bytes_have_a_reason_after_detach(env, mode):
    """With the target's host down nothing is known for sure, until detach ends the waiting."""
    scene = env.scene(target_runs=False)
    scene.lab.unplug("target")
    scene.attach()
    sent = scene.load("sets", connections=20, count=amount(2000))["sent"]
    done = scene.doppel.run("detach", "--json", check=False)
    assert done.returncode == 1 and "are lost" in done.stderr, done
    last = json.loads(done.stdout)["counters"]
    assert json.loads(done.stdout)["lost"] == doppel.totals(last)["lost"]["detached"], done
    wrong = doppel.violations(last)
    assert not wrong, wrong
    ledger = doppel.totals(last)
    b = ledger["bytes"]
    assert b["observed"] == sent and b["in_flight"] == 0 and b["delivered"] == 0, ledger
    left = scene.lab.source.run(["ip", "link", "show", "doppel0"], check=False)
    assert left.returncode != 0, "doppel0 is still there"
    scene.load("sets", connections=20, count=amount(2000), prefix="after")
    scene.assert_harmless(resets_to_target=True)
