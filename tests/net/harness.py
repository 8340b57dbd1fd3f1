# SPDX-License-Identifier: Apache-2.0
"""Registers, selects and runs the network tests, and says what happened."""

import os
import shutil
import signal
import sys
import time
import traceback

from lab import doppel, wait
from lab.bpf import Neighbour
from lab.host import Failed
from lab.network import Lab
from lab.scene import Scene

MODES = ("tcx", "clsact")
TIME_LIMIT = int(wait.patience(240))  # s for one case
TOOLS = ("ip", "tc", "nft", "ethtool", "unshare", "nsenter", "setpriv", "memcached")
EXCUSE = "left to tools/kernel-matrix"
_cases = []


class Skip(Exception):
    """Something that the case needs is absent."""


class Elsewhere(Skip):
    """This kernel cannot have it; tools/kernel-matrix runs the case on kernels that do. Such a skip is none
    for DOPPEL_REQUIRE_ALL."""

    def __init__(self, reason):
        super().__init__(f"{reason} ({EXCUSE})")


class Case:
    def __init__(self, function, parameters, tcx=False, long=False):
        self.long = long
        self.needs_tcx = tcx or any(str(value).startswith("tcx") for value in parameters.values())
        module = function.__module__.removeprefix("test_")
        self.function, self.parameters = function, parameters
        suffix = ",".join(str(v) for v in parameters.values())
        self.name = f"{module}.{function.__name__}" + (f"[{suffix}]" if suffix else "")


def case(tcx=False, long=False, **variants):
    """Registers a function as a test, once for each combination of the variants given.

    The function gets an Env and the variants. @case(mode=MODES) runs it with both ways to attach. tcx: it
    uses TCX also where no variant is called that. long: it takes minutes, and runs with --long only.
    """
    def register(function):
        combinations = [{}]
        for name, values in variants.items():
            combinations = [{**c, name: v} for c in combinations for v in values]
        _cases.extend(Case(function, c, tcx, long) for c in combinations)
        return function
    return register


class Env:
    """What a running case has made, so that it can be described and removed."""

    def __init__(self, mode):
        self.mode = mode
        self.scenes = []
        self.labs = []

    def scene(self, **options):
        made = Scene(attach_mode=self.mode, **options)
        self.scenes.append(made)
        return made

    def allow(self, seconds):
        """This case takes so many seconds more than others may."""
        signal.alarm(TIME_LIMIT + int(wait.patience(seconds)))

    def lab(self, **options):
        made = Lab(**options)
        self.labs.append(made)
        return made

    def diagnosis(self):
        texts = []
        for scene in self.scenes:
            try:
                texts.append(scene.diagnosis())
            except Exception as e:  # must not hide the failure that is being described
                texts.append(f"no diagnosis: {e}")
        return "\n".join(texts)

    def close(self):
        for made in self.scenes + self.labs:
            made.close()


def obstacle():
    """Why no network test can run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"not installed: {' '.join(missing)} (tools/install-deps installs them)"
    if not os.access(doppel.binary(), os.X_OK):
        return f"no program under test at {doppel.binary()}"
    try:
        Lab().close()
    except (Failed, OSError) as e:
        return str(e)
    return None


def tcx_obstacle():
    with Lab() as lab:
        try:
            Neighbour(lab.source, "tcx-last").close()
        except OSError as e:
            return f"this kernel has no TCX ({e})"
    return None


def _out_of_time(*_):
    raise AssertionError("not done in time")


def _indent(text):
    return "".join(f"    {line}\n" for line in text.rstrip().splitlines())


def _run(one, obstacles):
    """("PASS" | "FAIL" | "SKIP", text)"""
    reason = obstacles.get(None) or (one.needs_tcx and obstacles.get("tcx"))
    if reason:
        return "SKIP", reason
    env = Env(one.parameters.get("mode"))
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.alarm(TIME_LIMIT)
    try:
        one.function(env, **one.parameters)
        return "PASS", ""
    except Skip as e:
        return "SKIP", str(e)
    except Exception:
        signal.alarm(int(wait.patience(60)))
        return "FAIL", traceback.format_exc() + env.diagnosis()
    finally:
        signal.alarm(0)
        env.close()


def select(patterns, mode=None, long=False):
    """All cases whose name contains one of the patterns; "suite." means those of that suite.

    With a mode only those of this way to attach, and those that are about none; with clsact none that
    would need TCX. Those that take minutes only if `long`."""
    def fits(name, pattern):
        return name.startswith(pattern) if pattern.endswith(".") else pattern in name
    return [c for c in _cases
            if (not patterns or any(fits(c.name, p) for p in patterns))
            and (mode is None or c.parameters.get("mode", mode) == mode)
            and not (mode == "clsact" and c.needs_tcx)
            and (long or not c.long)]


def main(patterns, list_only=False, mode=None, long=False):
    chosen = select(patterns, mode, long)
    if list_only:
        print("\n".join(c.name for c in chosen))
        return 0
    if not chosen:
        print(f"no test matches {' '.join(patterns)}", file=sys.stderr)
        return 2
    obstacles = {None: obstacle()}
    if not obstacles[None] and any(c.needs_tcx for c in chosen):
        obstacles["tcx"] = tcx_obstacle()
    count = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    excused = 0
    for one in chosen:
        begin = time.monotonic()
        verdict, text = _run(one, obstacles)
        count[verdict] += 1
        excused += verdict == "SKIP" and EXCUSE in text
        seconds = time.monotonic() - begin
        note = f": {text}" if verdict == "SKIP" else f" ({seconds:.1f} s)"
        print(f"{verdict}  {one.name}{note}", flush=True)
        if verdict == "FAIL":
            print(_indent(text), end="", flush=True)
    print(f"{count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped", flush=True)
    if count["FAIL"]:
        return 1
    if count["SKIP"] > excused and os.environ.get("DOPPEL_REQUIRE_ALL"):
        print("a skipped test counts as a failure here (DOPPEL_REQUIRE_ALL)")
        return 1
    return 77 if count["SKIP"] == len(chosen) else 0
