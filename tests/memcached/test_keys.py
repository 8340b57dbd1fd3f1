# SPDX-License-Identifier: Apache-2.0
"""`doppel keys` lists what a server has."""

import base64
import os
import subprocess
import time

from lab import doppel

from harness import case
from servers import store


def key_of(line):
    return base64.b64decode(line["key_base64"]) if "key_base64" in line else line["key"].encode()


@case()
def all_of_them_as_the_server_knows_them(env):
    server = env.memcached()
    server.fill(20_000)
    server.tell(b"".join(b"mg key:%d\r\n" % i for i in range(0, 20_000, 3)))
    known = server.dump()
    result = env.run("keys", "--json", server)
    assert result.code == 0 and result.stderr == "", result
    lines = result.lines()
    assert len(lines) == 20_000
    now = time.time()
    for line in lines:
        item = known[key_of(line)]
        for name in ("exp", "la", "cas", "size", "cls"):
            assert line[name] == int(item[name.encode()]), (line, item)
        assert line["fetch"] == (item[b"fetch"] == b"yes"), (line, item)
        assert line["ttl"] == -1 if line["exp"] == -1 else abs(line["exp"] - now - line["ttl"]) < 120, line
    assert sum(line["fetch"] for line in lines) == 6667


@case()
def values_of_any_bytes(env):
    server = env.memcached()
    items = {b"plain": b"text", b"a b": b"\xff\r\n", b"\xff\x00": b"", "ä".encode(): "ö".encode()}
    server.tell(b"".join(store(key, value, flags=4294967295) for key, value in items.items()))
    before = server.dump()
    lines = env.run("keys", "--json", "--values", server).lines()
    read = {key_of(line): base64.b64decode(line["value_base64"]) if "value_base64" in line else line["value"].encode()
            for line in lines}
    assert read == items, read
    assert all(line["flags"] == 4294967295 for line in lines), lines
    assert server.dump() == before


@case()
def for_people(env):
    server = env.memcached()
    server.tell(store(b"a\x1b[2J%", b"\x1b[2Jvalue", ttl=1000, flags=5))
    result = env.run("keys", "--values", server)
    assert result.code == 0 and result.stdout.count("\n") == 2 and "\x1b" not in result.stdout, result
    cells = result.stdout.splitlines()[1].split()
    assert cells[1] == "s" and 990 <= int(cells[0]) <= 1001, result
    assert cells[-3:] == ["5", "a%1B[2J%25", '"\\x1b[2Jvalue"'], result
    assert env.run("keys", env.memcached()).stdout == ""


@case()
def a_part_of_them(env):
    server = env.memcached()
    server.fill(1000)
    server.fill(5, key=b"user:%d")
    names = [line["key"] for line in env.run("keys", "--json", "--prefix", "user:", server).lines()]
    assert sorted(names) == [f"user:{i}" for i in range(5)]
    assert len(env.run("keys", "--limit", "7", server).stdout.splitlines()) == 8
    assert len(env.run("keys", "--json", "--values", "--limit", "3", "--prefix", "user:", server).lines()) == 3
    assert env.run("keys", "--prefix", "nothing", server).stdout == ""


@case()
def a_reader_that_has_seen_enough(env):
    server = env.memcached()
    server.fill(50_000)
    done = subprocess.run(f"'{doppel.binary()}' keys '{server.where}' | head -3", shell=True, check=False,
                          capture_output=True, text=True, env={**os.environ, "TMPDIR": env.spool})
    assert len(done.stdout.splitlines()) == 3 and "error" not in done.stderr, done
    assert not os.listdir(env.spool)
