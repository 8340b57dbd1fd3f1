# SPDX-License-Identifier: Apache-2.0
"""doppel run: attaches or adopts, keeps, and detaches."""

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time

from harness import MODES, case
from lab import doppel, snapshot, wait
from lab.keeper import File, Keeper, unit_capabilities
from lab.load import checked
from lab.wait import amount


def assert_unchanged(host, before):
    changes = snapshot.changes(before, snapshot.take(host))
    assert not changes, "\n".join(changes)


def mappings(scene):
    return {m["name"]: m["targets"][0] for m in scene.doppel.counters()["mappings"]}


def mapping(scene, name):
    rows = mappings(scene)
    assert name in rows, rows.keys()
    return rows[name]


def reload_asked(process):
    """Sends SIGHUP; the returned function tells which signals wait for the process, as bits."""
    process.send_signal(signal.SIGHUP)

    def pending():
        with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
            return int(next(line for line in f if line.startswith("ShdPnd:")).split()[1], 16)
    return pending


def assert_whole(scene):
    status = scene.doppel.status()
    assert status["attached"] and not status["missing"], status


@case(mode=MODES)
def attaches_and_detaches(env, mode):
    """SIGTERM drains and leaves nothing."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    keeper = Keeper(scene, *scene.mapping())
    assert_whole(scene)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(2000))["sent"])
    scene.assert_same(keys=amount(2000))
    keeper.stop()
    assert "detached: " in keeper.said(), keeper.said()
    assert_unchanged(scene.lab.source, before)
    scene.assert_harmless(resets_to_target=True)


@case(mode=MODES)
def refuses_a_second_keeper(env, mode):
    scene = env.scene()
    keeper = Keeper(scene, *scene.mapping())
    second = scene.doppel.run("run", *scene.mapping(), check=False)
    assert second.returncode == 1, second
    assert f"process {keeper.pid}" in second.stderr, second.stderr
    assert_whole(scene)
    keeper.stop()


@case(mode=MODES)
def killed_and_adopted(env, mode):
    """Nobody keeps the mirror for a while in mid-load: every key arrives all the same."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    first = Keeper(scene, *scene.mapping())
    load = scene.start("sets", connections=50, count=1_000_000, rate=amount(5000))
    wait.until(lambda: scene.target[0].stats()["cmd_set"] > amount(5000), "a part of the load to arrive", 20)
    first.kill()
    unkept = scene.target[0].stats()["cmd_set"]
    wait.until(lambda: scene.target[0].stats()["cmd_set"] > unkept + amount(3000),
               "the mirror to go on without a keeper", 20)
    second = Keeper(scene, *scene.mapping(), ready="adopted")
    assert load.running(), "the load is over"
    result = checked(load.end())
    scene.assert_all_delivered(result["sent"])
    scene.assert_same(keys=result["commands"])
    second.stop()
    assert_unchanged(scene.lab.source, before)


@case(mode=MODES)
def adopts_what_attach_made(env, mode):
    """Also where the configuration is another one by now."""
    scene = env.scene(ports=(11211, 11212))
    before = snapshot.take(scene.lab.source)
    scene.doppel.attach("--device", "eth0", "-x", f"11211-{scene.lab.target.address}:11211")
    keeper = Keeper(scene, *scene.mapping(), ready="adopted")
    assert "added 11212" in keeper.said(), keeper.said()
    sent = sum(scene.load("sets", port=port, connections=8, count=amount(500))["sent"]
               for port in scene.ports)
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=amount(500))
    keeper.stop()
    assert_unchanged(scene.lab.source, before)


@case(mode=MODES)
def detach_is_the_last_word(env, mode):
    """What is attached after it belongs to who attached it, whatever the keeper of before has still to do: to put
    right what its own start made it notice, to reload, to end."""
    scene = env.scene(ports=(11211, 11212))
    file, other = File(scene, ("data", 11211)), File(scene, ("mine", 11212))
    for due in (None, signal.SIGHUP, signal.SIGTERM):
        keeper = Keeper(scene, "--config", file.path)
        keeper.freeze()
        if due:
            keeper.signal(due)
        scene.doppel.detach()
        scene.doppel.attach("--config", other.path)
        before = snapshot.take(scene.lab.source)
        keeper.signal(signal.SIGCONT)
        keeper.ended(0)
        assert "another process has detached the mirror" in keeper.said(), keeper.said()
        assert_unchanged(scene.lab.source, before)
        assert list(mappings(scene)) == ["mine"], mappings(scene)
        scene.doppel.detach()


