# SPDX-License-Identifier: Apache-2.0
"""`doppel status` is the one answer to "is it healthy?": each thing that can go wrong is told within ten seconds
with an exit code of its own, and is over when it is over; the keeper logs it once when it comes and when it goes."""

import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
import time

from harness import case
from lab import bpf, doppel, shape, snapshot, tcp, wait
from lab.freezer import Freezer
from lab.keeper import File, Keeper
from lab.relay import Relay
from lab.traffic import set_command
from lab.wait import amount
from test_client_net import connect, stored
from test_clock import say

WITHIN = 10.0  # s
HOW = ("attach", "run")
STOPPED, TARGET, KEEPER, SCARCE = 4, 5, 6, 7  # include/doppel/exits.def


class Patient:
    """A mirror, and what `status` says of it. `load`: options of the load that it is under; None: it is idle.
    `mapping`: keys of its mapping that are others. `more`: mappings beside it. `keeper`: more options of `run`.
    The settings are those of the file."""

    def __init__(self, env, how, load=(), scene=None, mapping=None, more=(), keeper=(), **settings):
        self.scene = scene or env.scene()
        self.keeper = None
        self.file = File(self.scene)
        self.file.write(self.file.mapping("data", 11211, **(mapping or {})), *more, **settings)
        if how == "run":
            self.keeper = Keeper(self.scene, "--config", self.file.path, *keeper)
        else:
            self.scene.doppel.attach("--config", self.file.path)
        if load is not None:
            self.scene.start("sets", **{"connections": 20, "count": 100_000, "rate": amount(400), **dict(load)})
            wait.until(lambda: self.scene.target[0].stats()["cmd_set"] > 40, "the load to be under way", 20)
        self.well()

    def well(self, within=20):
        """`status` says that all is well, and nothing else."""
        def calm():
            code, said = self.scene.doppel.health()
            assert (code == 0) == said["well"] and code == said["exit"], (code, said)
            return code == 0
        self.until(calm, "all to be well", within)

    def until(self, condition, what, within=WITHIN):
        begin = time.monotonic()
        try:
            found = wait.until(condition, what, within, 0.1)
        except wait.Timeout as e:
            raise AssertionError(f"{e}\n{self.scene.doppel.health()}"
                                 f"\n{self.keeper.said() if self.keeper else ''}") from None
        print(f"      {what}: {time.monotonic() - begin:.1f} s")
        return found

    def falls_ill(self, kinds, code, others=(), words=None):
        """One of these problems is told within ten seconds, with that exit code; `others`: graver ones may come
        with it and have theirs. A keeper logs it with these words."""
        def told():
            got, said = self.scene.doppel.health()
            return next((p for p in said["problems"] if p["class"] in kinds
                         and p["exit"] == code and (got == code or got in others)), None)
        problem = self.until(told, f"status to tell {kinds}")
        text = self.scene.doppel.run("status", check=False).stdout
        assert text.startswith("not well: "), text
        if self.keeper and words:
            self.until(lambda: self.lines("warning: ", words), f"the keeper to say {words!r}")
        return problem

    def recovers(self, kinds):
        """These problems are over within ten seconds, and soon all is well."""
        def over():
            said = self.scene.doppel.status()
            return not [p for p in said["problems"] if p["class"] in kinds]
        self.until(over, f"{kinds} to be over")
        self.well()

    def lines(self, begin, words):
        return [line for line in self.keeper.said().splitlines() if line.startswith(begin) and words in line]

    def logged(self, words):
        """With a keeper: one line when it came, and one when it is over."""
        if not self.keeper:
            return
        self.until(lambda: self.lines("no longer: ", words), f"the keeper to say that {words!r} is over")
        assert [len(self.lines(begin, words)) for begin in ("warning: ", "no longer: ")] == [1, 1], self.keeper.said()

    def state(self):
        return self.scene.doppel.status()["targets"][0]

    def is_refused(self, client):
        """The target is killed, and the client asks until that is known."""
        self.scene.target[0].kill()
        turns = iter(range(1000))

        def known():
            say(client, b"refused%d" % next(turns))
            return self.state()["state"] == "refusing"
        self.until(known, "the target to refuse")
        return self.falls_ill({"refusing"}, TARGET, words="refuses connections")

    def resets(self):
        """How many left the source for the target."""
        return len(self.scene.watch.report().get("rst-to-target", ()))


