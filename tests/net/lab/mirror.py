# SPDX-License-Identifier: Apache-2.0
"""A mirror with a configuration of its own, kept by `doppel run`, its ledger sampled meanwhile."""

import json
import os
import signal
import subprocess
import tempfile
import threading

from . import doppel, wait

_has_run = {}


def can_keep(scene):
    """Whether the program under test has `doppel run`."""
    binary = doppel.binary()
    if binary not in _has_run:
        said = scene.doppel.run("--help").stdout
        _has_run[binary] = any(line.split()[:1] == ["run"] for line in said.splitlines())
    return _has_run[binary]


def configuration(scene, mapping=None, **limits):
    """As JSON; `mapping` adds keys to each mapping, such as {"application": "any"}."""
    target = scene.lab.target.address
    return json.dumps({"mappings": [
        {"name": f"p{port}", "device": "eth0", "ports": str(port),
         "targets": [{"address": target, "port": port}], **(mapping or {})}
        for port in scene.ports], **limits}, indent=1)


def attach(scene, mapping=None, **limits):
    """`doppel attach` with that configuration: no process stays."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        f.write(configuration(scene, mapping, **limits))
        f.flush()
        scene.doppel.attach("--config", f.name)


class Keeper:
    """`doppel run`. Where the program has no such command yet, `doppel attach` takes its place."""

    def __init__(self, scene, mapping=None, **limits):
        self.scene = scene
        self.process = None
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "doppel.json")
        self.said = os.path.join(self.directory.name, "said")
        with open(self.path, "w", encoding="utf-8") as f:
            f.write(configuration(scene, mapping, **limits))
        if can_keep(scene):
            self.start()
        else:
            scene.doppel.attach("--config", self.path)

    def start(self):
        mode = self.scene.doppel.attach_mode
        with open(self.said, "ab") as f:
            self.process = self.scene.lab.source.popen(
                [doppel.binary(), "run", "--config", self.path,
                 *(["--attach-mode", mode] if mode else [])],
                stdin=subprocess.DEVNULL, stdout=f, stderr=f)
        wait.until(self._whole, "doppel run to attach", 15)

    def _whole(self):
        if self.process.poll() is not None:
            raise AssertionError(f"doppel run ended with {self.process.returncode}: {self.output()}")
        done = self.scene.doppel.run("status", "--json", check=False)
        return done.returncode == 0 and json.loads(done.stdout)["attached"]

    def output(self):
        with open(self.said, encoding="utf-8", errors="replace") as f:
            return f.read()[-4000:]

    def kill(self):
        """As a crash would: nothing of the data plane may notice."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        """SIGTERM, which detaches."""
        self.process.terminate()
        assert self.process.wait(30) == 0, f"exit code {self.process.returncode}: {self.output()}"


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
        self._thread.join(30)
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
        wait.until(lambda: not leftovers(scene), "nothing to be left", timeout, 0.1)
    except wait.Timeout:
        raise AssertionError(f"after {timeout} s: " + "; ".join(leftovers(scene))) from None
