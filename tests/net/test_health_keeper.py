# SPDX-License-Identifier: Apache-2.0
"""What `doppel status` says where the keeper, or whoever attaches, is not at work as it should be, or just now."""

import fcntl
import os
import resource
import signal
import subprocess
import time

from harness import case
from lab import doppel, tcp, wait
from lab.freezer import Freezer
from lab.keeper import Keeper
from patient import HOW, KEEPER, STOPPED, WITHIN, Patient
from test_client_net import connect
from test_clock import say


@case(slow=True)
def keeper_killed(env):
    p = Patient(env, "run")
    said = p.scene.doppel.status()["keeper"]
    assert said["alive"] and said["expected"] and said["pid"] == p.keeper.pid, said
    p.keeper.kill()
    p.falls_ill({"keeper"}, KEEPER)
    p.keeper.start("adopted")
    p.recovers({"keeper"})


@case(when=("at once", "later"), slow=True)
def keeper_stopped(env, when):
    """Also before it has said anything."""
    scene = env.scene()
    keeper = Keeper(scene, *scene.mapping(), ready=None)
    while "attached by" not in keeper.said():
        assert keeper.process.poll() is None, keeper.said()
    if when == "later":
        wait.until(lambda: scene.doppel.status()["keeper"]["since"], "its first word")
    keeper.signal(signal.SIGSTOP)
    try:
        said = wait.until(lambda: scene.doppel.health()[0] == KEEPER and scene.doppel.status(),
                          "a stopped keeper to be told", WITHIN, 0.1)
        assert f"process {keeper.pid}) does nothing" in said["problems"][0]["what"], said
    finally:
        keeper.signal(signal.SIGCONT)
    wait.until(lambda: scene.doppel.health()[0] == 0, "it to be over", WITHIN, 0.1)
    keeper.stop()


