# SPDX-License-Identifier: Apache-2.0
"""`doppel warm` beside a mirror, while clients set, delete, count, append and touch what it copies: afterwards the
target has what the source has, and nothing that the source deleted."""

import json
import os
import signal
import subprocess
import tempfile

from harness import case
from lab import doppel, memcached, tcp, wait
from lab.churn import Churn
from lab.keeper import File, Keeper, keep
from lab.wait import amount

KEYS = amount(20000)
TTL_SLACK = 2  # s, as `doppel verify` has it

RESET = """
table ip away {
  chain input {
    type filter hook input priority 0; policy accept;
    tcp dport 11211 reject with tcp reset
  }
}
"""


def warm(scene, *options, codes=(0,), port=11211):
    """What `warm --json` says; run on the source, as an operator would. 3: it gave some keys up."""
    done = scene.doppel.run("warm", f"{scene.lab.source.address}:{port}", f"{scene.lab.target.address}:{port}",
                            "--json", *options, check=False, timeout=120)
    assert done.returncode in codes, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout), done.stderr


def ends(server, keys):
    """{key: seconds that remain, -1: for ever}"""
    keys, found = sorted(keys), {}
    with server.admin() as admin:
        for at in range(0, len(keys), 500):
            chosen = keys[at:at + 500]
            admin.socket.sendall(b"".join(b"mg %s t u\r\n" % key for key in chosen))
            for key in chosen:
                line = admin.reader.readline().split()
                if line[0] == b"HD":
                    found[key] = int(line[1][1:])
    return found


def assert_nothing_wrong(scene):
    """No key on the target that the source has not, or has otherwise. Returns how many are missing there."""
    source, target = scene.source[0].contents(), scene.target[0].contents()
    wrong = memcached.differences(source, target)
    assert all("missing" in sentence for sentence in wrong), wrong
    here, there = ends(scene.source[0], target), ends(scene.target[0], target)
    off = {key: (here[key], there[key]) for key in there
           if abs(here[key] - there[key]) > TTL_SLACK or (here[key] < 0) != (there[key] < 0)}
    assert not off, f"{len(off)} keys end at another time: {list(off.items())[:3]}"
    return len(source) - len(target)


def assert_same(scene):
    assert assert_nothing_wrong(scene) == 0
    scene.doppel.run("verify", "--all", f"{scene.lab.source.address}:11211", f"{scene.lab.target.address}:11211")


def churned(env, per_mille, rate=400):
    scene = env.scene()
    scene.source[0].preload(KEYS)
    keeper = keep(scene)
    tables = [scene.lab.lose("source", "target", per_mille)] if per_mille else []
    churn = Churn(scene.lab, keys=KEYS, rate=rate)
    said, warned = warm(scene, "--settle", "0.5", "--rate", amount(4000), codes=(0, 3))
    assert "no mirror" not in warned, warned
    churn.assert_going_on()
    assert churn.end() > 0
    for table in tables:
        scene.lab.heal(table)
    scene.doppel.wait_idle()
    return scene, keeper, said


@case(slow=True, per_mille=(0, 10))
def under_load(env, per_mille):
    """On a good path, and where one packet in a hundred to the target is lost."""
    scene, _, said = churned(env, per_mille)
    assert said["added"] > KEYS / 2, said
    came_to = sum(said[what] for what in ("added", "present", "undone", "gone"))
    assert said["keys"] == came_to and not said["failed"] and not said["evicting"], said
    assert assert_nothing_wrong(scene) <= said["undone"], said
    warm(scene)  # what was given up, now that nobody writes
    assert_same(scene)
    assert not scene.doppel.ledger()["bytes"]["lost"]


@case()
def a_range_of_ports(env):
    """Each port of a mapping has its own on the target: the barrier finds the right one."""
    scene = env.scene(ports=(11211, 11212))
    for server in scene.source:
        server.preload(100)
    scene.attach()
    for port in scene.ports:
        said, warned = warm(scene, "--settle", "0.2", port=port)
        assert said["added"] == 100 and "no mirror" not in warned, (said, warned)
    scene.assert_same(keys=100)


