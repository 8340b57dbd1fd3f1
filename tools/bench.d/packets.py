# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds per packet of each program, beside the floor in the same round."""

import socket

from lab import flood

import kernel
from figures import Figures
from stage import MIRRORED, UNWANTED, Stage, Traffic

# A large request fits into one GRO packet of either IP version. Linux fills it with whole segments: 45 of
# 1,428 bytes are 64,260, which is all that IPv6 takes (sk_setup_caps, tcp_xmit_size_goal).
LARGE = 64000
SIZES = {
    "100 B": Traffic("get", 100, 100),
    "1,400 B": Traffic("set", 1400, 8),
    "64 KB GRO": Traffic("set", LARGE, 8, 16),
}
ANSWERS = {"100 B": 100, "1,400 B": 1400, "64 KB GRO": 0}
BACKLOG = 256  # runs in a row: more than net.core.netdev_max_backlog (1000) would be dropped early


def in_turn(variants, number):
    """AB, BA, AB ...: what drifts on the machine meets all of them."""
    return variants if number % 2 == 0 else variants[::-1]


def frame(stage, size):
    """A segment with so many bytes of payload, to a port that nobody wants."""
    lab = stage.lab
    macs = [bytes.fromhex(h.mac().replace(":", "")) for h in (lab.client, lab.source)]
    addresses = [socket.inet_aton(h.address) for h in (lab.client, lab.source)]
    return flood.segment(macs, addresses, (40000, UNWANTED), 1, 1, flood.ACK | flood.PSH, b"x" * size)


def unwanted(stage, options, begin):
    """BPF_PROG_RUN with repeat, where nothing that is left behind changes the next run."""
    # One CPU works, and nothing tells who else wanted it: no round is dropped.
    table = Figures("ns per packet, BPF_PROG_RUN with repeat", {
        "empty": ".0f", "floor": ".0f", "capture": ".0f", "return": ".0f", "both": ".0f",
        "both_/_floor": ".3f"},
        "A packet that no mapping wants passes return and capture; the floor clones and redirects it. "
        "empty: a program that does nothing, so what the measuring takes.")
    floor, empty = (stage.programs["source"][f"bench_{name}"] for name in ("floor", "empty"))
    with stage.mirror() as programs:
        for number in range(options.rounds):
            begin(f"BPF_PROG_RUN, round {number + 1}")
            for size in (100, 1400):
                data = frame(stage, size)
                cheap = max(10000, int(options.seconds * 200000))

                def passing(name):
                    return programs[name].run(data, "eth0", cheap)

                def floors():
                    calls = max(8, int(options.seconds * 100))
                    return sum(floor.run(data, "eth0", BACKLOG) for _ in range(calls)) / calls

                steps = [("empty", lambda: empty.run(data, "eth0", cheap)), ("floor", floors),
                         ("capture", lambda: passing("ingress")), ("return", lambda: passing("return"))]
                ns = {name: step() for name, step in in_turn(steps, number)}
                both = ns["capture"] + ns["return"]
                table.add(f"{size:,} B", (), both=both, **ns, **{"both_/_floor": both / ns["floor"]})
    return table


def request_path(stage, options, begin):
    """Real traffic, every program timed by the kernel."""
    table = Figures("ns per packet in traffic (bpf_stats), 50 connections at full speed", {
        "empty": ".0f", "floor": ".0f", "unwanted": ".0f", "captured": ".0f", "deliver": ".0f",
        "response": ".0f", "request": ".0f", "ACKs": ".2f", "packets": ".2f"},
        "unwanted: return and capture. captured: capture with deliver and the sending of the copy "
        "within. response: return, the sending of its ACK not included. request: all of it for one "
        "request. ACKs, packets: that the sink got for one request, without and with payload.", options.runs)
    ratios = Figures("the same, as ratios to the floor of the round", {
        "unwanted": ".3f", "captured": ".2f", "deliver": ".2f", "response": ".2f", "request": ".2f",
        "with_ACKs_at_the_floor's_price": ".2f"}, keep=options.runs)
    with kernel.Timing():
        for number in range(options.rounds):
            for name, traffic in SIZES.items():
                begin(f"traffic of {name}, round {number + 1}")
                outcomes, got = _one_round(stage, options, traffic, ANSWERS[name], number)
                table.add(name, outcomes, **got)
                floor = got["floor"]
                ratios.add(name, outcomes, **{k: got[k] / floor for k in ("unwanted", "captured", "deliver",
                                                                "response", "request")},
                           **{"with_ACKs_at_the_floor's_price": got["request"] / floor + got["ACKs"]})
    return table, ratios


