# SPDX-License-Identifier: Apache-2.0
"""Loads that run in the client host, as seen by a test."""

import json
import subprocess
import sys

from .wait import patience


class Load:
    """One load, of one or more processes. Options are those of load_client.py."""

    def __init__(self, lab, kind, processes=1, wait=False, deadline=120, **options):
        self.deadline = deadline = patience(deadline)
        self.children = []
        options.setdefault("address", lab.source.address)
        options["deadline"] = deadline
        for n in range(processes):
            mine = dict(options)
            if processes > 1:
                mine["prefix"] = f"{options.get('prefix', 'key')}{n}-"
                for shared in ("connections", "count", "at_once", "rate", "reserve"):
                    if shared in mine:
                        mine[shared] = mine[shared] // processes
            argv = [sys.executable, "-m", "lab.load_client", kind]
            for name, value in mine.items():
                argv += [f"--{name.replace('_', '-')}", str(value)]
            self.children.append(lab.client.popen(
                argv + (["--wait"] if wait else []), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True))
        if wait:
            for child in self.children:
                line = child.stdout.readline()
                if line != "ready\n":
                    raise AssertionError(f"load client: {line}{child.communicate(timeout=patience(10))[1]}")

    def go(self):
        """Lets a load that was started with wait=True begin, or one with a reserve use that."""
        for child in self.children:
            child.stdin.write("\n")
            child.stdin.flush()

    def running(self):
        return any(child.poll() is None for child in self.children)

    def end(self):
        """Lets each connection end behind what is under way, and returns the result: a load for as long as a test
        takes, on whatever machine."""
        for child in self.children:
            child.terminate()
        return self.result()

    def result(self):
        """The sum over all processes; of latencies the worst."""
        total = {"sent": 0, "received": 0, "commands": 0, "connections": 0, "seconds": 0.0,
                 "errors": [], "latency_us": {}}
        for child in self.children:
            out, err = child.communicate(timeout=self.deadline + patience(30))
            if child.returncode != 0:
                raise AssertionError(f"load client: exit code {child.returncode}\n{err}")
            one = json.loads(out.splitlines()[-1])
            for name in ("sent", "received", "commands", "connections", "errors"):
                total[name] += one[name]
            total["seconds"] = max(total["seconds"], one["seconds"])
            for name, us in one["latency_us"].items():
                total["latency_us"][name] = max(us, total["latency_us"].get(name, 0))
        return total


def run(lab, kind, **options):
    """Runs a load to its end; any error that a client saw is a failure."""
    return checked(Load(lab, kind, **options).result())


def checked(result):
    if result["errors"]:
        raise AssertionError(f"clients saw {len(result['errors'])} errors, "
                             f"such as: {result['errors'][0]}")
    return result
