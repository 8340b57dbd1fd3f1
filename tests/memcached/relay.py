# SPDX-License-Identifier: Apache-2.0
"""A narrow way to a server: what it passes on is bounded in bytes a second, and little waits in between."""

import contextlib
import socket
import subprocess
import threading
import time

CHUNK = 16384
LITTLE = "4096 65536 131072"  # bytes that a socket of this namespace holds


class Relay:
    """`where` leads to a server on TCP, with `rate` bytes a second in each direction."""

    def __init__(self, server, rate):
        for name in ("tcp_wmem", "tcp_rmem"):
            subprocess.run(["sysctl", "-qw", f"net.ipv4.{name}={LITTLE}"], check=True)
        self.to, self.rate = server.target, rate
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.where = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.taking = threading.Thread(target=self.take, daemon=True)
        self.taking.start()

    def take(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                try:
                    far = socket.create_connection(self.to)
                except OSError as why:
                    print(f"      relay: no connection to {self.to}: {why}")
                    raise
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self.pump, args=ends, daemon=True).start()

    def pump(self, here, there):
        due = time.monotonic()
        with contextlib.suppress(OSError):
            while data := here.recv(CHUNK):
                due = max(due, time.monotonic() - 0.02) + len(data) / self.rate
                time.sleep(max(0, due - time.monotonic()))
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)

    def close(self):
        """A thread that accepts would take a connection of who gets the descriptor's number next."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.taking.join(10)
        self.listener.close()
