# SPDX-License-Identifier: Apache-2.0
"""Several targets of a mapping, each for itself."""

import os
import signal

from harness import case
from lab import mirror, wait
from lab.keeper import File, Keeper
from lab.load import checked
from lab.memcached import Server
from lab.wait import amount

IP = ("v4", "v6")
SECOND, NOBODY = 11212, 11299  # ports of the target's host
CONNECTIONS = 64


def nobody(scene):
    """An address of the network that no host has."""
    address = scene.lab.target.address
    return address.rsplit(":", 1)[0] + ":99" if ":" in address else address.rsplit(".", 1)[0] + ".99"


def target(scene, port=11211, **more):
    return {"address": scene.lab.target.address, "port": port, **more}


def mapping(targets, **more):
    return {"name": "data", "device": "eth0", "ports": 11211, "targets": targets, **more}


def attach(scene, targets, mapped=None, **settings):
    file = File(scene)
    file.write(mapping(targets, **(mapped or {})), **settings)
    keeper = Keeper(scene, "--config", file.path)
    scene.kept = (keeper, file)
    return file, keeper


def rows(scene):
    """What the ledger says of each target, in their order."""
    return scene.doppel.counters()["mappings"][0]["targets"]


def whole(row, sent):
    return row["bytes"] == {"observed": sent, "delivered": sent, "in_flight": 0, "lost": 0, "excluded": 0}


@case(slow=True, store=("large", "small"), families=IP)
def others_are_down(env, store):
    """One of five targets runs. One is stopped, one refuses, of one the host is gone, one is killed in between:
    the first has all at once. What waits for the stopped one arrives when it goes on, or is counted."""
    scene = env.scene()
    second = Server(scene.lab.target, SECOND)
    third = Server(scene.lab.target, SECOND + 1)
    limits = {"store": "8MiB"} if store == "small" else {"store": "256MiB"}
    attach(scene, [target(scene), target(scene, SECOND), target(scene, NOBODY),
                   {"address": nobody(scene), "port": 11211}, target(scene, SECOND + 1)], **limits)
    # Buffers of the stopped one take a few hundred KiB of each connection.
    count = amount(20000, least=8000)
    load = scene.start("sets", connections=CONNECTIONS, count=count, smallest=200, largest=8000, rate=amount(3000))
    with mirror.Sampler(scene):
        wait.until(lambda: second.stats()["cmd_set"] > count / 20, "a part to arrive", 20)
        os.kill(second.process.pid, signal.SIGSTOP)
        wait.until(lambda: scene.target[0].stats()["cmd_set"] > count / 4, "more to arrive", 30)
        third.kill()
        sent = checked(load.result())["sent"]
        # No time is left for anything that is not there already: the others are down still.
        wait.until(lambda: whole(rows(scene)[0], sent), "the first target to be complete", 10)
        scene.assert_same(keys=count)
        if store == "large":
            assert rows(scene)[1]["bytes"]["in_flight"], rows(scene)[1]["bytes"]
        os.kill(second.process.pid, signal.SIGCONT)
        # The shadows toward the host that is gone try for a while yet.
        wait.until(lambda: not rows(scene)[1]["bytes"]["in_flight"], "the stopped one to take what waits", 60)
    found = rows(scene)
    assert whole(found[0], sent), found[0]
    assert [row["bytes"]["observed"] for row in found] == [sent] * 5, [row["bytes"] for row in found]
    print(f"      stopped: lost {found[1]['bytes']['lost']}, excluded {found[1]['bytes']['excluded']} of {sent}")
    if store == "large":
        assert whole(found[1], sent), found[1]
    else:
        assert found[1]["lost"]["store_full"], found[1]["lost"]
    for row in found[2:4]:
        assert row["bytes"]["delivered"] == 0, row["bytes"]
