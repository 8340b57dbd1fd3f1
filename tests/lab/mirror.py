# SPDX-License-Identifier: Apache-2.0
"""What a mirror must hold while it works and after: its ledger, sampled, and nothing left over."""

import threading

from . import doppel, wait

class Sampler:
    """Samples the ledger all the time; leaving the `with` block fails if one sample was wrong."""

    def __init__(self, scene, pause=0.2):
        self.scene, self.pause = scene, pause
        self.samples = 0
        self.wrong = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._body, daemon=True)

    def _body(self):
        while len(self.wrong) < 10:
            try:
                said = doppel.violations(self.scene.doppel.counters())
            except AssertionError as e:
                said = [f"no counters: {e}"]
            self.wrong += [f"sample {self.samples}: {one}" for one in said]
            self.samples += 1
            if self._over.wait(self.pause):
                break

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._over.set()
        self._thread.join(wait.patience(30))
        if kind is None:
            assert not self.wrong, "; ".join(self.wrong)


def events(scene):
    """Sums of the event counters over all mappings."""
    sums = {}
    for _, row in doppel.rows(scene.doppel.counters()):
        for name, n in row["events"].items():
            sums[name] = sums.get(name, 0) + n
    return {name: n for name, n in sums.items() if n}


def leftovers(scene):
    """Sentences about what is still taken though no client is connected."""
    counters = scene.doppel.counters()
    flows = scene.doppel.json("flows")["flows"]
    store, ports = counters["store"], counters["shadow_ports"]
    said = doppel.violations(counters)
    if store["used"]:
        said.append(f"{store['used']} chunks of the store are taken")
    if ports["free"] != ports["total"]:
        said.append(f"{ports['total'] - ports['free']} shadow ports are taken")
    if flows:
        said.append(f"{len(flows)} flows, such as {flows[0]}")
    totals = doppel.totals(counters)
    said += [f"{totals['flows'][name]} flows {name}" for name in ("open", "waiting")
             if totals["flows"][name]]
    if totals["bytes"]["in_flight"]:
        said.append(f"{totals['bytes']['in_flight']} bytes in flight")
    return said


def assert_nothing_left(scene, timeout=15):
    """After the last client has closed: no flow, port, chunk or byte in flight remains."""
    try:
        wait.until(lambda: not leftovers(scene), "nothing to be left", timeout)
    except wait.Timeout:
        raise AssertionError(f"after {timeout} s: " + "; ".join(leftovers(scene))) from None
