# SPDX-License-Identifier: Apache-2.0
"""Servers that are none, or broken: a clear message each, in time, and nothing left behind."""

import os
import socket
import struct
import time

from lab import wait

from fakes import PROBES, Fake, answering, silent
from harness import case
from relay import Relay
from servers import store

SHORT = 1  # s: --timeout where it is what ends the wait
LONG = 20
LATEST = 60  # s: several times that, on a machine with other work
COMMANDS = ("keys", "source", "target")
LINE = b"key=key%%3A%d exp=-1 la=1700000000 cas=1 fetch=no cls=1 size=66\n"


def run(env, command, server, *options, timeout=LONG):
    """The command, with the bad server as what its name says, beside a good one."""
    options = ("--timeout", str(timeout), *options)
    if command == "keys":
        return env.run("keys", "--values", *options, server)
    options += ("--settle", "0.1")
    good = env.memcached()
    good.fill(100)
    pair = (server, good) if command == "source" else (good, server)
    return env.run("verify", "--all", *options, *pair)


def fails(env, command, server, text, *options, timeout=LONG):
    result = run(env, command, server, *options, timeout=timeout)
    assert result.code == 1 and text in result.stderr, result
    where = server if isinstance(server, str) else server.where
    assert result.stderr.startswith(f"error: {where}: ") and result.stderr.count("error: ") == 1, result
    assert result.seconds < wait.patience(LATEST), result


def garbage(s):
    while True:
        s.sendall(os.urandom(1000).replace(b"\n", b"x"))


@case(command=COMMANDS)
def garbage_without_end(env, command):
    fake = env.own(Fake(env, garbage))
    fails(env, command, fake, "does not answer as memcached does")
    assert "errors" in run(env, command, fake, "--json").json()


@case(command=COMMANDS)
def lines_without_end(env, command):
    def play(s):
        while True:
            s.sendall(b"hello\r\n" * 100)
    fails(env, command, env.own(Fake(env, play)), 'is no memcached: it answers "hello"')


