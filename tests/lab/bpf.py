# SPDX-License-Identifier: Apache-2.0
"""A neighbour's TC program, which counts packets to one TCP port and lets everything pass.

Made with bpf(2) directly: Debian 12's tools know nothing of TCX, and a test needs no compiler then.
"""

import ctypes
import os
import struct

SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, PROG_LOAD, OBJ_PIN, OBJ_GET = 0, 1, 2, 5, 6, 7
PROG_RUN, LINK_CREATE, ENABLE_STATS = 10, 28, 32
GET_FD_BY_ID = {"prog": 13, "map": 14, "link": 30}
TCX_INGRESS, TCX_EGRESS, F_BEFORE = 46, 47, 8
UNSPEC = -1

_libc = ctypes.CDLL(None, use_errno=True)


def call(command, *parts):
    return answer(command, *parts)[0]


def answer(command, *parts):
    """What the kernel returned, and the attributes as it left them."""
    attr = b"".join(parts)
    buffer = ctypes.create_string_buffer(attr.ljust(128, b"\0"), 128)
    result = _libc.syscall(SYS_BPF, command, ctypes.byref(buffer), 128)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf command {command}: {os.strerror(error)}")
    return result, buffer.raw


def open_pin(path):
    """A file descriptor of what is pinned there."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return call(OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))


def fdinfo(fd):
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as f:
        return dict(line.split(":", 1) for line in f if ":" in line)


def exists(kind, number):
    """Whether the kernel still has the program, map or link with this id."""
    try:
        os.close(call(GET_FD_BY_ID[kind], struct.pack("=I", number)))
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True  # a link whose last reference is just going
    return True


def pinned(path):
    """("prog" | "map" | "link", its id) of a pin, or None if it is something else."""
    try:
        fd = open_pin(path)
    except OSError:
        return None
    try:
        info = fdinfo(fd)
    finally:
        os.close(fd)
    for kind in ("link", "map", "prog"):  # a link names its program too
        if f"{kind}_id" in info:
            return kind, int(info[f"{kind}_id"])
    return None


def update(path, key, value):
    """Writes a row of a pinned map."""
    fd = open_pin(path)
    try:
        k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
        call(MAP_UPDATE, struct.pack("=IIQQQ", fd, 0, ctypes.addressof(k), ctypes.addressof(v), 0))
    finally:
        os.close(fd)


def lookup(path, key, size):
    """A row of a pinned map, of so many bytes."""
    fd = open_pin(path)
    try:
        k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
        call(MAP_LOOKUP, struct.pack("=IIQQQ", fd, 0, ctypes.addressof(k), ctypes.addressof(v), 0))
        return v.raw
    finally:
        os.close(fd)


def memlock(path):
    """Bytes that the kernel holds for a pinned map (fdinfo's memlock; exact since kernel 6.4)."""
    fd = open_pin(path)
    try:
        return int(fdinfo(fd)["memlock"])
    finally:
        os.close(fd)


def _insn(code, dst=0, src=0, off=0, imm=0):
    return struct.pack("=BBhi", code, src << 4 | dst, off, imm)


def _counter(map_fd, port, verdict):
    network_order = int.from_bytes(struct.pack("!H", port), "little")
    return b"".join([
        _insn(0xBF, 6, 1),                          # r6 = skb
        _insn(0xB7, 2, imm=36),                     # TCP destination port, IP without options
        _insn(0xBF, 3, 10), _insn(0x07, 3, imm=-8),
        _insn(0xB7, 4, imm=2),
        _insn(0x85, imm=26),                        # skb_load_bytes
        _insn(0x55, 0, off=13),                     # failed: out
        _insn(0x69, 1, 10, off=-8),
        _insn(0x55, 1, off=11, imm=network_order),  # another port: out
        _insn(0x62, 10, off=-4, imm=0),
        _insn(0x18, 1, 1, imm=map_fd), _insn(0),
        _insn(0xBF, 2, 10), _insn(0x07, 2, imm=-4),
        _insn(0x85, imm=1),                         # map_lookup_elem
        _insn(0x15, 0, off=4),                      # none: out
        _insn(0xB7, 1, imm=1),
        _insn(0xDB, 0, 1),                          # lock packets += 1
        _insn(0x61, 1, 6),                          # skb->len
        _insn(0xDB, 0, 1, off=8),                   # lock bytes += len
        _insn(0xB7, 0, imm=verdict),
        _insn(0x95),
    ])


class Neighbour:
    """attach="tcx-first", "tcx-last" or "clsact"; read() gives (packets, bytes)."""

    def __init__(self, host, attach, port=11211, device="eth0", priority=50000, hook="ingress",
                 name=b"neighbour", verdict=None):
        self.host, self.device, self.hook, self.priority = host, device, hook, priority
        self.link = None
        self.map = call(MAP_CREATE, struct.pack("=IIII", 2, 4, 16, 1))
        code = ctypes.create_string_buffer(_counter(self.map, port, UNSPEC if verdict is None else verdict))
        gpl = ctypes.create_string_buffer(b"GPL")
        self.prog = call(PROG_LOAD, struct.pack(
            "=IIQQIIQII16s", 3, (len(code) - 1) // 8, ctypes.addressof(code),
            ctypes.addressof(gpl), 0, 0, 0, 0, 0, name))
        if attach == "clsact":
            self._filter(device, priority)
        else:
            kind = TCX_INGRESS if hook == "ingress" else TCX_EGRESS
            self.link = host.in_netns(call, LINK_CREATE, struct.pack(
                "=IIII", self.prog, host.ifindex(device), kind,
                F_BEFORE if attach == "tcx-first" else 0))

    def _filter(self, device, priority):
        pin = f"/sys/fs/bpf/neighbour_{priority}"
        path = ctypes.create_string_buffer(os.fsencode(self.host.root(pin)))
        call(OBJ_PIN, struct.pack("=QII", ctypes.addressof(path), self.prog, 0))
        # Fails when a clsact is there already, which is as good.
        self.host.run(["tc", "qdisc", "add", "dev", device, "clsact"], check=False)
        self.host.run(["tc", "filter", "add", "dev", device, self.hook, "prio", priority, "handle", "1",
                       "bpf", "da", "object-pinned", pin])
        os.unlink(self.host.root(pin))  # the filter holds the program

    def read(self):
        key, value = ctypes.create_string_buffer(4), ctypes.create_string_buffer(16)
        call(MAP_LOOKUP, struct.pack("=IIQQQ", self.map, 0, ctypes.addressof(key),
                                     ctypes.addressof(value), 0))
        return struct.unpack("=QQ", value.raw)

    def assert_counts(self, scene, count):
        """Runs a load, and fails if its packets are not seen."""
        seen = self.read()[0]
        scene.load("sets", connections=20, count=count, prefix="after")
        assert self.read()[0] >= seen + count, "the neighbour counts no longer"

    def close(self):
        for fd in (self.link, self.prog, self.map):
            if fd is not None:
                os.close(fd)
        self.link = self.prog = self.map = None
