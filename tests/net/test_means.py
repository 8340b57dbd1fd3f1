# SPDX-License-Identifier: Apache-2.0
"""What a command needs of its surroundings and does not find: it says so, and changes nothing. A mirror that works
is not taken for one that is broken."""

import re
import time

from harness import MODES, case
from lab import doppel, snapshot, tcp, wait
from patient import HOW, KEEPER, Patient
from test_clock import say
from test_detach import assert_unchanged

LONGER = 3  # s: than a keeper waits between two looks for a detach that was interrupted, and for all others


def remount(scene, how):
    scene.lab.source.run(["mount", "-o", f"remount,{how}", "/sys/fs/bpf"])


def sets(scene):
    return scene.target[0].stats()["cmd_set"]


def goes_on(p, client, key):
    there = sets(p.scene)
    say(client, key)
    wait.until(lambda: sets(p.scene) == there + 1, f"{key} to arrive")


def shell(scene, words, command):
    """doppel, after a shell has done something to the process."""
    return scene.lab.source.run(["sh", "-c", words + ' && exec "$@"', "sh", doppel.binary(), *command], check=False)


def without_cpus(scene, *command):
    return scene.lab.source.run(["unshare", "--mount", "sh", "-c",
                                 'mount -t tmpfs none /sys/devices && exec "$@"', "sh", doppel.binary(), *command],
                                check=False)


def assert_refused(done, words, hint):
    assert done.returncode == 1 and words in done.stderr and hint in done.stderr, done


@case(mode=MODES, how=HOW)
def read_only_bpffs(env, mode, how):
    """Who only reads goes on reading, and a detach ends nothing. A keeper touches nothing, and goes on afterwards."""
    p = Patient(env, how, load=None)
    client = p.client()
    devices = snapshot.take(p.scene.lab.source)
    remount(p.scene, "ro")
    if p.keeper:
        p.falls_ill({"keeper"}, KEEPER, words="is read-only")
    end = time.monotonic() + LONGER
    turns = 0
    while time.monotonic() < end:
        goes_on(p, client, b"meanwhile%d" % turns)
        turns += 1
    code, said = p.scene.doppel.health()
    assert code == (KEEPER if p.keeper else 0), said
    assert any("is read-only" in w for w in said["warnings"]), said
    for command in ("counters", "flows"):
        assert p.scene.doppel.run(command).stdout
    assert_refused(p.scene.doppel.run("detach", "--drain", "0ms", check=False), "is read-only", "remount,rw")
    assert_unchanged(p.scene.lab.source, devices)
    goes_on(p, client, b"then")
    remount(p.scene, "rw")
    p.well()
    p.logged("is read-only")
    goes_on(p, client, b"atlast")
    client.close()
    if p.keeper:
        p.keeper.stop()
    else:
        p.scene.doppel.detach()


@case(descriptors=(5, 6, 8, 12, 16))
def detach_without_descriptors(env, descriptors):
    """It refuses, or does all of it; what to do it says in both cases."""
    p = Patient(env, "attach", load=None)
    client = p.client()
    done = shell(p.scene, f"ulimit -n {descriptors}", ["detach"])
    assert_refused(done, "Too many open files", "ulimit -n")
    p.well()
    goes_on(p, client, b"still")
    client.close()


@case()
def commands_without_descriptors(env):
    scene = env.scene()
    for n in range(4, 60, 3):
        done = shell(scene, f"ulimit -n {n}", ["attach", *scene.mapping()])
        if done.returncode:
            assert_refused(done, "Too many open files", "ulimit -n")
            assert "verifier" not in done.stderr and "lower" not in done.stderr, done
        else:
            scene.doppel.detach()
    scene.attach()
    for n in range(4, 40, 3):
        for command in ("status", "counters", "flows"):
            done = shell(scene, f"ulimit -n {n}", [command])
            assert done.returncode in (0, 1, 4), done
            if done.returncode:
                assert "Too many open files" in done.stdout + done.stderr, done
            assert "doppel detach" not in done.stdout + done.stderr, done


@case()
def without_the_number_of_cpus(env):
    p = Patient(env, "attach", load=None)
    client = p.client()
    for command in (["counters"], ["detach"]):
        assert_refused(without_cpus(p.scene, *command), "the number of this host's CPUs cannot be read", "sysfs")
    done = without_cpus(p.scene, "top", "--once")
    assert done.returncode == 0 and "mirror: the number of this host's CPUs cannot be read" in done.stdout, done
    done = without_cpus(p.scene, "status")
    assert done.returncode == 4 and "the number of this host's CPUs cannot be read" in done.stdout, done
    p.well()
    goes_on(p, client, b"still")
    client.close()
    p.scene.doppel.detach()
    before = snapshot.take(p.scene.lab.source)
    done = without_cpus(p.scene, "attach", *p.scene.mapping())
    assert_refused(done, "the number of this host's CPUs cannot be read", "sysfs")
    assert_unchanged(p.scene.lab.source, before)


@case()
def detach_of_what_cannot_be_drained(env):
    """All of it goes, what it had counted is told to the byte, and the exit code tells that something was lost."""
    p = Patient(env, "attach", load=None)
    client = p.client()
    p.scene.lab.lose("source", "target", 1000, "tcp dport 11211")
    sent = say(client, b"lost")
    wait.until(lambda: p.scene.doppel.ledger()["bytes"]["in_flight"] == sent, "it to be in flight")
    p.scene.lab.source.run(["rm", "-r", f"/sys/fs/bpf/doppel/v{doppel.abi()}/progs"])
    done = p.scene.doppel.run("detach", "--drain", "1s", check=False)
    assert done.returncode == 1 and "counts as lost" in done.stderr, done
    assert re.search(rf"lost +detached +{sent} B", done.stdout), done.stdout
    assert "nothing was attached" in p.scene.doppel.detach().stdout
    client.close()


@case()
def detach_without_a_ledger(env):
    """Whose pins are gone with their file system: what it had counted is not told as nothing."""
    scene = env.scene()
    scene.attach()
    scene.lab.source.run(["umount", "-l", "/sys/fs/bpf"])
    done = None

    def detached():  # once the kernel has ended what the file system held
        nonlocal done
        done = scene.doppel.detach(check=False)
        return done.returncode == 0
    wait.until(detached, "its programs to end", 20)
    assert "no ledger" in done.stdout and "OBSERVED" not in done.stdout, done


@case()
def pins_in_another_mount(env):
    """Which this process sees: it names it, and no other mount namespace."""
    scene = env.scene()
    scene.attach()
    scene.lab.source.run(["mkdir", "-p", "/run/other"])
    scene.lab.source.run(["mount", "-t", "bpf", "other", "/run/other"])
    for command in (["detach"], ["attach", *scene.mapping()]):
        done = scene.doppel.run("--bpffs", "/run/other", *command, check=False)
        assert done.returncode == 1 and "whose pins are in /sys/fs/bpf" in done.stderr.replace(
            "and its pins are in", "whose pins are in"), done
        assert "mount namespace" not in done.stderr and "self" not in done.stderr, done
    done = scene.doppel.run("--bpffs", "/run/other", "detach", check=False)
    assert "doppel --bpffs /sys/fs/bpf detach" in done.stderr, done
    done = scene.doppel.run("--bpffs", "/run/other", "status", check=False)
    assert done.returncode == 4 and "doppel --bpffs /sys/fs/bpf status" in done.stdout, done
