# SPDX-License-Identifier: Apache-2.0
"""Builds doppel and runs all suites; the last line is "N passed, N failed, N skipped".

Called by tools/test. With DOPPEL_REQUIRE_ALL=1 a skipped test of the suites "memcached", "bpf" and "net"
counts as a failure.
"""

import argparse
import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

import clang
import tidy

# Labels, in this order: what fails fast comes first. Those of cli and memcached mostly wait, and run beside those of
# bpf.
CTEST_SUITES = (("unit",), ("cli", "memcached", "bpf"), ("fuzz",))
# Tests at a time. Of net one runs several cases itself.
AT_A_TIME = {"unit": 2, "cli": 6, "memcached": 6, "bpf": 2, "fuzz": 2, "net": 1}
SLOW = ("tidy", "builds", "kernels")  # only if asked for
MUST_NOT_SKIP = ("memcached", "bpf", "fuzz", "sanitize", "net", "kernels")
# Files of a target are compiled eight at a time, in half of the time: most of it goes into headers.
STRICT = ("-DDOPPEL_WERROR=ON", "-DBUILD_TESTING=ON", "-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=8")
# What the suite "sanitize" builds, and the tests of it that it runs: user space without the network.
SANITIZED_TARGETS = ("doppel", "unit_tests", "packet_test", "host_tests")
UNIT_PARTS = 8  # of unit_tests, of which some take seconds
# The models of many commands walk for minutes what those of fewer walk in seconds, by the same code; without sanitizers
# the suite "unit" runs them all.
LONG_MODELS = ("*Model.Six*", "*Model.Five*", "*Model.Four*", "*Model.Three*OnTwo*", "*Model.WithTheSourcesCas", "*Model.BesideWarm")
CLOSING = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.MULTILINE)
GTEST = {name: re.compile(rf"^\[  {name}\s*\] (\d+) tests?", re.MULTILINE)
         for name in ("PASSED", "FAILED", "SKIPPED")}
EXCUSE = "left to tools/kernel-matrix"  # as tests/net/harness.py says of what needs another kernel
REASONS = re.compile(r"^(?:SKIP .*|.*: Skipped\n.*)$", re.MULTILINE)
# A case that failed, as the test programs say it, with what they say of why but for the state of the hosts.
# The kernel matrix says of which kernel, before.
FAILURES = re.compile(r"^(?:(?:\S+ +)?FAIL  .*(?:\n {4}(?!--- ).*)*|\[  FAILED  \] [^\s,]+(?:, where .*)? \(\d+ ms\))$", re.MULTILINE)


class Suite:
    def __init__(self, name):
        self.name = name
        self.passed = self.failed = self.skipped = 0
        self.seconds = 0.0
        self.beside = 0.0  # seconds, while tests were waited for
        self.reasons = []
        self.failures = []

    def add(self, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped


def command(suite, argv, **kwargs):
    """Runs one command as one test of the suite."""
    ok = subprocess.run(argv, check=False, **kwargs).returncode == 0
    suite.add(int(ok), int(not ok), 0)
    return ok


def sources():
    """All files of the checkout that are tracked or about to be."""
    if shutil.which("git") and os.path.isdir(".git"):
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                capture_output=True, text=True, check=True).stdout.split("\0")
        return sorted(path for path in listed if os.path.isfile(path))
    return sorted(os.path.join(where, name).removeprefix("./")
                  for where, dirs, names in os.walk(".") for name in names
                  if not where.startswith(("./build", "./.git")))


def build(suite, args):
    configure = ["cmake", "-S", ".", "-B", args.build, f"-DCMAKE_BUILD_TYPE={args.build_type}", "-DDOPPEL_PCH=ON",
                 # Line numbers, as nobody asks for more.
                 "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O2 -g1 -DNDEBUG", *STRICT]
    return (command(suite, configure, stdout=subprocess.DEVNULL)
            and command(suite, ["cmake", "--build", args.build, "--parallel", str(args.jobs)]))


def check_format(suite):
    files = [f for f in sources()
             if f.endswith((".c", ".h", ".cpp", ".hpp", ".cc")) and not f.startswith("vmlinux/")]
    command(suite, ["clang-format", "--dry-run", "-Werror", *files])


def check_tidy(suite, args):
    ok = tidy.run([f for f in sources() if re.fullmatch(r"userspace/.*\.cpp", f)], args.build, args.jobs)
    suite.add(int(ok), int(not ok), 0)


