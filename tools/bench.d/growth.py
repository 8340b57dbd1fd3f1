# SPDX-License-Identifier: Apache-2.0
"""How cost grows with the number of flows and the size of requests; memory."""

import json
import tempfile

import kernel
from figures import Figures, size
from packets import in_turn
from stage import MIRRORED, Traffic

FLOWS = (10, 1000, 10000)
RATE = 10000
VALUES = (100, 1000, 10000, 100000, 1 << 20)


def flows(stage, options, begin):
    table = Figures(f"growth with flows; {RATE:,} requests/s in all, 100 B requests and responses", {
        "floor_ns": ".0f", "captured_ns": ".0f", "request_ns": ".0f", "/_floor": ".2f",
        "/_10_flows": ".2f", "floor_/_10_flows": ".2f", "lab's_CPU_us": ".2f"},
        "ns by bpf_stats, request: capture, deliver and return for a request and the client's ACK of its "
        "response, which is a packet of its own here, however few flows; floor: for the same two packets. "
        "CPU: more than with the floor's program in place of the mirror.", options.runs)
    with kernel.Timing():
        for number in range(options.rounds):
            runs = {}
            for n in in_turn(list(FLOWS), number):
                begin(f"{n:,} flows, round {number + 1}")
                traffic, out = Traffic("get", 100, 100, n, RATE, acks=1), {}
                for variant in in_turn(["floor", "mirror"], number):
                    with stage.floor() if variant == "floor" else stage.mirror(100) as programs:
                        out[variant] = stage.run(traffic, options.seconds, programs)
                runs[n] = (out["floor"], out["mirror"])
            base = _costs(*runs[FLOWS[0]])
            for n in FLOWS:
                cost = _costs(*runs[n])
                table.add(f"{n:,} flows", (*base["outcomes"], *cost["outcomes"]),
                          floor_ns=cost["floor"], captured_ns=cost["captured"],
                          request_ns=cost["request"], **{
                              "/_floor": cost["request"] / cost["floor"],
                              "/_10_flows": cost["request"] / base["request"],
                              "floor_/_10_flows": cost["floor"] / base["floor"],
                              "lab's_CPU_us": cost["cpu"]})
    return table


def _costs(floor, mirror):
    return {"outcomes": (floor, mirror), "floor": floor.time["floor"][0] / floor.requests,
            "captured": mirror.per_run("ingress"),
            "request": (mirror.time["ingress"][0] + mirror.time["return"][0]) / mirror.requests,
            "cpu": mirror.lab_us / mirror.requests - floor.lab_us / floor.requests}


def values(stage, options, begin):
    table = Figures("growth with the size of a request; sets to the sink, 16 connections at full speed", {
        "requests/s": ",.0f", "ratio": ".3f", "p99_ratio": ".2f", "request_ns": ",.0f", "floor_ns": ",.0f",
        "/_floor": ".2f", "ns_per_KB": ".0f", "sink_ns": ",.0f", "lab's_CPU_us": ".1f", "delivered": ".4f"},
        "ns by bpf_stats: all programs for one request, the floor's likewise for all packets of one. "
        "ratio: throughput with mirror to without, no program timed. sink: what it took itself, not part of "
        "the request's; it has to copy a packet to shorten it.", options.runs)
    for number in range(options.rounds):
        for n in VALUES:
            begin(f"requests of {size(n)}, round {number + 1}")
            traffic = Traffic("set", n, 8, 16)
            out = {}
            for variant in in_turn(["without", "with"], number):
                with stage.mirror() if variant == "with" else stage.nothing() as programs:
                    out[variant] = stage.run(traffic, options.seconds, programs)
            with kernel.Timing():
                for variant in in_turn(["floor", "mirror"], number):
                    with stage.mirror() if variant == "mirror" else stage.floor() as programs:
                        out[variant] = stage.run(traffic, options.seconds, programs)
            a, b, timed, floor = (out[name] for name in ("without", "with", "mirror", "floor"))
            request = (timed.time["ingress"][0] + timed.time["return"][0]) / timed.requests
            beside = floor.time["floor"][0] / floor.requests
            ledger = b.ledger["bytes"]
            table.add(size(n), tuple(out.values()), request_ns=request, floor_ns=beside,
                      ns_per_KB=request * 1000 / n, sink_ns=timed.time["sink"][0] / timed.requests,
                      ratio=b.throughput / a.throughput, p99_ratio=b.latency("p99") / a.latency("p99"),
                      delivered=ledger["delivered"] / ledger["observed"],
                      **{"requests/s": a.throughput, "/_floor": request / beside,
                         "lab's_CPU_us": b.lab_us / b.requests - a.lab_us / a.requests})
    return table


def memory(stage, options, begin):
    """Maps are filled at attach; those with a part that grows are read while the flows are open."""
    begin("memory")
    table = Figures("memory of the maps, MB", {
        "total": ".1f", "flows": ".2f", "syns": ".2f", "shadows": ".2f", "store": ".1f", "ledger": ".2f",
        "the_rest": ".2f"})
    for limit in (1000, 10000, 32768):
        with configured(stage, limit):
            _memory_row(table, f"attached, \"flows\": {limit:,}", stage.map_bytes())
    for n in FLOWS:
        with stage.mirror(100) as programs:
            found = {}
            stage.run(Traffic("get", 100, 100, n, RATE), 0.5, programs,
                      during=lambda: found.update(stage.map_bytes()))
            _memory_row(table, f"default, {n:,} flows open", found)
    return table


def _memory_row(table, name, found):
    named = {n: found[n] / (1 << 20) for n in ("flows", "syns", "shadows", "store", "ledger")}
    total = sum(found.values()) / (1 << 20)
    table.add(name, (), total=total, the_rest=total - sum(named.values()), **named)


class configured:
    """The mirror with another limit of flows."""

    def __init__(self, stage, limit):
        self.stage = stage
        self.file = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump({
            "flows": limit, "shadow_ports": f"16384-{16383 + min(limit, 16384)}",
            "mappings": [{"name": "bench", "device": "eth0", "ports": MIRRORED, "targets": [
                {"address": stage.lab.target.address, "port": MIRRORED}]}]}, self.file)
        self.file.flush()

    def __enter__(self):
        self.stage.doppel.attach("--config", self.file.name)

    def __exit__(self, *_):
        self.stage.doppel.detach()
        self.file.close()


def measure(stage, options, begin):
    yield memory(stage, options, begin)
    yield flows(stage, options, begin)
    yield values(stage, options, begin)
