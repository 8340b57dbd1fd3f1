# SPDX-License-Identifier: Apache-2.0
"""The keeper as a service: what it waits for, and what nobody waits for meanwhile."""

import fcntl
import os
import time

from harness import MODES, case
from lab import tcp, wait
from lab.keeper import Keeper

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
