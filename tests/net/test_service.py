# SPDX-License-Identifier: Apache-2.0
"""The keeper as a service: what it waits for, and what nobody waits for meanwhile."""

import fcntl
import os
import socket
import tempfile
import time

from harness import MODES, case
from lab import snapshot, tcp, wait
from lab.keeper import File, Keeper, unit_capabilities
from lab.load import checked
from lab.service import Service
from lab.wait import amount

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


@case(mode=MODES)
def restart_hands_the_mirror_over(env, mode):
    """`systemctl restart` under 1,000 sets a second: nothing is missing, and the ledger goes on. `stop` ends it."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    service = Service(scene, File(scene, ("data", 11211)))
    load = scene.start("sets", connections=20, count=1_000_000, rate=amount(1000))
    for _ in range(3):
        enough = scene.target[0].stats()["cmd_set"] + amount(1000)
        wait.until(lambda: scene.target[0].stats()["cmd_set"] > enough, "a part of the load to arrive", 20)
        service.restart("adopted")
    assert load.running(), "the load is over"
    result = checked(load.end())
    scene.assert_all_delivered(result["sent"])
    scene.assert_same(keys=result["commands"])
    assert scene.doppel.ledger()["flows"]["joined"] == 0
    service.stop()
    changes = snapshot.changes(before, snapshot.take(scene.lab.source))
    assert not changes, "\n".join(changes)


class Notices:
    """What the keeper tells systemd (sd_notify)."""

    def __init__(self):
        self.where = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.where.name, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(wait.patience(10))

    def hear(self, start, words):
        """Until a line that starts so has these words; returns all up to there."""
        heard = []
        while not any(line.startswith(start) and words in line for line in heard):
            heard += self.socket.recv(4096).decode().splitlines()
        return heard


@case(mode=MODES[:1])
def waits_for_a_late_network(env, mode):
    """No device, then no route: it says what it waits for, and mirrors when all is there."""
    scene = env.scene()
    source = scene.lab.source
    file = File(scene, {**File(scene).mapping("data", 11211), "device": "late0"})
    notices = Notices()
    service = Service(scene, file, ready="waiting: ", env={"NOTIFY_SOCKET": notices.path})
    heard = notices.hear("READY=1", "")
    assert any(line.startswith("STATUS=Nothing is mirrored yet; waiting: ") and "late0" in line
               for line in heard), heard
    scene.lab.source.run(["ip", "route", "add", "blackhole", f"{scene.lab.target.address}/32"])
    source.run(["ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1"])
    notices.hear("STATUS=", f"no route to the target {scene.lab.target.address}")
    source.run(["ip", "route", "del", "blackhole", f"{scene.lab.target.address}/32"])
    service.keeper.wait_for("attached by")
    notices.hear("STATUS=", "Mirroring 1 mapping")
    service.stop()


@case(mode=MODES[:1])
def mirrors_what_it_can_meanwhile(env, mode):
    """One of two mappings has its device: that one is mirrored, and the other when it comes."""
    scene = env.scene()
    file = File(scene)
    file.write(("data", 11211), {**file.mapping("late", 11212), "device": "late0"})
    service = Service(scene, file)
    scene.assert_all_delivered(scene.load("sets", connections=4, count=100)["sent"])
    scene.lab.source.run(["ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1"])
    service.keeper.wait_for("added late")
    service.stop()


@case(mode=MODES[:1])
def is_stopped_while_it_waits(env, mode):
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    file = File(scene, {**File(scene).mapping("data", 11211), "device": "late0"})
    service = Service(scene, file, ready="waiting: ")
    service.restart("waiting: ")
    service.stop()
    changes = snapshot.changes(before, snapshot.take(scene.lab.source))
    assert not changes, "\n".join(changes)
    refused = scene.doppel.run("run", "--config", file.path, check=False)
    assert refused.returncode == 1 and "late0" in refused.stderr, refused


def pretend_another_version(scene):
    """As after an upgrade that raised DP_ABI: the pins of what is attached are those of v0. What a device of
    that version says of its pins may be anything."""
    scene.lab.source.run(["ip", "link", "set", "doppel0", "alias", "doppel"])
    top = scene.lab.source.root(TOP)
    own = next(name for name in os.listdir(top) if name.startswith("v"))
    os.rename(os.path.join(top, own), os.path.join(top, "v0"))


@case(mode=MODES)
def mirror_of_another_version_is_ended(env, mode):
    """Only by --force: drained in order, and nothing is left."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    scene.attach()
    client = Setter(scene)
    client.set("a", "b")
    scene.doppel.wait_idle()
    pretend_another_version(scene)
    for refused in (scene.doppel.detach(check=False), scene.doppel.attach(*scene.mapping(), check=False),
                    scene.doppel.run("status", check=False)):
        assert "doppel detach --force" in refused.stdout + refused.stderr, refused
        assert "mount namespace" not in refused.stdout + refused.stderr, refused
    wait.until(lambda: scene.target[0].stats()["curr_connections"] >= 2, "the shadow at the target")
    said = scene.doppel.run("detach", "--force").stdout
    assert "1 shadows closed, 0 reset" in said, said
    changes = snapshot.changes(before, snapshot.take(scene.lab.source))
    assert not changes, "\n".join(changes)
    client.close()
    scene.assert_harmless()


@case(mode=MODES)
def mirror_of_another_version_is_taken_over(env, mode):
    """A service that was upgraded: drains what the former doppel left, and mirrors."""
    scene = env.scene()
    service = Service(scene, File(scene, ("data", 11211)), under=[
        "setpriv", "--no-new-privs", "--bounding-set", unit_capabilities()])
    client = Setter(scene)
    client.set("a")
    scene.doppel.wait_idle()
    service.leave()
    pretend_another_version(scene)
    service.keeper.start()
    assert '"v0"' in service.keeper.said(), service.keeper.said()
    assert "ended it: 1 shadows closed, 0 reset" in service.keeper.said(), service.keeper.said()
    scene.load("sets", connections=8, count=300)
    wait.until(lambda: scene.target[0].stats()["cmd_set"] >= 301, "the load to arrive")
    client.close()
    service.stop()
