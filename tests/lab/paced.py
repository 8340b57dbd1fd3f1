# SPDX-License-Identifier: Apache-2.0
"""Sets that are sent at moments which are fixed beforehand, whatever the server does meanwhile; started in
any host of the lab by start(). So a mirrored load and the kernel's own TCP can send the same bytes at the same
moments. Prints its result as JSON.
"""

import argparse
import json
import selectors
import socket
import struct
import subprocess
import sys
import time

from lab import traffic
from lab.wait import patience

# linux/tcp.h, struct tcp_info: tcpi_total_retrans, tcpi_data_segs_out
RETRANS, SEGMENTS = 100, 156


def start(host, address, **options):
    """Returns the process; result() waits for it. Options are those of arguments()."""
    argv = [sys.executable, "-m", "lab.paced", "--address", address]
    for name, value in options.items():
        argv += [f"--{name.replace('_', '-')}", str(value)]
    return host.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process):
    out, err = process.communicate(timeout=patience(120))
    if process.returncode:
        raise AssertionError(f"paced sets: exit code {process.returncode}\n{err}")
    return json.loads(out)


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--address", required=True)
    p.add_argument("--port", type=int, default=11211)
    p.add_argument("--connections", type=int, default=1)
    p.add_argument("--count", type=int, required=True, help="sets in total")
    p.add_argument("--size", type=int, default=4000, help="bytes of a value")
    p.add_argument("--mbit", type=float, required=True, help="of values, a second")
    p.add_argument("--deadline", type=float, default=60)
    return p.parse_args()


class Sender:
    def __init__(self, address, port):
        self.socket = socket.create_connection((address, port))
        self.socket.setblocking(False)
        # Whatever the machine's default is, the one that most hosts have.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waiting = b""
        self.received = 0

    answered = property(lambda self: self.received // len(b"STORED\r\n"))

    def push(self):
        if self.waiting:
            try:
                self.waiting = self.waiting[self.socket.send(self.waiting):]
            except BlockingIOError:
                pass

    def pull(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server has closed")
        self.received += len(data)

    def info(self, offset):
        return struct.unpack_from("I", self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), offset)[0]


def main():
    args = arguments()
    senders = [Sender(args.address, args.port) for _ in range(args.connections)]
    selector = selectors.DefaultSelector()
    for one in senders:
        selector.register(one.socket, selectors.EVENT_READ, one)
    interval = args.size * 8 / args.mbit / 1e6
    sent = bytes_sent = 0
    begin = time.monotonic()
    while sum(one.answered for one in senders) < args.count:
        now = time.monotonic()
        if now - begin > patience(args.deadline):
            raise TimeoutError(f"{args.count - sum(one.answered for one in senders)} answers are missing")
        while sent < args.count and begin + sent * interval <= now:
            request = traffic.set_command(b"key%07d" % sent, args.size)
            one = senders[sent % len(senders)]
            one.waiting += request
            bytes_sent += len(request)
            sent += 1
        for one in senders:
            one.push()
        pause = begin + sent * interval - time.monotonic() if sent < args.count else 0.02
        if any(one.waiting for one in senders):
            pause = min(pause, 0.002)
        for key, _ in selector.select(max(0, pause)):
            key.data.pull()
    print(json.dumps({"sent": bytes_sent, "seconds": time.monotonic() - begin,
                      "segments": sum(one.info(SEGMENTS) for one in senders),
                      "resent": sum(one.info(RETRANS) for one in senders)}), flush=True)


if __name__ == "__main__":
    main()
