# SPDX-License-Identifier: Apache-2.0
"""Builds the fuzzers and runs them, one after the other.

    tools/fuzz                          what CI does: the corpus, then some seconds of new inputs each
    tools/fuzz --long                   13 million inputs
    tools/fuzz --inputs 1000000         so many in all, or of the named targets together
    tools/fuzz session                  one of them: ranges, headers, join, config, session, prog_run
    tools/fuzz --replay FILE session    one input, told act by act
    tools/fuzz --merge                  what long runs found goes into tests/fuzz/corpus

tests/fuzz/corpus/TARGET holds inputs under their hashes, which --merge replaces, and in found/ those with
a name: what once broke an invariant, and what the fuzzer would not find by itself.

What is found new stays in BUILD/tests/fuzz/corpus/TARGET. An input that breaks an invariant is
kept as BUILD/tests/fuzz/TARGET-crash-*, and its path printed; prog_run prints its seed.

Exit code 0: no invariant was broken; 1: one was; 77: prog_run cannot run here.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(TOP, "tests", "fuzz")
# Inputs of a long run, longest input in bytes, seconds of a short run.
TARGETS = {"ranges": (3_000_000, 300, 5), "headers": (4_000_000, 200, 5),
           "join": (3_000_000, 120, 4), "config": (1_000_000, 2000, 6),
           "session": (500_000, 800, 14), "prog_run": (2_000_000, None, 12)}
EXECUTED = re.compile(r"^stat::number_of_executed_units: (\d+)$", re.MULTILINE)


def build(args, targets):
    jobs = ["--parallel", str(os.cpu_count())]
    names = [name if name == "prog_run" else f"build_fuzz_{name}" for name in targets]
    for command in ([os.path.join(TOP, "tools", "install-deps"), "build", "tests"],
                    ["cmake", "-S", TOP, "-B", args.build, "-DBUILD_TESTING=ON"],
                    ["cmake", "--build", args.build, *jobs, "--target", *names]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def inputs_of(name, args, targets):
    """The number of inputs of this target, or None: by time."""
    if args.inputs:  # shared out as in a long run
        return max(1, args.inputs * TARGETS[name][0] // sum(TARGETS[t][0] for t in targets))
    return TARGETS[name][0] if args.long else None


def fuzzer(name, args, inputs):
    """Returns exit code and number of inputs."""
    _, longest, seconds = TARGETS[name]
    binary = os.path.join(args.where, f"fuzz_{name}")
    kept = os.path.join(HERE, "corpus", name)  # read with all folders in it
    os.makedirs(kept, exist_ok=True)
    # A finding's exit code is 77 by default, which means 'skipped' here.
    command = [binary, f"-max_len={longest}", "-timeout=20", "-error_exitcode=1",
               "-timeout_exitcode=1", "-print_final_stats=1", "-verbosity=1",
               f"-artifact_prefix={args.where}/{name}-"]
    words = os.path.join(HERE, f"{name}.dict")
    if os.path.exists(words):
        command.append(f"-dict={words}")
    if args.merge:
        return merge(command, kept, os.path.join(args.where, "corpus", name)), 0
    if args.replay:
        return subprocess.run([binary, args.replay], check=False,
                              env={**os.environ, "DOPPEL_FUZZ_TRACE": "1"}).returncode, 1
    if inputs is None:
        with tempfile.TemporaryDirectory() as new:
            return told(command + ["-seed=1", f"-max_total_time={seconds}", new, kept])
    new = os.path.join(args.where, "corpus", name)
    os.makedirs(new, exist_ok=True)
    return told(command + [f"-runs={inputs}", new, kept])


def merge(command, kept, found):
    """The smallest set of inputs that covers what both cover. Those in found/ stay in any case."""
    os.makedirs(found, exist_ok=True)
    with tempfile.TemporaryDirectory() as out:
        argv = command + ["-set_cover_merge=1", "-use_counters=0", out, kept, found]
        done = subprocess.run(argv, check=False, stderr=subprocess.DEVNULL)
        if done.returncode == 0:
            for old in os.listdir(kept):
                if old != "found":
                    os.unlink(os.path.join(kept, old))
            for new in os.listdir(out):
                shutil.move(os.path.join(out, new), os.path.join(kept, new))
        return done.returncode


def told(command):
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    if done.returncode:
        print(done.stderr[-20000:])
    found = EXECUTED.findall(done.stderr)
    return done.returncode, int(found[-1]) if found else 0


def prog_run(args, inputs):
    command = [os.path.join(args.where, "prog_run"),
               "--corpus", os.path.join(HERE, "corpus", "prog_run", "found")]
    if args.replay:
        command += ["--replay", args.replay]
    elif inputs is None:
        command += ["--seconds", str(TARGETS["prog_run"][2])]
    else:
        command += ["--packets", str(inputs), "--seed", str(time.time_ns() >> 10)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    found = re.findall(r"^(\d+) packets", done.stdout, re.MULTILINE)
    return done.returncode, int(found[-1]) if found else 0


def arguments():
    p = argparse.ArgumentParser(prog="tools/fuzz", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    how = p.add_mutually_exclusive_group()
    how.add_argument("--long", action="store_true", help="the long run, by number of inputs")
    how.add_argument("--inputs", type=int, metavar="N", help="so many inputs in all")
    how.add_argument("--replay", metavar="FILE", help="one input of one target")
    how.add_argument("--merge", action="store_true", help="keep in the corpus what long runs found")
    p.add_argument("--build", default=os.path.join(TOP, "build"), metavar="DIR", help="default: build")
    p.add_argument("--built", action="store_true", help="they are built already")
    args = p.parse_args()
    if set(args.targets) - set(TARGETS):
        p.error("no such target")
    if args.replay and len(args.targets) != 1:
        p.error("--replay FILE wants the target")
    args.where = os.path.join(os.path.abspath(args.build), "tests", "fuzz")
    return args


def main():
    args = arguments()
    targets = args.targets or [t for t in TARGETS if not (args.merge and t == "prog_run")]
    if not args.built:
        build(args, targets)
    total = failed = skipped = 0
    for name in targets:
        begin = time.monotonic()
        inputs = inputs_of(name, args, targets)
        code, n = prog_run(args, inputs) if name == "prog_run" else fuzzer(name, args, inputs)
        total += n
        failed += code not in (0, 77)
        skipped += code == 77
        result = "ok" if code == 0 else "skipped" if code == 77 else "FAILED"
        print(f"{name}: {n} inputs in {time.monotonic() - begin:.0f} s, {result}", flush=True)
    print(f"{total} inputs in all")
    if failed:
        return 1
    return 77 if skipped == len(targets) else 0


if __name__ == "__main__":
    sys.exit(main())
