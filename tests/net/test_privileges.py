# SPDX-License-Identifier: Apache-2.0
"""What doppel needs to be allowed, and what it allows others."""

import os
import stat

from harness import MODES, case
from lab import doppel, snapshot, wait
from lab.bpf import Neighbour
from lab.keeper import File, Keeper, unit_capabilities
from lab.wait import amount

TOP = "/sys/fs/bpf/doppel"
NOBODY = 65534


def few(*more):
    """A command line before doppel: the capabilities of the systemd unit are all that it has, and all
    that it could get."""
    names = unit_capabilities()
    assert "sys_admin" not in names, names
    return ["setpriv", *more, "--no-new-privs", "--bounding-set", names, "--inh-caps", names, "--ambient-caps", names]


def modes(host):
    """[(path, kind, mode, uid)] of everything that doppel made in the host's bpffs."""
    found = []
    for where, dirs, files in os.walk(host.root(TOP)):
        for path in [where, *(os.path.join(where, name) for name in files)]:
            info = os.lstat(path)
            found.append((path[len(host.root("")):], stat.S_ISDIR(info.st_mode),
                          stat.S_IMODE(info.st_mode), info.st_uid))
    return found


@case(mode=MODES, user=("root", "nobody"))
def every_command(env, mode, user):
    """CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON are enough, for another user than root as well."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    scene.doppel.under = few(*(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
                               if user == "nobody" else []))
    scene.attach()
    sent = scene.load("sets", connections=20, count=amount(2000))["sent"]
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=amount(2000))
    status = scene.doppel.status()
    assert status["attached"] and not status["missing"] and not status["warnings"], status
    assert all(hook["ours"] and hook["program"].startswith("doppel_") for hook in status["hooks"]), status
    with scene.lab.client.connect(scene.lab.source.address, 11211) as open_one:
        open_one.sendall(b"set last 0 0 1\r\nx\r\n")
        assert open_one.recv(100) == b"STORED\r\n"
        assert len(scene.doppel.json("flows")["flows"]) >= 1
    assert scene.doppel.run("probe").returncode == 0
    scene.doppel.detach()
    changes = snapshot.changes(before, snapshot.take(scene.lab.source))
    assert not changes, "\n".join(changes)
    scene.assert_harmless(resets_to_target=True)


@case()
def anothers_mirror(env):
    """Who may not look into the pins is told so, and not that nothing is attached, or that there are remains."""
    scene = env.scene()
    scene.attach()
    other = doppel.Doppel(scene.lab.source)
    other.under = few("--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
    for mode in ("1777", "700"):  # of a bpffs as systemd mounts it
        scene.lab.source.run(["chmod", mode, "/sys/fs/bpf"])
        for command in ("status", "counters", "flows"):
            done = other.run(command, check=False)
            assert done.returncode == 1 and not done.stdout, done
            assert f"{TOP}: cannot be looked into: Permission denied" in done.stderr, done
    assert scene.doppel.health()[0] == 0, scene.doppel.status()


@case(mode=MODES, neighbour=("tcx-last", "clsact"))
def neighbours_without_a_name(env, mode, neighbour):
    """What cannot be known is said to be unknown, and is left alone all the same."""
    scene = env.scene()
    foreign = Neighbour(scene.lab.source, neighbour)
    before = snapshot.take(scene.lab.source)
    scene.attach()  # by root, so that this was there before
    names = [hook["program"] for hook in scene.doppel.status()["hooks"] if not hook["ours"]]
    assert names == ["neighbour"], names
    scene.doppel.under = few()
    status = scene.doppel.status()
    assert not status["missing"], status
    others = [hook for hook in status["hooks"] if not hook["ours"]]
    assert len(others) == 1 and others[0]["prog_id"], status
    if neighbour == "clsact":
        # The filter has a name of its own, that of the file which the program was pinned in.
        assert others[0]["program"] not in ("?", "neighbour"), others
    else:
        assert others[0]["program"] == "?", others
        assert any("CAP_SYS_ADMIN" in text for text in status["warnings"]), status["warnings"]
    sent = scene.load("sets", connections=20, count=amount(1000))["sent"]
    scene.assert_all_delivered(sent)
    scene.doppel.detach()
    changes = snapshot.changes(before, snapshot.take(scene.lab.source))
    assert not changes, "\n".join(changes)
    foreign.assert_counts(scene, amount(1000))


@case(mode=MODES)
def one_capability_short(env, mode):
    """The one that is missing is named, and nothing is half done."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    for name in unit_capabilities().split(",")[1:]:
        rest = unit_capabilities().replace(f",{name}", "")
        scene.doppel.under = ["setpriv", "--bounding-set", rest]
        done = scene.doppel.attach(*scene.mapping(), check=False)
        assert done.returncode == 1, done
        assert f"lacks CAP_{name[1:].upper()}\n" in done.stderr, done.stderr
        changes = snapshot.changes(before, snapshot.take(scene.lab.source))
        assert not changes, "\n".join(changes)