@case(how=("ends", "reload", "away for a moment", "anew"))
def a_mirror_that_ends_meanwhile(env, how):
    """Nothing of what clients do reaches the target from then on: warm does not go on as if it did."""
    scene = env.scene()
    scene.source[0].preload(KEYS)
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path)
    source, target = (f"{host.address}:11211" for host in (scene.lab.source, scene.lab.target))
    warming = scene.lab.source.popen([doppel.binary(), "warm", "--rate", str(amount(2000)), source, target],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait.until(lambda: int(scene.target[0].stats()["curr_items"]) > 100, "the first to be copied")
    if how in ("reload", "away for a moment"):
        file.write(("other", 11212))
        keeper.reload("added other; removed data")
    else:
        keeper.stop()
    if how == "away for a moment":
        file.write(("data", 11211))
        keeper.reload("added data; removed other")
    if how == "anew":
        scene.attach()
    _, err = warming.communicate(timeout=wait.patience(60))
    assert warming.returncode == 1, (warming.returncode, err)
    assert ("lost the mapping" if how in ("reload", "away for a moment") else "ended, or was attached anew") in err, err
    assert int(scene.target[0].stats()["curr_items"]) < KEYS


@case()
def not_from_the_mirrors_target_to_its_source(env):
    """Typed the wrong way round it would delete what clients use."""
    scene = env.scene()
    scene.source[0].preload(900)
    scene.attach()
    target = f"{scene.lab.target.address}:11211"
    for source in (f"{scene.lab.source.address}:11211", "127.0.0.1:11211"):
        for options in ((), ("--repair", "--delete-extra")):
            done = scene.doppel.run("warm", *options, target, source, check=False)
            assert done.returncode == 1 and "is the source of the mapping" in done.stderr, done
            assert "doppel detach first" in done.stderr, done
    assert int(scene.source[0].stats()["curr_items"]) == 900
    scene.doppel.detach()
    scene.doppel.run("warm", target, f"{scene.lab.source.address}:11211")


class Halved:
    """A warm with --resume that was interrupted halfway; `names`: what it has copied and confirmed."""

    def __init__(self, scene, directory):
        self.file = os.path.join(directory, "resume")
        source, target = (f"{host.address}:11211" for host in (scene.lab.source, scene.lab.target))
        self.scene = scene
        self.arguments = ("warm", "--json", "--settle", "0.5", "--resume", self.file, source, target)
        process = scene.lab.source.popen([doppel.binary(), *self.arguments, "--rate", str(amount(2000))],
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait.until(lambda: int(scene.target[0].stats()["curr_items"]) > 100, "the first to be copied")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=wait.patience(60))
        assert process.returncode == 3, (process.returncode, err)
        self.names = sorted(scene.target[0].contents())

    def delete_some(self, client):
        client.sendall(b"".join(b"delete %s\r\n" % name for name in self.names[:50]))
        assert tcp.read_lines(client, 50) == b"DELETED\r\n" * 50

    def again(self):
        return self.scene.doppel.run(*self.arguments, check=False, timeout=120)


@case(how=("anew", "gone", "away for a moment", "seen now"))
def a_mirror_that_is_another_when_a_warm_is_taken_up(env, how):
    """What clients deleted between the two runs is on the target, and the second does not end as if it were not."""
    scene = env.scene()
    scene.source[0].preload(amount(4000))
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path) if how != "seen now" else None
    with tempfile.TemporaryDirectory() as directory:
        halved = Halved(scene, directory)
        if how == "away for a moment":
            file.write(("other", 11212))
            keeper.reload("added other; removed data")
        elif keeper:
            keeper.stop()
        with tcp.connect(scene.lab.client, scene.lab.source.address, 11211) as client:
            halved.delete_some(client)
        if how == "away for a moment":
            file.write(("data", 11211))
            keeper.reload("added data; removed other")
        elif how != "gone":
            scene.attach()
        done = halved.again()
        why = {"anew": "ended, or was attached anew", "gone": "nothing is seen now",
               "away for a moment": f"lost the mapping to {scene.lab.target.address}:11211", "seen now": "now there is one"}[how]
        assert done.returncode == 1 and why in done.stderr and halved.file in done.stderr, done
        assert "remove it, warm anew" in done.stderr and "--delete-extra" in done.stderr, done
        os.unlink(halved.file)
        warm(scene, "--repair", "--delete-extra", "--settle", "0.5")
    assert_same(scene)


@case()
def bytes_that_are_lost_before_a_warm_is_taken_up(env):
    """They count as those do that are lost while it runs."""
    scene = env.scene()
    scene.source[0].preload(amount(4000))
    scene.attach()
    with tcp.connect(scene.lab.client, scene.lab.source.address, 11211) as client, \
            tempfile.TemporaryDirectory() as directory:
        client.sendall(b"mn\r\n")
        tcp.read_lines(client, 1)
        halved = Halved(scene, directory)
        scene.lab.target.run(["nft", "-f", "-"], stdin=RESET)
        halved.delete_some(client)
        wait.until(lambda: scene.doppel.ledger()["bytes"]["lost"], "the deletes to be lost")
        scene.lab.target.run(["nft", "delete", "table", "ip", "away"])
        scene.doppel.wait_idle()
        done = halved.again()
        lost = scene.doppel.ledger()["bytes"]["lost"]
        assert done.returncode == 0 and json.loads(done.stdout)["missed_bytes"] == lost > 0, (done, lost)
