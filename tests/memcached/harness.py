# SPDX-License-Identifier: Apache-2.0
"""Registers, selects and runs the tests, each with a directory and servers of its own, in a network namespace of
this run with nothing but a loopback device."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from lab import doppel, wait

import servers

TIME_LIMIT = int(wait.patience(120))  # s for one case
INSIDE = "DOPPEL_MEMCACHED_TESTS_INSIDE"  # set in the namespace
TOOLS = ("ip", "unshare", "memcached", "openssl")
_cases = []


class Case:
    def __init__(self, function, variant):
        self.function, self.variant = function, variant
        name = f"{function.__module__.removeprefix('test_')}.{function.__name__}"
        self.name = name + (f"[{','.join(variant.values())}]" if variant else "")


def case(**variants):
    """Registers a function as a test, once for each value of a variant. It gets an Env, and the variant."""
    def register(function):
        combinations = [{}]
        for name, values in variants.items():
            combinations = [{**c, name: v} for c in combinations for v in values]
        _cases.extend(Case(function, c) for c in combinations)
        return function
    return register


class Result:
    """What a command came to."""

    def __init__(self, done, seconds):
        self.code, self.stdout, self.stderr, self.seconds = done.returncode, done.stdout, done.stderr, seconds

    def json(self):
        return json.loads(self.stdout)

    def lines(self):
        return [json.loads(line) for line in self.stdout.splitlines()]

    def __repr__(self):
        return f"exit code {self.code} after {self.seconds:.1f} s\n{self.stdout[-2000:]}\n{self.stderr[-2000:]}"


class Env:
    """A directory, the servers in it, and doppel, which finds its temporary files in one that stays empty."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="doppel-memcached-")
        self.spool = self.path("spool")
        os.mkdir(self.spool)
        self.made = []

    def path(self, name):
        return os.path.join(self.directory, name)

    def file(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        return self.path(name)

    def memcached(self, *options, **where):
        made = servers.Memcached(self, *options, **where)
        self.made.append(made)
        return made

    def pair(self, *options):
        return self.memcached(*options), self.memcached(*options)

    def own(self, made):
        self.made.append(made)
        return made

    def run(self, *arguments, timeout=60, tmpdir=None):
        """doppel with these arguments; servers stand for their addresses. Its lists go to an empty directory, or `tmpdir`."""
        words = [a if isinstance(a, str) else a.where for a in arguments]
        if "--timeout" not in words:
            words += ["--timeout", "30"]  # a machine with other work is no broken server
        begin = time.monotonic()
        done = subprocess.run([doppel.binary(), *words], capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=wait.patience(timeout),
                              env={**os.environ, "TMPDIR": tmpdir or self.spool})
        left = os.listdir(self.spool)
        if left:
            raise AssertionError(f"{words[0]} left {left} behind")
        return Result(done, time.monotonic() - begin)

    def close(self):
        for made in reversed(self.made):
            made.close()
        shutil.rmtree(self.directory)


def obstacle():
    """Why no test can run here, or None."""
    if os.geteuid() != 0:
        return "needs root, for a network namespace of its own"
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"not installed: {' '.join(missing)} (tools/install-deps installs them)"
    if not os.access(doppel.binary(), os.X_OK):
        return f"no program under test at {doppel.binary()}"
    return None


def enter():
    """Runs this very program once more in namespaces of its own, unless it is there."""
    if INSIDE in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ[INSIDE] = "1"
    sys.stdout.flush()
    os.execvp("unshare", ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, *sys.argv])


def select(words):
    """All cases whose name contains one of the words; "file." means those of that file."""
    return [c for c in _cases
            if not words or any(c.name.startswith(w) if w.endswith(".") else w in c.name for w in words)]


def _out_of_time(*_):
    raise AssertionError("not done in time")


def _run(one):
    """("PASS" | "FAIL", text)"""
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.alarm(TIME_LIMIT)
    env = Env()
    try:
        one.function(env, **one.variant)
        return "PASS", ""
    except Exception:  # pylint: disable=broad-except
        return "FAIL", traceback.format_exc()
    finally:
        signal.alarm(0)
        env.close()


def run(chosen):
    """Runs the cases, tells what came of them, and returns the exit code."""
    reason = obstacle()
    if reason:
        for one in chosen:
            print(f"SKIP  {one.name}: {reason}")
        print(f"0 passed, 0 failed, {len(chosen)} skipped")
        return 77
    enter()
    count = {"PASS": 0, "FAIL": 0}
    for one in chosen:
        begin = time.monotonic()
        verdict, text = _run(one)
        count[verdict] += 1
        print(f"{verdict}  {one.name} ({time.monotonic() - begin:.1f} s)\n" +
              "".join(f"    {line}\n" for line in text.splitlines()), end="", flush=True)
    print(f"{count['PASS']} passed, {count['FAIL']} failed, 0 skipped", flush=True)
    return 1 if count["FAIL"] else 0