@case(how=HOW, slow=True)
def target_killed(env, how):
    p = Patient(env, how)
    p.scene.target[0].kill()
    problem = p.falls_ill({"refusing"}, TARGET, words="refuses connections")
    assert f"{p.scene.lab.target.address}:11211" in problem["what"] and problem["do"], problem
    assert problem["since"], problem
    assert p.state()["state"] == "refusing", p.state()
    p.scene.start_target()
    p.recovers({"refusing"})
    assert p.state()["state"] == "up", p.state()
    p.logged("refuses connections")


@case(how=HOW, slow=True)
def target_stopped(env, how):
    """Its kernel goes on taking what comes, and nobody answers."""
    p = Patient(env, how)
    pid = p.scene.target[0].process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        p.falls_ill({"hung", "silent"}, TARGET, words="answers none")
    finally:
        os.kill(pid, signal.SIGCONT)
    p.recovers({"hung", "silent", "slow"})
    p.logged("answers none")


@case(how=HOW, slow=True)
def target_stopped_from_the_start(env, how):
    """It has never answered anything."""
    scene = env.scene()
    pid = scene.target[0].process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        p = Patient(env, how, scene=scene, load=None)
        client = connect(scene)
        for turn in range(3):
            say(client, b"set%d" % turn)
        p.falls_ill({"hung"}, TARGET, words="answers none")
    finally:
        os.kill(pid, signal.SIGCONT)
    p.recovers({"hung", "silent"})
    client.close()


@case(how=HOW, slow=True)
def nobody_asks_again(env, how):
    """A refusal is over when the target is back, and not only when a client finds it so."""
    p = Patient(env, how, load=None)
    client = connect(p.scene)
    say(client, b"one")
    problem = p.is_refused(client)
    assert ", the last time " in problem["what"], problem
    p.scene.start_target()
    p.recovers({"refusing"})
    p.logged("refuses connections")
    client.close()


@case(how=HOW, slow=True)
def back_beside_one_that_drops_all(env, how):
    """One target's silence keeps nobody from finding that another one is back."""
    scene = env.scene(ports=(11211, 11212))
    p = Patient(env, how, load=None, scene=scene, more=(("drops", 11212),), syn_tries=1)
    scene.lab.lose("source", "target", 1000, "tcp dport 11212")
    client, other = connect(scene), tcp.connect(scene.lab.client, scene.lab.source.address, 11212)
    for one in (client, other):
        say(one, b"one")
    p.until(lambda: scene.doppel.counters()["mappings"][1]["targets"][0]["last"]["gave_up"], "one to be given up")
    p.is_refused(client)
    scene.start_target()
    p.until(lambda: p.state()["state"] == "up", "the target that is back to be found")
    for one in (client, other):
        one.close()


@case(slow=True)
def many_targets_refuse(env):
    """What asks them stays within its descriptors, and finds each that is back."""
    scene = env.scene()
    rows = [{"name": f"m{i}", "device": "eth0", "ports": f"{14000 + 16 * i}-{14015 + 16 * i}",
             "targets": [{"address": scene.lab.target.address, "port": 14000 + 16 * i}]} for i in range(63)]
    p = Patient(env, "run", load=None, scene=scene, more=rows)
    listeners = [scene.lab.source.in_netns(lambda: socket.create_server(("", row["targets"][0]["port"])))
                 for row in rows]
    clients = [tcp.connect(scene.lab.client, scene.lab.source.address, row["targets"][0]["port"]) for row in rows]

    def all_refuse():
        for client in clients:
            client.sendall(b"x")
        return sum(t["state"] == "refusing" for t in scene.doppel.status()["targets"]) == len(rows)
    before = len(os.listdir(f"/proc/{p.keeper.pid}/fd"))
    p.until(all_refuse, "all targets to refuse")
    back = [scene.lab.target.in_netns(lambda: socket.create_server(("", row["targets"][0]["port"])))
            for row in rows]
    counts = []

    def all_back():
        counts.append(len(os.listdir(f"/proc/{p.keeper.pid}/fd")))
        return not [t for t in scene.doppel.status()["targets"] if t["state"] == "refusing"]
    p.until(all_back, "all targets to be back")
    assert before < max(counts) < before + 300, (before, counts)
    for one in (*listeners, *clients, *back):
        one.close()


