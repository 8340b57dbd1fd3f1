# SPDX-License-Identifier: Apache-2.0
"""What warm and verify leave alone, and what they must not call a change."""

import os
import signal
import subprocess

from lab import wait

from harness import case
from relay import Relay
from servers import store
from test_warm import PATIENT, SETTLE, items, start


@case()
def a_narrow_way_to_the_target_of_verify(env):
    """What the source answers seconds before the target ends at the same time all the same."""
    servers = source, target = env.memcached(), env.memcached(address="127.0.0.1")
    key = b"long" * 50 + b"%d"  # a server answers what it has read at once
    for server in servers:
        server.tell(b"".join(store(key % n, b"v" * 10_000, ttl=1000) for n in range(1100)))
    relay = Relay(target, 800_000)
    result = env.run("verify", *PATIENT, "--all", "--json", "--settle", "0.2", source, relay)
    relay.close()
    assert result.code == 0 and not result.json()["ttl"], result
    target.tell(b"touch %s 1020\r\n" % (key % 7))
    result = env.run("verify", *PATIENT, "--all", "--json", "--settle", "0.2", source, target)
    assert result.code == 3 and result.json()["ttl"] == 1, result


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