@case(command=COMMANDS)
def a_web_server(env, command):
    play = answering({}, otherwise=b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    fails(env, command, env.own(Fake(env, play)), 'is no memcached: it answers "HTTP/1.1 400 Bad Request"')


@case(command=COMMANDS)
def silence(env, command):
    fails(env, command, env.own(Fake(env, silent)), "no answer for 1000 ms", timeout=SHORT)


@case(command=COMMANDS)
def silence_later(env, command):
    answers = {**PROBES, b"lru_crawler metadump hash": silent}
    # EN: as a target it is read before it is asked for its list.
    fails(env, command, env.own(Fake(env, answering(answers, otherwise=b"EN\r\n"))), "no answer for 1000 ms", timeout=SHORT)


def dripping(s, first=b""):
    s.sendall(first)
    while True:
        s.sendall(b"S")
        time.sleep(0.1)


@case(command=COMMANDS)
def a_line_that_drips(env, command):
    """A byte now and then is no sign of life."""
    fails(env, command, env.own(Fake(env, dripping)), "no whole answer for 1000 ms", timeout=SHORT)


@case(command=("keys", "source"))
def a_value_that_drips(env, command):
    play = dump_then(lambda s: dripping(s, b"VA 1000 f0 t-1 c1 O0\r\n"))
    fails(env, command, env.own(Fake(env, play)), "no whole answer for 1000 ms", timeout=SHORT)


@case()
def a_drip_ends_each_command(env):
    fake, good = env.own(Fake(env, dripping)), env.memcached()
    told = "no whole answer for 1000 ms"
    for code, says, words in ((1, told, ("warm", fake, good)), (1, told, ("probe", fake, good)),
                              (1, told, ("probe", good, fake)),
                              (3, told, ("ready", fake, good, "--without-mirror", "--window", "0.2")),
                              (0, '"up":false', ("top", "--servers", fake, "--once", "--interval", "0.1", "--json"))):
        result = env.run(*words, "--timeout", str(SHORT))
        assert result.code == code and says in result.stderr + result.stdout, (words, result)
        assert result.seconds < wait.patience(LATEST), (words, result)


@case(path=("1 Mbit/s", "100 kbit/s"))
def a_slow_path_is_no_broken_server(env, path):
    """A value that takes several times as long as the timeout."""
    rate, size = {"1 Mbit/s": (125_000, 1_000_000), "100 kbit/s": (12_500, 100_000)}[path]
    source, target = env.memcached(address="127.0.0.1"), env.memcached()
    for server in (source, target):
        server.tell(store(b"large", b"x" * size))
    relay = env.own(Relay(source, rate))
    for words in (("keys", "--values", relay), ("verify", "--all", "--settle", "0.1", relay, target)):
        result = env.run(*words, "--timeout", str(wait.patience(2)))
        assert result.code == 0 and result.seconds > 4, result


@case(command=COMMANDS)
def closes_at_once(env, command):
    fails(env, command, env.own(Fake(env, lambda s: None)), "does it want TLS (--tls)?")


@case()
def closes_one_by_chance(env):
    """As a proxy may, or a server that just begins: that tells nothing of what it speaks."""
    answers = answering({**PROBES, b"lru_crawler metadump hash": LINE % 1 + b"END\r\n"})
    seen = []

    def play(s):
        seen.append(s)
        if len(seen) > 1:
            answers(s)
    result = env.run("keys", env.own(Fake(env, play)))
    assert result.code == 0 and "key:1" in result.stdout and len(seen) == 2, result


def dump_then(rest):
    """A server with one key, whose reads are answered like that."""
    def read(s):
        if callable(rest):
            rest(s)
        else:
            s.sendall(rest)
    class Answers(dict):
        def get(self, line, otherwise=None):
            if line.startswith((b"mg key", b"me key")):
                return read
            return super().get(line, otherwise)
    return answering(Answers({**PROBES, b"lru_crawler metadump hash": LINE % 1 + b"END\r\n"}))


@case(command=COMMANDS)
def closes_in_the_middle_of_a_list(env, command):
    def dump(s):
        s.sendall(LINE % 1 + LINE[:20])
    answers = {**PROBES, b"lru_crawler metadump hash": dump}
    # EN: as a target it is read before it is asked for its list.
    fails(env, command, env.own(Fake(env, answering(answers, otherwise=b"EN\r\n"))),
          "closed the connection in the middle of an answer")


@case(command=("keys", "source"))
def closes_in_the_middle_of_a_value(env, command):
    play = dump_then(b"VA 1000 f0 t-1 c1 O0\r\n" + b"x" * 500)
    fails(env, command, env.own(Fake(env, play)), "closed the connection in the middle of an answer")


@case(command=("keys", "source"))
def a_value_of_another_size(env, command):
    play = dump_then(b"VA 3 f0 t-1 c1 O0\r\nabcdef\r\n")
    fails(env, command, env.own(Fake(env, play)), "does not answer as memcached does")


@case(command=("keys", "source"))
def an_answer_to_another_question(env, command):
    play = dump_then(b"VA 3 f0 t-1 c1 O7\r\nabc\r\n")
    fails(env, command, env.own(Fake(env, play)), "does not answer a read as memcached does")


@case(command=("keys", "source"))
def an_answer_too_many(env, command):
    play = dump_then(b"VA 3 f0 t-1 c1 O0\r\nabc\r\nHD\r\nMN\r\n")
    fails(env, command, env.own(Fake(env, play)), "does not answer a read as memcached does")


@case(command=("keys", "source", "target"))
def an_old_server(env, command):
    play = answering({b"version": b"VERSION 1.5.6\r\n", b"stats": PROBES[b"stats"],
                      b"stats settings": PROBES[b"stats settings"],
                      b"lru_crawler metadump hash": b"BADCLASS invalid class id\r\n",
                      b"lru_crawler metadump all": LINE % 1 + b"END\r\n"})
    fails(env, command, env.own(Fake(env, play)), "has no meta commands")


@case()
def an_old_server_lists_all(env):
    play = answering({**PROBES, b"lru_crawler metadump hash": b"BADCLASS invalid class id\r\n",
                      b"lru_crawler metadump all": b"OK\r\n" + LINE % 1 + LINE % 2 + b"END\r\n"})
    lines = env.run("keys", "--json", env.own(Fake(env, play))).lines()
    assert [line["key"] for line in lines] == ["key:1", "key:2"], lines


@case(command=COMMANDS)
def a_hash_table_that_grows(env, command):
    play = answering({**PROBES, b"stats": b"STAT hash_is_expanding 1\r\nEND\r\n"}, otherwise=b"EN\r\n")
    fails(env, command, env.own(Fake(env, play)), "while its hash table grows", timeout=SHORT)


@case(command=COMMANDS)
def lists_are_forbidden(env, command):
    fails(env, command, env.memcached("-X"), "it was started with -X")


@case(command=COMMANDS)
def no_crawler(env, command):
    fails(env, command, env.memcached("-o", "no_lru_crawler"), "`lru_crawler enable`")


@case(command=COMMANDS)
def a_busy_crawler(env, command):
    play = answering({**PROBES, b"lru_crawler metadump hash": b"BUSY currently processing crawler request\r\n"},
                     otherwise=b"EN\r\n")
    fails(env, command, env.own(Fake(env, play)), "its crawler is busy", timeout=SHORT)


@case()
def another_list_whose_reader_is_slow(env):
    """memcached 1.6.18 would stop a thread, and all clients of it, for who asks for a second list then."""
    server = env.memcached()
    server.fill(200_000)
    with server.talk() as other:
        other.socket.sendall(b"lru_crawler metadump hash\r\n")
        other.reader.readline()
        fails(env, "keys", server, "its crawler is busy", timeout=SHORT)
        for _ in range(4):  # as many as it has threads, and more
            assert server.tell(b"version\r\n")[0].startswith(b"VERSION ")
    result = env.run("keys", "--timeout", "30", server)
    assert result.code == 0 and len(result.stdout.splitlines()) == 200_001, result


@case(command=COMMANDS)
def nobody_is_there(env, command):
    fails(env, command, env.path("absent.sock"), "cannot be connected to: No such file")
    fails(env, command, "127.0.0.1:1", "cannot be connected to: Connection refused")
    fails(env, command, "192.0.2.1:11211", "cannot be connected to: Network is unreachable")
    fails(env, command, "nosuchhost.invalid:11211", "its name is not found")


@case(command=COMMANDS)
def nobody_accepts(env, command):
    """The kernel drops what comes to a full queue, as a dead host does."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    where = listener.getsockname()
    waiting = []
    for _ in range(4):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(where)
        waiting.append(s)
    try:
        fails(env, command, f"127.0.0.1:{where[1]}", "cannot be connected to: Connection timed out", timeout=SHORT)
    finally:
        for s in (*waiting, listener):
            s.close()


@case(command=COMMANDS)
def no_room_for_a_connection(env, command):
    server = env.memcached("-c", "20")
    held = []
    try:
        def is_full():
            s = server.plain()
            held.append(s)
            s.settimeout(0.2)
            try:
                return s.recv(100).startswith(b"ERROR Too many")
            except TimeoutError:
                return False
        wait.until(is_full, "a server without room")
        result = run(env, command, server)
        assert result.code == 1 and "has no room for another connection" in result.stderr, result
    finally:
        for s in held:
            s.close()


def binary(sasl):
    """A server that speaks only the binary protocol: the status of its answers, but to the right SASL PLAIN."""
    def play(s):
        while len(head := s.recv(24, socket.MSG_WAITALL)) == 24 and head[0] == 0x80:
            body = s.recv(struct.unpack(">I", head[8:12])[0], socket.MSG_WAITALL) if head[8:12] != bytes(4) else b""
            right = body == b"PLAIN\0bob\0secret"
            s.sendall(struct.pack(">BBHBBHIIQ", 0x81, head[1], 0, 0, 0, 0 if right else sasl, 0, 0, 0))
    return play


@case(command=COMMANDS)
def binary_alone(env, command):
    fails(env, command, env.memcached("-B", "binary"), "speaks only the binary protocol\n")
    sasl = env.own(Fake(env, binary(0x20)))
    fails(env, command, sasl, "and wants a user and a password (SASL)")
    right, wrong = env.file("right", "bob:secret\n"), env.file("wrong", "bob:guess\n")
    fails(env, command, sasl, "also to who is authenticated (SASL)", "--auth-file", right)
    fails(env, command, sasl, "refuses this user and password (SASL PLAIN)", "--auth-file", wrong)


@case()
def errors_are_json_too(env):
    result = env.run("verify", "--json", env.path("absent.sock"), env.path("absent.sock"))
    assert result.code == 1, result
    error = result.json()["errors"][0]
    assert error["where"] == env.path("absent.sock") and "cannot be connected to" in error["what"], result


@case()
def no_directory_for_the_list(env):
    server = env.memcached()
    server.fill(10)
    result = env.run("keys", server, tmpdir=env.path("absent"))
    assert result.code == 1 and "has no room for the list of keys: No such file" in result.stderr, result


@case()
def a_list_that_cannot_be_written(env):
    source, target = env.pair()
    result = env.run("verify", "--list", env.path("absent/list"), source, target)
    assert result.code == 1 and "cannot be written: No such file" in result.stderr, result
    source.fill(5000)
    result = env.run("verify", "--all", "--list", "/dev/full", source, target)
    assert result.code == 1 and "/dev/full: cannot be written: No space left" in result.stderr, result
    before = int(source.stats()["cmd_get"])
    result = env.run("verify", "--all", "--rate", "1000", "--settle", "0.1", "--list", "/dev/full", source, target)
    assert result.code == 1 and "No space left" in result.stderr, result
    assert int(source.stats()["cmd_get"]) - before < 5000, "it was found at the end only"