def check_scripts(suite):
    scripts = []
    for path in sources():
        with open(path, "rb") as f:
            first = f.readline(80)
        if re.match(rb"#!.*\b(ba|da)?sh\b", first):
            scripts.append(path)
    # SC1091: what a script sources is checked as a file of its own, and may lie elsewhere at run time.
    command(suite, ["shellcheck", "--exclude=SC1091", *scripts])
    for path in sources():
        with open(path, "rb") as f:
            python = path.endswith(".py") or b"python3" in f.readline(80)
        if python:
            with open(path, "rb") as f:
                try:
                    compile(f.read(), path, "exec")
                    suite.add(1, 0, 0)
                except SyntaxError as e:
                    print(e)
                    suite.add(0, 1, 0)


def counts_of(output):
    """(passed, failed, skipped) that a test program itself reported, or None."""
    closing = CLOSING.findall(output)
    if closing:
        return tuple(map(int, closing[-1]))
    found = {name: [int(n) for n in regex.findall(output)] for name, regex in GTEST.items()}
    if not found["PASSED"]:
        return None
    return found["PASSED"][-1], sum(found["FAILED"][-1:]), sum(found["SKIPPED"][-1:])


def names_of(suite, args):
    """Those of the tests with the suite's label."""
    listed = subprocess.run(["ctest", "--test-dir", args.build, "--label-regex", f"^{suite.name}$", "--show-only=json-v1"],
                            check=True, capture_output=True, text=True).stdout
    return {test["name"] for test in json.loads(listed)["tests"]}


def read_junit(suite, path, names):
    """Adds what a run of ctest reported of these tests, down to the single cases where a program counts them."""
    if not os.path.exists(path):
        suite.add(0, 1, 0)
        return
    for test in ElementTree.parse(path).getroot().iter("testcase"):
        if test.get("name") not in names:
            continue
        output = test.findtext("system-out") or ""
        passed, failed, skipped = counts_of(output) or (0, 0, 0)
        status = test.get("status")
        if passed + failed + skipped == 0:
            passed = int(status == "run")
            # ctest also calls "skipped" what it could not start.
            why = test.find("skipped")
            skipped = int(why is not None and (why.get("message") or "").startswith("SKIP_"))
            failed = int(not passed and not skipped)
        elif status == "fail" and failed == 0:
            failed = 1  # died after its last test, or did not end in time
        if skipped:
            suite.reasons += REASONS.findall(output) or [f"SKIP  {test.get('name')}"]
        if failed:
            suite.failures += dict.fromkeys(FAILURES.findall(output)) or [f"FAIL  {test.get('name')}"]
        suite.add(passed, failed, skipped)


def ctest(suites, args, tests="."):
    """The tests with the labels of these suites, beside each other, whose names match."""
    names = [suite.name for suite in suites]
    report = os.path.abspath(os.path.join(args.build, f"junit-{'-'.join(names)}.xml"))
    if os.path.exists(report):
        os.unlink(report)
    done = subprocess.run(
        ["ctest", "--test-dir", args.build, "--label-regex", f"^({'|'.join(names)})$", "--tests-regex", tests,
         "--no-tests=error",
         "--verbose" if "net" in names else "--output-on-failure",
         "--parallel", str(max(AT_A_TIME[name] for name in names)),
         "--output-junit", report,
         "--test-output-size-passed", "10000000", "--test-output-size-failed", "10000000"], check=False)
    for suite in suites:
        read_junit(suite, report, names_of(suite, args))
    if done.returncode != 0 and not any(suite.failed for suite in suites):
        suites[0].failed = 1  # ctest knows of something that its report does not show


def net(suite, args, beside):
    """What wants the machine alone, then what mostly waits, and beside that what compiles."""
    with beside.held():
        ctest([suite], args, r"^net\.alone$")
    ctest([suite], args, r"^net\.patient$")


def build_sanitized(suite, args):
    """User space once more, in a build of its own, with ASan and UBSan, and as others build: by clang and Ninja, without
    precompiled headers.

    With -O0, because that is built in half of the time.
    """
    where = f"{args.build}-sanitize"
    configure = ["cmake", "-G", "Ninja", "-S", ".", "-B", where, "-DCMAKE_CXX_COMPILER=clang++", "-DCMAKE_BUILD_TYPE=None",
                 "-DCMAKE_CXX_FLAGS=-O0 -g1", "-DDOPPEL_SANITIZE=ON", *STRICT]
    if command(suite, configure, stdout=subprocess.DEVNULL):
        command(suite, ["cmake", "--build", where, "--parallel", str(args.jobs), "--target", *SANITIZED_TARGETS],
                env=clang.environment())