@case(how=HOW, slow=True)
def far_target_is_back(env, how):
    """What asks a target whether it is back waits for an answer that takes 300 ms, and never resets it."""
    scene = env.scene(offload="all-off")
    far = Relay(scene.lab, 1000, shortest_ms=300, longest_ms=300, sender="target")
    p = Patient(env, how, load=None, scene=scene)
    client = connect(scene)
    say(client, b"one")
    p.is_refused(client)
    before = p.resets()
    scene.start_target()
    p.recovers({"refusing"})
    assert scene.target[0].stats()["total_connections"] > 1, "nobody asked it"
    assert p.resets() == before, scene.watch.report()
    far.close()
    client.close()


@case(how=HOW, ports=("11210-11214", "11190-11214"), slow=True)
def range_that_is_not_all_served(env, how, ports):
    """A refusal is over when one port of the range takes connections: the others never did."""
    scene = env.scene()
    first = {"address": scene.lab.target.address, "port": int(ports.split("-")[0])}
    p = Patient(env, how, load=None, scene=scene, mapping={"ports": ports, "targets": [first]})
    client = connect(scene)
    say(client, b"one")
    p.is_refused(client)
    scene.start_target()
    p.recovers({"refusing"})
    p.logged("refuses connections")
    client.close()


@case(how=HOW, slow=True)
def slow_reader_is_no_hang(env, how):
    """The source answers for long, and the target did at once; what another says wants no answer."""
    p = Patient(env, how, load=None)
    p.scene.lab.client.sysctl("net/ipv4/tcp_rmem", "4096 4096 4096")
    reader, writer = connect(p.scene), connect(p.scene)
    writer.sendall(set_command(b"big", 900_000))
    stored(writer, 1)
    reader.sendall(b"get big\r\n" * 4)
    end = time.monotonic() + 9
    while time.monotonic() < end:
        assert reader.recv(20_000), "the source closed"
        writer.sendall(b"set small 0 0 5 noreply\r\nhello\r\n")
        time.sleep(0.1)  # as a slow reader would
        code, said = p.scene.doppel.health()
        assert code == 0, said
    for client in (reader, writer):
        client.close()


@case(how=HOW, slow=True)
def payload_alone_is_cut(env, how):
    """The target answers the keepalives of others: its window is not what is shut."""
    p = Patient(env, how, load=None, keepalive="1s")
    quiet, asking = connect(p.scene), connect(p.scene)
    for client in (quiet, asking):
        say(client, b"one")
    p.scene.doppel.wait_idle()
    cut = p.scene.lab.lose("source", "target", 1000, "tcp dport 11211 ip length > 100")
    say(asking, b"two")
    problem = p.falls_ill({"silent"}, TARGET, words="acknowledges nothing: ")
    assert "window" not in problem["what"], problem
    p.scene.lab.heal(cut)
    p.recovers({"silent"})
    for client in (quiet, asking):
        client.close()


@case(how=HOW, slow=True)
def window_shut(env, how):
    """Its kernel answers, and takes nothing: also between two probes, which are ever more seldom."""
    p = Patient(env, how, load=None)
    pid = p.scene.target[0].process.pid
    client = connect(p.scene)
    os.kill(pid, signal.SIGSTOP)
    try:
        for turn in range(20):
            say(client, b"large%d" % turn, 500_000)
        problem = p.falls_ill({"silent"}, TARGET, words="that its window is shut")
        assert "takes nothing: it said" in problem["what"], problem
    finally:
        os.kill(pid, signal.SIGCONT)
    p.recovers({"silent", "slow", "hung"})
    client.close()


