# SPDX-License-Identifier: Apache-2.0
"""A command that was killed, wherever, leaves nothing that the next one does not put right."""

import json
import signal
import subprocess

from harness import MODES, Skip, case
from lab import doppel, killed, snapshot, tcp, wait
from lab.keeper import File, Keeper

SOME, ALL = 16, 1000  # of the system calls at which a command is killed
SMALL = {"shadow_ports": "20000-20063", "flows": 1024, "store": "1MiB"}  # attached in no time


def assert_unchanged(host, before, after):
    changes = snapshot.changes(before, snapshot.take(host))
    assert not changes, f"{after}:\n" + "\n".join(changes)


class Mirror:
    """One mapping, or two on two devices, and clients that prove that it works."""

    def __init__(self, env):
        if killed.obstacle():
            raise Skip(killed.obstacle())
        self.scene = env.scene(ports=(11211, 11212))
        source = self.scene.lab.source
        source.run(["ip", "link", "add", "more0", "type", "veth", "peer", "name", "more1"])
        for device in ("more0", "more1"):
            source.run(["ip", "link", "set", device, "up"])
        self.doppel = self.scene.doppel
        self.file = File(self.scene)
        self.more = {**self.file.mapping("more", 11212), "device": "more0"}
        self.one()
        self.keys = 0
        wait.settled(lambda: snapshot.take(source), "the devices")

    def one(self):
        self.file.write(("data", 11211), **SMALL)

    def two(self):
        self.file.write(("data", 11211), self.more, **SMALL)

    def attach(self):
        return self.doppel.attach("--config", self.file.path)

    def attach_command(self):
        return ["attach", "--config", self.file.path, "--attach-mode", self.doppel.attach_mode]

    def connect(self):
        return tcp.connect(self.scene.lab.client, self.scene.lab.source.address)

    def store(self, client=None):
        """A set over that connection, or one of its own, that the target must get."""
        self.keys += 1
        s = client or self.connect()
        s.sendall(b"set key%d 0 0 1\r\nx\r\n" % self.keys)
        tcp.read_lines(s, 1)
        if not client:
            s.close()

    def store_beside(self):
        """The same over the other port."""
        with tcp.connect(self.scene.lab.client, self.scene.lab.source.address, 11212) as s:
            s.sendall(b"set beside 0 0 1\r\nx\r\n")
            tcp.read_lines(s, 1)

    def assert_works(self, after):
        seen = self.scene.target[0].stats()["cmd_set"]
        self.store()
        wait.until(lambda: self.scene.target[0].stats()["cmd_set"] > seen, f"a set to arrive, {after}")


def detach(mirror, after):
    done = mirror.doppel.detach(check=False)
    assert done.returncode == 0, f"{after}: {done}"


def each_killed_attach(env, most, then):
    """`then(mirror, words)` for each: it attaches, looks and leaves nothing."""
    mirror = Mirror(env)
    before = snapshot.take(mirror.scene.lab.source)
    command = mirror.attach_command()
    chosen = killed.points(killed.effects(mirror.doppel, *command), most)
    detach(mirror, "not killed")
    deaths = 0
    for point in chosen:
        deaths += killed.at(mirror.doppel, point, *command)
        after = f"attach killed at {point}"
        then(mirror, after)
        assert_unchanged(mirror.scene.lab.source, before, after)
    assert deaths > len(chosen) / 2, deaths
    return mirror


def attach_killed(env, most):
    def attach_again(mirror, after):
        again = mirror.doppel.run(*mirror.attach_command(), check=False)
        assert again.returncode == 0 or "doppel detach" in again.stderr, f"{after}: {again}"
        if again.returncode == 0:
            mirror.assert_works(after)
        detach(mirror, after)
    mirror = each_killed_attach(env, most, attach_again)
    mirror.attach()
    mirror.assert_works("all is over")


def start_killed(env, most):
    """The next keeper is a service's, which has nobody to remove anything by hand."""
    def start(mirror, after):
        keeper = Keeper(mirror.scene, "--config", mirror.file.path)
        mirror.assert_works(after)
        keeper.stop()
    each_killed_attach(env, most, start)


