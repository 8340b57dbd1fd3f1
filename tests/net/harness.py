# SPDX-License-Identifier: Apache-2.0
"""Registers, selects and runs the network tests, and says what happened."""

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib

from lab import doppel, wait
from lab.bpf import Neighbour
from lab.host import Failed
from lab.network import Lab
from lab.pulse import Pulse
from lab.scene import Scene

MODES = ("tcx", "clsact")
TIME_LIMIT = int(wait.patience(240))  # s for one case
TOOLS = ("ip", "tc", "nft", "ethtool", "unshare", "nsenter", "setpriv", "memcached")
EXCUSE = "left to tools/kernel-matrix"
VERDICTS = ("PASS", "FAIL", "SKIP")
DIAGNOSIS = "\n    --- "  # where a failed case's output turns from the error to the state of the hosts
_cases = []


class Skip(Exception):
    """Something that the case needs is absent."""


class Elsewhere(Skip):
    """This kernel cannot have it; tools/kernel-matrix runs the case on kernels that do. Such a skip is none
    for DOPPEL_REQUIRE_ALL."""

    def __init__(self, reason):
        super().__init__(f"{reason} ({EXCUSE})")


class Case:
    def __init__(self, function, parameters, tcx=False, long=False, slow=False, spare=False):
        self.long, self.slow, self.spare = long, slow, spare
        # The whole file, for full speed or because it compares latencies.
        self.alone = getattr(sys.modules[function.__module__], "ALONE", False)
        self.needs_tcx = tcx or any(str(value).startswith("tcx") for value in parameters.values())
        module = function.__module__.removeprefix("test_")
        self.families = parameters.pop("families", "v4")
        self.function, self.parameters = function, parameters
        suffix = ",".join([*map(str, parameters.values()), *([] if self.families == "v4" else [self.families])])
        self.name = f"{module}.{function.__name__}" + (f"[{suffix}]" if suffix else "")


def diagonal(name, variants):
    """As few combinations as have each value once at least; but each function has one way to attach only where it has no
    other variants, and another function the other one."""
    lists = {kind: list(values) for kind, values in variants.items()}
    most = max((len(values) for kind, values in lists.items() if kind != "mode"), default=1)
    first = {"mode": zlib.crc32(name.encode())}
    return [{kind: values[(first.get(kind, 0) + turn) % len(values)] for kind, values in lists.items()}
            for turn in range(most)]


def case(tcx=False, long=False, slow=False, **variants):
    """Registers a function as a test, once for each combination of the variants given.

    The function gets an Env and the variants. @case(mode=MODES) runs it with both ways to attach. tcx: it
    uses TCX also where no variant is called that. families: the IP versions of its scenes; the function is not
    told. long: it takes minutes, and runs with --long only. slow: it
    takes 20 s or more, so that it begins early where several run at a time. ALONE = True in a file of tests:
    none of them runs beside another.

    The combinations of variants that diagonal() leaves out are spare: see select().
    """
    def register(function):
        combinations = [{}]
        for name, values in variants.items():
            combinations = [{**c, name: v} for c in combinations for v in values]
        kept = diagonal(function.__name__, variants)
        _cases.extend(Case(function, dict(c), tcx, long, slow, spare=c not in kept) for c in combinations)
        return function
    return register


class Env:
    """What a running case has made, so that it can be described and removed."""

    def __init__(self, mode, families="v4"):
        self.mode, self.families = mode, families
        self.scenes = []
        self.labs = []
        self.guests = []  # what lives on hosts of those, and ends before them
        self.pulse = Pulse()

    def scene(self, **options):
        made = Scene(attach_mode=self.mode, **{"families": self.families, **options})
        self.scenes.append(made)
        return made

    def allow(self, seconds):
        """This case takes so many seconds more than others may."""
        signal.alarm(TIME_LIMIT + int(wait.patience(seconds)))

    def late_us(self):
        """By how much this machine itself was late at worst, which no client of it can be quicker than."""
        return round(self.pulse.latest * 1e6)

    def lab(self, **options):
        made = Lab(**{"families": self.families, **options})
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
        for made in self.guests + self.scenes + self.labs:
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


