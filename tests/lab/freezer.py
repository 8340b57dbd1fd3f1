# SPDX-License-Identifier: Apache-2.0
"""Freezes a process by its cgroup, as `docker pause` and `systemctl freeze` do."""

import os
import uuid

from . import wait

MOUNT = "/run/freezer"


class Freezer:
    def __init__(self, host, pid):
        self.host, self.pid = host, pid

    def __enter__(self):
        """The hierarchy of version 2 is always there, whatever this machine has mounted."""
        self.host.run(["mkdir", "-p", MOUNT])
        self.host.run(["mount", "-t", "cgroup2", "cgroup2", MOUNT])
        top = self.host.root(MOUNT)
        with open(f"/proc/{self.pid}/cgroup", encoding="ascii") as f:
            self.before = top + next(line for line in f if line.startswith("0::"))[3:].strip()
        self.path = f"{top}/doppel-{uuid.uuid4().hex}"
        os.mkdir(self.path)
        write(self.path, "cgroup.procs", self.pid)
        return self

    def __exit__(self, *_):
        self.set(False)
        if os.path.exists(f"/proc/{self.pid}"):
            write(self.before, "cgroup.procs", self.pid)
        wait.until(lambda: "populated 0" in self.events(), "the cgroup to be empty")
        os.rmdir(self.path)
        self.host.run(["umount", MOUNT])

    def events(self):
        with open(self.path + "/cgroup.events", encoding="ascii") as f:
            return f.read()

    def set(self, frozen):
        write(self.path, "cgroup.freeze", int(frozen))
        wait.until(lambda: f"frozen {int(frozen)}" in self.events(), "the process to be frozen, or no longer")


def write(path, name, value):
    with open(f"{path}/{name}", "w", encoding="ascii") as f:
        f.write(str(value))
