# SPDX-License-Identifier: Apache-2.0
"""TCP by hand, as raw frames: what a stranger forges, and a client whose every header is the test's."""

import ipaddress
import select
import socket
import struct
import time

from . import wait
from .network import NET4, NET6
from .tcp import TCP_QUEUE_SEQ, TCP_RECV_QUEUE, TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
WRAP = 1 << 32


def ones_sum(data):
    """The ones' complement sum of 16-bit words (RFC 1071): 2^16 is 1 modulo 65535."""
    value = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    return value % 65535 or (65535 if value else 0)


def packed(address):
    return ipaddress.ip_address(address).packed


def _add(*sums):
    return sum(sums) % 65535 or 65535


def tcp(addresses, ports, seq, ack, flags, payload=b"", options=b"", check=None, payload_sum=None):
    """A segment. check: "pseudo" puts the sum of the pseudo-header into the checksum, as a sender does that
    leaves the rest to its device. payload_sum: ones_sum(payload), where many segments have the same."""
    options += b"\x01" * (-len(options) % 4)
    header = struct.pack("!HHIIBBHHH", *ports, seq % WRAP, ack % WRAP, (20 + len(options)) // 4 << 4, flags,
                         8192, 0, 0) + options
    pseudo = ones_sum(addresses[0] + addresses[1] + struct.pack("!HH", 6, len(header) + len(payload)))
    if check == "pseudo":
        value = pseudo
    else:
        value = _add(pseudo, ones_sum(header), ones_sum(payload) if payload_sum is None else payload_sum) ^ 0xFFFF
    return header[:16] + struct.pack("!H", value) + header[18:] + payload


def ip(addresses, payload, options=b"", ident=0, offset=0, more=False, protocol=6):
    """A packet, or a fragment that begins at `offset` of the payload of the whole. With addresses of 16 bytes one
    of IPv6, which has `options` in a header for the destination."""
    if len(addresses[0]) == 16:
        return _ip6(addresses, payload, options, ident, offset, more, protocol)
    fragment = (0x2000 if more else 0) | offset // 8
    header = struct.pack("!BBHHHBBH4s4s", 0x40 | (5 + len(options) // 4), 0,
                         20 + len(options) + len(payload), ident, fragment, 64, protocol, 0, *addresses) + options
    return header[:10] + struct.pack("!H", ones_sum(header) ^ 0xFFFF) + header[12:] + payload


def _ip6(addresses, payload, options, ident, offset, more, protocol):
    if offset or more:
        payload = struct.pack("!BBHI", protocol, 0, offset | more, ident) + payload
        protocol = 44
    if options:
        payload = struct.pack("!BB", protocol, 0) + b"\x01\x04" + bytes(4) + payload
        protocol = 60
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, 64, *addresses) + payload


def numbers(s):
    """(SND.NXT, RCV.NXT) of a connected socket of the tests' own process, by TCP_REPAIR."""
    s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    found = []
    for queue in (TCP_SEND_QUEUE, TCP_RECV_QUEUE):
        s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        found.append(s.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) % WRAP)
    s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, -1)
    return tuple(found)


class Wire:
    """Sends frames from a host of the lab to the source, from whatever address."""

    def __init__(self, lab, host):
        self.type = 0x86DD if lab.six("client", "source") else 0x0800
        self.header = bytes.fromhex((lab.source.mac() + host.mac()).replace(":", "")) + self.type.to_bytes(2, "big")
        self.server = packed(lab.source.address)
        self.socket = host.in_netns(self._open)

    def _open(self):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        s.bind(("eth0", self.type))
        return s

    def packet(self, packet):
        while True:
            try:
                self.socket.send(self.header + packet)
                return
            except OSError as e:
                if e.errno != 105:  # ENOBUFS: the queue of the device
                    raise
                select.select([], [self.socket], [], 0.01)

    def segment(self, address, ports, seq, ack, flags, payload=b"", **more):
        ends = (packed(address), self.server)
        self.packet(ip(ends, tcp(ends, ports, seq, ack, flags, payload, **more)))

    def beyond(self, s, first, last, size=1448):
        """The bytes first..last ahead of SND.NXT of a connected socket of this host, as segments of `size`."""
        address, port = s.getsockname()[:2]
        seq, ack = numbers(s)
        payload = b"x" * size
        known = ones_sum(payload)
        for at in range(first, last - size, size):
            self.segment(address, (port, s.getpeername()[1]), seq + at, ack, ACK, payload, payload_sum=known)

    def close(self):
        self.socket.close()


