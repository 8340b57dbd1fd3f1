# SPDX-License-Identifier: Apache-2.0
"""Connections that logged in before the mirror was there: what a shadow says first where it joins, and what is told
of a target that refuses everything."""

import base64
import os
import shutil
import socket
import tempfile

from harness import MODES, Skip, case
from lab import mirror, wait
from lab.keeper import File, Keeper
from lab.network import FAMILIES
from lab.tcp import connect, read_lines

PORT, SECRET = 6379, "open sesame"
AUTH = f'*2\r\n$4\r\nAUTH\r\n$11\r\n{SECRET}\r\n'.encode()
TARGET_FAILS = 5  # exit code of `status`


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


class Redis:
    """Its administrator comes by a socket of the file system, which no mirror sees."""

    def __init__(self, host, *options):
        if not shutil.which("redis-server"):
            raise Skip("redis-server is not installed (tools/install-deps tests)")
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "socket")
        self.process = host.popen(
            ["redis-server", "--port", str(PORT), "--bind", "*", "-::*", "--unixsocket", self.path, "--save", "",
             "--dir", self.directory.name, "--requirepass", SECRET, "--logfile", "log", *options])
        wait.until(lambda: host.listens(PORT) and os.path.exists(self.path), f"redis on {host.name}")

    def ask(self, *words):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.path)
            s.sendall(AUTH + command(*words))
            lines = s.makefile("rb")
            assert lines.readline() == b"+OK\r\n"
            first = lines.readline()
            return first + (lines.read(int(first[1:])) if first[:1] == b"$" else b"")

    def keys(self):
        return int(self.ask(b"DBSIZE")[1:])


class Pair:
    """A source and a target that want the same password, and clients that gave it before the mirror came."""

    def __init__(self, env, clients, target=()):
        self.scene = env.scene(target_runs=False, ports=())
        self.scene.ports = (PORT,)
        self.source = Redis(self.scene.lab.source)
        self.target = Redis(self.scene.lab.target, *target)
        self.file = File(self.scene)
        self.clients = [self.client() for _ in range(clients)]
        self.sent = self.written = 0

    def client(self):
        s = connect(self.scene.lab.client, self.scene.lab.source.address, PORT)
        s.sendall(AUTH)
        assert read_lines(s, 1) == b"+OK\r\n"
        return s

    def mirror(self, **more):
        self.file.write(self.mapping(**more))
        return Keeper(self.scene, "--config", self.file.path)

    def mapping(self, **more):
        mapping = self.file.mapping("redis", PORT, application="redis")
        mapping["targets"][0].update(more)
        return mapping

    def write(self, s, value=b"x"):
        self.written += 1
        request = command(b"SET", b"key%d" % self.written, value)
        s.sendall(request)
        assert read_lines(s, 1) == b"+OK\r\n"
        self.sent += len(request)

    def write_all(self, times=1):
        for _ in range(times):
            for s in self.clients:
                self.write(s)

    def assert_arrived(self):
        """Each write of each client, and the ledger knows of nothing else."""
        self.scene.assert_all_delivered(self.sent)
        assert self.source.keys() == self.target.keys() == self.written, (self.source.keys(), self.target.keys(), self.written)


@case(mode=MODES, families=FAMILIES)
def two_hundred_that_had_logged_in(env, mode):
    pair = Pair(env, 200)
    keeper = pair.mirror(preamble=AUTH.decode())
    pair.write_all(3)
    pair.assert_arrived()
    assert pair.scene.doppel.ledger()["flows"]["joined"] == 200
    assert "error_answer" not in mirror.events(pair.scene)
    for said in (keeper.said(), *(str(pair.scene.doppel.json(c)) for c in ("status", "counters", "flows"))):
        assert SECRET not in said, said
    for s in pair.clients:
        s.close()
    mirror.assert_nothing_left(pair.scene)


@case(mode=MODES)
def without_a_preamble_it_is_told(env, mode):
    pair = Pair(env, 50)
    pair.mirror()
    pair.write_all()
    found = lambda: [p for p in pair.scene.doppel.health()[1]["problems"] if p["class"] == "errors"]
    wait.until(found, "status to tell", 10)
    code, said = pair.scene.doppel.health()
    assert code == TARGET_FAILS and "answers with errors" in said["problems"][0]["what"], (code, said)
    assert mirror.events(pair.scene)["error_answer"] == 50, mirror.events(pair.scene)
    assert pair.target.keys() == 0
    # Those that come now log in at the target as well, and it is well again when nothing else is answered.
    pair.clients = [pair.client() for _ in range(20)]
    def well():
        pair.write_all()
        return not found()
    wait.until(well, "status to be well again", 60)


@case(mode=MODES[:1])
def a_path_that_loses(env, mode):
    """The SYN, the preamble, what acknowledges them: whichever is lost, each write arrives, once."""
    pair = Pair(env, 200)
    keeper = pair.mirror(preamble=AUTH.decode())
    tables = [pair.scene.lab.lose(*way, 100) for way in (("source", "target"), ("target", "source"))]
    pair.write_all(5)
    pair.scene.doppel.wait_idle(observed=pair.sent, timeout=60, stuck=30)
    for table in tables:
        pair.scene.lab.heal(table)
    pair.assert_arrived()
    assert "error_answer" not in mirror.events(pair.scene), mirror.events(pair.scene)
    keeper.stop()


@case(mode=MODES[:1])
def a_target_that_ends_quiet_connections(env, mode):
    """The shadow that goes on says it once more."""
    pair = Pair(env, 10, target=("--timeout", "1"))
    pair.mirror(preamble=AUTH.decode())
    for _ in range(3):
        pair.write_all()
        pair.assert_arrived()
        wait.until(lambda: pair.scene.doppel.ledger()["flows"]["open"] == 0, "the target to end them", 15)
    assert mirror.events(pair.scene)["resumed"] == 20, mirror.events(pair.scene)


@case(mode=MODES)
def another_password(env, mode):
    """A reload makes a new mapping of it; the new one joins with the new bytes, and a wrong file changes nothing."""
    pair = Pair(env, 8)
    keeper = pair.mirror(preamble="AUTH wrong\r\n")
    pair.write_all()
    refused = lambda: pair.target.ask(b"INFO", b"errorstats")  # both answers may come in one segment
    wait.until(lambda: b"NOAUTH:count=8" in refused() and b"WRONGPASS:count=8" in refused(), "AUTH and SET to be refused")
    wait.until(lambda: mirror.events(pair.scene).get("error_answer", 0) >= 8, "all errors to be counted")
    secret = tempfile.NamedTemporaryFile()
    secret.write(AUTH)
    secret.flush()
    os.chmod(secret.name, 0o644)
    pair.file.write(pair.mapping(preamble_file=secret.name))
    said = pair.scene.doppel.run("reload", check=False)
    assert said.returncode and "may be read by others" in said.stderr, said
    os.chmod(secret.name, 0o600)
    pair.scene.doppel.run("reload")
    before = pair.written
    pair.write_all()
    wait.until(lambda: pair.target.keys() == pair.written - before, "the writes since")
    pair.file.write(pair.mapping(preamble_base64=base64.b64encode(AUTH).decode()))
    assert "none changed" in pair.scene.doppel.run("reload").stdout
    keeper.stop()
