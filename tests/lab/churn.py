# SPDX-License-Identifier: Apache-2.0
"""Clients that write to keys which are there already, until they are told to end: of every key one connection
alone, so that a mirror has its commands in order.

    python3 -m lab.churn --address 10.77.0.2 --keys 20000 --connections 4 --rate 500
"""

import argparse
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from .wait import patience


class Writer(threading.Thread):
    """One connection. `turn()` says a command and hears its answer."""

    def __init__(self, number, args, stop):
        super().__init__(daemon=True)
        self.dice = random.Random(f"{args.seed}-{number}")
        self.number, self.args, self.stop = number, args, stop
        self.commands, self.error = 0, None

    def command(self):
        n = self.dice.randrange(self.number, self.args.keys, self.args.connections)
        key = b"%s%d" % (self.args.prefix.encode(), n)
        fresh = b"%d" % self.dice.randrange(1_000_000)
        what = self.dice.randrange(8)
        if what < 2:
            return b"set %s %d 0 %d\r\n%s\r\n" % (key, self.dice.randrange(9), len(fresh), fresh)
        if what == 2:
            return b"set %s 0 %d %d\r\n%s\r\n" % (key, self.dice.randrange(1000, 100000), len(fresh), fresh)
        return (b"delete %s\r\n" % key, b"incr %s 1\r\n" % key, b"touch %s %d\r\n" % (key, 1000 + n % 1000),
                b"append %s 0 0 1\r\n7\r\n" % key, b"replace %s 0 0 3\r\n123\r\n" % key)[what - 3]

    def turn(self, s, reader):
        s.sendall(self.command())
        line = reader.readline()
        if not line.endswith(b"\r\n") or line.startswith(b"ERROR"):
            raise AssertionError(f"unexpected answer {line!r}")

    def run(self):
        try:
            with socket.create_connection((self.args.address, self.args.port), 20) as s:
                reader = s.makefile("rb")
                pace = time.monotonic()
                while not self.stop.is_set():
                    self.turn(s, reader)
                    self.commands += 1
                    pace += self.args.connections / self.args.rate
                    self.stop.wait(max(0, pace - time.monotonic()))
        except (OSError, AssertionError) as e:
            self.error = str(e)


class Churn:
    """A churn in the client host, as seen by a test; `processes` share the rate."""
    module = "lab.churn"

    def __init__(self, lab, processes=1, rate=500, **options):
        options.setdefault("address", lab.source.address)
        self.children = []
        for n in range(processes):
            argv = [sys.executable, "-m", self.module, "--seed", str(n), "--rate", str(rate / processes)]
            for name, value in options.items():
                argv += [f"--{name}", str(value)]
            self.children.append(lab.client.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True))

    def assert_going_on(self):
        assert all(child.poll() is None for child in self.children), "clients have ended before their time"

    def end(self):
        """Returns how many commands were answered."""
        commands = 0
        for child in self.children:
            child.terminate()
        for child in self.children:
            out, _ = child.communicate(timeout=patience(30))
            said = json.loads(out)
            if said["errors"]:
                raise AssertionError(said["errors"])
            commands += said["commands"]
        return commands


def main(writer):
    p = argparse.ArgumentParser()
    p.add_argument("--address", required=True)
    p.add_argument("--port", type=int, default=11211)
    p.add_argument("--prefix", default="key")
    p.add_argument("--keys", type=int, required=True)
    p.add_argument("--connections", type=int, default=4)
    p.add_argument("--rate", type=float, default=500, help="commands a second, of all together")
    p.add_argument("--seed", default="0")
    args = p.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    writers = [writer(n, args, stop) for n in range(args.connections)]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    print(json.dumps({"commands": sum(w.commands for w in writers), "errors": [w.error for w in writers if w.error]}))


if __name__ == "__main__":
    main(Writer)