@case(free=(0, 1, 2), slow=True)
def keeper_sees_nothing(env, free):
    """It has descriptors for its word, and not for a look: what it saw before is not how the mirror is."""
    p = Patient(env, "run", load=None)
    p.keeper.come_to_rest()
    client = p.client()
    before = resource.prlimit(p.keeper.pid, resource.RLIMIT_NOFILE)
    limit = max(int(fd) for fd in os.listdir(f"/proc/{p.keeper.pid}/fd")) + 1 + free
    resource.prlimit(p.keeper.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    cut = p.is_cut(client, others=(STOPPED,))
    p.until(lambda: p.lines("warning: ", "cannot see how the mirror fares"), "the keeper to say so")
    p.scene.lab.heal(cut)
    p.until(lambda: "silent" not in p.told(), "it to be over")
    assert "keeper" in p.told(), p.scene.doppel.status()
    resource.prlimit(p.keeper.pid, resource.RLIMIT_NOFILE, before)
    p.until(lambda: "keeper" not in p.told(), "the keeper to see again")
    p.logged("cannot see how the mirror fares")
    client.close()


@case(slow=True)
def keeper_frozen(env):
    """By its cgroup, which is not to be seen in its state."""
    p = Patient(env, "run", load=None)
    client = p.client()
    with Freezer(p.scene.lab.source, p.keeper.pid) as freezer:
        freezer.set(True)
        cut = p.is_cut(client, others=(STOPPED,))
        p.scene.lab.heal(cut)
        p.recovers({"silent"})
        freezer.set(False)
    p.well()
    client.close()


@case(slow=True)
def silence_is_told_when_the_keeper_goes_on(env):
    """What it saw before it was stopped makes nobody well."""
    p = Patient(env, "run", load=None)
    client = p.client()
    p.keeper.come_to_rest()
    p.keeper.signal(signal.SIGSTOP)
    cut = p.is_cut(client, others=(KEEPER,))
    p.keeper.signal(signal.SIGCONT)
    end = time.monotonic() + 8
    while time.monotonic() < end:
        assert "silent" in p.told(), p.scene.doppel.status()
    p.until(lambda: p.lines("warning: ", "acknowledges nothing: "), "the keeper to say so")
    p.scene.lab.heal(cut)
    p.well(within=40)  # the timeout has doubled for as long as this took
    client.close()


@case(slow=True)
def silence_is_told_while_a_reload_drains(env):
    """A keeper that ends the shadows of a removed mapping, whose target has stopped, sees what becomes of another."""
    p = Patient(env, "run", load=None, scene=env.scene(ports=(11211, 11212)), keeper=("--drain", "25s"))
    p.file.write(("data", 11211), ("goes", 11212))
    p.keeper.reload("added goes")
    stays, goes = connect(p.scene), tcp.connect(p.scene.lab.client, p.scene.lab.source.address, 11212)
    for client in (stays, goes):
        say(client, b"one")
    p.scene.doppel.wait_idle()
    os.kill(p.scene.target[1].process.pid, signal.SIGSTOP)
    try:
        for turn in range(20):
            say(goes, b"large%d" % turn, 300_000)
        p.file.write(("data", 11211))
        p.keeper.signal(signal.SIGHUP)
        p.until(lambda: [m["name"] for m in p.scene.doppel.counters()["mappings"]] == ["data", "goes (going)"],
                "goes to be removed")
        cut = p.is_cut(stays)
        assert "removed goes" not in p.keeper.said(), "the reload was over"
    finally:
        os.kill(p.scene.target[1].process.pid, signal.SIGCONT)
    p.scene.lab.heal(cut)
    p.recovers({"silent"})
    for client in (stays, goes):
        client.close()


def quietly(host, *arguments):
    return host.popen([doppel.binary(), *arguments], stdout=subprocess.DEVNULL)


@case(how=HOW)
def attach_is_under_way(env, how):
    """What it has made so far is no remains, and neither is what a detach has not removed yet."""
    scene = env.scene()
    told = set()

    def look():
        code, said = scene.doppel.health()
        told.update((code, problem["what"]) for problem in said["problems"] if problem["class"] == "remains")
        return code
    assert look() == 3
    for _ in range(3):
        if how == "run":
            keeper = Keeper(scene, *scene.mapping(), ready=None)
        else:
            attach = quietly(scene.lab.source, "attach", *scene.mapping())
        wait.until(lambda: look() == 0, "it to be attached", 20, 0)
        if how == "run":
            keeper.signal(signal.SIGTERM)
        else:
            assert attach.wait(wait.patience(10)) == 0
            detach = quietly(scene.lab.source, "detach")
        wait.until(lambda: look() == 3, "it to be detached", 20, 0)
        if how == "run":
            keeper.ended(0)
        else:
            assert detach.wait(wait.patience(10)) == 0
    assert not told, told


@case()
def remains_of_who_is_at_work(env):
    """Whoever takes longer than status waits is no interrupted one: there is nothing to be removed."""
    scene = env.scene()
    source = scene.lab.source
    top = source.root("/sys/fs/bpf/doppel")
    os.mkdir(top, 0o700)
    source.run(["ip", "link", "add", "doppel0", "type", "veth", "peer", "doppel1"])
    source.run(["ip", "link", "set", "doppel0", "alias", "doppel"])
    lock = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    code, said = scene.doppel.health()
    assert code == STOPPED and len(said["problems"]) == 1, said
    assert "attaching or detaching right now" in said["problems"][0]["what"], said
    assert "doppel detach" not in said["problems"][0]["do"], said
    os.close(lock)
    code, said = scene.doppel.health()
    assert code == STOPPED and "there are remains" in said["problems"][0]["what"], said
    scene.doppel.detach()
    assert scene.doppel.health()[0] == 3, scene.doppel.health()


@case()
def keeper_is_not_missed(env):
    """By a mirror that nobody keeps, and once another has detached it."""
    p = Patient(env, "attach", load=None)
    said = p.scene.doppel.status()["keeper"]
    assert not said["alive"] and not said["expected"] and said["pid"] is None, said
    p.scene.doppel.detach()
    assert p.scene.doppel.health()[0] == 3, p.scene.doppel.health()
