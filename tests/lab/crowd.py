# SPDX-License-Identifier: Apache-2.0
"""Very many connections that say one thing and are silent then.

As a program it is one process of them: a process may have 20,000 files at most on many machines. It opens
what each line of its input asks for, and answers with what it has sent.
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys

BURST = 250  # connections that are opened before their answers are read


class Crowd:
    """One process for each port; the connections of each are spread over the addresses of the host."""

    def __init__(self, host, server, ports, addresses):
        for address in addresses:
            host.run(["ip", "addr", "replace", f"{address}/24", "dev", "eth0"])
        self.sent = self.open = 0
        self.children = [host.popen(
            [sys.executable, os.path.abspath(__file__), "--server", server, "--port", port, *addresses],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for port in ports]

    def _all(self, word, count):
        share = count // len(self.children)
        for child in self.children:
            child.stdin.write(f"{word} {share}\n")
            child.stdin.flush()
        said = [json.loads(child.stdout.readline()) for child in self.children]
        wrong = [one["error"] for one in said if one["error"]]
        if wrong:
            raise AssertionError(f"clients saw errors, such as: {wrong[0]}")
        self.sent = sum(one["sent"] for one in said)
        self.open = sum(one["open"] for one in said)

    def grow(self, count):
        """So many connections more, of all processes together, with one set each."""
        self._all("grow", count)

    def again(self, count):
        """One more set on so many of them, those that have been silent longest."""
        self._all("again", count)


class Process:
    def __init__(self, args):
        self.args = args
        self.sockets = []
        self.sent = self.turn = 0

    def _open(self):
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(60)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        s.bind((self.args.addresses[len(self.sockets) % len(self.args.addresses)], 0))
        s.connect((self.args.server, self.args.port))
        self.sockets.append(s)
        return s

    def _say(self, sockets):
        for n, s in enumerate(sockets):
            request = b"set k%d-%d-%d 0 0 1\r\nx\r\n" % (self.args.port, self.turn, n)
            s.sendall(request)
            self.sent += len(request)
        for s in sockets:
            answer = s.recv(100)
            if answer != b"STORED\r\n":
                raise AssertionError(f"the answer was {answer!r}")
        self.turn += 1

    def grow(self, count):
        for at in range(0, count, BURST):
            self._say([self._open() for _ in range(min(BURST, count - at))])

    def again(self, count):
        for at in range(0, count, BURST):
            self._say(self.sockets[at:min(at + BURST, count)])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--server", required=True)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("addresses", nargs="+")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    process = Process(p.parse_args())
    for line in sys.stdin:
        word, count = line.split()
        error = ""
        try:
            {"grow": process.grow, "again": process.again}[word](int(count))
        except (OSError, AssertionError) as e:
            error = str(e)
        print(json.dumps({"sent": process.sent, "open": len(process.sockets), "error": error}), flush=True)


if __name__ == "__main__":
    main()
