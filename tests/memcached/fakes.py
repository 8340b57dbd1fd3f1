# SPDX-License-Identifier: Apache-2.0
"""What listens where a memcached should, and is none, or behaves like a broken one."""

import itertools
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


def silent(s):
    while s.recv(4096):
        pass
