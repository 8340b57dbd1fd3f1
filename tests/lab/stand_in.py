# SPDX-License-Identifier: Apache-2.0
"""A server whose habits are the test's: how long it keeps a connection, how it ends one, what it accepts.

As a program it serves; as a module it starts itself on a host of the lab and asks it what it has seen.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import struct
import subprocess
import sys

ADMIN_OFFSET = 789
SET = re.compile(rb"set (\S+) \d+ \d+ (\d+)\r\n")


class StandIn:
    """Options are those of the program."""

    def __init__(self, host, port=11211, **options):
        from . import wait  # not there where this file is the program
        self.host, self.port = host, port
        argv = [sys.executable, os.path.abspath(__file__), "--port", port]
        for name, value in options.items():
            argv += [f"--{name}"] if value is True else [f"--{name}", value]
        host.sysctl("net/core/somaxconn", 4096)
        self.process = host.popen(argv, stdin=subprocess.DEVNULL)
        wait.until(lambda: host.listens(port) and host.listens(port + ADMIN_OFFSET), f"a stand-in on {host.name}")

    def seen(self):
        """{"requests": n, "garbage": [...], "open": n, "accepted": n, "keys": [...]}"""
        with self.host.connect("127.0.0.1", self.port + ADMIN_OFFSET) as s, s.makefile("rb") as f:
            return json.loads(f.read())


class State:
    requests = accepted = 0
    garbage, keys, open = [], [], set()


class Talk(asyncio.Protocol):
    def __init__(self, args):
        self.args = args
        self.input = b""
        self.served = 0
        self.clock = None

    def connection_made(self, transport):
        self.transport = transport
        State.accepted += 1
        State.open.add(self)
        self._wind()

    def connection_lost(self, exc):
        State.open.discard(self)
        if self.clock:
            self.clock.cancel()

    def _wind(self):
        if self.args.idle:
            if self.clock:
                self.clock.cancel()
            self.clock = asyncio.get_running_loop().call_later(self.args.idle, self._end)

    def _end(self):
        if self.args.reset:
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()

    def _garbage(self):
        State.garbage.append(self.input[:60].decode(errors="replace"))
        self.input = b""
        self._end()

    def _request(self):
        """Takes one from the input: its answer, or None if none is whole."""
        if self.args.talk == "any":
            taken, self.input = self.input, b""
            return b"ok\n" if taken else None
        if self.args.talk == "lines":
            line, end, rest = self.input.partition(b"\n")
            if not end:
                return None
            if self.args.hello and (line == b"HELLO") != (self.served == 0):
                self._garbage()
                return None
            self.input = rest
            State.keys.append(line.decode(errors="replace"))
            return b"ok\n"
        match = SET.match(self.input)
        if not match:
            if b"\r\n" in self.input:
                self._garbage()
            return None
        end = match.end() + int(match[2]) + 2
        if len(self.input) < end:
            return None
        if self.input[end - 2:end] != b"\r\n":
            self._garbage()
            return None
        State.keys.append(match[1].decode())
        self.input = self.input[end:]
        return b"STORED\r\n"

    def data_received(self, data):
        self.input += data
        self._wind()
        while self.input and not self.transport.is_closing():
            answer = self._request()
            if answer is None:
                return
            State.requests += 1
            self.served += 1
            self.transport.write(answer)
            if self.served == self.args.limit:
                self._end()


async def _admin(_, writer):
    writer.write(json.dumps({
        "requests": State.requests, "garbage": State.garbage, "open": len(State.open),
        "accepted": State.accepted, "keys": State.keys}).encode())
    await writer.drain()
    writer.close()


async def main():
    p = argparse.ArgumentParser()
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--talk", choices=("sets", "lines", "any"), default="sets")
    p.add_argument("--limit", type=int, default=0, help="requests of one connection, after which it closes")
    p.add_argument("--idle", type=float, default=0, help="seconds of silence after which it closes")
    p.add_argument("--reset", action="store_true", help="it closes with a RST")
    p.add_argument("--hello", action="store_true", help="the first line, and no other, must be HELLO")
    args = p.parse_args()
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Talk(args), "0.0.0.0", args.port, backlog=4096)
    await asyncio.start_server(_admin, "127.0.0.1", args.port + ADMIN_OFFSET)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
