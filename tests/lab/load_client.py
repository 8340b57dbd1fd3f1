# SPDX-License-Identifier: Apache-2.0
"""One process of a load; started in the client host by load.py. Prints its result as JSON.

With --wait it opens its connections first, prints "ready" and goes on when it gets a line. With --reserve its last
commands wait for a line: the test's own work is done before the load is over, however long that takes.
"""

import argparse
import json
import random
import signal
import sys
import time

from lab import traffic
from lab.engine import Connection, Engine


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("kind", choices=("sets", "gets", "chopped", "mixed"))
    p.add_argument("--address", required=True)
    p.add_argument("--port", type=int, default=11211)
    p.add_argument("--connections", type=int, default=1)
    p.add_argument("--count", type=int, default=0, help="commands in total")
    p.add_argument("--seconds", type=float, default=0, help="of a mixed load")
    p.add_argument("--prefix", default="key")
    p.add_argument("--first", type=int, default=0, help="number of the first key")
    p.add_argument("--smallest", type=int, default=20, help="bytes of a value")
    p.add_argument("--largest", type=int, default=400)
    p.add_argument("--batch", type=int, default=1, help="commands that are sent together")
    p.add_argument("--finish", choices=("close", "shutdown", "quit", "reset"), default="close")
    p.add_argument("--at-once", type=int, default=0, help="connections open at a time; 0: all")
    p.add_argument("--rate", type=float, default=0, help="commands a second; 0: full speed")
    p.add_argument("--deadline", type=float, default=120)
    p.add_argument("--reserve", type=int, default=0, help="commands in total that wait for a line")
    p.add_argument("--wait", action="store_true")
    p.add_argument("--before", type=int, default=0, help="sets on each connection before \"ready\"")
    return p.parse_args()


def connections(args):
    prefix = args.prefix.encode()
    for n in range(args.connections):
        first = args.first + args.count * n // args.connections
        count = args.first + args.count * (n + 1) // args.connections - first
        if args.kind == "sets":
            batches = traffic.sets(prefix, first, count, args.smallest, args.largest, args.batch)
        elif args.kind == "gets":
            batches = traffic.gets(prefix, first, count, args.batch)
        elif args.kind == "chopped":
            batches = traffic.chopped(prefix, first, count, args.smallest, args.largest, args.batch)
        else:
            batches = traffic.mixed(b"%s-%d-" % (prefix, n), random.Random(f"{args.prefix}{n}"),
                                    args.smallest, args.largest, args.batch)
        yield Connection(batches, args.finish, count - args.reserve // args.connections if args.reserve else None)


def warm_up(socket, prefix, count):
    """Sets that are answered before the load begins, so that the connection is in the middle of its life."""
    socket.setblocking(True)
    for key in traffic.keys(prefix, 0, count):
        socket.sendall(traffic.set_command(key, 100))
        if socket.recv(100) != b"STORED\r\n":
            raise AssertionError("the set was not stored")
    socket.setblocking(False)


def percentiles(seconds):
    ordered = sorted(seconds)
    if not ordered:
        return {}
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(1e6 * ordered[min(len(ordered) - 1, int(q * len(ordered)))])
            for name, q in at.items()}


def main():
    args = arguments()
    engine = Engine(args.address, args.port, args.rate, args.at_once)
    crowd = list(connections(args))
    if args.wait:
        for n, connection in enumerate(crowd):
            engine.open(connection)
            warm_up(connection.socket, args.prefix.encode() + b"-before-%d-" % n, args.before)
        print("ready", flush=True)
        sys.stdin.readline()
    if args.reserve:
        engine.hold(sys.stdin)
    if args.seconds:
        engine.stop_at = time.monotonic() + args.seconds
    signal.signal(signal.SIGTERM, lambda *_: engine.stop())
    seconds = engine.run(crowd, args.deadline)
    print(json.dumps({
        "sent": engine.sent, "received": engine.received, "commands": engine.commands,
        "connections": engine.opened, "seconds": round(seconds, 3), "errors": engine.errors,
        "latency_us": percentiles(engine.latencies)}), flush=True)


if __name__ == "__main__":
    main()