def sanitize(suite, args):
    """Two programs per CPU, as half of them wait, and the one that computes for long in parts."""
    where = f"{args.build}-sanitize"
    tests = os.path.join(where, "tests")
    cases = sorted(path for path in sources() if path.endswith(".case"))
    programs = [*(("cli", ["tests/cli/run", "--doppel", os.path.join(where, "doppel"), path], {}) for path in cases),
                ("host_tests", [os.path.join(tests, "host", "host_tests"), "--gtest_brief=1"], {}),
                ("packet_test", [os.path.join(tests, "packet", "packet_test"), "--gtest_brief=1"], {})]
    programs += [("unit_tests", [os.path.join(tests, "unit", "unit_tests"), "--gtest_brief=1",
                                 f"--gtest_filter=-{':'.join(LONG_MODELS)}"],
                  {"GTEST_TOTAL_SHARDS": str(UNIT_PARTS), "GTEST_SHARD_INDEX": str(part)})
                 for part in range(UNIT_PARTS)]
    with concurrent.futures.ThreadPoolExecutor(2 * args.jobs) as pool:
        running = [(name, pool.submit(output_of, argv, environment)) for name, argv, environment in programs]
        for name, done in running:
            report(suite, name, done.result())


def builds(suite, args):
    command(suite, ["tests/install/run", "cmake", os.path.abspath(args.build)], stdout=subprocess.DEVNULL)


def stand_back():
    """This process gets what others leave of the CPUs, and so does what it starts.

    SCHED_IDLE counts among the processes of a session only, where the kernel groups them by session
    (sched_autogroup_enabled): the whole session would take the CPU from the kernel's own threads, and
    what waits for RCU under the lock of all network devices would stand still for a minute (6.18).
    """
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))  # as the parent ends it
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if os.path.exists("/proc/self/autogroup"):
        with open("/proc/self/autogroup", "w", encoding="ascii") as group:
            group.write("19")


class Beside:
    """What compiles, in a process of its own, while tests mostly wait."""

    def __init__(self, parts):
        self.parts = parts  # {name of the suite: function}
        self.told = 0

    def start(self):
        if not self.parts:
            return
        self.output = tempfile.TemporaryFile()
        self.results, self.end = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.get_context("fork").Process(target=self._run, daemon=True)
        self.process.start()
        self.end.close()
        with contextlib.suppress(EOFError):  # add_to() tells
            self.results.recv()  # it leads a group of its own now

    def _run(self):
        stand_back()
        self.end.send("stands back")
        for descriptor in (1, 2):
            os.dup2(self.output.fileno(), descriptor)
        for name, part in self.parts.items():
            suite = Suite(name)
            timed(suite, part)
            sys.stdout.flush()
            self.end.send(suite)
        self.end.close()

    @contextlib.contextmanager
    def held(self):
        """It stands still meanwhile."""
        if not self.parts:
            yield
            return
        with contextlib.suppress(ProcessLookupError):  # it is through
            os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGCONT)

    def add_to(self, suite):
        """Waits for what the suite has here. It has failed if there is nothing of it."""
        try:
            part = self.results.recv()
        except EOFError:
            part = None
        output = os.pread(self.output.fileno(), 1 << 24, self.told)
        self.told += len(output)
        print(output.decode(errors="replace"), end="", flush=True)
        if part is None:
            suite.failed += 1
            return
        suite.add(part.passed, part.failed, part.skipped)
        suite.beside = part.seconds


def output_of(argv, environment):
    return subprocess.run(argv, check=False, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})


def report(suite, name, done):
    """Counts what a test program counted that has ended."""
    passed, failed, skipped = counts_of(done.stdout) or (int(done.returncode == 0), 0,
                                                         int(done.returncode == 77))
    if done.returncode not in (0, 77) and not failed:
        failed = 1
    if failed:
        print(done.stdout)
        suite.failures += dict.fromkeys(FAILURES.findall(done.stdout)) or [f"FAIL  {name}"]
    if skipped:
        suite.reasons += REASONS.findall(done.stdout) or [f"SKIP  {name}"]
    suite.add(passed, failed, skipped)


