# SPDX-License-Identifier: Apache-2.0
"""The program under test, as an operator would call it on a host of the lab."""

import json
import os
import time

from . import wait

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.path.join(REPOSITORY, "build", "doppel")


def abi():
    """DP_ABI of this tree, which is part of the pins' path."""
    with open(os.path.join(REPOSITORY, "include", "doppel", "abi.h"), encoding="ascii") as f:
        return int(next(line.split()[2] for line in f if line.startswith("#define DP_ABI ")))


def binary():
    """DOPPEL in the environment names another build."""
    return os.path.abspath(os.environ.get("DOPPEL", BINARY))


class Doppel:
    def __init__(self, host, attach_mode=None):
        self.host, self.attach_mode = host, attach_mode
        self.under = []  # a command line that executes it

    def run(self, *arguments, check=True, timeout=60):
        return self.host.run([*self.under, binary(), *arguments], check=check, timeout=timeout)

    def attach(self, *options, check=True):
        mode = ["--attach-mode", self.attach_mode] if self.attach_mode else []
        return self.run("attach", *options, *mode, check=check)

    def detach(self, check=True):
        return self.run("detach", check=check)

    def json(self, command):
        return json.loads(self.run(command, "--json").stdout)

    def counters(self):
        return self.json("counters")

    def status(self):
        """Its exit code tells how the mirror is: see health()."""
        return self.health()[1]

    def health(self):
        """(exit code, what `status` says)"""
        done = self.run("status", "--json", check=False)
        return done.returncode, json.loads(done.stdout)

    def ledger(self):
        """Sums over all mappings and targets, the identity checked for each."""
        counters = self.counters()
        broken = violations(counters)
        if broken:
            raise AssertionError("; ".join(broken))
        return totals(counters)

    def longest_rto(self):
        """Seconds: the longest retransmission timeout of a shadow with bytes in flight."""
        return max((f["rto_ms"] for f in self.json("flows")["flows"] if f["in_flight"]),
                   default=0) / 1000

    def wait_idle(self, observed=None, timeout=60.0, stuck=8.0):
        """Waits until nothing is in flight and, if given, so many bytes were observed.

        Gives up when nothing moved for `stuck` seconds, or twice the longest retransmission timeout if that
        is more: 3 s and more where a SYN was lost and the round-trip time is not known (RFC 6298, 5.7).
        """
        timeout, stuck = wait.patience(timeout), wait.patience(stuck)
        start = moved = time.monotonic()
        last = None
        while True:
            ledger = self.ledger()
            b = ledger["bytes"]
            if b["in_flight"] == 0 and (observed is None or b["observed"] >= observed):
                wait.settled(lambda: self.ledger()["bytes"], "the ledger", 0.2)
                return self.ledger()
            now = time.monotonic()
            if b != last:
                last, moved = b, now
            if now - start > timeout or now - moved > stuck and now - moved > 2 * self.longest_rto():
                raise wait.Timeout(f"waited {now - start:.0f} s for nothing to be in flight"
                                   + (f" and {observed} bytes observed" if observed else "")
                                   + f"; last moved {now - moved:.0f} s ago: {b}")
            time.sleep(wait.pause(now - start))


def rows(counters):
    for mapping in counters["mappings"]:
        for target in mapping["targets"]:
            yield f"{mapping['name']} {target['target']}", target


def violations(counters):
    """Sentences about where the ledger contradicts itself; empty if it is exact."""
    said = []
    for name, row in rows(counters):
        b = row["bytes"]
        if b["observed"] != b["delivered"] + b["in_flight"] + b["lost"] + b["excluded"]:
            said.append(f"{name}: observed is not the sum of the rest: {b}")
        for what in ("lost", "excluded"):
            if b[what] != sum(row[what].values()):
                said.append(f"{name}: {what} {b[what]} is not the sum of its reasons {row[what]}")
        said += [f"{name}: {what} is negative: {n}" for what, n in b.items() if n < 0]
    return said


def totals(counters):
    """The same shape as one target's counters, summed."""
    total = {group: {} for group in ("flows", "bytes", "packets", "lost", "excluded")}
    for _, row in rows(counters):
        for group, sums in total.items():
            for name, n in row[group].items():
                sums[name] = sums.get(name, 0) + n
    return total
