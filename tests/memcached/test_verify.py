# SPDX-License-Identifier: Apache-2.0
"""`doppel verify` finds what differs, all of it, and nothing else."""

import base64
import json
import os
import subprocess
import threading
import time
import urllib.parse

from lab import doppel, wait

from harness import case
from servers import die_with_parent, store

KEYS = 20_000
ZERO = dict.fromkeys(("missing", "different", "flags", "ttl", "extra", "moving", "unreadable"), 0)


def verdict(result):
    """What is in ZERO, of a verification that came to its end."""
    assert result.code in (0, 3), result
    return {name: result.json()[name] for name in ZERO}


def differing():
    """{kind: keys}, and the commands that make a target differ like that."""
    kinds = {"missing": range(0, 50), "different": range(100, 121), "flags": range(200, 233), "ttl": range(301, 323),
             "extra": range(7)}
    commands = [b"md key:%d q\r\n" % i for i in kinds["missing"]]
    # More than one fault counts once, by the gravest.
    commands += [store(b"key:%d" % i, b"w%d" % i, flags=9, ttl=77) for i in kinds["different"]]
    commands += [store(b"key:%d" % i, b"v%d" % i, flags=9, ttl=77) for i in kinds["flags"]]
    for i in kinds["ttl"]:  # by 3 s, for ever instead of a time, a time instead of for ever
        commands.append(store(b"key:%d" % i, b"v%d" % i, flags=i % 7,
                              ttl=7000 if i % 2 else 5500 if i % 4 else 0))
    commands += [store(b"only:%d" % i, b"x") for i in kinds["extra"]]
    names = {kind: {(b"only:%d" if kind == "extra" else b"key:%d") % i for i in keys} for kind, keys in kinds.items()}
    return names, b"".join(commands)


def assert_listed(path, names):
    """Each difference once, and no other."""
    listed = {}
    with open(path, encoding="ascii") as f:
        for line in f:
            kind, key = line.split()
            listed.setdefault(kind, []).append(urllib.parse.unquote_to_bytes(key))
    assert {kind: sorted(keys) for kind, keys in listed.items()} == {k: sorted(v) for k, v in names.items()}


def progress_of(resume):
    """{"offset": …, "at_extra": …}, or nothing."""
    if not os.path.exists(resume):
        return None
    with open(resume, encoding="ascii") as f:
        return json.load(f)["progress"]


