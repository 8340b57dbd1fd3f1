# SPDX-License-Identifier: Apache-2.0
"""What listens where a memcached should, and is none, or behaves like a broken one."""

import contextlib
import itertools
import re
import socket
import threading

_numbers = itertools.count(1)

GREETING = b"VERSION 1.6.18\r\n"
PROBES = {b"mn": b"MN\r\n", b"mg AA== b Cx": b"CLIENT_ERROR bad token in command line format\r\n",
          b"mg a Ex": b"CLIENT_ERROR invalid flag\r\n", b"me AA==": b"EN\r\n",
          b"lru_crawler metadump 0": b"BADCLASS invalid class id\r\n",
          b"stats settings": b"STAT cas_enabled yes\r\nEND\r\n",
          b"stats": b"STAT hash_is_expanding 0\r\nSTAT time 1700000000\r\nEND\r\n", b"version": GREETING}


class Fake:
    """On a Unix socket: a thread for each connection, which runs play(socket) and closes."""

    def __init__(self, env, play):
        self.where = env.path(f"fake-{next(_numbers)}.sock")
        self.play = play
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.where)
        self.listener.listen(16)
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(s)
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        try:
            self.play(s)
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client has seen enough
        finally:
            s.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for s in self.open:
            s.close()


def answering(answers, otherwise=b"ERROR\r\n"):
    """Answers each line by the table, in which None closes; a value that is no bytes is called with the socket."""
    def play(s):
        reader = s.makefile("rb")
        while line := reader.readline():
            answer = answers.get(line.rstrip(b"\r\n"), otherwise)
            if answer is None:
                return
            if callable(answer):
                answer(s)
                return
            s.sendall(answer)
    return play


WIDE = 2 ** 32 + 7


def with_wide_flags(server):
    """A memcached that keeps client flags of 64 bits (--enable-large-client-flags), before one that does not: its 7 are
    WIDE."""
    def asks(line):
        return line.replace(b" F%d " % WIDE, b" F7 ")

    def answers(line):
        if line.startswith(b"STAT client_flags_size"):
            return b""
        if line.startswith(b"STAT cas_enabled"):
            return line + b"STAT client_flags_size 8\r\n"
        return re.sub(rb" f7\b", b" f%d" % WIDE, line)

    def pump(here, there, change):
        with contextlib.suppress(OSError), here.makefile("rb") as lines:
            while line := lines.readline():
                there.sendall(change(line))
            there.shutdown(socket.SHUT_WR)

    def play(s):
        with server.plain() as far:
            far.settimeout(None)
            threading.Thread(target=pump, args=(s, far, asks), daemon=True).start()
            pump(far, s, answers)
    return play


def silent(s):
    while s.recv(4096):
        pass
