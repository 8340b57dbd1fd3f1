# SPDX-License-Identifier: Apache-2.0
"""Many client connections in one process: each sends a batch, waits for all its responses, goes on."""

import re
import resource
import selectors
import socket
import struct
import time
from collections import deque

from . import wait

FINAL = re.compile(rb"(?:^|\n)(?:STORED|DELETED|NOT_FOUND|END)\r(?=\n)")
RECEIVE = 1 << 18


class Connection:
    def __init__(self, batches, finish, free=None):
        """free: how many commands it may send before the engine is told to go on; None: all."""
        self.batches, self.finish, self.free = iter(batches), finish, free
        self.socket = None
        self.out = deque()   # pieces not yet handed to the kernel
        self.rest = b""      # the last line of the responses, as far as it is there
        self.waiting = 0     # responses
        self.started = 0.0
        self.ending = False


class Engine:
    def __init__(self, address, port, rate=0, at_once=0):
        self.address, self.port = address, port
        self.rate, self.at_once = rate, at_once
        self.selector = selectors.EpollSelector()
        self.backlog = deque()   # connections not opened yet
        self.paced = deque()     # connections that wait for their turn under the rate
        self.live = 0
        self.stop_at = None
        self.go_on = None        # a file that tells it, by a line
        self.held = []           # connections that wait for that
        self.sent = self.received = self.commands = self.opened = 0
        self.errors, self.latencies = [], []
        resource.setrlimit(resource.RLIMIT_NOFILE,
                           (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

    def stop(self):
        """Each connection ends behind the batch that is under way."""
        self.stop_at = time.monotonic()

    def open(self, connection):
        connection.socket = socket.create_connection((self.address, self.port), wait.patience(20))
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.setblocking(False)
        self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        self.opened += 1
        self.live += 1

    def close(self, connection):
        self.selector.unregister(connection.socket)
        if connection.finish == "reset":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.socket.close()
        self.live -= 1
        while self.backlog and (not self.at_once or self.live < self.at_once):
            self.start(self.backlog.popleft())

    def start(self, connection):
        """Opens the connection if that is not done yet, and sends its first batch."""
        if connection.socket is None:
            try:
                self.open(connection)
            except OSError as e:
                self.errors.append(f"connect: {e}")
                return
        self.next(connection)

    def next(self, connection):
        if self.go_on and connection.free is not None and connection.free <= 0:
            self.held.append(connection)
            return
        batch = None
        if self.stop_at is None or time.monotonic() < self.stop_at:
            batch = next(connection.batches, None)
        if batch is None:
            if connection.finish == "quit":
                self.push(connection, [b"quit\r\n"])
                connection.ending = True  # the server closes
            elif connection.finish != "shutdown" or not connection.ending:
                self.close(connection)
            return
        connection.waiting = batch.responses
        connection.started = time.perf_counter()
        self.commands += batch.commands
        if connection.free is not None:
            connection.free -= batch.commands
        self.push(connection, batch.pieces)

    def push(self, connection, pieces):
        connection.out.extend(pieces)
        self.flush(connection)

    def flush(self, connection):
        """Sends what the kernel takes; each piece by a send() of its own, so a segment of its own."""
        out = connection.out
        while out:
            try:
                n = connection.socket.send(out[0])
            except BlockingIOError:
                n = 0
            except OSError as e:
                return self.fail(connection, f"send: {e}")
            self.sent += n
            if n < len(out[0]):
                out[0] = memoryview(out[0])[n:]
                self.selector.modify(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE,
                                     connection)
                return None
            out.popleft()
        if connection.finish == "shutdown" and not connection.ending:
            connection.socket.shutdown(socket.SHUT_WR)  # our FIN follows the request at once
            connection.ending = True
        return None

    def fail(self, connection, why):
        if len(self.errors) < 100:
            self.errors.append(why)
        self.close(connection)

    def readable(self, connection):
        try:
            data = connection.socket.recv(RECEIVE)
        except BlockingIOError:
            return
        except OSError as e:
            self.fail(connection, f"receive: {e}")
            return
        if not data:
            if connection.ending and connection.waiting == 0:
                self.close(connection)
            else:
                self.fail(connection, "the server closed the connection")
            return
        self.received += len(data)
        data = connection.rest + data
        # Up to the last line end but one character, so that FINAL sees whole lines only.
        end = data.rfind(b"\n") + 1
        whole, connection.rest = data[:end], data[end:]
        if b"ERROR" in whole or b"NOT_STORED" in whole:
            self.fail(connection, f"response {whole[-120:]!r}")
            return
        connection.waiting -= len(FINAL.findall(whole))
        if connection.waiting < 0:
            self.fail(connection, "more responses than requests")
        elif connection.waiting == 0 and not connection.out:
            self.latencies.append(time.perf_counter() - connection.started)
            if self.rate:
                self.paced.append(connection)
            else:
                self.next(connection)

    def hold(self, file):
        """What is not free waits until there is something to read from that file."""
        self.go_on = file
        self.selector.register(file, selectors.EVENT_READ)

    def _release(self):
        self.selector.unregister(self.go_on)
        self.go_on = None
        if self.rate:  # at the same rate from here on, however long they waited
            self.pace_from = time.monotonic() - self.commands / self.rate
        held, self.held = self.held, []
        for connection in held:
            self.next(connection)

    def _turns(self):
        """Lets go on as many paced connections as the rate allows by now; returns the next timeout."""
        while self.paced:
            ahead = self.commands / self.rate - (time.monotonic() - self.pace_from)
            if ahead > 0:
                return min(ahead, 0.5)
            self.next(self.paced.popleft())
        return 0.5

    def run(self, connections, deadline):
        """Runs all connections to their end, or until `deadline` seconds are over: an error then."""
        begin = self.pace_from = time.monotonic()
        for connection in connections:
            if connection.socket is None and self.at_once and self.live >= self.at_once:
                self.backlog.append(connection)
            else:
                self.start(connection)
        while self.live or self.backlog:
            timeout = self._turns() if self.rate else 0.5
            if not self.live:
                continue  # the last turn ended the last connection
            for key, events in self.selector.select(timeout):
                connection = key.data
                if connection is None:
                    self._release()
                    continue
                if events & selectors.EVENT_WRITE:
                    self.selector.modify(connection.socket, selectors.EVENT_READ, connection)
                    self.flush(connection)
                if events & selectors.EVENT_READ and connection.socket.fileno() >= 0:
                    self.readable(connection)
            if time.monotonic() - begin > deadline:
                self.errors.append(f"not done after {deadline} s: {self.live} connections wait")
                break
        return time.monotonic() - begin
