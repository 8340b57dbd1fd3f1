# SPDX-License-Identifier: Apache-2.0
"""`doppel status` is the one answer to "is it healthy?": each thing that can go wrong is told within ten seconds
with an exit code of its own, and is over when it is over; the keeper logs it once when it comes and when it goes.
Here: the host, and what is scarce. Targets and keepers have files of their own."""

import struct

from harness import case
from lab import bpf, snapshot
from patient import HOW, SCARCE, STOPPED, TARGET, Patient
from test_client_net import connect
from test_clock import say


@case(how=HOW)
def device_down(env, how):
    p = Patient(env, how, load=None)
    source = p.scene.lab.source
    source.run(["ip", "link", "set", "eth0", "down"])
    problem = p.falls_ill({"device"}, STOPPED, words="device eth0 is down")
    assert problem["do"] == "ip link set eth0 up", problem
    source.run(["ip", "link", "set", "eth0", "up"])
    p.recovers({"device", "host", "neighbour"})
    p.logged("device eth0 is down")
    p.scene.lab.switch.run(["ip", "link", "set", "source", "down"])
    problem = p.falls_ill({"device"}, STOPPED)
    assert "carrier" in problem["what"], problem
    p.scene.lab.switch.run(["ip", "link", "set", "source", "up"])
    p.recovers({"device"})


@case()
def route_gone(env):
    """What the keeper alone can know."""
    p = Patient(env, "run", load=None)
    target = f"{p.scene.lab.target.address}/32"
    p.scene.lab.source.run(["ip", "route", "add", "unreachable", target])
    problem = p.falls_ill({"host"}, STOPPED)
    assert "no route to the target" in problem["what"], problem
    p.scene.lab.source.run(["ip", "route", "del", "unreachable", target])
    p.recovers({"host"})
    p.logged("no route to the target")


@case(how=HOW, slow=True)
def store_nearly_full(env, how):
    p = Patient(env, how, load={"smallest": 2000, "largest": 2000, "connections": 100}, store="1MiB")
    p.scene.lab.unplug("target")
    p.falls_ill({"store"}, SCARCE, others=(TARGET,))
    p.scene.lab.plug("target")
    p.recovers({"store", "silent", "slow"})


@case(how=HOW)
def one_client_takes_all_ports(env, how):
    """As many as one gets: some are left for others, and its connections beyond are not mirrored."""
    p = Patient(env, how, load=None, shadow_ports="20000-20255")
    clients = [connect(p.scene) for _ in range(300)]
    for client in clients:
        say(client, b"one")
    p.falls_ill({"ports"}, SCARCE)
    assert p.scene.doppel.ledger()["excluded"]["ports_exhausted"] > 0, p.scene.doppel.ledger()
    for client in clients:
        client.close()
    p.until(lambda: not [x for x in p.scene.doppel.status()["problems"] if x["class"] == "ports"],
            "ports to be free again")


@case()
def paused(env):
    """A keeper would end it by itself: it comes of a detach that was interrupted."""
    p = Patient(env, "attach", load=None)
    control = p.scene.lab.source.root("/sys/fs/bpf" + next(
        path for path in snapshot.pins(p.scene.lab.source) if path.endswith("/maps/control")))
    bpf.update(control, struct.pack("=I", 0), struct.pack("=II", 1, 0))
    p.falls_ill({"paused"}, STOPPED, words="the mirror is paused")
    bpf.update(control, struct.pack("=I", 0), struct.pack("=II", 0, 0))
    p.recovers({"paused"})


@case(how=HOW)
def loss_is_told(env, how):
    """Reason and time of the last loss; some seconds later it is history."""
    p = Patient(env, how)
    assert p.state()["last_loss"] is None, p.state()
    p.scene.target[0].kill()
    p.falls_ill({"loss"}, SCARCE, others=(TARGET,))
    state = p.state()
    assert state["last_loss"]["reason"].startswith("target_") and state["lost"] > 0, state
    if how == "run":
        assert p.until(lambda: p.state()["lost_in_a_minute"], "the keeper to count it") > 0
    row = p.scene.doppel.counters()["mappings"][0]["targets"][0]
    assert row["last_loss"]["reason"].startswith("target_") and row["last"]["refused"], row
    p.scene.start_target()
    p.recovers({"refusing", "silent"})
    assert p.state()["lost"] >= state["lost"], p.state()
