# SPDX-License-Identifier: Apache-2.0
"""A host with memcacheds on its loopback, and doppel beside them."""

import contextlib
import functools
import json
import socket
import threading

from lab import doppel, memcached
from lab.host import Host

from harness import case


class Place:
    def __init__(self):
        self.host = Host("place")
        self.doppel = doppel.Doppel(self.host)

    def server(self, port=11211, *options, log=None):
        """A memcached on 127.0.0.1:PORT. `options` are its own; 64 MB by default."""
        return memcached.Server(self.host, port, 64, connections=1024, log=log, options=options)

    def pair(self, *options):
        """A source at 11211 and a target at 11212, which has these options more."""
        return self.server(11211), self.server(11212, *options)

    def json(self, *arguments, code=0, timeout=60):
        """What doppel prints as JSON; it must end with that exit code."""
        done = self.doppel.run(*arguments, "--json", check=False, timeout=timeout)
        if done.returncode != code:
            raise AssertionError(f"exit code {done.returncode} instead of {code}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def talk(self, port, text, answers):
        """Sends commands, and waits until so many lines have come back."""
        with self.host.connect("127.0.0.1", port) as s, s.makefile("rb") as reader:
            s.sendall(text)
            return [reader.readline().rstrip(b"\r\n") for _ in range(answers)]

    def fill(self, port, count, size=100, first=0):
        """`count` sets of values of `size` bytes."""
        value = b"v" * size
        said = self.talk(port, b"".join(b"set key%d 0 0 %d\r\n%s\r\n" % (i, size, value)
                                        for i in range(first, first + count)), count)
        assert said == [b"STORED"] * count, said[:3]

    def get(self, port, count):
        """`count` gets; how many hit."""
        with self.host.connect("127.0.0.1", port) as s, s.makefile("rb") as reader:
            s.sendall(b"".join(b"get key%d\r\n" % i for i in range(count)) + b"mn\r\n")
            hits = 0
            while (line := reader.readline()) != b"MN\r\n":
                assert line, "closed"
                hits += line.startswith(b"VALUE ")
            return hits

    @contextlib.contextmanager
    def imposter(self, port, says=b""):
        """Something that listens, says these bytes to each connection, and nothing else."""
        listener = self.host.in_netns(lambda: socket.create_server(("127.0.0.1", port)))
        taken = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    one, _ = listener.accept()
                    taken.append(one)
                    one.sendall(says)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(10)
            for one in taken:
                one.close()

    def close(self):
        self.host.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def placed(function):
    """Registers a function as a test that gets a Place."""
    @functools.wraps(function)
    def run(_):
        with Place() as place:
            function(place)
    return case()(run)
