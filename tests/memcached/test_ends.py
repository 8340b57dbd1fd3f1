# SPDX-License-Identifier: Apache-2.0
"""Items that end as late as a server can be told, or later than a line of text can tell."""

import json
import struct
import time

from harness import case
from lab import wait
from servers import store

QUICK = ("--settle", "0.3", "--timeout", str(wait.patience(30)))
LAST = 2 ** 31 - 1  # what clients write for "never": 2038-01-19


def binary_set(key, value, ends):
    return (struct.pack(">BBHBBHIIQ", 0x80, 1, len(key), 8, 0, 0, 8 + len(key) + len(value), 0, 0)
            + struct.pack(">II", 0, ends) + key + value)


def fill(server, value):
    """The last second of text, those around it and some that only the binary protocol can name."""
    ends = (LAST - 1, LAST, LAST + 1, int(time.time()) + LAST - 5, int(time.time()) + LAST + 5, 0xfffffff0, 0xffffffff)
    with server.plain() as s:
        s.sendall(b"".join(binary_set(b"k%d" % n, value, end) for n, end in enumerate(ends)))
        got = b""
        while len(got) < 24 * len(ends):
            got += s.recv(4096)
    server.tell(store(b"text", value, ttl=LAST) + store(b"ten years", value, ttl=int(time.time()) + 86400 * 3650))
    return len(ends) + 2


def run(env, *words):
    result = env.run(*words, "--json", *QUICK)
    return result.code, json.loads(result.stdout) if result.stdout else result.stderr


@case()
def late_ones_are_copied(env):
    source, target = env.pair()
    count = fill(source, b"v")
    code, found = run(env, "warm", source, target)
    assert code == 0 and found["added"] == count and not found["undone"], found
    assert int(target.stats()["curr_items"]) == count
    code, found = run(env, "verify", "--all", source, target)
    assert code == 0 and found["equal"] == count, found


@case()
def late_ones_are_repaired(env):
    """What the mirror brought by the binary protocol is as late as the source's."""
    source, target = env.pair()
    fill(source, b"right")
    count = fill(target, b"wrong")
    code, found = run(env, "warm", "--repair", source, target)
    assert code == 0 and found["repaired"] == count, found
    code, found = run(env, "verify", "--all", source, target)
    assert code == 0 and found["equal"] == count, found
