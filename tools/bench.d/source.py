# SPDX-License-Identifier: Apache-2.0
"""What the source and its clients notice, and the CPU time of a mirrored request."""

from figures import Figures
from packets import in_turn
from stage import Traffic

RATES = {"1,000/s": 1000, "20,000/s": 20000, "full speed": 0}
# "split": see Stage. The time of the lab's processes is known for "free" alone: with RPS a packet is
# processed in the context of whoever has the other CPU.
LAYOUTS = {"split": True, "free": False}


def measure(stage, options, begin):
    for layout, split in LAYOUTS.items():
        table = Figures(
            f"source alone, mirror to the sink; 50 connections, 100 B requests and responses; {layout}", {
                "requests/s": ",.0f", "mirrored": ",.0f", "ratio": ".3f", "p50_us": ".0f",
                "p50_ratio": ".2f", "p99_us": ".0f", "p99_ratio": ".2f", "p99.9_us": ".0f",
                "p99.9_ratio": ".2f", "CPU_us": ".2f", "lab's_CPU_us": ".2f", "without": ".2f",
                "delivered": ".4f"},
            "Latencies without mirror; ratios: with to without. CPU us: more CPU time per request, of the "
            "whole machine and of the lab's processes; without: the latter, without mirror.",
            options.runs)
        stage.use_layout(split)
        for number in range(options.rounds):
            for name, rate in RATES.items():
                begin(f"source alone, {layout}, {name}, round {number + 1}")
                _one_round(stage, options, table, name, rate, number)
        yield table
    stage.use_layout(False)


def _one_round(stage, options, table, name, rate, number):
    traffic = Traffic("get", 100, 100, rate=rate)
    seconds = options.seconds * (2 if rate == 1000 else 1)
    out = {}
    for variant in in_turn(["without", "with"], number):
        with stage.mirror(answer=100) if variant == "with" else stage.nothing() as programs:
            out[variant] = stage.run(traffic, seconds, programs)
    a, b = out["without"], out["with"]
    cells = {"requests/s": a.throughput, "mirrored": b.throughput, "ratio": b.throughput / a.throughput}
    for p in ("p50", "p99", "p99.9"):
        cells[f"{p}_us"] = a.latency(p)
        cells[f"{p}_ratio"] = b.latency(p) / a.latency(p)
    ledger = b.ledger["bytes"]
    if not stage.split:
        cells["lab's_CPU_us"] = b.lab_us / b.requests - a.lab_us / a.requests
        cells["without"] = a.lab_us / a.requests
    table.add(name, (a, b), **cells, delivered=ledger["delivered"] / ledger["observed"],
              CPU_us=b.system_us / b.requests - a.system_us / a.requests)
