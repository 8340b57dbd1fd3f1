# SPDX-License-Identifier: Apache-2.0
"""How fast `doppel warm` fills a target, and what the source's clients notice of it."""

import json
import os
import signal
import subprocess

from figures import Figures
from lab import doppel, memcached
from packets import in_turn
from stage import MIRRORED, Traffic

KEYS = 1_000_000
VALUE = b"x" * 32
LOADS = {"1,000/s": 1000, "10,000/s": 10000}


def measure(stage, options, begin):
    begin(f"{KEYS:,} keys")
    stage.servers[0].preload(KEYS, VALUE)
    target = memcached.Server(stage.lab.target, MIRRORED, memory_mb=1024)
    yield _rate(stage, target, options, begin)
    yield _clients(stage, target, options, begin)
    target.kill()


def _rate(stage, target, options, begin):
    table = Figures(f"doppel warm, {KEYS:,} keys with {len(VALUE)} B, nobody else", {
        "keys/s": ",.0f", "seconds": ".1f", "resident_MB": ".0f"},
        "The whole time of the command, with the 2 s in which what was copied is confirmed.", options.runs)
    for number in range(options.rounds):
        begin(f"warm alone, round {number + 1}")
        _empty(target)
        warm = _start(stage)
        said = warm.stdout.read()
        _, status, used = os.wait4(warm.pid, 0)
        warm.returncode = os.waitstatus_to_exitcode(status)
        found = json.loads(said)
        if warm.returncode or found["added"] != KEYS:
            raise AssertionError(f"doppel warm: exit code {warm.returncode}\n{said}")
        table.add("warm", (), **{"keys/s": KEYS / found["seconds"], "seconds": found["seconds"],
                                 "resident_MB": used.ru_maxrss / 1024})
    return table


def _clients(stage, target, options, begin):
    table = Figures("source without, and with doppel warm at its own pace; 50 connections, gets of 100 B", {
        "requests/s": ",.0f", "ratio": ".3f", "p50_us": ".0f", "p50_ratio": ".2f", "p99_us": ".0f",
        "p99_ratio": ".2f"}, "Latencies without; ratios: with to without.", options.runs)
    for number in range(options.rounds):
        for name, rate in LOADS.items():
            begin(f"warm beside {name}, round {number + 1}")
            out = {}
            for variant in in_turn(["without", "with"], number):
                _empty(target)
                warm = _start(stage) if variant == "with" else None
                out[variant] = stage.run(Traffic("get", 100, 100, rate=rate), options.seconds, {})
                if warm:
                    if warm.poll() is not None:
                        raise AssertionError("doppel warm was over before the load")
                    warm.send_signal(signal.SIGINT)
                    warm.communicate()
            a, b = out["without"], out["with"]
            table.add(name, (a, b), ratio=b.throughput / a.throughput, **{"requests/s": a.throughput},
                      **{f"{p}_us": a.latency(p) for p in ("p50", "p99")},
                      **{f"{p}_ratio": b.latency(p) / a.latency(p) for p in ("p50", "p99")})
    return table


def _start(stage):
    source, target = (f"{host.address}:{MIRRORED}" for host in (stage.lab.source, stage.lab.target))
    return stage.lab.source.popen(
        [doppel.binary(), "warm", "--json", "--timeout", "30", source, target],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "TMPDIR": "/var/tmp"})


def _empty(target):
    with target.admin() as admin:
        admin.socket.sendall(b"flush_all\r\n")
        if admin.reader.readline() != b"OK\r\n":
            raise AssertionError("flush_all of the target")