def _one_round(stage, options, traffic, answer, number):
    got, out = {}, {}

    def floor():
        with stage.floor() as programs:
            out["floor"] = stage.run(traffic, options.seconds, programs)

    def mirror():
        with stage.mirror(answer) as programs:
            out["mirror"] = stage.run(traffic, options.seconds, programs, MIRRORED)

    def nobody():
        with stage.mirror(answer) as programs:
            out["nobody"] = stage.run(traffic, options.seconds, programs, UNWANTED)

    for step in in_turn([floor, nobody, mirror], number):
        step()
    got["floor"] = out["floor"].per_run("floor")
    got["empty"] = out["floor"].per_run("empty")
    passing = out["nobody"].per_run("return")
    got["unwanted"] = passing + out["nobody"].per_run("ingress")
    got.update(mirrored(out["mirror"], passing))
    return out.values(), got


def mirrored(outcome, passing):
    """What the programs took; `passing`: ns of return for a packet that is not for it."""
    ingress_ns, ingress_runs = outcome.time["ingress"]
    return_ns, return_runs = outcome.time["return"]
    responses = return_runs - ingress_runs  # what return leaves alone comes to capture
    return {
        "captured": outcome.per_run("ingress"),
        "deliver": outcome.per_run("deliver"),
        "response": (return_ns - ingress_runs * passing) / responses if responses else None,
        "request": (ingress_ns + return_ns) / outcome.requests,
        "ACKs": outcome.sink["acks"] / outcome.requests,
        "packets": outcome.sink["data"] / outcome.requests,
    }


def large_responses(options, begin):
    """Responses as the target's own TCP sends them, up to 64 KB in one packet."""
    table = Figures("ns per response packet (bpf_stats), a real target", {
        "floor": ".0f", "response": ".0f", "response_/_floor": ".2f", "packets": ".2f",
        "per_request": ".0f"},
        "floor: of the same responses where the client receives them from the source. "
        "packets: of the target's, per request.", options.runs)
    with Stage(options.build, target_runs=True) as stage, kernel.Timing():
        for number in range(options.rounds):
            for name, size in (("100 B", 100), ("1,400 B", 1400), ("64 KB GRO", LARGE),
                               ("1 MB", 1 << 20)):
                begin(f"responses of {name}, round {number + 1}")
                traffic = Traffic("get", 100, size, 50 if size < LARGE else 8)
                out = {}

                def floor():
                    with stage.floor("client") as programs:
                        out["floor"] = stage.run(traffic, options.seconds, programs)

                def nobody():
                    with stage.mirror(sink=False) as programs:
                        out["nobody"] = stage.run(traffic, options.seconds, programs, UNWANTED)

                def mirror():
                    with stage.mirror(sink=False) as programs:
                        out["mirror"] = stage.run(traffic, options.seconds, programs)

                for step in in_turn([floor, nobody, mirror], number):
                    step()
                outcome, floor_ns = out["mirror"], out["floor"].per_run("floor")
                responses = outcome.time["return"][1] - outcome.time["ingress"][1]
                got = mirrored(outcome, out["nobody"].per_run("return"))
                table.add(name, out.values(), floor=floor_ns, response=got["response"],
                          packets=responses / outcome.requests,
                          per_request=got["response"] * responses / outcome.requests,
                          **{"response_/_floor": got["response"] / floor_ns})
    return table


def versions(options, begin):
    """IPv6 beside IPv4, in each round."""
    table = Figures("ns per request (bpf_stats), a real target, both IP versions in each round", {
        "IPv4": ".0f", "IPv6": ".0f", "IPv6_/_IPv4": ".3f"},
        "Capture, deliver and return of one request, clients and target of the same version.", options.runs)
    with Stage(options.build, target_runs=True) as four, \
            Stage(options.build, target_runs=True, families="v6") as six, kernel.Timing():
        for number in range(options.rounds):
            for name, traffic in SIZES.items():
                begin(f"IPv6 and IPv4, {name}, round {number + 1}")
                got, outcomes = {}, []
                for version, stage in in_turn([("IPv4", four), ("IPv6", six)], number):
                    with stage.mirror(sink=False) as programs:
                        outcome = stage.run(traffic, options.seconds, programs)
                    outcomes.append(outcome)
                    got[version] = sum(outcome.time[p][0] for p in ("ingress", "return")) / outcome.requests
                table.add(name, outcomes, **got, **{"IPv6_/_IPv4": got["IPv6"] / got["IPv4"]})
    return table


def measure(stage, options, begin):
    yield unwanted(stage, options, begin)
    yield from request_path(stage, options, begin)
    yield large_responses(options, begin)
    yield versions(options, begin)