@case(moment=("listing", "begun", "source", "target"))
def a_killed_one_is_taken_up(env, moment):
    """By kill -9; what both find together is what one would have found."""
    source, target = env.pair()
    source.fill(KEYS)
    target.fill(KEYS)
    names, commands = differing()
    target.tell(commands)
    resume = env.path("resume")
    arguments = ("verify", "--all", "--json", "--settle", "0.1", "--rate", "8000", "--resume", resume,
                 "--list", env.path("list"), source, target)
    words = [a if isinstance(a, str) else a.where for a in arguments]
    there = {"listing": lambda: os.path.exists(resume + ".source"), "begun": lambda: progress_of(resume),
             "source": lambda: (progress_of(resume) or {"offset": 0})["offset"] > 0,
             "target": lambda: (progress_of(resume) or {"at_extra": False})["at_extra"]}[moment]
    with subprocess.Popen([doppel.binary(), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          preexec_fn=die_with_parent) as process:
        wait.until(there, "it to get there", interval=0.001)
        process.kill()
    before = progress_of(resume)
    if before:
        other = env.run(*arguments[:-1], env.memcached())
        assert other.code == 2 and "other servers" in other.stderr, other
    result = env.run(*arguments)
    assert result.code == 3, result
    assert verdict(result) == {**ZERO, **{kind: len(keys) for kind, keys in names.items()}}, result
    assert result.json()["keys"] == result.json()["compared"] == KEYS, result
    assert ("goes on" in result.stderr) == bool(before), result
    assert_listed(env.path("list"), names)
    assert not [name for name in os.listdir(os.path.dirname(resume)) if name.startswith("resume")]


@case()
def a_file_of_before_a_restart(env):
    source, target = env.pair()
    source.fill(KEYS)
    target.fill(KEYS)
    arguments = ("verify", "--all", "--rate", "2000", "--resume", env.path("resume"), source, target)
    words = [a if isinstance(a, str) else a.where for a in arguments]
    with subprocess.Popen([doppel.binary(), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          preexec_fn=die_with_parent) as process:
        wait.until(lambda: progress_of(env.path("resume")), "it to begin", interval=0.001)
        again = env.run(*arguments)
        assert again.code == 1 and "another doppel verify" in again.stderr, again
        process.kill()
    target.restart()
    result = env.run(*arguments)
    assert result.code == 1 and "started anew" in result.stderr, result
    with open(env.path("resume"), "w", encoding="ascii") as f:
        f.write("something else\n")
    result = env.run(*arguments)
    assert result.code == 2 and "no file of doppel verify" in result.stderr, result
    result = env.run("verify", "--resume", env.path("resume"), source, target)
    assert result.code == 2 and "--all" in result.stderr, result


@case(flushed=("source", "target", "both"))
def a_flush_before_it_is_taken_up(env, flushed):
    """What was found equal before is not any more, unless both were flushed."""
    source, target = env.pair()
    for server in (source, target):
        server.fill(KEYS)
    resume = env.path("resume")
    arguments = ("verify", "--all", "--settle", "0.1", "--rate", "4000", "--resume", resume, source, target)
    killed_when(lambda progress: progress["offset"] > 1000, *arguments)
    for name, server in (("source", source), ("target", target)):
        if flushed in (name, "both"):
            server.tell(b"flush_all\r\n")
    result = env.run(*arguments)
    if flushed == "both":
        assert result.code == 0, result
    else:
        server = {"source": source, "target": target}[flushed]
        assert result.code == 1 and f"{server.where}: was flushed (flush_all) more often than" in result.stderr, result
        assert f"remove {resume}, {resume}.source" in result.stderr, result


def half_is_missing(env):
    """A pair, and the names of what differs."""
    source, target = env.pair()
    source.fill(KEYS)
    target.fill(KEYS)
    missing = [b"key:%d" % i for i in range(0, KEYS, 2)]
    target.tell(b"".join(b"md %s q\r\n" % key for key in missing))
    return source, target, {"missing": missing}


def killed_when(there, *arguments):
    """A verify that ran until `there()` of its progress."""
    words = [a if isinstance(a, str) else a.where for a in arguments]
    resume = arguments[arguments.index("--resume") + 1]
    with subprocess.Popen([doppel.binary(), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          preexec_fn=die_with_parent) as process:
        wait.until(lambda: (progress := progress_of(resume)) and there(progress), "it to get there", interval=0.001)
        process.kill()


@case()
def a_list_on_a_full_disk(env):
    """It ends when the disk is full, and goes on when there is room."""
    source, target, names = half_is_missing(env)
    small, resume = env.path("small"), env.path("resume")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        arguments = ("verify", "--all", "--json", "--settle", "0.1", "--rate", "4000", "--resume", resume,
                     "--list", f"{small}/list", source, target)
        before = int(source.stats()["cmd_get"])
        result = env.run(*arguments)
        assert result.code == 1 and f"{small}/list: cannot be written: No space left" in result.stderr, result
        assert "make room" in result.stderr and "the same command goes on" in result.stderr, result
        assert int(source.stats()["cmd_get"]) - before < KEYS, "it went on"
        assert 0 < progress_of(resume)["listed"] <= os.path.getsize(f"{small}/list"), progress_of(resume)
        subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
        result = env.run(*arguments)
        assert result.code == 3 and result.json()["missing"] == KEYS // 2, result
        assert_listed(f"{small}/list", names)
    finally:
        subprocess.run(["umount", small], check=True)


@case(how=("shorter", "gone"))
def a_list_that_cannot_be_gone_on_with(env, how):
    source, target, names = half_is_missing(env)
    resume, listed = env.path("resume"), env.path("list")
    arguments = ("verify", "--all", "--json", "--settle", "0.1", "--rate", "8000", "--resume", resume, "--list", listed,
                 source, target)
    killed_when(lambda progress: progress["listed"] > 0, *arguments)
    if how == "gone":
        os.unlink(listed)
    else:
        os.truncate(listed, progress_of(resume)["listed"] - 1)
    result = env.run(*arguments)
    assert result.code == 1 and listed in result.stderr and f"remove {resume}, {resume}.source" in result.stderr, result
    for name in (resume, resume + ".source"):
        os.unlink(name)
    assert env.run(*arguments).code == 3
    assert_listed(listed, names)


def damage(path, offset, how):
    """Spoils a list of keys in the middle of what is behind `offset`."""
    with open(path, "r+b") as f:
        data = f.read()
        at = data.index(b"\n", (offset + len(data)) // 2) + 1
        f.seek(at - (how == "two lines as one"))
        f.write({"zeros": bytes(len(data) - at), "two lines as one": b" ", "other lines": b"other\n" * 100,
                 "another key": data[at:].replace(b"key=key", b"key=kez", 1)}.get(how, b""))
    if how == "gone":
        os.unlink(path)
    elif how == "shorter":
        os.truncate(path, at)


@case(which=("source", "target"), how=("gone", "shorter", "zeros", "two lines as one", "other lines", "another key"))
def a_damaged_list_of_keys(env, which, how):
    """What is left of it is not all."""
    source, target, names = half_is_missing(env)
    resume = env.path("resume")
    arguments = ("verify", "--all", "--json", "--settle", "0.1", "--resume", resume, source, target)
    killed_when(lambda progress: progress["at_extra"] if which == "target" else progress["offset"] > 0,
                *arguments, "--rate", "8000")
    damage(f"{resume}.{which}", progress_of(resume)["offset"], how)
    result = env.run(*arguments)
    assert result.code == 1 and result.stderr.count("error: ") == 1, result
    assert f"error: {resume}.{which}: " in result.stderr and f"remove {resume}, {resume}.source" in result.stderr, result
    for name in (resume, resume + ".source", resume + ".target"):
        if os.path.exists(name):
            os.unlink(name)
    result = env.run(*arguments)
    assert result.code == 3 and result.json()["missing"] == len(names["missing"]), result


@case()
def a_list_that_nobody_can_cut_off(env):
    source, target = env.pair()
    os.mkfifo(env.path("fifo"))
    result = env.run("verify", "--all", "--resume", env.path("resume"), "--list", env.path("fifo"), source, target)
    assert result.code == 2 and "is no regular file" in result.stderr, result


@case(command=("verify", "warm"))
def a_directory_to_resume_from(env, command):
    source, target = env.pair()
    result = env.run(command, *(("--all",) if command == "verify" else ()), "--resume", env.directory, source, target)
    assert result.code in (1, 2) and "directory" in result.stderr and not result.stdout, result


@case()
def finds_each_kind_exactly(env):
    source, target = env.pair()
    source.fill(KEYS)
    target.fill(KEYS)
    names, commands = differing()
    target.tell(commands)
    result = env.run("verify", "--all", "--json", "--list", env.path("list"), source, target)
    assert result.code == 3, result
    assert verdict(result) == {**ZERO, **{kind: len(keys) for kind, keys in names.items()}}, result
    found = result.json()
    assert found["keys"] == found["compared"] == KEYS, result
    assert found["equal"] == KEYS - sum(len(keys) for kind, keys in names.items() if kind != "extra"), result
    assert_listed(env.path("list"), names)


@case()
def tells_people_the_same(env):
    source, target = env.pair()
    source.fill(100)
    target.fill(100)
    target.tell(b"md key:1\r\n")
    result = env.run("verify", "--all", "--settle", "0.1", source, target)
    assert result.code == 3 and result.stderr == "", result
    rows = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()}
    assert rows["listed"] == "100" and rows["equal"] == "99" and rows["missing"] == "1", result


@case()
def finds_nothing_where_there_is_nothing(env):
    source, target = env.pair()
    source.fill(KEYS)
    target.fill(KEYS)
    result = env.run("verify", "--all", "--json", source, target)
    assert result.code == 0 and verdict(result) == ZERO, result
    assert result.json()["equal"] == KEYS, result
    assert result.seconds < 2 + wait.patience(10), result


@case(how=("sample", "prefix"))
def nothing_was_compared(env, how):
    """As after a typing error: that nothing differs is no news then."""
    source, target = env.pair()
    target.fill(2000)
    if how == "prefix":
        source.fill(2000)
    result = env.run("verify", "--json", *(("--all", "--prefix", "zz") if how == "prefix" else ()), source, target)
    assert result.code == 3 and "nothing was compared" in result.stderr, result


@case()
def a_target_that_closes_quiet_connections(env):
    """What only the target has is looked for at the source, and the target is asked nothing meanwhile."""
    source, target = env.memcached(), env.memcached("-o", "idle_timeout=2")
    source.fill(2000)
    target.fill(2000)
    result = env.run("verify", "--all", "--json", "--rate", "500", source, target)
    assert result.code == 0 and result.json()["equal"] == 2000, result


@case()
def nothing_at_all_is_equal(env):
    source, target = env.pair()
    result = env.run("verify", "--all", "--json", source, target)
    assert result.code == 0 and result.json()["keys"] == 0 and verdict(result) == ZERO, result


class Writer:
    """Sets keys on the servers given, one server after the other, at `rate` a second, until it is stopped."""

    def __init__(self, servers, keys, rate):
        self.talks = [s.talk() for s in servers]
        self.keys, self.rate, self.written, self.error = keys, rate, 0, None
        self.stopped = threading.Event()
        self.begin = time.monotonic()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.stopped.is_set():
                due = int((time.monotonic() - self.begin) * self.rate) - self.written
                if due < 50:
                    self.stopped.wait(0.002)
                    continue
                numbers = range(self.written, self.written + min(due, 500))
                request = b"".join(store(b"key:%d" % (i % self.keys), b"new %d" % i, flags=i % 7, ttl=i % 3 * 3000)
                                   for i in numbers)
                for talk in self.talks:
                    talk.tell(request)
                self.written += len(numbers)
        except Exception as e:  # pylint: disable=broad-except
            self.error = e

    def stop(self):
        """How many a second there were."""
        self.stopped.set()
        self.thread.join()
        seconds = time.monotonic() - self.begin
        for talk in self.talks:
            talk.__exit__()
        if self.error:
            raise self.error
        return self.written / seconds


@case()
def finds_nothing_while_both_are_written_to(env):
    source, target = env.pair()
    source.fill(KEYS)
    target.fill(KEYS)
    writer = Writer((source, target), KEYS, 5000)
    try:
        result = env.run("verify", "--all", "--json", "--rate", "10000", source, target)
    finally:
        rate = writer.stop()
    assert result.code == 0, result
    found = verdict(result)
    assert found == {**ZERO, "moving": found["moving"]}, result
    assert result.json()["seconds"] >= 3, "it was over before much could be written"
    assert rate >= 5000 / wait.SLOWNESS * 0.9, f"only {rate:.0f} sets a second"


@case()
def what_changes_between_the_looks_is_moving(env):
    source, target = env.pair()
    source.fill(1000)
    target.fill(1000)
    target.tell(b"md key:999 q\r\n")
    writer = Writer((source,), 100, 2000)  # each of them twenty times a second
    try:
        wait.until(lambda: writer.written >= 100, "each of them to be written")
        result = env.run("verify", "--all", "--json", "--settle", "1", source, target)
    finally:
        writer.stop()
    assert result.code == 3 and verdict(result) == {**ZERO, "missing": 1, "moving": 100}, result


@case()
def what_arrives_late_is_no_difference(env):
    source, target = env.pair()
    source.fill(1000)
    late = threading.Timer(1.0, lambda: target.fill(1000))
    late.start()
    try:
        result = env.run("verify", "--all", "--json", "--settle", "3", source, target)
    finally:
        late.join()
    assert result.code == 0 and verdict(result) == ZERO and result.json()["equal"] == 1000, result


@case()
def an_expiry_is_no_difference(env):
    source, target = env.pair()
    for server, ttl in ((source, 3), (target, 5)):
        server.tell(b"".join(store(b"key:%d" % i, b"v", ttl=ttl) for i in range(100)))
    result = env.run("verify", "--all", "--json", source, target)
    assert result.code == 0, result
    assert {**verdict(result), "moving": 0} == ZERO, result


@case()
def leaves_no_trace(env):
    source, target = env.pair()
    source.fill(KEYS)
    target.fill(KEYS)
    source.tell(b"".join(b"mg key:%d\r\n" % i for i in range(0, KEYS, 3)))  # have been fetched
    source.tell(b"md key:5 I q\r\nmg key:5\r\n")  # stale, and its token is the application's
    target.tell(b"md key:7 q\r\n")  # so that there is a second look
    before, stats = source.dump(), source.stats()
    result = env.run("verify", "--all", "--json", source, target)
    assert result.code == 3 and verdict(result) == {**ZERO, "missing": 1} and result.json()["stale"] == 1, result
    after, later = source.dump(), source.stats()
    changed = [key for key in before if before[key] != after.get(key)]
    assert len(before) == KEYS and not changed, f"{len(changed)} items changed, such as {changed[:3]}"
    for name in ("evicted_active", "evictions", "curr_items", "bytes", "cmd_set", "cmd_touch", "get_misses",
                 "lru_bumps_dropped", "moves_to_warm", "moves_within_lru"):
        assert stats[name] == later[name], f"{name}: {stats[name]}, then {later[name]}"
    (answer,) = source.tell(b"mg key:5 s u\r\n")
    assert sorted(answer.split()) == [b"HD", b"X", b"Z", b"s2"], answer  # as it was: no token is free
    assert env.run("keys", "--values", source).code == 0
    assert source.dump() == before


@case()
def stops_at_the_first_token(env):
    source, target = env.pair()
    source.fill(KEYS)
    target.fill(KEYS)
    source.tell(b"".join(b"md key:%d I q\r\n" % i for i in range(KEYS)))
    result = env.run("verify", "--all", source, target)
    assert result.code == 1 and "marked as stale" in result.stderr, result
    answers = source.tell(b"".join(b"mg key:%d\r\n" % i for i in range(KEYS)))
    taken = sum(b"W" not in answer for answer in answers)
    assert 1 <= taken <= 32, f"{taken} tokens were taken"
    result = env.run("verify", "--all", "--json", "--stale-ok", source, target)
    assert result.code == 0 and result.json()["stale"] == KEYS, result


@case()
def stops_at_the_first_token_of_a_binary_key(env):
    """On the target's keys, too, which are looked for on the source: they were marked after its own were read."""
    source, target = env.pair()
    names = [base64.b64encode(b"user %d" % i) for i in range(KEYS)]
    for server in (source, target):
        server.tell(b"".join(b"ms %s 1 b\r\nv\r\n" % name for name in names))
    resume = env.path("resume")
    arguments = ("verify", "--all", "--settle", "0.1", "--rate", "8000", "--resume", resume, source, target)
    words = [a if isinstance(a, str) else a.where for a in arguments]
    with subprocess.Popen([doppel.binary(), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          preexec_fn=die_with_parent) as process:
        wait.until(lambda: (progress_of(resume) or {"at_extra": False})["at_extra"], "it to get there", interval=0.001)
        process.kill()
    source.tell(b"".join(b"md %s b I q\r\n" % name for name in names))
    result = env.run(*arguments)
    assert result.code == 1 and "marked as stale" in result.stderr, result
    answers = source.tell(b"".join(b"mg %s b\r\n" % name for name in names))
    taken = sum(b"W" not in answer for answer in answers)
    assert 1 <= taken <= 32, f"{taken} tokens were taken"


@case()
def a_sample_tells_of_all(env):
    source, target = env.pair()
    source.fill(KEYS)
    target.fill(KEYS)
    target.tell(b"".join(b"md key:%d q\r\n" % i for i in range(0, KEYS, 4)))  # three of four are equal
    result = env.run("verify", "--json", "--sample", "2000", "--settle", "0.1", source, target)
    found = result.json()
    assert result.code == 3 and found["keys"] == KEYS and found["compared"] == 2000, result
    low, high = found["interval_95"]
    # Five standard deviations of such samples: 0.048.
    assert low < found["equal"] / 2000 < high and abs(found["equal"] / 2000 - 0.75) < 0.05, result
    assert 0.03 < high - low < 0.045, result
    result = env.run("verify", "--json", "--settle", "0.1", source, target)
    assert result.json()["compared"] == 10_000, result


@case()
def a_sample_of_all_keys_is_exact(env):
    source, target = env.pair()
    source.fill(100)
    target.fill(100)
    arguments = ("verify", "--settle", "0.1", source, target)
    assert env.run(*arguments, "--json").json()["interval_95"] == [1, 1]
    assert "100.00 % of the keys are equal: the sample holds all of them\n" in env.run(*arguments).stdout
    target.tell(b"md key:0 q\r\n")
    assert env.run(*arguments, "--json").json()["interval_95"] == [0.99, 0.99]
    low, high = env.run(*arguments, "--json", "--sample", "50").json()["interval_95"]
    assert 0.8 < low <= 0.99 <= high <= 1, (low, high)


@case()
def only_the_prefix(env):
    source, target = env.pair()
    source.fill(100)
    source.fill(10, key=b"user:%d")
    target.fill(3, key=b"user:%d")
    target.fill(2, key=b"user:x%d")
    result = env.run("verify", "--all", "--json", "--prefix", "user:", "--settle", "0.1", source, target)
    assert result.code == 3 and result.json()["keys"] == 10, result
    assert verdict(result) == {**ZERO, "missing": 7, "extra": 2}, result


@case()
def keys_of_any_bytes(env):
    source, target = env.pair()
    keys = [b"a b", b"\x00", b"\r\n", b"\xff\xfe", "ä".encode(), b"%41", b"k" * 250, b" " * 186]
    source.tell(b"".join(store(key, b"v") for key in keys))
    target.tell(b"".join(store(key, b"v") for key in keys[1:]))
    for server in (source, target):
        server.store_binary([b" " * 187, b"x y\r\nz"])
        server.tell(b"set %s 0 0 1\r\nv\r\n" % (b"\t\x7f" * 100))  # too long for Base64
    result = env.run("verify", "--all", "--json", "--settle", "0.1", "--list", env.path("list"), source, target)
    assert result.code == 3 and verdict(result) == {**ZERO, "missing": 1, "unreadable": 1}, result
    assert result.json()["keys"] == len(keys) + 3, result
    with open(env.path("list"), encoding="ascii") as f:
        assert f.read() == "missing a%20b\n"
    target.tell(store(b"a b", b"v"))
    result = env.run("verify", "--all", "--json", "--settle", "0.1", source, target)
    assert result.code == 3 and verdict(result) == {**ZERO, "unreadable": 1}, "what cannot be read is not proven"


@case(resume=("", "--resume"))
def names_of_the_target_that_no_line_holds(env, resume):
    """Nobody can ask for them, so they are no proof. Those of both count once."""
    source, target = env.pair()
    for server in (source, target):
        server.fill(100)
        server.store_binary([b"both %03d " % i + b"y" * 200 for i in range(3)])
    arguments = ("verify", "--all", "--json", *((resume, env.path("resume")) if resume else ()), "--settle", "0.1")
    result = env.run(*arguments, source, target)
    assert result.code == 3 and verdict(result) == {**ZERO, "unreadable": 3}, result
    target.store_binary([b"target %03d " % i + b"y" * 200 for i in range(50)])
    result = env.run(*arguments, source, target)
    assert result.code == 3 and verdict(result) == {**ZERO, "unreadable": 53}, result
    assert result.json()["keys"] == 103 and result.json()["equal"] == 100, result
    result = env.run(*arguments, "--prefix", "target 00", source, target)
    assert result.code == 3 and verdict(result) == {**ZERO, "unreadable": 10}, result


@case()
def large_values(env):
    source, target = env.pair("-I", "8m")
    values = [bytes([i]) * 3_000_000 for i in range(20)]
    for server in (source, target):
        server.tell(b"".join(store(b"key:%d" % i, value) for i, value in enumerate(values)))
    assert env.run("verify", "--all", source, target).code == 0
    target.tell(store(b"key:7", values[7][:-1] + b"x"))
    result = env.run("verify", "--all", "--json", "--settle", "0.1", source, target)
    assert result.code == 3 and verdict(result) == {**ZERO, "different": 1}, result


@case()
def not_faster_than_told(env):
    source, target = env.pair()
    source.fill(1000)
    target.fill(1000)
    result = env.run("verify", "--json", "--rate", "500", source, target)
    assert result.code == 0 and 1.7 <= result.json()["seconds"] < wait.patience(4), result


@case()
def a_source_without_cas_is_said_to_be_one(env):
    source, target = env.memcached("-C"), env.memcached()
    source.fill(1000)
    target.fill(1000)
    target.tell(b"md key:1 q\r\n")
    result = env.run("verify", "--all", "--json", "--settle", "0.1", source, target)
    assert result.code == 3 and verdict(result) == {**ZERO, "missing": 1}, result
    assert result.stderr.startswith("warning: ") and "has no CAS" in result.stderr, result