def detach_killed(env, most):
    mirror = Mirror(env)
    before = snapshot.take(mirror.scene.lab.source)
    client = mirror.connect()
    mirror.attach()
    mirror.store(client)
    chosen = killed.points(killed.effects(mirror.doppel, "detach"), most)
    deaths = 0
    for number, point in enumerate(chosen):
        mirror.attach()
        mirror.store(client)
        deaths += killed.at(mirror.doppel, point, "detach")
        after = f"detach killed at {point}"
        if number % 2:
            done = mirror.doppel.run("reload", check=False)
            if done.returncode == 0:
                mirror.assert_works(after)
            else:
                assert "doppel detach" in done.stderr or "nothing is attached" in done.stderr, f"{after}: {done}"
        detach(mirror, after)
        assert_unchanged(mirror.scene.lab.source, before, after)
    client.close()
    assert deaths > len(chosen) / 2, deaths


def reload_killed(env, most):
    mirror = Mirror(env)
    before = snapshot.take(mirror.scene.lab.source)
    mirror.attach()
    wanted = snapshot.take(mirror.scene.lab.source)
    deaths, chosen = 0, []
    for there, back in ((mirror.two, mirror.one), (mirror.one, mirror.two)):
        there()
        points = killed.points(killed.effects(mirror.doppel, "reload"), most // 2)
        chosen += points
        for point in points:
            back()
            mirror.doppel.run("reload")
            there()
            deaths += killed.at(mirror.doppel, point, "reload")
            after = f"reload to {there.__name__} killed at {point}"
            mirror.assert_works(after)
            mirror.one()
            done = mirror.doppel.run("reload", check=False)
            assert done.returncode == 0, f"{after}: {done}"
            mirror.assert_works(after)
            assert_hooks(mirror, wanted, after)
    assert deaths > len(chosen) / 2, deaths
    detach(mirror, "all is over")
    assert_unchanged(mirror.scene.lab.source, before, "all is over")


def assert_hooks(mirror, wanted, after):
    """Qdiscs, filters and pins are as in that snapshot, but for the numbers of programs and links."""
    now = snapshot.take(mirror.scene.lab.source)
    said = snapshot.changes({what: wanted[what] for what in ("qdiscs", "filters", "bpffs")}, now)
    assert not said, f"{after}: {said}"


@case(mode=MODES, slow=True)
def killed_attach(env, mode):
    """Another attach works or says what to do, and detach leaves nothing."""
    env.allow(240)
    attach_killed(env, SOME)


@case(mode=MODES, slow=True)
def killed_start(env, mode):
    """The next `doppel run` mirrors, whatever it finds."""
    env.allow(240)
    start_killed(env, SOME)


@case(mode=MODES, slow=True)
def killed_detach(env, mode):
    """The next detach ends it, with exit code 0, or the next reload makes it go on."""
    env.allow(240)
    detach_killed(env, SOME)


@case(mode=MODES, slow=True)
def killed_reload(env, mode):
    """A mapping on another device comes or goes, and is half there: the next reload puts it right."""
    env.allow(240)
    reload_killed(env, SOME)


@case(mode=MODES, slow=True)
def killed_reload_is_told(env, mode):
    """One of two mappings of a device comes or goes: `status` is "all well" only if what it lists is mirrored."""
    env.allow(240)
    mirror = Mirror(env)
    mirror.more = mirror.file.mapping("more", 11212)
    mirror.attach()
    told = 0
    for there, back in ((mirror.two, mirror.one), (mirror.one, mirror.two)):
        there()
        for point in killed.points(killed.effects(mirror.doppel, "reload"), SOME // 2):
            back()
            mirror.doppel.run("reload")
            there()
            killed.at(mirror.doppel, point, "reload")
            told += says_what_is_so(mirror, f"reload to {there.__name__} killed at {point}")
            mirror.doppel.run("reload")
            assert not says_what_is_so(mirror, "the reload was done again")
    assert told, "no reload was killed half-way"


def says_what_is_so(mirror, after):
    """Whether it tells of the interruption; where it does not, what it lists must work, and no more."""
    done = mirror.doppel.run("status", "--json", check=False)
    said = json.loads(done.stdout)
    if any("a reload was interrupted" in problem["what"] for problem in said["problems"]):
        assert done.returncode == 4, f"{after}: {done}"
        return True
    assert done.returncode == 0, f"{after}: {done}"
    names = {mapping["name"] for mapping in said["mappings"]}
    mirror.assert_works(after)
    before = mirror.scene.target[1].stats()["cmd_set"]
    mirror.store_beside()
    if "more" in names:
        wait.until(lambda: mirror.scene.target[1].stats()["cmd_set"] > before, f"the other port's set, {after}")
    else:
        mirror.assert_works(after)  # what came before this would have arrived
        assert mirror.scene.target[1].stats()["cmd_set"] == before, f"{after}: {names}"
    return False


@case(mode=MODES, long=True)
def killed_everywhere(env, mode):
    for body in (attach_killed, start_killed, detach_killed, reload_killed):
        env.allow(600)
        body(env, ALL)


@case(mode=MODES, then=("detach", "reload"))
def what_a_killed_reload_takes_away_is_told(env, mode, then):
    """It dies while a removed mapping drains: until the next command counts its bytes, the ledger has them."""
    scene = env.scene(ports=(11211, 11212))
    file = File(scene, ("data", 11211), ("more", 11212))
    scene.doppel.attach("--config", file.path)
    scene.target[1].process.send_signal(signal.SIGSTOP)
    client = tcp.connect(scene.lab.client, scene.lab.source.address, 11212)
    client.sendall(b"set one 0 0 1\r\nx\r\n")
    tcp.read_lines(client, 1)
    file.write(("data", 11211))

    def going():
        return [m["targets"][0]["bytes"]["observed"] for m in scene.doppel.counters()["mappings"] if m["name"] == "more (going)"]
    wait.until(lambda: scene.doppel.ledger()["bytes"]["observed"] == 18, "the request to be seen")
    assert going() == []
    interrupted = scene.lab.source.popen([doppel.binary(), "reload", "--drain", "1min"],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait.until(going, "the reload to drain")
    interrupted.kill()
    interrupted.wait()
    assert going() == [18]
    done = scene.doppel.run(then, "--drain", "10ms", check=False)
    scene.target[1].process.send_signal(signal.SIGCONT)
    said = "more (going)" if then == "detach" else "the last of more: 18 bytes observed"
    assert said in done.stdout and "18 " in done.stdout, done
    if then == "reload":
        assert going() == [] and scene.doppel.counters()["removed"]["bytes"]["observed"] == 18
        scene.doppel.detach()
    client.close()


def captures(scene):
    hooks = json.loads(scene.doppel.run("status", "--json", check=False).stdout)["hooks"]
    return any(hook["program"] == "doppel_ingress" for hook in hooks)


@case(mode=MODES, with_keeper=(False, True))
def paused_mirror_goes_on(env, mode, with_keeper):
    """A detach is killed while it drains: who comes next says so, and mirrors."""
    scene = env.scene(ports=(11211, 11212))
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path) if with_keeper else None
    if not with_keeper:
        scene.doppel.attach("--config", file.path)
    client = tcp.connect(scene.lab.client, scene.lab.source.address)
    client.sendall(b"set one 0 0 1\r\nx\r\n")
    tcp.read_lines(client, 1)
    scene.doppel.wait_idle()
    scene.target[0].process.send_signal(signal.SIGSTOP)
    client.sendall(b"set two 0 0 1\r\nx\r\n")
    tcp.read_lines(client, 1)
    interrupted = scene.lab.source.popen([doppel.binary(), "detach", "--drain", "1min"],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait.until(lambda: not captures(scene), "capture to end")
    interrupted.kill()
    interrupted.wait()
    scene.target[0].process.send_signal(signal.SIGCONT)
    if with_keeper:
        keeper.wait_for("an interrupted detach had paused the mirror", timeout=10)
    else:
        refused = scene.doppel.attach("--config", file.path, check=False)
        assert "doppel reload makes it go on" in refused.stderr, refused
        keeper = Keeper(scene, "--config", file.path, ready="adopted")
        assert "an interrupted detach had paused it" in keeper.said(), keeper.said()
    sent = scene.load("sets", connections=8, count=300)["sent"]
    wait.until(lambda: scene.target[0].stats()["cmd_set"] >= 302, "the load to arrive")
    assert scene.doppel.ledger()["excluded"].get("paused", 0) == 0, (sent, scene.doppel.ledger())
    client.close()
    keeper.stop()
