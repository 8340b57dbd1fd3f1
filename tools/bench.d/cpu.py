# SPDX-License-Identifier: Apache-2.0
"""CPU time that a run took: of the whole machine, and of the lab's own work."""

import atexit
import os
import re
import time

CPUS = os.cpu_count()
TICK = os.sysconf("SC_CLK_TCK")
# What a CPU did not sleep it worked. /proc/stat has the same figures, in steps of 10 ms, which are
# 2.5 us for each of 4,000 requests.
ASLEEP = re.compile(r"\.(?:idle|iowait)_sleeptime\s*: (\d+) nsecs")


def _idle_ns():
    with open("/proc/timer_list", encoding="ascii") as f:
        found = ASLEEP.findall(f.read())
    if found:
        return sum(map(int, found))
    with open("/proc/stat", encoding="ascii") as f:
        fields = f.readline().split()
    return (int(fields[4]) + int(fields[5])) * 1_000_000_000 // TICK


def _tasks_ns(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total


def _softirq_threads():
    pids = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/comm", encoding="ascii") as f:
                    if f.read().startswith("ksoftirqd/"):
                        pids.append(int(entry))
            except OSError:
                pass  # ended meanwhile
    return pids


def wait_for_rest(patience, share=0.1):
    """Until others take no more than this share of the machine, for `patience` seconds at most; how long it
    was. At full speed a load that competes for CPU time is a load that packets take it from: the
    kernel processes them in the context of whoever runs."""
    start = time.monotonic()
    while time.monotonic() - start < patience:
        meter = Meter([])
        time.sleep(0.25)
        system, _, clock = meter.read()
        if system < clock * CPUS * share:
            break
    return time.monotonic() - start


AUTOGROUP = "/proc/self/autogroup"


def prefer(nice):
    """Everything started from here has this priority. Where sessions share the CPUs evenly, which is
    sched_autogroup (sched(7)), the session's is what counts; it is put back at the end."""
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    try:
        with open(AUTOGROUP, encoding="ascii") as f:
            before = f.read().split()[-1]
    except (FileNotFoundError, IndexError):
        return

    def write(value):
        with open(AUTOGROUP, "w", encoding="ascii") as f:
            f.write(str(value))
    write(nice)
    atexit.register(write, before)


class Meter:
    """`system`: all CPU time of the machine, whoever used it. `lab`: that of the processes given and
    of the kernel's softirq threads: packets between the lab's hosts are processed in the context
    of whoever sent them, so that this leaves out what others do on the machine, and misses
    what interrupts do while a CPU is idle."""

    def __init__(self, pids):
        self.pids = [*pids, *_softirq_threads()]
        self.begin = self._now()

    def _now(self):
        clock = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return clock * CPUS - _idle_ns(), sum(_tasks_ns(pid) for pid in self.pids), clock

    def read(self):
        """(system, lab, on the clock) in us since it was made."""
        return tuple((b - a) / 1000 for a, b in zip(self.begin, self._now()))
