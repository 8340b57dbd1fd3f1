# SPDX-License-Identifier: Apache-2.0
"""Runs what was built on Debian's kernels, each in an emulated machine of its own.

    tools/kernel-matrix                       what CI runs: of each suite a part (selection.py)
    tools/kernel-matrix --all                 every suite, whole
    tools/kernel-matrix --kernel 6.1 bpf      one suite, whole, on one kernel
    tools/kernel-matrix bpf='*Window*' net=loss.none net=keeper.few
    tools/kernel-matrix --record              writes tests/kernels/verifier-budget anew

Suites:
    load    every program is loaded, here as well; more instructions for the verifier than
            tests/kernels/verifier-budget allows are a failure
    mirror  100 sets from one memcached to another, with each way of attaching that the kernel has
    bpf     build/tests/bpf/bpf_test; a selection is a filter of GoogleTest
    host    build/tests/host/host_tests, in the same way
    net     tests/net/run; a selection is a part of a test's name

Exit code: 0 if nothing failed, 1 if something did, 2 for a wrong command line. A kernel which the
package sources of this machine do not offer counts as skipped.
"""

import argparse
import concurrent.futures
import pathlib
import sys
import tarfile

from budget import Budget
from contents import Contents
from machine import Machine
from rootfs import Missing
from tally import Tally
import here
import kernels
import selection

TREE = pathlib.Path(__file__).resolve().parents[2]

# Without and with what asks conntrack.
OBJECTS = ["doppel.bpf.o", "doppel_conntrack.bpf.o"]


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="tools/kernel-matrix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    path = pathlib.Path
    parser.add_argument("suites", nargs="*", metavar="SUITE[=SELECTION]")
    parser.add_argument("--all", action="store_true", help="every suite, whole")
    parser.add_argument("--kernel", choices=[*kernels.META, "all"], default="all")
    parser.add_argument("--build", type=path, default=TREE / "build", metavar="DIR")
    parser.add_argument(
        "--load-only",
        nargs="*",
        type=path,
        metavar="OBJECT",
        help="only load every program of these object files (none named: the built one)",
    )
    parser.add_argument("--record", action="store_true", help="load, and keep what the verifier did as the budget")
    parser.add_argument("--slowness", type=float, default=8, metavar="N",
                        help="tests wait N times as long, and net tests send an N-th (default: 8)")
    parser.add_argument("--timeout", type=int, metavar="SECONDS",
                        help="for each kernel (default: 900, and 7200 with --all or a suite named)")
    parser.add_argument("--keep", action="store_true", help="keep the guest's root, and say how it was started")
    parser.add_argument("--shell", action="store_true", help="a shell in the guest instead of the suites")
    options = parser.parse_args()
    options.build = options.build.resolve()
    if options.shell and options.kernel == "all":
        parser.error("--shell needs one --kernel")
    if options.record and options.kernel != "all":
        parser.error("--record is about all kernels")
    try:
        options.chosen = choose(options)
    except selection.Unknown as reason:
        parser.error(str(reason))
    if options.timeout is None:
        options.timeout = 7200 if options.all or options.suites else 900
    built = {"load": [], "bpf": ["tests/bpf/bpf_test"], "host": ["tests/host/host_tests"],
             "mirror": ["doppel"], "net": ["doppel"]}
    options.objects = options.load_only or [options.build / "bpf" / name for name in OBJECTS]
    needed = options.objects + [options.build / name for suite in options.chosen for name in built[suite]]
    for file in needed:
        if not file.is_file():
            parser.error(f"{file}: no such file; build it first")
    return options


def choose(options):
    """{suite: its selections}; no selection means the whole suite."""
    if options.record or options.load_only is not None:
        return {"load": []}
    if options.all or options.shell:
        return selection.everything()
    return selection.parse(options.suites) if options.suites else selection.quick()