@case(how=HOW, slow=True)
def target_host_gone(env, how):
    p = Patient(env, how)
    p.scene.lab.unplug("target")
    problem = p.falls_ill({"silent"}, TARGET, words="acknowledges nothing: ")
    assert "wait for it" in problem["what"], problem
    assert p.state()["waits"] > 0, p.state()
    p.scene.lab.plug("target")
    p.recovers({"silent"})
    p.logged("acknowledges nothing: ")


@case(how=HOW, slow=True)
def target_slow(env, how):
    """Its link takes a twentieth of what is mirrored, and never stands still."""
    p = Patient(env, how, load={"smallest": 6000, "largest": 6000})
    shape.narrow(p.scene.lab, "target", 1, 100)
    problem = p.falls_ill({"slow"}, TARGET, words="is slow")
    assert "wait for it" in problem["what"], problem
    shape.widen(p.scene.lab, "target")
    p.recovers({"slow", "silent", "hung"})


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


def told(p):
    return {problem["class"] for problem in p.scene.doppel.status()["problems"]}


def is_cut(p, client):
    """The path to the target is cut, and that is told, whatever the keeper does."""
    cut = p.scene.lab.lose("source", "target", 1000, "tcp dport 11211")
    say(client, b"cut")
    p.falls_ill({"silent"}, TARGET, others=(STOPPED,))
    return cut


@case(free=(1, 2), slow=True)
def keeper_sees_nothing(env, free):
    """It has descriptors for its word, and not for a look: what it saw before is not how the mirror is."""
    p = Patient(env, "run", load=None)
    p.keeper.come_to_rest()
    client = connect(p.scene)
    say(client, b"one")
    p.scene.doppel.wait_idle()
    before = resource.prlimit(p.keeper.pid, resource.RLIMIT_NOFILE)
    limit = max(int(fd) for fd in os.listdir(f"/proc/{p.keeper.pid}/fd")) + 1 + free
    resource.prlimit(p.keeper.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    cut = is_cut(p, client)
    p.until(lambda: p.lines("warning: ", "cannot see how the mirror fares"), "the keeper to say so")
    p.scene.lab.heal(cut)
    p.until(lambda: "silent" not in told(p), "it to be over")
    assert "keeper" in told(p), p.scene.doppel.status()
    resource.prlimit(p.keeper.pid, resource.RLIMIT_NOFILE, before)
    p.until(lambda: "keeper" not in told(p), "the keeper to see again")
    p.logged("cannot see how the mirror fares")
    client.close()


@case(slow=True)
def keeper_frozen(env):
    """By its cgroup, which is not to be seen in its state."""
    p = Patient(env, "run", load=None)
    client = connect(p.scene)
    say(client, b"one")
    p.scene.doppel.wait_idle()
    with Freezer(p.scene.lab.source, p.keeper.pid) as freezer:
        freezer.set(True)
        cut = is_cut(p, client)
        p.scene.lab.heal(cut)
        p.recovers({"silent"})
        freezer.set(False)
    p.well()
    client.close()


@case(slow=True)
def silence_is_told_when_the_keeper_goes_on(env):
    """What it saw before it was stopped makes nobody well."""
    p = Patient(env, "run", load=None)
    client = connect(p.scene)
    say(client, b"one")
    p.scene.doppel.wait_idle()
    p.keeper.come_to_rest()
    p.keeper.signal(signal.SIGSTOP)
    cut = p.scene.lab.lose("source", "target", 1000, "tcp dport 11211")
    say(client, b"two")
    p.falls_ill({"silent"}, TARGET, others=(KEEPER,))
    p.keeper.signal(signal.SIGCONT)
    end = time.monotonic() + 8
    while time.monotonic() < end:
        said = p.scene.doppel.status()
        assert "silent" in [problem["class"] for problem in said["problems"]], said
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
        p.until(lambda: [m["name"] for m in p.scene.doppel.counters()["mappings"]] == ["data"], "goes to be removed")
        cut = p.scene.lab.lose("source", "target", 1000, "tcp dport 11211")
        say(stays, b"two")
        p.falls_ill({"silent"}, TARGET)
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
