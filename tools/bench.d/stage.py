# SPDX-License-Identifier: Apache-2.0
"""What is measured on: the lab, servers, mirror, floor and sink, and one run of a load."""

import contextlib
import json
import os
import socket
import subprocess
from typing import NamedTuple

from lab import bpf, doppel, memcached
from lab.network import Lab, endpoint

import cpu
import kernel

MIRRORED, UNWANTED = 11211, 11212
FLOOR_IFINDEX = 4000  # as in floor.bpf.c
SINK_COUNTS = ("syns", "data", "bytes", "acks", "fins", "rsts", "failed")
PROGRAMS = ("ingress", "return", "deliver")


class Traffic(NamedTuple):
    """Arguments of bench-load. Sizes are bytes on the wire above TCP."""
    kind: str
    request: int
    response: int
    connections: int = 50
    rate: int = 0  # requests/s; 0: as fast as they are answered
    acks: int = 0  # 1: the client acknowledges each response by a packet of its own


class Outcome(NamedTuple):
    load: dict          # what bench-load printed
    time: dict          # {program: (ns, runs)}
    system_us: float
    lab_us: float
    wall_us: float
    ledger: dict        # of the mirror, or None
    sink: dict          # what the sink counted

    @property
    def requests(self):
        return self.load["requests"]

    @property
    def throughput(self):
        return self.requests / self.load["seconds"]

    @property
    def others(self):
        """The share of the machine's CPU time that went to what is not of the lab."""
        return (self.system_us - self.lab_us) / (self.wall_us * cpu.CPUS)

    def latency(self, which):
        return self.load["latency_us"][which]

    def per_run(self, program):
        ns, runs = self.time[program]
        return ns / runs if runs else float("nan")


class Stage:
    """layout "free": the scheduler decides. "split": the source has CPU 0 for all that it does, packets
    included (RPS); clients, switch and sink have CPU 1."""

    def __init__(self, build, target_runs=False, families="v4"):
        self.build = build
        self.lab = Lab(static_arp=True, families=families)
        self.programs, self.split = {}, False
        try:
            self._many_connections()
            self.servers = [memcached.Server(self.lab.source, p) for p in (MIRRORED, UNWANTED)]
            self.target = memcached.Server(self.lab.target, MIRRORED) if target_runs else None
            self.doppel = doppel.Doppel(self.lab.source)
            objects = os.path.join(build, "bpf", "bench")
            for host in (self.lab.source, self.lab.client):
                self._floor(host, objects)
            self._sink(objects)
        except BaseException:
            self.close()
            raise

    def _many_connections(self):
        """Rounds of 10,000 connections within a minute, which is how long a port stays in TIME-WAIT."""
        self.lab.client.sysctl("net/ipv4/ip_local_port_range", "1024 65535")
        self.lab.client.sysctl("net/ipv4/tcp_tw_reuse", 1)

    def _floor(self, host, objects):
        host.run(["ip", "-batch", "-"], stdin="\n".join([
            f"link add floor0 index {FLOOR_IFINDEX} type veth peer name floor1",
            "link set floor0 up", "link set floor1 up", ""]))
        programs = kernel.load(host, objects, "floor")
        programs["bench_drop"].attach("floor1")
        self.programs[host.name] = programs

    def _sink(self, objects):
        """At the switch's port of the source: the first place that is not the source."""
        switch = self.lab.switch
        self.sink = kernel.load(switch, objects, "sink")["bench_sink"]
        self.sink_config = kernel.Array(switch, f"{kernel.PINS}/sink-maps/sink_config", "=4sI")
        self.sink_counts = kernel.Array(switch, f"{kernel.PINS}/sink-maps/sink_counts", "=Q")

    def use_layout(self, split):
        """RPS decides which CPU goes on with a packet that a device received."""
        self.split = split
        for host, device, cpus in ((self.lab.source, "eth0", 1), (self.lab.switch, "source", 2)):
            with open(host.root(f"/sys/class/net/{device}/queues/rx-0/rps_cpus"), "w",
                      encoding="ascii") as f:
                f.write(f"{cpus if split else 0:x}")
        for server in self.servers:
            self._bind(server.process.pid, 0)

    def _bind(self, pid, number):
        cpus = {number} if self.split else set(range(cpu.CPUS))
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), cpus)

    @contextlib.contextmanager
    def nothing(self):
        yield {}

    @contextlib.contextmanager
    def floor(self, host="source"):
        """And before it a program that does nothing, for what the measuring takes."""
        programs = {name: self.programs[host][f"bench_{name}"] for name in ("empty", "floor")}
        for program in programs.values():
            program.attach("eth0")
        try:
            yield programs
        finally:
            for program in programs.values():
                program.detach()

    @contextlib.contextmanager
    def mirror(self, answer=0, sink=True):
        """All requests to port MIRRORED go to the sink, or to the target itself."""
        address = socket.inet_aton(self.lab.target.address4)
        self.sink_config[0] = (address if sink else bytes(4), answer)
        self.sink.attach("source")
        self.doppel.attach("--device", "eth0", "-x",
                           f"{MIRRORED}-{endpoint(self.lab.target.address, MIRRORED)}")
        programs = {name: kernel.Program(self.lab.source, self._pin_of("progs", f"doppel_{name}"))
                    for name in PROGRAMS}
        try:
            yield {**programs, "sink": self.sink}
        finally:
            for program in programs.values():
                program.close()
            self.doppel.detach()
            self.sink.detach()

    @staticmethod
    def _pin_of(kind, name):
        return f"{kernel.PINS}/doppel/v{doppel.abi()}/{kind}/{name}"

    def map_bytes(self):
        """{map: bytes that the kernel holds for it} of the mirror that is attached."""
        top = self._pin_of("maps", "")
        return {name: bpf.memlock(self.lab.source.root(top + name))
                for name in os.listdir(self.lab.source.root(top))}

    def run(self, traffic, seconds, programs, port=MIRRORED, during=None):
        """One load, measured from when all connections are warm; `programs` are timed."""
        child = self.lab.client.popen(
            [os.path.join(self.build, "bench-load"), self.lab.source.address, port, *traffic, seconds],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            self._bind(child.pid, 1)
            self._line(child)
            before = {name: program.time() for name, program in programs.items()}
            counted = self._sink_counts()
            meter = cpu.Meter([child.pid, *(s.process.pid for s in (*self.servers, self.target) if s)])
            child.stdin.write("\n")
            child.stdin.flush()
            load = json.loads(self._line(child))
            used = meter.read()
            time = {name: tuple(b - a for a, b in zip(before[name], program.time()))
                    for name, program in programs.items()}
            sink = {name: n - counted[name] for name, n in self._sink_counts().items()}
            if during:
                during()
            _, said = child.communicate(timeout=30)
            if child.returncode:
                raise AssertionError(f"bench-load: exit code {child.returncode}\n{said}")
        finally:
            if child.poll() is None:
                child.kill()
                child.wait(10)
        ledger = self.doppel.wait_idle() if "ingress" in programs else None
        return Outcome(load, time, *used, ledger, sink)

    @staticmethod
    def _line(child):
        line = child.stdout.readline()
        if not line:
            raise AssertionError(f"bench-load: {child.communicate(timeout=10)[1]}")
        return line

    def _sink_counts(self):
        return {name: self.sink_counts[i][0] for i, name in enumerate(SINK_COUNTS)}

    def close(self):
        self.lab.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
