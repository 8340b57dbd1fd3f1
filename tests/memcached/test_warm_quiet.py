# SPDX-License-Identifier: Apache-2.0
"""What warm leaves alone, and what it must not call a change: writes that a mirror brings, touches, narrow ways, idle
connections, a target that is flushed."""

import base64
import os
import signal
import subprocess
import threading
import time

from lab import wait

from harness import case
from relay import Relay
from servers import store
from test_warm import PATIENT, SETTLE, assert_equal, items, start, warm


class Mirrored(threading.Thread):
    """Tells both servers the same, source first, every so many seconds."""

    def __init__(self, servers, requests, every):
        super().__init__(daemon=True)
        self.servers, self.requests, self.every, self.done = servers, requests, every, threading.Event()

    def run(self):
        for request in self.requests:
            if self.done.wait(self.every):
                return
            for server in self.servers:
                server.tell(request)


@case(options=("", "--repair --delete-extra"))
def what_a_mirror_brought_stays(env, options):
    """A key that is set every settle, each time after our copy: its last value is at the target in the end."""
    source, target = env.pair()
    source.fill(100)
    source.tell(store(b"session", b"v0"))
    process = start(env, "--json", "--settle", "1", *options.split(), source, target)
    wait.until(lambda: items(target) == 101, "the copies", interval=0.01)
    writer = Mirrored((source, target), [store(b"session", b"v%d" % n) for n in range(1, 5)], 0.8)
    writer.start()
    writer.join()
    out, err = process.communicate(timeout=wait.patience(60))
    assert target.tell(b"mg session v\r\n") == [b"VA 2", b"v4"], (out, err)
    assert process.returncode == 0 and '"undone": 0' in out, (out, err)
    assert_equal(env, source, target)


CLAIMS = (b"plain", b"with a blank")


def claim(server, key):
    """A client misses the key, and is the one to fill it."""
    word, flags = (base64.b64encode(key), b" b") if b" " in key else (key, b"")
    said = server.tell(b"mg %s v N600%s\r\n" % (word, flags))[0].split()
    assert b"W" in said, said


@case(options=("", "-M"), how=("", "--repair", "--dry-run"))
def what_a_client_fills_at_the_target_is_missing_there(env, options, how):
    """An add finds what stands in for it; the source's item comes all the same, and empty ones stay what they are."""
    source, target = env.memcached(), env.memcached(*options.split())
    for key in (b"plain", b"with a blank", b"empty", b"short", b"long"):
        word, flags = (base64.b64encode(key), b" b") if b" " in key else (key, b"")
        value = b"" if key == b"empty" else b"7" if key == b"short" else b"v" * 40
        source.tell(b"ms %s %d%s\r\n%s\r\n" % (word, len(value), flags, value))
        if key not in CLAIMS:
            target.tell(b"ms %s %d\r\n%s\r\n" % (word, len(value), value))
    for key in CLAIMS:
        claim(target, key)
    found = warm(env, *SETTLE, *how.split(), source, target)
    assert (found["added"], found["repaired"], found["present"]) == \
        ((0, 2, 3) if how == "--repair" else (2, 0, 3)), found
    if how != "--dry-run":
        assert_equal(env, source, target)


@case()
def what_clients_fill_again_and_again_is_told(env):
    """It moves between any two looks: three tries, and it is not counted as there."""
    source, target = env.pair()
    source.tell(store(b"session", b"v0"))
    claim(target, b"session")
    writer = Mirrored((target,), [b"md session\r\nmg session v N600\r\n"] * 1000, 0.05)
    writer.start()
    process = start(env, "--json", "--settle", "1.5", source, target)
    out, err = process.communicate(timeout=wait.patience(60))
    writer.done.set()
    writer.join()
    assert process.returncode == 3 and '"undone": 1' in out and '"present": 0' in out, (out, err)


@case()
def what_is_left_out_is_told(env):
    """Nothing brings what the source makes of it: three tries, and the exit code says so."""
    source, target = env.pair()
    source.tell(store(b"counter", b"1"))
    process = start(env, "--json", *SETTLE, source, target)
    with source.talk() as talk:
        wait.until(lambda: talk.tell(b"incr counter 1\r\n") and process.poll() is not None, "it to end", interval=0.05)
    out, err = process.communicate(timeout=wait.patience(60))
    assert process.returncode == 3 and '"undone": 1' in out and items(target) == 0, (out, err)


@case()
def a_touch_is_no_new_value(env):
    """Also where ends move by more than two looks may be apart."""
    source, target = env.pair()
    source.tell(b"".join(store(b"session%d" % n, b"v", ttl=1800) for n in range(20)))
    touch = b"".join(b"touch session%d 1800 noreply\r\n" % n for n in range(20))
    writer = Mirrored((source, target), [touch] * 1000, 0.2)
    writer.start()
    found = warm(env, "--settle", "4", source, target)
    writer.done.set()
    writer.join()
    assert found["added"] == 20 and not found["undone"] and items(target) == 20, found
    assert_equal(env, source, target)


@case()
def a_narrow_way_to_the_target(env):
    """Values take longer on it than the second that is told of a time to live."""
    source, target = env.memcached(), env.memcached(address="127.0.0.1")
    source.tell(b"".join(store(b"large%d" % n, b"v" * 500_000, ttl=1000) for n in range(8)))
    relay = Relay(target, 900_000)
    found = warm(env, *SETTLE, source, relay)
    relay.close()
    assert found["added"] == 8 and not found["undone"], found
    assert int(target.stats()["cmd_set"]) == 8, "copied more than once"
    assert_equal(env, source, target)


