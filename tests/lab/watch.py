# SPDX-License-Identifier: Apache-2.0
"""A watch on the wire, at the switch's port of the source, for frames that must never leave it.

A socket filter in the kernel passes violations only, so that a watch costs next to nothing during
a full-speed load and its memory is bounded.
"""

import ctypes
import ipaddress
import socket
import struct

ETH_P_ALL = 3
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
SOL_PACKET, PACKET_STATISTICS = 263, 6
PACKET_OUTGOING = 4
RST, ACK = 0x04, 0x10

# Classic BPF, linux/bpf_common.h.
LD_W, LD_H, LD_B, LD_B_IND, LDX_IHL = 0x20, 0x28, 0x30, 0x50, 0xB1
JEQ, JSET, RET = 0x15, 0x45, 0x06
AD_PKTTYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE, linux/filter.h


def _assemble(lines):
    """[(label, code, k, label if true, label if false)] to struct sock_filter[]."""
    at = {line[0]: i for i, line in enumerate(lines) if line[0]}
    out = b""
    for i, (_, code, k, yes, no) in enumerate(lines):
        jump = [0 if to is None else at[to] - i - 1 for to in (yes, no)]
        out += struct.pack("=HBBI", code, *jump, k)
    return out


def _program(mac, address, address6):
    """Passes: a foreign source MAC; IPv4, or TCP over IPv6, with a foreign source; any RST (whose source is
    right)."""
    high, low = struct.unpack("!IH", bytes.fromhex(mac.replace(":", "")))
    six = struct.unpack("!4I", ipaddress.ip_address(address6).packed)
    return _assemble([
        (None, LD_B, AD_PKTTYPE, None, None),
        (None, JEQ, PACKET_OUTGOING, "miss", None),  # toward the source: not what this is about
        (None, LD_W, 6, None, None),
        (None, JEQ, high, None, "hit"),
        (None, LD_H, 10, None, None),
        (None, JEQ, low, None, "hit"),
        (None, LD_H, 12, None, None),
        (None, JEQ, 0x86DD, "v6", None),
        (None, JEQ, 0x0800, None, "miss"),
        (None, LD_W, 26, None, None),
        (None, JEQ, int(ipaddress.ip_address(address)), None, "hit"),
        (None, LD_B, 23, None, None),
        (None, JEQ, socket.IPPROTO_TCP, None, "miss"),
        (None, LD_H, 20, None, None),
        (None, JSET, 0x1FFF, "miss", None),
        (None, LDX_IHL, 14, None, None),
        (None, LD_B_IND, 14 + 13, None, None),
        (None, JSET, RST, "hit", "miss"),
        ("v6", LD_B, 20, None, None),
        (None, JEQ, socket.IPPROTO_TCP, None, "miss"),
        *(step for i, word in enumerate(six)
          for step in ((None, LD_W, 22 + 4 * i, None, None), (None, JEQ, word, None, "hit"))),
        (None, LD_B, 54 + 13, None, None),
        (None, JSET, RST, "hit", "miss"),
        ("miss", RET, 0, None, None),
        ("hit", RET, 128, None, None),
    ])


class Watch:
    def __init__(self, lab):
        self.lab = lab
        self.mac = lab.source.mac()
        self.socket = lab.switch.in_netns(self._open)

    def _open(self):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        code = _program(self.mac, self.lab.source.address4, self.lab.source.address6)
        buffer = ctypes.create_string_buffer(code, len(code))
        s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                     struct.pack("HP", len(code) // 8, ctypes.addressof(buffer)))
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)  # bounds what a report can hold
        s.bind(("source", ETH_P_ALL))
        s.setblocking(False)
        return s

    def report(self):
        """Violations since the last call: {"foreign-mac": [...], "foreign-ip": ..., "rst-...": ...}.

        A RST without ACK answers a segment of a connection that is closed on both sides (RFC 9293,
        3.10.7.1). Clients cause it where a FIN was sent twice, about once in 10,000 connections and
        without any mirror as well, so it is no violation.
        """
        found = {"foreign-mac": [], "foreign-ip": [], "rst-to-target": [], "rst-to-client": []}
        while True:
            try:
                frame = self.socket.recv(128)
            except BlockingIOError:
                break
            what, text = self._describe(frame)
            if what != "late-segment":
                found.setdefault(what, []).append(text)
        _, dropped = struct.unpack("=II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if dropped:
            found["not-recorded"] = [f"{dropped} more violations than the socket could hold"]
        return {what: frames for what, frames in found.items() if frames}

    def _describe(self, frame):
        mac = frame[6:12].hex(":")
        if mac != self.mac:
            return "foreign-mac", f"source MAC {mac}, type {frame[12:14].hex()}"
        six = frame[14] >> 4 == 6
        at, size, l4 = (22, 16, 54) if six else (26, 4, 14 + (frame[14] & 15) * 4)
        source, dest = (str(ipaddress.ip_address(frame[i:i + size])) for i in (at, at + size))
        sport, dport, seq, ack = struct.unpack_from("!HHII", frame, l4)
        text = f"{source}:{sport} -> {dest}:{dport} flags {frame[l4 + 13]:02x} seq {seq} ack {ack}"
        if source not in (self.lab.source.address4, self.lab.source.address6):
            return "foreign-ip", text
        if dest == self.lab.target.address:
            return "rst-to-target", text
        return ("rst-to-client" if frame[l4 + 13] & ACK else "late-segment"), text

    def close(self):
        self.socket.close()