class RawClient:
    """A client with an address of its own at a host of the lab, whose kernel knows nothing of it."""

    def __init__(self, lab, host, number, port=40000, server_port=11211, isn=1_000_000):
        self.wire = Wire(lab, host)
        self.address = str((NET6 if lab.six("client", "source") else NET4)[number])
        self.ends = (packed(self.address), self.wire.server)
        self.ports = (port, server_port)
        self.seq, self.ack = isn, 0
        self.sent = self.ident = self.heard = 0
        self.acked = self.window = 0  # as the server said last; the window is not scaled
        self.input = b""
        lab.source.run(["ip", "neigh", "replace", self.address, "lladdr", host.mac(), "dev", "eth0",
                        "nud", "permanent"])

    def connect(self, options=b""):
        """options: those of the SYN, besides the MSS."""
        self._send(SYN, options=b"\x02\x04\x05\xb4" + options)
        self.seq += 1
        self._until(lambda: self.ack, "a SYN-ACK")
        self._send(ACK)
        return self

    def _send(self, flags, payload=b"", options=b"", check=None):
        self.wire.packet(ip(self.ends, tcp(self.ends, self.ports, self.seq, self.ack, flags, payload,
                                           options, check)))

    def _take(self, timeout):
        if not select.select([self.wire.socket], [], [], timeout)[0]:
            return
        frame = self.wire.socket.recv(65600)
        if self.wire.type == 0x86DD:
            protocol, begin, at, end = frame[20], 22, 54, 54 + struct.unpack_from("!H", frame, 18)[0]
        else:
            protocol, begin, at, end = (frame[23], 26, 14 + (frame[14] & 15) * 4,
                                        14 + struct.unpack_from("!H", frame, 16)[0])
        if protocol != 6 or not frame[begin:].startswith(self.ends[1] + self.ends[0]):
            return
        if struct.unpack_from("!HH", frame, at) != self.ports[::-1]:
            return
        seq, self.acked = struct.unpack_from("!II", frame, at + 4)
        flags = frame[at + 13]
        self.window, = struct.unpack_from("!H", frame, at + 14)
        self.heard += 1
        payload = frame[at + (frame[at + 12] >> 4) * 4:end]
        if flags & RST:
            raise AssertionError("the source reset the connection")
        if flags & SYN:
            self.ack = (seq + 1) % WRAP
        elif payload and seq == self.ack:
            self.ack = (seq + len(payload)) % WRAP
            self.input += payload
            self._send(ACK)

    def _until(self, condition, what):
        deadline = time.monotonic() + wait.patience(5)
        while not condition():
            if time.monotonic() > deadline:
                raise wait.Timeout(f"the raw client waited for {what}; it has {self.input!r}")
            self._take(0.1)

    def send(self, payload, how="plain"):
        """A segment. how: "fragment" in two, "ip_options" with four NOPs in its IP header, "bad-checksum"
        with the bare sum of the pseudo-header, and then it is none of the stream."""
        if how == "fragment":
            whole = tcp(self.ends, self.ports, self.seq, self.ack, ACK | PSH, payload)
            cut = len(whole) // 2 // 8 * 8
            self.ident += 1
            self.wire.packet(ip(self.ends, whole[:cut], ident=self.ident, more=True))
            self.wire.packet(ip(self.ends, whole[cut:], ident=self.ident, offset=cut))
        elif how == "ip_options":
            self.wire.packet(ip(self.ends, tcp(self.ends, self.ports, self.seq, self.ack, ACK | PSH, payload),
                                options=b"\x01" * 4))
        elif how == "bad-checksum":
            self._send(ACK | PSH, payload, check="pseudo")
            return
        else:
            self._send(ACK | PSH, payload)
        self.seq = (self.seq + len(payload)) % WRAP
        self.sent += len(payload)

    def fill(self, byte):
        """Text of that byte only, until the server's window is shut."""
        while self.window:
            self.send(byte * min(self.window, 512))
            self._until(lambda: self.acked == self.seq, "an acknowledgement")

    def probe(self, payload):
        """Text at a window that is shut: the server answers that it still is, and the client goes not on."""
        heard = self.heard
        self._send(ACK | PSH, payload)
        self._until(lambda: self.heard > heard, "an answer to a probe")

    def wait_for_window(self):
        self._until(lambda: self.window, "the window to open")

    def answered(self, text):
        self._until(lambda: len(self.input) >= len(text), f"{text!r}")
        if self.input != text:
            raise AssertionError(f"{self.input!r} is not {text!r}")
        self.input = b""

    def ask(self, payload, answer=b"STORED\r\n", how="plain"):
        self.send(payload, how)
        self.answered(answer)

    def close(self):
        self._send(RST | ACK)
        self.wire.close()
