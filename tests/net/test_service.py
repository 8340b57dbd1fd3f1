# SPDX-License-Identifier: Apache-2.0
"""The keeper as a service: what it waits for, and what nobody waits for meanwhile."""

import fcntl
import os
import time

from harness import MODES, case
from lab import tcp, wait
from lab.keeper import File, Keeper

TOP = "/sys/fs/bpf/doppel"  # the directory whose lock guards changes of the data plane


class Setter:
    """A client with one connection that stores one key after the other."""

    def __init__(self, scene, port=11211):
        self.socket = tcp.connect(scene.lab.client, scene.lab.source.address, port)

    def set(self, *keys):
        for key in keys:
            self.socket.sendall(b"set %s 0 0 1\r\nx\r\n" % key.encode())
            assert tcp.read_lines(self.socket, 1) == b"STORED\r\n", key

    def close(self):
        self.socket.close()


def has_open(pid, fd):
    """Whether the process has that file of ours open as well."""
    ours = os.fstat(fd)
    for theirs in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.path.samestat(ours, os.stat(f"/proc/{pid}/fd/{theirs}")):
                return True
        except FileNotFoundError:
            pass  # closed meanwhile, or no file
    return False


@case(mode=MODES[:1])
def resends_while_another_holds_the_lock(env, mode):
    """Its review waits for who is changing the data plane; a lost segment does not."""
    scene = env.scene()
    keeper = Keeper(scene, *scene.mapping())
    client = Setter(scene)
    client.set("a", "b", "c", "d", "e")
    scene.doppel.wait_idle()
    lock = os.open(scene.lab.source.root(TOP), os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        scene.lab.source.run(["ip", "address", "add", "10.99.0.1/32", "dev", "eth0"])
        wait.until(lambda: has_open(keeper.pid, lock), "the keeper's review to wait for the lock")
        table = scene.lab.lose("source", "target", 1000)
        client.set("lost")
        scene.lab.heal(table)
        begin = time.monotonic()
        wait.until(lambda: scene.target[0].stats()["cmd_set"] == 6, "the lost set to arrive", 2.5)
        assert has_open(keeper.pid, lock), f"no wait any more after {time.monotonic() - begin:.1f} s"
    finally:
        os.close(lock)
    client.close()
    keeper.stop()


@case(mode=MODES[:1])
def reload_of_a_file_full_of_errors(env, mode):
    """The answer comes at once, with as many of them as fit, and the next reload works."""
    scene = env.scene(ports=(11211, 11212))
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path)
    file.write(("data", 11211), **{f"unknown{n}": n for n in range(1500)})
    begin = time.monotonic()
    done = scene.doppel.run("reload", check=False)
    assert time.monotonic() - begin < wait.patience(15), f"after {time.monotonic() - begin:.1f} s"
    assert done.returncode == 2 and "unknown0" in done.stderr, done
    assert "1500 errors in all" in done.stderr, done.stderr[-400:]
    assert f"doppel check --config {file.path}" in done.stderr, done.stderr[-400:]
    file.write(("data", 11211), ("more", 11212))
    assert "added more" in scene.doppel.run("reload").stdout
    keeper.stop()
