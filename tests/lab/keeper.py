# SPDX-License-Identifier: Apache-2.0
"""`doppel run` on a host of the lab, with its configuration, what it says and how it ends."""

import json
import os
import signal
import subprocess
import tempfile

from . import doppel, wait
from .host import ENDS


class Keeper:
    def __init__(self, scene, *options, ready="tached", env=None, under=()):
        """Returns once the keeper has said `ready` (it attached, or adopted what is attached).

        `under`: a command line that executes the keeper."""
        mode = ["--attach-mode", scene.doppel.attach_mode] if scene.doppel.attach_mode else []
        self.host = scene.lab.source
        self.argv = [*under, doppel.binary(), "run", *options, *mode]
        self.env = {**os.environ, **(env or {})}
        self.log = tempfile.NamedTemporaryFile("w+", prefix="keeper", suffix=".log")
        self.start(ready)

    def start(self, ready="tached"):
        """Also once more, after kill(): the log goes on."""
        times = self.said().count(ready) if ready else 0
        with open(self.log.name, "a", encoding="utf-8") as out:
            self.process = self.host.popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                           env=self.env)
        self.pid = self.process.pid
        if ready:
            self.wait_for(ready, times + 1)

    def said(self):
        with open(self.log.name, encoding="utf-8") as f:
            return f.read()

    def wait_for(self, text, times=1, timeout=20):
        """Until the log has the text so many times."""
        def there():
            said = self.said()
            if said.count(text) >= times:
                return True
            if self.process.poll() is not None:
                raise AssertionError(f"the keeper ended with {self.process.returncode}:\n{said}")
            return False
        try:
            wait.until(there, f"the keeper to say {text!r}", timeout)
        except wait.Timeout as e:
            raise AssertionError(f"{e}\n{self.said()}") from None

    def signal(self, number):
        self.process.send_signal(number)

    def changes(self):
        """It holds the lock that keeps other changes out."""
        pins = self.host.run(["stat", "-c", "%i", "/sys/fs/bpf/doppel"], check=False).stdout.strip()
        with open("/proc/locks", encoding="ascii") as f:
            rows = [line.split() for line in f if "->" not in line]
        return any(row[4] == str(self.pid) and row[5].split(":")[2] == pins for row in rows)

    def freeze(self):
        """SIGSTOP between two of its changes: within one it would keep out all others."""
        def frozen():
            self.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if not self.changes():
                return True
            self.signal(signal.SIGCONT)
            return False
        wait.until(frozen, "the keeper to make no change", 20)

    def reload(self, expect="reloaded: "):
        times = self.said().count(expect)
        self.signal(signal.SIGHUP)
        self.wait_for(expect, times + 1)

    def stop(self):
        """SIGTERM; the exit code must be 0."""
        self.signal(signal.SIGTERM)
        self.ended(0)

    def ended(self, code):
        got = self.process.wait(wait.patience(20))
        assert got == code, f"the keeper ended with {got} instead of {code}:\n{self.said()}"

    def kill(self):
        """As a crash would: nothing of the data plane may notice."""
        self.process.kill()
        self.process.wait(wait.patience(ENDS))

    def come_to_rest(self):
        """Until it has dealt with all news of its own attaching: then it wakes once a second."""
        def waits():
            with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
                return int(next(line for line in f if line.startswith("voluntary_ctxt")).split()[1])
        wait.settled(waits, "the keeper's waking", quiet=0.5, timeout=20)

    def cpu_ms(self):
        """What it has used so far, all threads, to the nanosecond that the scheduler knows."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
        return total / 1e6


class File:
    """A configuration file that a test changes."""

    def __init__(self, scene, *mappings, **settings):
        self.target = scene.lab.target.address
        self.file = tempfile.NamedTemporaryFile("w", suffix=".json")
        self.path = self.file.name
        self.write(*mappings, **settings)

    def mapping(self, name, port, **more):
        return {"name": name, "device": "eth0", "ports": port,
                "targets": [{"address": self.target, "port": port}], **more}

    def write(self, *mappings, **settings):
        """Each mapping is (name, port), or a dictionary."""
        rows = [m if isinstance(m, dict) else self.mapping(*m) for m in mappings]
        self.text(json.dumps({"mappings": rows, **settings}, indent=1))

    def text(self, text):
        """In one step, as an editor or a package manager would."""
        new = self.path + ".new"
        with open(new, "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(new, self.path)


def unit_capabilities():
    """Those of the systemd unit and no other, as setpriv writes it."""
    with open(os.path.join(doppel.REPOSITORY, "tools", "doppel.service"), encoding="ascii") as f:
        line = next(line for line in f if line.startswith("CapabilityBoundingSet="))
    names = line.split("=")[1].split()
    return ",".join(["-all", *("+" + name.removeprefix("CAP_").lower() for name in names)])


def keep(scene, mapping=None, **settings):
    """A keeper that mirrors all ports of the scene. `mapping` adds keys to each mapping, such as
    {"application": "any"}; `settings` are those of the whole, such as limits."""
    file = File(scene)
    file.write(*(file.mapping(f"p{port}", port, **(mapping or {})) for port in scene.ports), **settings)
    keeper = Keeper(scene, "--config", file.path)
    scene.kept = (keeper, file)  # the file lives as long as the scene
    return keeper