@case(mode=MODES)
def pins_are_mounted_over(env, mode):
    """By a script that mounts bpffs whether it is there or not: the mirror runs on, and so does its keeper."""
    scene = env.scene(ports=(11211, 11212))
    before = snapshot.take(scene.lab.source)
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path)
    keeper.come_to_rest()  # then it has open what it holds open
    words = "the pins of this mirror are not in /sys/fs/bpf/doppel any more"
    scene.lab.source.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"])
    keeper.wait_for("warning: " + words)
    assert "umount" in scene.doppel.status()["problems"][0]["do"], scene.doppel.status()
    scene.lab.source.run(["ip", "address", "add", "10.99.0.1/32", "dev", "eth0"])
    keeper.come_to_rest()
    scene.load("sets", connections=4, count=amount(100))
    wait.until(lambda: scene.target[0].stats()["cmd_set"] == amount(100), "the sets to be mirrored")
    file.write(("data", 11211), ("more", 11212))
    keeper.reload("not reloaded")
    assert not os.path.exists(scene.lab.source.root("/sys/fs/bpf/doppel")), "made in the other file system"
    scene.lab.source.run(["umount", "/sys/fs/bpf"])
    keeper.wait_for("no longer: " + words)
    keeper.reload("added more")
    wait.until(lambda: scene.doppel.health()[0] == 0, "all to be well")
    assert keeper.said().count(words) == 3, keeper.said()  # and by the reload
    scene.lab.source.run(["ip", "address", "del", "10.99.0.1/32", "dev", "eth0"])
    keeper.stop()
    assert_unchanged(scene.lab.source, before)


@case(mode=MODES)
def reload_under_load(env, mode):
    """One mapping comes, one goes, and the one that stays loses nothing."""
    scene = env.scene(ports=(11211, 11212, 11213))
    before = snapshot.take(scene.lab.source)
    file = File(scene, ("stays", 11211), ("goes", 11212))
    keeper = Keeper(scene, "--config", file.path)
    load = scene.start("sets", connections=50, count=amount(25000), rate=amount(5000), reserve=amount(5000))
    scene.load("sets", port=11212, connections=8, count=amount(500))
    for rounds in range(3):
        file.write(("stays", 11211), ("comes", 11213))
        keeper.reload("added comes; removed goes")
        file.write(("goes", 11212), ("stays", 11211))
        keeper.reload("added goes; removed comes")
    file.write(("stays", 11211), ("comes", 11213))
    keeper.reload("added comes; removed goes")
    assert load.running(), "the load was over before the last reload"
    load.go()
    sent = scene.load("sets", port=11213, connections=8, count=amount(500))["sent"]
    scene.load("sets", port=11212, connections=8, count=amount(500), prefix="later")
    result = checked(load.result())
    scene.doppel.wait_idle(observed=result["sent"] + sent)
    for name, bytes_sent in (("stays", result["sent"]), ("comes", sent)):
        row = mapping(scene, name)
        assert row["bytes"]["observed"] == row["bytes"]["delivered"] == bytes_sent, (name, row)
        assert row["flows"]["joined"] == row["flows"]["broken"] == 0, (name, row)
    assert scene.source[0].contents() == scene.target[0].contents()
    assert scene.source[2].contents() == scene.target[2].contents()
    assert scene.target[1].stats()["cmd_set"] == amount(500), "sets of a removed mapping were mirrored"
    keeper.stop()
    assert_unchanged(scene.lab.source, before)


@case(mode=MODES)
def reload_of_a_changed_mapping(env, mode):
    """Its ports lead to the new target without a gap; open connections join there."""
    scene = env.scene(ports=(11211, 11212))
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path)
    load = scene.start("sets", connections=20, count=amount(20000), rate=amount(4000), reserve=amount(4000))
    wait.until(lambda: scene.target[0].stats()["cmd_set"] > amount(2000), "a part of the load to arrive", 20)
    changed = file.mapping("data", 11211)
    changed["targets"][0]["port"] = 11212
    file.write(changed)
    keeper.reload("changed data")
    load.go()
    result = checked(load.result())
    ledger = scene.doppel.wait_idle()
    keys = [set(server.contents()) for server in (scene.source[0], *scene.target)]
    assert len(keys[0]) == amount(20000) and keys[1] and keys[2], [len(k) for k in keys]
    missing = len(keys[0] - keys[1] - keys[2])
    # A connection joins at its next request boundary: what is excluded is one request of each.
    assert missing <= 2 * 20, f"{missing} keys on neither, {ledger}"
    assert ledger["flows"]["joined"] == 20, ledger
    assert result["commands"] == amount(20000)
    keeper.stop()


@case(mode=MODES)
def bad_reload_changes_nothing(env, mode):
    scene = env.scene()
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path)
    before = snapshot.take(scene.lab.source)
    for text, expected in (("{ \"mappings\": 1, \"flow\": 2 }", ("must be an array", "unknown key")),
                           ("{", ("error",))):
        file.text(text)
        keeper.reload("not reloaded")
        for words in expected:
            assert words in keeper.said(), keeper.said()
    file.write(("data", 11211), ("more", 11212), flows=1000, tries=3)
    keeper.reload("not reloaded")
    assert '"flows"' in keeper.said() and '"tries"' in keeper.said(), keeper.said()
    assert "doppel detach" in keeper.said(), keeper.said()
    file.write(file.mapping("data", 11211), {**file.mapping("more", 11212), "device": "absent0"})
    keeper.reload("not reloaded")
    assert_unchanged(scene.lab.source, before)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(2000))["sent"])
    keeper.stop()


