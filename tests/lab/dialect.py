# SPDX-License-Identifier: Apache-2.0
"""One request at a time, in each of memcached's protocols."""

import socket
import struct


class Text:
    @staticmethod
    def set(key, value):
        return b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value)

    stored = b"STORED\r\n"


class Meta:
    @staticmethod
    def set(key, value):
        return b"ms %s %d\r\n%s\r\n" % (key, len(value), value)

    stored = b"HD\r\n"


class Binary:
    @staticmethod
    def set(key, value):
        body = struct.pack("!II", 0, 0) + key + value
        return struct.pack("!BBHBBHIIQ", 0x80, 1, len(key), 8, 0, 0, len(body), 0, 0) + body

    stored = struct.pack("!BBHBBH", 0x81, 1, 0, 0, 0, 0)


DIALECTS = {"text": Text, "meta": Meta, "binary": Binary}


class Talker:
    """A connection from a host to a server, on which one request waits for its answer."""

    def __init__(self, host, address, dialect, port=11211):
        self.dialect = dialect
        self.sent = 0
        self.socket = host.connect(address, port)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def set(self, key, value=b"x" * 100):
        request = self.dialect.set(key, value)
        self.socket.sendall(request)
        self.sent += len(request)
        answer = self.socket.recv(4096)
        if not answer.startswith(self.dialect.stored):
            raise AssertionError(f"the answer to {request[:40]!r} was {answer[:80]!r}")

    def close(self):
        self.socket.close()
