# SPDX-License-Identifier: Apache-2.0
"""The demo: a move of two memcached instances to a new machine, in small. Called by tools/demo."""

import argparse
import signal
import sys
import time

from lab import doppel, memcached, snapshot
from lab.load import Load
from lab.scene import Scene

PORTS = (11211, 11212)


def say(text=""):
    print(text, flush=True)


def start_loads(lab, seconds):
    """(what, load) of everything that clients do at the same time."""
    sets = int(2000 * seconds)
    return [
        (f"{sets} sets over 64 connections",
         Load(lab, "sets", port=11211, connections=64, count=sets, rate=2000, prefix="user")),
        ("1000 connections with a single set each",
         Load(lab, "sets", port=11211, connections=1000, count=1000, at_once=20, rate=1000 / seconds,
              prefix="session")),
        ("20 values of 1 MB",
         Load(lab, "sets", port=11212, connections=4, count=20, smallest=1 << 20, largest=1 << 20,
              rate=20 / seconds, prefix="image")),
        ("gets, sets and deletes over 50 connections",
         Load(lab, "mixed", port=11212, connections=50, seconds=seconds, batch=10, rate=10000,
              prefix="cart")),
    ]


def progress(scene):
    t = doppel.totals(scene.doppel.counters())
    b, f = t["bytes"], t["flows"]
    return (f"flows {f['open']:>5} open {f['opened']:>6} opened | bytes {b['observed']:>11,} observed "
            f"{b['delivered']:>11,} delivered {b['in_flight']:>9,} in flight {b['lost']:>5,} lost")


def follow(scene, loads):
    """Shows the ledger until all loads are done; on a terminal in one line."""
    tty = sys.stdout.isatty()
    begin, shown = time.monotonic(), 0.0
    while any(load.running() for _, load in loads):
        if time.monotonic() - shown > (0.2 if tty else 1.0):
            shown = time.monotonic()
            print(f"{shown - begin:5.1f} s  {progress(scene)}", end="\r" if tty else "\n", flush=True)
        time.sleep(0.1)
    if tty:
        say()


def table(scene):
    """The keys on both sides. Returns whether they agree."""
    say(f"\n{'port':<8}{'keys on source':>16}{'keys on target':>16}{'equal values':>14}"
        f"{'sets':>18}{'gets':>18}")
    agree = True
    for source, target in zip(scene.source, scene.target):
        s, t = source.stats(), target.stats()  # before the reading of keys adds gets of its own
        a, b = source.contents(), target.contents()
        equal = sum(a[key] == b.get(key) for key in a)
        say(f"{source.port:<8}{len(a):>16}{len(b):>16}{equal:>14}"
            f"{s['cmd_set']:>9}{t['cmd_set']:>9}{s['cmd_get']:>9}{t['cmd_get']:>9}")
        for difference in memcached.differences(a, b):
            say(f"  {difference}")
        agree = agree and a == b and len(a) > 0 and s["cmd_set"] == t["cmd_set"] \
            and s["cmd_get"] == t["cmd_get"]
    return agree


def ledger_table(counters, sent):
    """The ledger. Returns whether it is exact and complete."""
    say(f"\n{'ledger, bytes':<40}{'observed':>12}{'delivered':>12}{'in flight':>12}{'lost':>8}"
        f"{'excluded':>10}")
    for name, row in doppel.rows(counters):
        b = row["bytes"]
        say(f"{name:<40}{b['observed']:>12}{b['delivered']:>12}{b['in_flight']:>12}{b['lost']:>8}"
            f"{b['excluded']:>10}")
        for what in ("lost", "excluded"):
            for reason, n in row[what].items():
                if n:
                    say(f"  {what}: {n} {reason}")
    wrong = doppel.violations(counters)
    for sentence in wrong:
        say(f"  {sentence}")
    observed = doppel.totals(counters)["bytes"]["observed"]
    delivered = doppel.totals(counters)["bytes"]["delivered"]
    say(f"\nthe clients sent {sent} bytes, {observed} were observed, {delivered} delivered")
    return not wrong and sent == observed == delivered


def run(args):
    say("making a lab: hosts client, source and target, joined by a switch; memcached on ports "
        "11211 and 11212 of source and target")
    with Scene(ports=PORTS, attach_mode=args.attach_mode) as scene:
        before = snapshot.take(scene.lab.source)
        say(f"source# doppel attach {' '.join(scene.mapping())}")
        scene.attach()
        loads = start_loads(scene.lab, args.seconds)
        say("clients: " + "; ".join(what for what, _ in loads))
        follow(scene, loads)
        sent, errors = 0, []
        for _, load in loads:
            result = load.result()
            sent += result["sent"]
            errors += result["errors"]
        scene.doppel.wait_idle(observed=sent)
        counters = scene.doppel.counters()
        agree = table(scene)
        exact = ledger_table(counters, sent)
        say(f"errors that clients saw: {len(errors)}" + (f", such as {errors[0]}" if errors else ""))
        say("source# doppel detach")
        scene.doppel.detach()
        left = snapshot.changes(before, snapshot.take(scene.lab.source))
        say("detach left nothing behind" if not left else "detach left: " + "; ".join(left))
    good = agree and exact and not errors and not left
    say("source and target agree" if good else "source and target DO NOT agree, see above")
    return 0 if good else 1


def interrupted(number, _):
    sys.exit(128 + number)  # unwinds, so that the lab is removed


def main():
    p = argparse.ArgumentParser(prog="tools/demo", description=__doc__)
    p.add_argument("--seconds", type=float, default=8, help="length of the load, default 8")
    p.add_argument("--attach-mode", choices=("tcx", "clsact"), help="default: what the kernel has")
    args = p.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        return run(args)
    except AssertionError as e:
        print(f"tools/demo: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
