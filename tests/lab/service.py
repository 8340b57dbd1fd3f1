# SPDX-License-Identifier: Apache-2.0
"""The systemd unit on a host of the lab, by a supervisor that does what systemd does with its lines."""

import os
import signal

from . import doppel
from .keeper import Keeper


def unit():
    """{directive: value} of tools/doppel.service."""
    with open(os.path.join(doppel.REPOSITORY, "tools", "doppel.service"), encoding="ascii") as f:
        return dict(line.rstrip("\n").split("=", 1) for line in f if "=" in line and not line.startswith("#"))


class Service:
    """systemd.service(5), systemd.kill(5): a restart is a stop by RestartKillSignal, then a start."""

    def __init__(self, scene, file, ready="tached", **more):
        self.directives, self.file = unit(), file  # the file lives as long as the service
        self.directives.setdefault("KillSignal", "SIGTERM")
        program, command, *options = self.directives["ExecStart"].split()
        assert program.endswith("/doppel") and command == "run", program
        options[options.index("--config") + 1] = file.path
        self.keeper = Keeper(scene, *options, ready=ready, **more)

    def _end(self, signals):
        name = next(self.directives[key] for key in signals if key in self.directives)
        self.keeper.signal(getattr(signal, name))
        self.keeper.ended(0)

    def stop(self):
        self._end(["KillSignal"])

    def leave(self):
        """The first half of a restart."""
        self._end(["RestartKillSignal", "KillSignal"])

    def restart(self, ready="tached"):
        self.leave()
        self.keeper.start(ready)