def die_with(parent):
    """The kernel ends this process when the one that forked it ends, even by SIGKILL."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _indent(text):
    return "".join(f"    {line}\n" for line in text.rstrip().splitlines())


def _run(one, obstacles):
    """("PASS" | "FAIL" | "SKIP", text)"""
    reason = obstacles.get(None) or (one.needs_tcx and obstacles.get("tcx"))
    if reason:
        return "SKIP", reason
    env = Env(one.parameters.get("mode"), one.families)
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.alarm(TIME_LIMIT)
    try:
        one.function(env, **one.parameters)
        return "PASS", ""
    except Skip as e:
        return "SKIP", str(e)
    except Exception:
        signal.alarm(int(wait.patience(60)))
        return "FAIL", f"{traceback.format_exc()}{env.pulse.text()}\n{env.diagnosis()}"
    finally:
        signal.alarm(0)
        env.pulse.stop()
        env.close()


def select(patterns, mode=None, long=False, alone=None, whole=False):
    """All cases whose name contains one of the patterns; "suite." means those of that suite. Without a pattern, and not
    `whole`: without the spare combinations of what runs beside others, which would take an hour.

    With a mode only those of this way to attach, and those that are about none; with clsact none that
    would need TCX. Those that take minutes only if `long`. alone: "only" or "none" of those that want to be."""
    def fits(name, pattern):
        return name.startswith(pattern) if pattern.endswith(".") else pattern in name
    return [c for c in _cases
            if (not patterns or any(fits(c.name, p) for p in patterns))
            and (mode is None or c.parameters.get("mode", mode) == mode)
            and not (mode == "clsact" and c.needs_tcx)
            and (long or not c.long)
            and (whole or patterns or c.alone or not c.spare)
            and (alone is None or c.alone == (alone == "only"))]


def _tell(one, obstacles):
    """Runs a case and prints what came of it. Returns the verdict, whether it is a skip that is excused, and
    what was printed of it."""
    begin = time.monotonic()
    verdict, text = _run(one, obstacles)
    note = f": {text}" if verdict == "SKIP" else f" ({time.monotonic() - begin:.1f} s)"
    told = f"{verdict}  {one.name}{note}\n" + (_indent(text) if verdict == "FAIL" else "")
    print(told, end="", flush=True)
    return verdict, verdict == "SKIP" and EXCUSE in text, told


class Child:
    """A case in a process of its own, which dies with this one. What it prints is kept until it has ended."""

    def __init__(self, one, obstacles):
        self.name = one.name
        self.output = tempfile.TemporaryFile()
        sys.stdout.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid:
            return
        code = VERDICTS.index("FAIL") * 2
        why = ""
        try:
            die_with(parent)
            os.dup2(self.output.fileno(), 1)
            os.dup2(self.output.fileno(), 2)
            verdict, excused, _ = _tell(one, obstacles)
            code = VERDICTS.index(verdict) * 2 + excused
        except BaseException:  # as when its lab cannot be removed
            why = f"FAIL  {one.name}: could not be ended\n{_indent(traceback.format_exc())}"
        finally:
            print(why, end="")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self, status):
        """What _tell returns, of what waitpid said; and prints what the case printed."""
        self.output.seek(0)
        told = self.output.read().decode(errors="replace")
        self.output.close()
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            told += f"FAIL  {self.name}: ended by signal {-code}\n"
        print(told, end="", flush=True)
        return (VERDICTS[code // 2], bool(code % 2), told) if code >= 0 else ("FAIL", False, told)


def _several(chosen, obstacles, jobs):
    """Yields what _tell returns, of `jobs` cases at a time. Those that want to be alone come last."""
    patient = sorted((one for one in chosen if not one.alone), key=lambda one: not one.slow)
    running = {}
    try:
        while patient or running:
            while patient and len(running) < jobs:
                child = Child(patient.pop(0), obstacles)
                running[child.pid] = child
            pid, status = os.wait()
            if pid in running:
                yield running.pop(pid).ended(status)
    finally:
        for pid in running:  # interrupted; each removes its lab
            os.kill(pid, signal.SIGTERM)
        for pid in running:
            os.waitpid(pid, 0)
    for one in chosen:
        if one.alone:
            yield _tell(one, obstacles)


def run(chosen, jobs=1):
    """Runs the cases, tells what came of them, and returns the exit code."""
    obstacles = {None: obstacle()}
    if not obstacles[None] and any(c.needs_tcx for c in chosen):
        obstacles["tcx"] = tcx_obstacle()
    count = dict.fromkeys(VERDICTS, 0)
    excused = 0
    failures = []
    for verdict, excuse, told in (_several(chosen, obstacles, jobs) if jobs > 1 else
                            (_tell(one, obstacles) for one in chosen)):
        count[verdict] += 1
        excused += excuse
        if verdict == "FAIL":
            failures.append(told.split(DIAGNOSIS)[0].rstrip())
    if failures and len(chosen) > 1:  # who reads only the end of a long output has to find them
        print("\nwhat failed, once more:", *failures, sep="\n")
    print(f"{count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped", flush=True)
    if count["FAIL"]:
        return 1
    if count["SKIP"] > excused and os.environ.get("DOPPEL_REQUIRE_ALL"):
        print("a skipped test counts as a failure here (DOPPEL_REQUIRE_ALL)")
        return 1
    return 77 if count["SKIP"] == len(chosen) else 0
