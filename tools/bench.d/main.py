# SPDX-License-Identifier: Apache-2.0
"""Measures what a mirror costs, side by side with what it cannot do without. Called by tools/bench.

Every figure is the median of several rounds (least..most). Within a round, all that is compared runs
one after the other, in the opposite order each time; ratios are formed within a round. Only ratios
mean something on another machine, or on a busy one.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time

import cpu
import growth
import packets
import source
import warm
from stage import Stage

PARTS = {"packets": packets.measure, "source": source.measure, "growth": growth.measure, "warm": warm.measure}


def arguments():
    p = argparse.ArgumentParser(prog="tools/bench", description=__doc__,
                                formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("parts", nargs="*", metavar="PART",
                   help="packets, source, growth, warm; default: all")
    p.add_argument("--runs", type=int, default=5, help="rounds, default 5")
    p.add_argument("--spare", type=int, default=0, metavar="N",
                   help="so many rounds more; those are dropped in which others took the most CPU time")
    p.add_argument("--seconds", type=float, default=2.0, help="of one run, default 2")
    p.add_argument("--patience", type=float, default=0, metavar="S",
                   help="wait so long, over all rounds, for others to leave the machine at rest")
    p.add_argument("--nice", type=int, default=0, metavar="N",
                   help="of everything that is measured; below 0 it has the CPUs before others")
    p.add_argument("--quick", action="store_true", help="2 rounds of 0.4 s: does it work?")
    p.add_argument("--json", nargs="?", const="-", metavar="FILE",
                   help="figures as JSON, to FILE beside the tables, or instead of them")
    p.add_argument("--build", default="build", metavar="DIR", help="default: build")
    options = p.parse_args()
    for part in options.parts:
        if part not in PARTS:
            p.error(f"no part {part}; there are: {' '.join(PARTS)}")
    if options.quick:
        options.runs, options.seconds = 2, 0.4
    options.rounds = options.runs + options.spare
    options.build = os.path.abspath(options.build)
    os.environ.setdefault("DOPPEL", os.path.join(options.build, "doppel"))
    return options


def interrupted(number, _):
    sys.exit(128 + number)  # unwinds, so that the lab is removed


def main():
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    if options.nice:
        cpu.prefer(options.nice)
    started = time.monotonic()

    def begin(what):
        print(f"{time.monotonic() - started:6.0f} s  {what}", file=sys.stderr, flush=True)
        options.patience -= cpu.wait_for_rest(options.patience)

    found = {}
    for part in options.parts or PARTS:
        found[part] = []
        with Stage(options.build) as stage:
            for table in PARTS[part](stage, options, begin):
                found[part].append(table.json())
                if options.json != "-":
                    print(table.text() + "\n", flush=True)
    result = {"kernel": platform.release(), "cpus": os.cpu_count(), "runs": options.runs,
              "spare": options.spare, "nice": options.nice, "seconds": options.seconds, "parts": found}
    if options.json == "-":
        print(json.dumps(result, indent=1))
    elif options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except AssertionError as e:
        sys.exit(f"tools/bench: {e}")
