# SPDX-License-Identifier: Apache-2.0
"""BPF programs of the benchmark, and what the kernel says about the time of any program."""

import ctypes
import os
import struct

from lab import bpf

PINS = "/sys/fs/bpf"
RUN_TIME = 0  # enum bpf_stats_type


class Timing:
    """The kernel measures every program as long as this is open; closed, or dead, it stops.

    The sysctl kernel.bpf_stats_enabled would stay on if this process were killed.
    """

    def __enter__(self):
        self.fd = bpf.call(bpf.ENABLE_STATS, struct.pack("=I", RUN_TIME))
        return self

    def __exit__(self, *_):
        os.close(self.fd)


class Program:
    """A program pinned on a host."""

    def __init__(self, host, path):
        self.host, self.path = host, path
        self.fd = bpf.open_pin(host.root(path))
        self.link = self.filter = None

    def time(self):
        """(ns, runs) since it was loaded, as far as a Timing was open."""
        info = bpf.fdinfo(self.fd)
        return int(info["run_time_ns"]), int(info["run_cnt"])

    def attach(self, device):
        """To TC ingress, the way doppel does it: by TCX, or clsact before kernel 6.6."""
        try:
            self.link = self.host.in_netns(bpf.call, bpf.LINK_CREATE, struct.pack(
                "=IIII", self.fd, self.host.ifindex(device), bpf.TCX_INGRESS, 0))
        except OSError:
            self.filter = device
            self.host.run(["tc", "qdisc", "add", "dev", device, "clsact"], check=False)
            self.host.run(["tc", "filter", "add", "dev", device, "ingress", "bpf", "da", "object-pinned",
                           self.path])

    def detach(self):
        if self.link is not None:
            os.close(self.link)
        elif self.filter:
            # All at once: nobody else has a filter there while we measure.
            self.host.run(["tc", "filter", "del", "dev", self.filter, "ingress"], check=False)
        self.link = self.filter = None

    def run(self, frame, device, repeat):
        """ns of one run of BPF_PROG_RUN with this frame, as if it came in at the device."""
        data = ctypes.create_string_buffer(frame, len(frame))
        context = ctypes.create_string_buffer(struct.pack("=40xI", self.host.ifindex(device)), 44)
        attributes = struct.pack(
            "=IIIIQQIIIIQQ", self.fd, 0, len(frame), 0, ctypes.addressof(data), 0, repeat, 0,
            len(context), 0, ctypes.addressof(context), 0)
        _, left = self.host.in_netns(bpf.answer, bpf.PROG_RUN, attributes)
        return struct.unpack_from("=I", left, 36)[0]  # duration, of one run

    def close(self):
        self.detach()
        os.close(self.fd)


def load(host, objects, name):
    """The programs of an object file: {name: Program}. Their maps are pinned, too: see Array."""
    host.run(["bpftool", "prog", "loadall", os.path.join(objects, f"{name}.bpf.o"),
              f"{PINS}/{name}", "pinmaps", f"{PINS}/{name}-maps"])
    return {program: Program(host, f"{PINS}/{name}/{program}")
            for program in os.listdir(host.root(f"{PINS}/{name}"))}


class Array:
    """A pinned array map whose values have this format."""

    def __init__(self, host, path, format):
        self.format = format
        self.fd = bpf.open_pin(host.root(path))

    def __getitem__(self, index):
        key = ctypes.create_string_buffer(struct.pack("=I", index), 4)
        value = ctypes.create_string_buffer(struct.calcsize(self.format))
        bpf.call(bpf.MAP_LOOKUP, struct.pack("=IIQQQ", self.fd, 0, ctypes.addressof(key),
                                             ctypes.addressof(value), 0))
        return struct.unpack(self.format, value.raw)

    def __setitem__(self, index, fields):
        key = ctypes.create_string_buffer(struct.pack("=I", index), 4)
        value = ctypes.create_string_buffer(struct.pack(self.format, *fields))
        bpf.call(bpf.MAP_UPDATE, struct.pack("=IIQQQ", self.fd, 0, ctypes.addressof(key),
                                             ctypes.addressof(value), 0))
