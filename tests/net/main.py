# SPDX-License-Identifier: Apache-2.0
"""Runs the network tests, or those whose name contains one of the words given.

    tests/net/run --list
    tests/net/run load. 'detach.leaves_nothing[tcx]'

Exit code 0: all passed; 1: failures; 77: everything was skipped.
"""

import argparse
import glob
import importlib
import os
import signal
import sys

import harness

HERE = os.path.dirname(os.path.abspath(__file__))


def interrupted(number, _):
    sys.exit(128 + number)  # unwinds, so that labs are removed


def main():
    p = argparse.ArgumentParser(prog="tests/net/run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("words", nargs="*", help="names of tests, or parts of them; default: all")
    p.add_argument("--list", action="store_true", help="only print the names")
    p.add_argument("--doppel", metavar="PATH", help="the program under test")
    p.add_argument("--mode", choices=harness.MODES, help="leave out what is about another way to attach")
    p.add_argument("--long", action="store_true", help="also what takes minutes")
    p.add_argument("--whole", action="store_true", help="every combination of variants, and not a part of them")
    p.add_argument("--alone", choices=("only", "none"), help="what wants to be alone, or all but that")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="so many at a time, but for what wants to be alone")
    args = p.parse_args()
    if args.doppel:
        os.environ["DOPPEL"] = args.doppel
    signal.signal(signal.SIGTERM, interrupted)
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        importlib.import_module(os.path.basename(path).removesuffix(".py"))
    chosen = harness.select(args.words, args.mode, args.long, args.alone, args.whole)
    if args.list:
        print("\n".join(one.name for one in chosen))
        return 0
    if not chosen:
        print(f"no test matches {' '.join(args.words)}", file=sys.stderr)
        return 2
    return harness.run(chosen, args.jobs)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
