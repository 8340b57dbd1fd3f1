# SPDX-License-Identifier: Apache-2.0
"""Real memcacheds, and a plain client that looks into them."""

import base64
import ctypes
import itertools
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import threading
import urllib.parse

from lab import wait

_numbers = itertools.count(1)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Memcached:
    """On a Unix socket, or, with `address`, on TCP. `where` is what doppel is told. `tls` and `auth` are for the
    client of this class: a file of authorities, and "USER PASSWORD". `environment` is the server's, beside this one's."""

    def __init__(self, env, *options, address=None, tls=None, auth=None, environment=None, path=None):
        number = next(_numbers)
        self.environment = {**os.environ, **(environment or {})}
        self.tls, self.auth = tls, auth
        if address is None:
            self.target = self.where = path or env.path(f"memcached-{number}.sock")
            listen = ["-s", self.where]
        else:
            port = 20000 + number
            self.target = (address, port)
            self.where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            listen = ["-l", address, "-p", str(port)]
        self.argv = ["memcached", "-u", "root", "-t", "2", "-m", "512", *listen, *options]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=die_with_parent, env=self.environment)
        wait.until(self.is_there, f"{' '.join(self.argv)} at {self.where}")

    def restart(self):
        """Empty, at the same place."""
        self.close()
        self.start()

    def is_there(self):
        if self.process.poll() is not None:
            raise AssertionError(f"memcached ended with {self.process.returncode}")
        try:
            self.plain().close()
        except OSError:
            return False
        return True

    def plain(self):
        """A connected socket, without TLS."""
        s = socket.socket(socket.AF_UNIX if isinstance(self.target, str) else
                          socket.AF_INET6 if ":" in self.target[0] else socket.AF_INET)
        s.settimeout(wait.patience(30))
        s.connect(self.target)
        return s

    def talk(self):
        return Talk(self)

    def tell(self, request):
        """Sends commands, and returns the lines of the answers."""
        with self.talk() as talk:
            return talk.tell(request)

    def fill(self, count, value=b"v%d", key=b"key:%d"):
        """Items with all kinds of flags and times to live."""
        self.tell(b"".join(store(key % i, value % i, flags=i % 7, ttl=0 if i % 2 else 5000) for i in range(count)))

    def store_binary(self, keys, ttl=0):
        """By the binary protocol, which takes keys that no line of text can name."""
        request = b"".join(struct.pack(">BBHBBHIIQII", 0x80, 1, len(key), 8, 0, 0, 9 + len(key), 0, 0, 0, ttl) + key + b"v"
                           for key in keys)
        with self.plain() as s:
            sender = threading.Thread(target=s.sendall, args=(request,))
            sender.start()
            with s.makefile("rb") as reader:
                for key in keys:
                    head = reader.read(24)
                    if len(head) != 24 or head[6:12] != bytes(6):
                        raise AssertionError(f"{key} is not stored: {head}")
            sender.join()

    def stats(self, what=b""):
        lines = self.tell((b"stats " + what).rstrip() + b"\r\n")
        return {w[1].decode(): w[2].decode() for w in (line.split(b" ", 2) for line in lines) if w[0] == b"STAT"}

    def dump(self):
        """{key: {name: value}}, as the server writes it."""
        def lines():
            found = self.tell_dump()
            return None if found and found[0].startswith(b"BUSY") else found
        return {urllib.parse.unquote_to_bytes(line.split()[0][4:]): dict(w.split(b"=", 1) for w in line.split()[1:])
                for line in wait.until(lambda: [lines()], "a dump")[0] or () if line.startswith(b"key=")}

    def tell_dump(self):
        with self.talk() as talk:
            talk.socket.sendall(b"lru_crawler metadump hash\r\n")
            found = []
            while True:
                line = talk.reader.readline().rstrip()
                if line == b"END":
                    return found
                if not line.startswith(b"key="):
                    return [line]
                found.append(line)

    def close(self):
        self.process.kill()  # SIGTERM takes it a second
        self.process.wait(wait.patience(10))
        if isinstance(self.target, str) and os.path.exists(self.target):
            os.unlink(self.target)


class Talk:
    """One connection."""

    def __init__(self, server):
        self.socket = server.plain()
        if server.tls:
            self.socket = ssl.create_default_context(cafile=server.tls).wrap_socket(
                self.socket, server_hostname=server.target[0])
            # 1.6.18 does not see what comes together with the end of the greeting; its ticket says that it is through.
            select.select([self.socket], [], [], 0.5)
        self.reader = self.socket.makefile("rb", 1 << 18)
        if server.auth:
            token = server.auth.encode()
            self.socket.sendall(b"set auth 0 0 %d\r\n%s\r\n" % (len(token), token))
            if self.reader.readline() != b"STORED\r\n":
                raise AssertionError("the password is refused")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()

    def tell(self, request):
        """As Memcached.tell()."""
        answers = []
        sender = threading.Thread(target=self.socket.sendall, args=(request + b"mn\r\n",))
        sender.start()  # the server stops reading where nobody reads its answers
        if isinstance(self.socket, ssl.SSLSocket):
            sender.join()  # two threads at once may not use one (CPython before 3.13)
        while (line := self.reader.readline().rstrip(b"\r\n")) != b"MN":
            answers.append(line)
        sender.join()
        return answers


def store(key, value, flags=0, ttl=0):
    """The command that sets an item without an answer."""
    named, b = (key, b"") if all(33 <= c != 127 for c in key) else (base64.b64encode(key), b"b ")
    return b"ms %s %d %sq F%d T%d\r\n%s\r\n" % (named, len(value), b, flags, ttl, value)
