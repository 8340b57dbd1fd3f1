# SPDX-License-Identifier: Apache-2.0
"""Clients of memcached by UDP (doc/protocol.txt: a frame of 8 bytes before each datagram's text)."""

import socket
import struct

from . import wait

FRAME = 8


class Pace:
    """Nobody sends a datagram again that a full socket's buffer has dropped: so the clients wait, after as many as ROOM
    holds, until the target has taken `copies` of each of theirs and none lies in a socket. What
    further targets on that host take counts as well, so the number alone would let the clients run ahead."""

    ROOM = 48 << 10  # bytes, of a buffer of 208 KiB
    EACH, FRAGMENT, FILLED = 768, 2304, 1480  # bytes of a buffer that a small one takes and a fragment; what one carries

    def __init__(self, host, copies=1):
        self.host, self.copies, self.sent, self.taken = host, copies, 0, 0
        self.before = sockets_of(host)["InDatagrams"] if host else 0

    def step(self, size):
        self.sent += 1
        self.taken += self.copies * (self.EACH if size <= self.FILLED else self.FRAGMENT * -(-size // self.FILLED))
        if self.host and self.taken >= self.ROOM:
            self.taken = 0
            want = self.before + self.copies * self.sent
            wait.until(lambda: sockets_of(self.host)["InDatagrams"] >= want and not queued_at(self.host),
                       "the target to take what was sent", 5)


class Client:
    """One socket. bytes and datagrams: that it has sent. One request is outstanding at a time."""

    def __init__(self, host, address, port=11211, own_port=0, checksum=True, timeout=5.0, pace=None):
        self.pace = pace or Pace(None)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = host.in_netns(socket.socket, family, socket.SOCK_DGRAM)
        if not checksum:
            self.socket.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
        if own_port:
            self.socket.bind(("::" if family == socket.AF_INET6 else "", own_port))
        self.socket.connect((address, port))
        self.socket.settimeout(wait.patience(timeout))
        self.bytes = self.datagrams = 0
        self._id = 0

    def send(self, text, frame=True):
        """One datagram; its payload's bytes."""
        self._id = (self._id + 1) & 0xFFFF
        payload = (struct.pack("!4H", self._id, 0, 1, 0) if frame else b"") + text
        self.socket.send(payload)
        self.bytes += len(payload)
        self.datagrams += 1
        return len(payload)

    def answer(self):
        """The answer to what was sent last, as text."""
        parts = {}
        while True:
            number, part, total, _ = struct.unpack("!4H", (data := self.socket.recv(65535))[:FRAME])
            if number == self._id:
                parts[part] = data[FRAME:]
                if len(parts) == total:
                    return b"".join(parts[n] for n in sorted(parts))

    def ask(self, text):
        """Asked once: a datagram that is lost on a quiet wire is a failure."""
        self.send(text)
        return self.answer()

    def set(self, key, value):
        said = self.ask(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value))
        assert said == b"STORED\r\n", (key, said)
        self.pace.step(len(value))

    def close(self):
        self.socket.close()


def sockets_of(host):
    """What this host's own UDP has counted: of IPv4 and IPv6, datagrams for no port, errors, and taken."""
    lines = [line.split() for line in host.proc_net("snmp").splitlines() if line.startswith("Udp:")]
    four = dict(zip(lines[0][1:], map(int, lines[1][1:])))
    six = {name[4:]: int(n) for name, n in (line.split() for line in host.proc_net("snmp6").splitlines())
           if name.startswith("Udp6")}
    return {name: four[name] + six.get(name, 0) for name in ("InDatagrams", "NoPorts", "InErrors", "InCsumErrors")}


def queued_at(host):
    """Bytes that lie in the receive queues of this host's UDP sockets."""
    rows = (line.split() for of in ("udp", "udp6") for line in host.proc_net(of).splitlines()[1:])
    return sum(int(row[4].split(":")[1], 16) for row in rows)
