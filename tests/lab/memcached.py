# SPDX-License-Identifier: Apache-2.0
"""Real memcached servers, and a client to look into them that is never mirrored.

The look goes over 127.0.0.1 and a port of its own, so that it neither passes eth0 nor matches a
mapping.
"""

import hashlib
import socket
import subprocess
import urllib.parse

from . import wait

ADMIN_OFFSET = 788  # 11211 -> 11999
# Connections that wait to be accepted. With too few of them (1024 by default) the kernel drops the last ACK of
# a handshake when this machine is busy, and a second SYN-ACK reaches a client that is established already.
BACKLOG = 16384


class Server:
    """With a log, a file open for writing, it says there what it was asked and what it answered. `options` are
    memcached's own, and win over those from here. `address` is where clients come to; by default any of the
    host's IP version."""

    def __init__(self, host, port=11211, memory_mb=512, connections=15000, log=None, options=(), address=None,
                 admin_port=None):
        self.host, self.port, self.admin_port = host, port, admin_port or port + ADMIN_OFFSET
        address = address or ("[::]" if host.address and ":" in host.address else "0.0.0.0")
        host.sysctl("net/core/somaxconn", BACKLOG)
        self.process = host.popen(
            ["memcached", "-u", "root", "-l", f"{address}:{port},127.0.0.1:{self.admin_port}",
             "-t", "2", "-m", str(memory_mb), "-c", str(connections), "-b", str(BACKLOG), "-I", "4m",
             *(["-vv"] if log else []), *options],
            stdin=subprocess.DEVNULL, stderr=log or subprocess.DEVNULL)
        wait.until(self._listens, f"memcached on {host.name} port {port}")

    def _listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f"memcached on {self.host.name} ended with {self.process.returncode}")
        return self.host.listens(self.port) and self.host.listens(self.admin_port)

    def admin(self):
        return Admin(self.host, self.admin_port)

    def stats(self):
        with self.admin() as admin:
            return admin.stats()

    def contents(self):
        with self.admin() as admin:
            return admin.contents()

    def preload(self, keys, value=b"1000", ttl=0):
        """Sets that no mirror sees: the keys are older than it."""
        with self.admin() as admin:
            for at in range(0, keys, 1000):
                admin.socket.sendall(b"".join(b"set key%d %d %d %d noreply\r\n%s\r\n" % (n, n % 5, ttl, len(value), value)
                                              for n in range(at, min(at + 1000, keys))))
            admin.socket.sendall(b"mn\r\n")
            assert admin.reader.readline() == b"MN\r\n"

    def kill(self):
        self.process.kill()
        self.process.wait(wait.patience(10))
        wait.until(lambda: not self.host.listens(self.port), "the port to close")


class Admin:
    def __init__(self, host, port):
        self.socket = host.connect("127.0.0.1", port, 20.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb", 1 << 18)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()

    def lines(self, command):
        """The lines of a response that ends with END."""
        self.socket.sendall(command + b"\r\n")
        while True:
            line = self.reader.readline()
            if not line.endswith(b"\n"):
                raise AssertionError(f"memcached closed after {command!r}")
            line = line.rstrip(b"\r\n")
            if line == b"END":
                return
            yield line

    def stats(self):
        """The general statistics; what is a whole number is an int."""
        stats = {}
        for line in self.lines(b"stats"):
            _, name, value = line.decode().split(" ", 2)
            stats[name] = int(value) if value.isdigit() else value
        return stats

    def dump_keys(self):
        keys = []
        for line in self.lines(b"lru_crawler metadump all"):
            if line.startswith(b"BUSY"):  # a crawl is under way; this answer has no END
                return None
            keys.append(urllib.parse.unquote_to_bytes(line.split()[0][len(b"key="):]))
        return set(keys)

    def keys(self):
        """All keys. An item that moves between LRU queues can hide from one crawl: so count."""
        def dump():
            keys = self.dump_keys()
            return keys if keys is not None and len(keys) == self.stats()["curr_items"] else None
        if self.stats()["curr_items"] == 0:
            return set()
        return wait.until(dump, "a complete dump of the keys", 20.0)

    def get(self, keys):
        """{key: (flags, value)} of those that are there."""
        values = {}
        keys = list(keys)
        for at in range(0, len(keys), 50):
            self.socket.sendall(b"get " + b" ".join(keys[at:at + 50]) + b"\r\n")
            while (line := self.reader.readline()) != b"END\r\n":
                word, key, flags, size = line.split()
                if word != b"VALUE":
                    raise AssertionError(f"unexpected answer {line!r}")
                values[key] = (int(flags), self.reader.read(int(size)))
                self.reader.readline()
        return values

    def contents(self):
        """{key: (flags, size, hash of the value)} of everything that is stored."""
        found = {}
        keys = sorted(self.keys())
        for at in range(0, len(keys), 50):
            for key, (flags, value) in self.get(keys[at:at + 50]).items():
                found[key] = (flags, len(value), hashlib.sha1(value).hexdigest())
        return found


def differences(source, target):
    """Sentences about what differs between two contents(); empty if nothing does."""
    missing = sorted(source.keys() - target.keys())
    extra = sorted(target.keys() - source.keys())
    unequal = sorted(k for k in source.keys() & target.keys() if source[k] != target[k])
    said = []
    for what, keys in (("missing on the target", missing), ("only on the target", extra),
                       ("with another value on the target", unequal)):
        if keys:
            said.append(f"{len(keys)} keys {what}, such as {keys[0].decode(errors='replace')}")
    return said