@case()
def a_narrow_way_to_the_target_of_verify(env):
    """What the source answers seconds before the target ends at the same time all the same."""
    servers = source, target = env.memcached(), env.memcached(address="127.0.0.1")
    key = b"long" * 50 + b"%d"  # a server answers what it has read at once
    ends = int(time.time()) + 40 * 86_400  # a moment, as one server is filled seconds before the other
    for server in servers:
        server.tell(b"".join(store(key % n, b"v" * 10_000, ttl=ends) for n in range(1100)))
    relay = Relay(target, 800_000)
    result = env.run("verify", *PATIENT, "--all", "--json", "--settle", "0.2", source, relay)
    relay.close()
    assert result.code == 0 and not result.json()["ttl"], result
    target.tell(b"touch %s %d\r\n" % (key % 7, ends + 20))
    result = env.run("verify", *PATIENT, "--all", "--json", "--settle", "0.2", source, target)
    assert result.code == 3 and result.json()["ttl"] == 1, result


@case()
def only_what_was_begun_is_copied_anew(env):
    """Where one was killed, the target keeps what that one had not come to."""
    source, target = env.pair()
    count, resume = 60_000, env.path("resume")
    source.fill(count, value=b"src%d")
    target.fill(count, value=b"tgt%d")
    arguments = (*SETTLE, "--rate", "2000", "--resume", resume, source, target)
    process = start(env, *arguments)
    wait.until(lambda: int(target.stats()["cmd_set"]) > count + 200, "some keys")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    asked = int(target.stats()["cmd_set"]) - count
    found = warm(env, *SETTLE, "--resume", resume, source, target)
    assert found["present"] > count - asked - 5000, (asked, found)
    there = target.tell(b"".join(b"mg key:%d v\r\n" % n for n in range(count)))
    assert sum(line.startswith(b"src") for line in there) < asked + 5000


@case(command=("warm", "verify", "verify a sample"))
def servers_that_close_what_is_idle(env, command):
    """While it settles, too."""
    idle = ("-o", "idle_timeout=1")
    source, target = (env.memcached(*idle, address="127.0.0.1") for _ in range(2))
    source.fill(100)
    target.tell(store(b"extra", b"v"))
    if command == "warm":
        assert warm(env, "--settle", "4", "--repair", "--delete-extra", source, target)["deleted"] == 1
        return
    arguments = ["verify", *PATIENT, "--json", "--settle", "4", source, target]
    result = env.run(*arguments, *(() if "sample" in command else ("--all",)))
    assert result.code == 3 and result.json()["missing"] == 100, result


@case()
def a_target_that_is_flushed(env):
    source, target = env.pair()
    source.fill(1000)
    process = start(env, "--settle", "1", source, target)
    wait.until(lambda: items(target) == 1000, "the copies", interval=0.01)
    target.tell(b"flush_all\r\n")
    out, err = process.communicate(timeout=wait.patience(60))
    assert process.returncode == 3 and "flush_all" in out, (out, err)


@case()
def a_flush_of_both_is_the_clients(env):
    source, target = env.pair()
    source.fill(1000)
    process = start(env, "--settle", "1", source, target)
    wait.until(lambda: items(target) == 1000, "the copies", interval=0.01)
    target.tell(b"flush_all\r\n")
    source.tell(b"flush_all\r\n")
    out, err = process.communicate(timeout=wait.patience(60))
    assert "flush_all" not in out, (out, err)


@case()
def two_at_once_by_two_names(env):
    """The first address of a name need not be the one that answers."""
    source, target = env.memcached(), env.memcached(address="127.0.0.1")
    source.fill(20_000)
    hosts = env.path("hosts")
    with open(hosts, "w", encoding="ascii") as file:
        file.write("::1 localhost\n127.0.0.1 localhost\n")
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
    try:
        process = start(env, *SETTLE, "--rate", "5000", source, target)
        wait.until(lambda: items(target) > 0, "the first copies")
        second = env.run("warm", source, target.where.replace("127.0.0.1", "localhost"), tmpdir=env.directory)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=wait.patience(30))
    finally:
        subprocess.run(["umount", "/etc/hosts"], check=True)
    assert second.code == 1 and f"process {process.pid}" in second.stderr, second


@case(command=("warm", "verify"))
def a_disk_that_is_full(env, command):
    """A part of a list is of no use: the disk is not left full of it."""
    source, target = env.pair()
    source.fill(20_000)
    disk = env.path("disk")
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=True)
    try:
        more = ("--all",) if command == "verify" else ()
        result = env.run(command, *PATIENT, *more, "--resume", f"{disk}/resume", source, target)
        left = os.listdir(disk)
    finally:
        subprocess.run(["umount", disk], check=True)
    assert result.code == 1 and "No space left" in result.stderr and not left, (result, left)


@case(other=("resume", "./resume", "link", "resume.source"))
def one_file_for_two_things(env, other):
    source, target = env.pair()
    source.fill(10)
    resume, names = env.path("resume"), env.path(other)
    if other == "link":
        os.symlink(resume, names)
    result = env.run("verify", "--all", "--settle", "0.2", "--list", names, "--resume", resume, source, target)
    assert result.code == 2 and "one file" in result.stderr, result
    assert not os.path.exists(resume), "it has begun"
