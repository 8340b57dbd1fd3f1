# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of what looks into memcacheds, or those whose name contains one of the words given.

    tests/memcached/run --list
    tests/memcached/run verify. bad.closes
    tests/memcached/run --newer build/memcached warm.

Exit code 0: all passed; 1: failures; 77: everything was skipped.
"""

import argparse
import glob
import importlib
import os
import sys

import harness
import newer

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    p = argparse.ArgumentParser(prog="tests/memcached/run", description=__doc__,
                                formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("words", nargs="*", help="names of tests, or parts of them; default: all")
    p.add_argument("--list", action="store_true", help="only print the names")
    p.add_argument("--doppel", metavar="PATH", help="the program under test")
    p.add_argument("--newer", metavar="DIR", help="against the memcached of Debian's next release, which is kept there")
    args = p.parse_args()
    if args.doppel:
        os.environ["DOPPEL"] = os.path.abspath(args.doppel)
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        importlib.import_module(os.path.basename(path).removesuffix(".py"))
    chosen = harness.select(args.words)
    if args.list:
        print("\n".join(one.name for one in chosen))
        return 0
    if not chosen:
        print(f"no test matches {' '.join(args.words)}", file=sys.stderr)
        return 2
    if args.newer:
        try:
            os.environ["PATH"] = newer.get(os.path.abspath(args.newer)) + os.pathsep + os.environ["PATH"]
        except newer.Unavailable as why:
            print(f"SKIP  the memcached of Debian {newer.SUITE}: {why}")
            return 77
    return harness.run(chosen)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
