# SPDX-License-Identifier: Apache-2.0
"""Clients that do with shared keys whatever depends on what the server has, until they are told to end: several
connections write to one key, so that nothing but chance keeps a mirror's order.

    python3 -m lab.jumble --address 10.77.0.2 --keys 20000 --connections 4 --rate 500
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

KINDS = ("set", "set_ttl", "delete", "add", "replace", "incr", "decr", "append", "prepend", "touch", "gat", "cas",
         "meta_arithmetic", "meta_append", "meta_compare", "meta_touch", "expire")


class Jumbler(threading.Thread):
    def __init__(self, number, args, stop):
        super().__init__(daemon=True)
        self.dice = random.Random(f"{args.seed}-{number}")
        self.args, self.stop = args, stop
        self.commands, self.error = 0, None

    def store(self, verb, key, value, ttl=0, more=b""):
        return b"%s %s %d %d %d%s\r\n%s\r\n" % (verb, key, self.dice.randrange(9), ttl, len(value), more, value)

    def request(self, kind, key, token):
        fresh = b"%d" % self.dice.randrange(1_000_000)
        if kind == "cas":
            return self.store(b"cas", key, fresh, more=b" " + token)
        if kind == "meta_compare":
            return b"ms %s %d C%s\r\n%s\r\n" % (key, len(fresh), token, fresh)
        return {
            "set": lambda: self.store(b"set", key, fresh),
            "set_ttl": lambda: self.store(b"set", key, fresh, self.dice.randrange(1000, 100000)),
            "expire": lambda: self.store(b"set", key, fresh, self.dice.randrange(2, 6)),
            "delete": lambda: b"delete %s\r\n" % key,
            "add": lambda: self.store(b"add", key, fresh),
            "replace": lambda: self.store(b"replace", key, fresh),
            "incr": lambda: b"incr %s 3\r\n" % key,
            "decr": lambda: b"decr %s 1\r\n" % key,
            "append": lambda: self.store(b"append", key, b"7"),
            "prepend": lambda: self.store(b"prepend", key, b"1"),
            "touch": lambda: b"touch %s %d\r\n" % (key, self.dice.randrange(1000, 100000)),
            "gat": lambda: b"gat %d %s\r\n" % (self.dice.randrange(1000, 100000), key),
            "meta_arithmetic": lambda: b"ma %s D2\r\n" % key,
            "meta_append": lambda: b"ms %s 1 MA\r\n5\r\n" % key,
            "meta_touch": lambda: b"mg %s T%d\r\n" % (key, self.dice.randrange(1000, 100000)),
        }[kind]()

    def token(self, s, reader, key):
        """The item's CAS; 0 where there is none, and the command fails."""
        s.sendall(b"mg %s c\r\n" % key)
        line = reader.readline()
        return line.split()[1][1:] if line.startswith(b"HD ") else b"0"

    def turn(self, s, reader):
        key = b"%s%d" % (self.args.prefix.encode(), self.dice.randrange(self.args.keys))
        kind = self.dice.choice(KINDS)
        s.sendall(self.request(kind, key, self.token(s, reader, key) if kind in ("cas", "meta_compare") else None))
        line = reader.readline()
        if line.startswith(b"VALUE "):
            reader.read(int(line.split()[3]) + 2)
            line = reader.readline()
        # Of text that is no number, and of an item that has grown too large for one.
        if not line.endswith(b"\r\n") or (b"ERROR" in line and b"non-numeric" not in line):
            raise AssertionError(f"{kind} {key}: unexpected answer {line!r}")

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


class Jumble:
    """A jumble in the client host, as seen by a test."""

    def __init__(self, lab, processes=1, rate=500, **options):
        options.setdefault("address", lab.source.address)
        self.children = []
        for n in range(processes):
            argv = [sys.executable, "-m", "lab.jumble", "--seed", str(n), "--rate", str(rate / processes)]
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


def main():
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
    writers = [Jumbler(n, args, stop) for n in range(args.connections)]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    print(json.dumps({"commands": sum(w.commands for w in writers), "errors": [w.error for w in writers if w.error]}))


if __name__ == "__main__":
    main()