def fill(options, kernel, work):
    """A root with what the chosen suites need; the path of its archive."""
    contents = Contents(work)
    for file in options.objects:
        contents.add_object(file)
    if "bpf" in options.chosen:
        contents.add_program(options.build / "tests/bpf/bpf_test", "km/bpf_test")
    if "host" in options.chosen:
        contents.add_program(options.build / "tests/host/host_tests", "km/host_tests")
    if {"mirror", "net"} & options.chosen.keys():
        contents.add_lab()
        contents.add_program(options.build / "doppel", "km/tree/build/doppel")
    config = {"KM_SHELL": int(options.shell), "KM_SLOWNESS": f"{options.slowness:g}",
              **selection.for_guest(kernel.name, options.chosen)}
    return contents.save(kernel, config)


def unpack_results(archive, directory):
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar.getmembers() if member.isfile()]
            tar.extractall(directory, members=members)
        return [directory / member.name for member in members]
    except tarfile.TarError:
        return []  # the guest did not get so far


def print_tail(file, count, tally):
    for line in file.read_text(errors="replace").splitlines()[-count:]:
        tally.say(f"      | {line}")


def prepare(name, options, tally):
    """A machine with the kernel of that name, or None if there is none to be had."""
    try:
        kernel = kernels.get(name, options.build / "kernels")
    except kernels.Unavailable as reason:
        tally.skip(f"kernel {name}", reason)
        return None
    work = options.build / "kernel-matrix"
    logs = work / name
    logs.mkdir(parents=True, exist_ok=True)
    for old in logs.iterdir():
        old.unlink()
    return Machine(kernel, fill(options, kernel, work), logs)


def run(machine, options, tally):
    try:
        if options.shell:
            machine.interactive()
        else:
            run_suites(machine, options, tally)
    finally:
        if options.keep:
            tally.say(f"      {machine.command_line()}")
        else:
            machine.root.unlink()


def run_suites(machine, options, tally):
    seconds = machine.run(options.timeout, tally.line)
    files = unpack_results(machine.results, machine.directory)
    tally.print_programs()
    release = machine.kernel.release
    if not tally.ended:
        if seconds is None:
            tally.fail(release, f"not done within {options.timeout} s")
        else:
            tally.fail(release, f"the guest died after {seconds:.0f} s")
        print_tail(machine.console, 40, tally)
    for file in files:
        if file.suffix == ".verifier":
            tally.say(f"      {file}:")
            print_tail(file, 25, tally)
    taken = "" if seconds is None else f"{seconds:.1f} s; "
    tally.say(f"      {release}: {tally.summary()}; {taken}logs in {machine.directory}")


def run_kernels(names, options):
    """The kernels at once, as a guest boots and tests with one CPU mostly: {name: tally}."""
    tallies = {name: Tally(name) for name in names}
    # One after the other, as they share files.
    machines = {name: prepare(name, options, tally) for name, tally in tallies.items()}
    with concurrent.futures.ThreadPoolExecutor(len(machines)) as pool:
        runs = [pool.submit(run, machine, options, tallies[name])
                for name, machine in machines.items() if machine]
        for one in runs:
            one.result()
    return tallies


def run_here(options):
    """The suite "load" on the kernel that runs."""
    tally = Tally(here.release())
    here.load(options.objects, options.build / "kernel-matrix", tally)
    tally.print_programs()
    return tally


def main():
    options = parse_arguments()
    total = Tally()
    budget = Budget(TREE / "tests/kernels/verifier-budget")
    try:
        if "load" in options.chosen and options.kernel == "all" and not options.shell:
            tally = run_here(options)
            budget.saw(here.release(), tally.programs)
            total.add(tally)
        names = list(kernels.META) if options.kernel == "all" else [options.kernel]
        for name, tally in run_kernels(names, options).items():
            budget.saw(name, tally.programs)
            total.add(tally)
    except Missing as reason:
        total.fail("kernel-matrix", str(reason))
    if options.record:
        if not total.failed and not total.skipped:
            budget.save()
            print(f"written: {budget.file}")
    elif not options.load_only and not options.shell:
        budget.judge(total)
    if not options.shell:
        print(total.summary())
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