def kernels(suite, args):
    """The kernel matrix prints what it does; its closing line, if it has one, is counted."""
    child = subprocess.Popen(["tools/kernel-matrix", "--build", args.build], stdout=subprocess.PIPE, text=True)
    output = []
    for line in child.stdout:
        print(line, end="", flush=True)
        output.append(line)
    code = child.wait()
    passed, failed, skipped = counts_of("".join(output)) or (int(code == 0), int(code not in (0, 77)),
                                                             int(code == 77))
    if code not in (0, 77) and not failed:
        failed = 1
    if failed:
        suite.failures += dict.fromkeys(FAILURES.findall("".join(output)))
    suite.add(passed, failed, skipped)


def arguments():
    p = argparse.ArgumentParser(prog="tools/test", description=__doc__.splitlines()[0])
    p.add_argument("suites", nargs="*", metavar="SUITE",
                   help="build, format, scripts, tidy, unit, cli, memcached, bpf, fuzz, net, sanitize, builds, kernels; "
                        "default: all but tidy, builds and kernels")
    p.add_argument("--all", action="store_true", help="all of them (as when CI is set)")
    p.add_argument("--build", default="build", metavar="DIR", help="default: build")
    p.add_argument("--build-type", default="RelWithDebInfo", metavar="TYPE")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="of the build")
    return p.parse_args()


def timed(suite, step):
    begin = time.monotonic()
    step(suite)
    suite.seconds += time.monotonic() - begin


def main():
    args = arguments()

    def tests(suite, group):
        """Those of all suites of the group that were chosen, with the first of them."""
        beside_each_other = [suites[name] for name in group if name in suites]
        if suite is beside_each_other[0]:
            ctest(beside_each_other, args)

    # What a suite computes before, or instead of, what it has to look at.
    computed = {"tidy": lambda s: check_tidy(s, args), "sanitize": lambda s: build_sanitized(s, args)}
    steps = {"build": lambda s: build(s, args), "format": check_format, "scripts": check_scripts,
             **{name: lambda s, group=group: tests(s, group) for group in CTEST_SUITES for name in group},
             "net": lambda s: net(s, args, beside),
             "kernels": lambda s: kernels(s, args),
             # By now most of it was computed beside the others.
             "tidy": lambda s: None,
             "sanitize": lambda s: sanitize(s, args), "builds": lambda s: builds(s, args)}
    chosen = args.suites or [n for n in steps if n not in SLOW or args.all or os.environ.get("CI")]
    unknown = [name for name in chosen if name not in steps]
    if unknown:
        print(f"unknown suite: {' '.join(unknown)}; there are: {' '.join(steps)}", file=sys.stderr)
        return 2
    beside = Beside({name: part for name, part in computed.items() if name in chosen and "net" in chosen})
    # Nothing can be tested that is not built, or not built from this state of the sources.
    suites = {name: Suite(name) for name in steps
              if name in chosen or (name == "build" and set(chosen) - {"format", "scripts", "sanitize"})}
    for name, suite in suites.items():
        print(f"== {name}", flush=True)
        if name in beside.parts:
            timed(suite, beside.add_to)
        elif name in computed:
            timed(suite, computed[name])
        if not suite.failed:
            timed(suite, steps[name])
        if name == "build":
            if suite.failed:
                return summary([suite])
            beside.start()
    return summary(list(suites.values()))


def summary(suites):
    strict = bool(os.environ.get("DOPPEL_REQUIRE_ALL"))
    for suite in suites:
        for reason in suite.reasons:
            print(reason.strip())
        excused = sum(EXCUSE in reason for reason in suite.reasons)
        if strict and suite.skipped > excused and suite.name in MUST_NOT_SKIP:
            print(f"{suite.name}: a skipped test counts as a failure here (DOPPEL_REQUIRE_ALL)")
            suite.failed, suite.skipped = suite.failed + suite.skipped - excused, excused
    print(f"\n{'suite':<10}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}  and beside tests")
    for s in suites:
        beside = f"{s.beside:>9.1f}" if s.beside else ""
        print(f"{s.name:<10}{s.passed:>8}{s.failed:>8}{s.skipped:>9}{s.seconds:>9.1f}{beside}")
    for s in suites:
        if s.failed:
            print(f"\nwhat failed of {s.name}:\n" + "\n".join(s.failures or ["see above"]))
    passed, failed, skipped = (sum(getattr(s, what) for s in suites)
                               for what in ("passed", "failed", "skipped"))
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
