# SPDX-License-Identifier: Apache-2.0
"""How well the machine itself ran while something was tested: a case that missed a deadline may not be to blame."""

import os
import threading
import time

_BEAT = 0.05  # s


def _stolen_and_total():
    """Ticks of all CPUs: those that the hypervisor gave to others, and all (proc_stat(5))."""
    with open("/proc/stat", encoding="ascii") as f:
        ticks = [int(n) for n in f.readline().split()[1:9]]
    return ticks[7], sum(ticks)


class Pulse:
    """Beats in a thread, from its making to stop()."""

    def __init__(self):
        self.latest = 0.0  # s: by how much the worst beat came too late
        self._before = _stolen_and_total()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self):
        begin = time.monotonic()
        while not self._end.wait(_BEAT):
            now = time.monotonic()
            self.latest = max(self.latest, now - begin - _BEAT)
            begin = now

    def stop(self):
        self._end.set()
        self._thread.join()

    def text(self):
        stolen, total = (now - before for now, before in zip(_stolen_and_total(), self._before))
        return (f"the machine meanwhile: a sleep of {_BEAT * 1000:.0f} ms was late by up to {self.latest * 1000:.0f} ms, "
                f"{100 * stolen / max(total, 1):.0f} % of the CPUs was stolen, load {os.getloadavg()[0]:.1f}")