@case(mode=MODES)
def pins_are_for_their_owner_only(env, mode):
    """Also with a umask that would allow others everything."""
    scene = env.scene()
    file = File(scene, ("data", 11211))
    keeper = Keeper(scene, "--config", file.path, under=["sh", "-c", 'umask 0; exec "$@"', "sh"])
    found = modes(scene.lab.source)
    assert len([row for row in found if not row[1]]) > 10, found
    wrong = [f"{path}: {mode:o}, user {uid}" for path, directory, mode, uid in found
             if (mode, uid) != (0o700 if directory else 0o600, 0)]
    assert not wrong, wrong
    keeper.stop()


@case(mode=MODES[:1], how=("owner", "writable"))
def directory_of_somebody_else(env, mode, how):
    """The root of bpffs is like /tmp: whoever makes doppel's directory first must not own its pins."""
    scene = env.scene()
    path = scene.lab.source.root(TOP)
    os.mkdir(path)
    if how == "owner":
        os.chown(path, NOBODY, NOBODY)
    else:
        os.chmod(path, 0o777)
    for command in ("attach", "run", "status", "counters"):
        options = scene.mapping() if command in ("attach", "run") else []
        done = scene.doppel.run(command, *options, check=False)
        assert done.returncode == 1 and TOP in done.stderr and "rm -r" in done.stderr, done
    assert "nothing" in scene.doppel.detach().stdout
    assert os.listdir(path) == []
    os.rmdir(path)
    scene.attach()
    scene.assert_all_delivered(scene.load("sets", connections=5, count=100)["sent"])


@case(mode=MODES)
def detach_from_another_network(env, mode):
    """Without a sight of other processes nobody can tell whether the mirror's network still exists: its pins
    are what detach there would need."""
    scene = env.scene()
    scene.attach()
    elsewhere = ["unshare", "--net"]
    for under, words in ((elsewhere, "nsenter --net="), (elsewhere + few(), "CAP_SYS_PTRACE")):
        scene.doppel.under = under
        done = scene.doppel.detach(check=False)
        assert done.returncode == 1 and words in done.stderr, done
    scene.doppel.under = elsewhere
    code, said = scene.doppel.health()
    assert code == 4 and "cannot be seen from here" in said["problems"][0]["what"], said
    assert said["problems"][0]["do"].startswith("nsenter --net="), said
    scene.doppel.under = few()
    assert not scene.doppel.status()["missing"], scene.doppel.status()
    scene.assert_all_delivered(scene.load("sets", connections=5, count=100)["sent"])
    scene.doppel.detach()


@case(mode=MODES)
def its_network_is_gone(env, mode):
    """As of a pod that has ended: its mirror's pins are those of the node."""
    scene = env.scene()
    mode_option = f"--attach-mode {scene.doppel.attach_mode}" if scene.doppel.attach_mode else ""
    scene.lab.source.run(["unshare", "--net", "sh", "-ec", f"""
        ip link add pod0 type veth peer name pod1
        ip addr add 10.98.0.1/24 dev pod0
        ip link set pod1 up
        ip link set pod0 up
        {doppel.binary()} attach --device pod0 -x 11211-10.98.0.2:11211 {mode_option}"""])

    def gone():
        code, said = scene.doppel.health()
        return code == 4 and "is gone" in said["problems"][0]["what"] and said["problems"][0]
    problem = wait.until(gone, "status to tell", 10)
    assert problem["do"].startswith("doppel detach"), problem
    scene.doppel.detach()
    scene.attach()
    scene.assert_all_delivered(scene.load("sets", connections=5, count=100)["sent"])