@case(mode=MODES[:1])
def nobody_reads_the_log(env, mode):
    """It goes on, tells how many lines it left out once somebody reads, and ends when it is told to."""
    scene = env.scene()
    file = File(scene, ("data", 11211))
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)
    os.set_blocking(reader, False)
    keeper = scene.lab.source.popen([doppel.binary(), "run", "--config", file.path, "--attach-mode", mode],
                                    stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    wait.until(lambda: scene.doppel.health()[0] == 0, "the mirror to be well", 20)
    file.text(json.dumps({"x" * 3000: 1}))

    def is_full():
        keeper.send_signal(signal.SIGHUP)  # what it says then is long
        return not select.select([], [writer], [], 0)[1]

    def read():
        try:
            said.extend(os.read(reader, 65536))
        except BlockingIOError:
            pass
        return said
    for turn in range(2):
        said = bytearray()
        wait.until(is_full, "the pipe to be full", 20, 0.1)
        word = scene.doppel.status()["keeper"]
        assert word["alive"], word
        for _ in range(3):
            handled = reload_asked(keeper)
            wait.until(lambda: handled() == 0, "it to take the signal")
        wait.until(lambda: b" left out here" in read(), "the lines that are missing to be told")
        assert b"not reloaded" in said and os.get_blocking(writer), said
    wait.until(is_full, "the pipe to be full", 20, 0.1)
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(wait.patience(20)) == 0
    assert scene.doppel.health()[0] == 3, scene.doppel.health()
    for fd in (reader, writer):
        os.close(fd)


@case(mode=MODES)
def reload_command(env, mode):
    """With a keeper it asks that one and says what came of it; without, it does it itself."""
    scene = env.scene(ports=(11211, 11212))
    file = File(scene, ("one", 11211))
    keeper = Keeper(scene, "--config", file.path)
    file.write(("one", 11211), ("two", 11212))
    done = scene.doppel.run("reload")
    assert "added two" in done.stdout, done
    file.text("{}")
    done = scene.doppel.run("reload", check=False)
    assert done.returncode == 2 and "mappings" in done.stderr, done
    other = File(scene, ("one", 11211))
    done = scene.doppel.run("reload", "--config", other.path, check=False)
    assert done.returncode == 1 and file.path in done.stderr, done
    file.write(("one", 11211), ("two", 11212))
    keeper.kill()
    file.write(("two", 11212))
    done = json.loads(scene.doppel.run("reload", "--json").stdout)
    assert done["keeper"] is None and "removed one" in done["changes"], done
    scene.assert_all_delivered(scene.load("sets", port=11212, connections=8, count=amount(500))["sent"])
    scene.doppel.detach()
    done = scene.doppel.run("reload", check=False)
    assert done.returncode == 1 and "nothing is attached" in done.stderr, done


@case(mode=MODES[:1])
def tells_systemd(env, mode):
    scene = env.scene()
    file = File(scene, ("data", 11211))
    with tempfile.TemporaryDirectory() as where:
        path = os.path.join(where, "notify")
        heard, news = [], socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        news.bind(path)
        news.settimeout(wait.patience(10))

        def hear(word):
            """Everything up to the message with that word."""
            while True:
                heard.extend(news.recv(4096).decode().splitlines())
                if word in heard:
                    return
        keeper = Keeper(scene, "--config", file.path,
                        env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
        hear("READY=1")
        assert any(line.startswith("STATUS=Mirroring 1 mapping") for line in heard), heard
        heard.clear()
        begin = time.monotonic()
        for _ in range(5):
            hear("WATCHDOG=1")
            heard.clear()
        # Every 200 ms; at more than 400 systemd would end it.
        assert 0.5 < time.monotonic() - begin < wait.patience(5 * 0.4), "five signs of life"
        file.write(("data", 11211), ("more", 11212))
        keeper.signal(1)
        hear("RELOADING=1")
        hear("READY=1")
        assert "STATUS=Mirroring 2 mappings" in heard, heard
        keeper.stop()
        hear("STOPPING=1")
        news.close()


@case(mode=MODES)
def few_capabilities(env, mode):
    """Those of the systemd unit are enough for everything."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path, under=[
        "setpriv", "--no-new-privs", "--bounding-set", unit_capabilities()])
    file.write(("data", 11211), ("more", 11212))
    keeper.reload()
    if mode == "clsact":
        scene.lab.source.run(["tc", "filter", "del", "dev", "eth0", "ingress"])
        keeper.wait_for("runs again on eth0 ingress", times=2)
    scene.lab.source.run(["ip", "link", "del", "doppel0"])
    keeper.wait_for("attached by", times=2)
    scene.assert_all_delivered(scene.load("sets", connections=20, count=amount(1000))["sent"])
    keeper.stop()
    assert_unchanged(scene.lab.source, before)
