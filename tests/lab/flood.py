# SPDX-License-Identifier: Apache-2.0
"""Spoofed segments from addresses that nobody has, sent by the client host as raw frames."""

import random
import socket
import struct

SYN, ACK, PSH = 0x02, 0x10, 0x08


def _sum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def segment(macs, addresses, ports, seq, ack, flags, payload=b""):
    """An Ethernet frame with an IPv4 TCP segment, checksums right."""
    length = 20 + len(payload)
    tcp = struct.pack("!HHIIBBHHH", *ports, seq, ack, 5 << 4, flags, 1024, 0, 0)
    pseudo = addresses[0] + addresses[1] + struct.pack("!HH", 6, length)
    check = ~_sum(pseudo + tcp + payload + b"\0" * (len(payload) % 2)) & 0xFFFF
    tcp = tcp[:16] + struct.pack("!H", check) + tcp[18:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0x4000, 64, 6, 0, *addresses)
    ip = ip[:10] + struct.pack("!H", ~_sum(ip) & 0xFFFF) + ip[12:]
    return macs[1] + macs[0] + b"\x08\x00" + ip + tcp + payload


class Flood:
    """Sends `each(address, port, number)` frames from random addresses of 198.18.0.0/15 (RFC 2544)."""

    def __init__(self, lab, port=11211, seed=1):
        self.lab, self.port = lab, port
        self.dice = random.Random(seed)
        self.macs = [bytes.fromhex(h.mac().replace(":", "")) for h in (lab.client, lab.source)]
        self.server = socket.inet_aton(lab.source.address)
        self.socket = lab.client.in_netns(self._open)

    @staticmethod
    def _open():
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        s.bind(("eth0", 0x0800))
        return s

    def _send(self, address, port, seq, flags, payload=b"", ack=0):
        self.socket.send(segment(self.macs, (address, self.server), (port, self.port), seq, ack, flags,
                                 payload))

    def _anybody(self):
        return (struct.pack("!I", 0xC6120000 + self.dice.randrange(1 << 17)),
                self.dice.randrange(1024, 65536), self.dice.randrange(1 << 32))

    def syns(self, count):
        for _ in range(count):
            address, port, seq = self._anybody()
            self._send(address, port, seq, SYN)

    def handshakes(self, count):
        """A SYN and, blindly, the ACK after it."""
        for _ in range(count):
            address, port, seq = self._anybody()
            self._send(address, port, seq, SYN)
            self._send(address, port, (seq + 1) & 0xFFFFFFFF, ACK, ack=1)

    def commands(self, count, text=b"get spoofed\r\n"):
        """Commands on connections that nobody has opened."""
        for _ in range(count):
            address, port, seq = self._anybody()
            self._send(address, port, seq, ACK | PSH, text, ack=1)

    def duplicate(self, address, port, seq, payload):
        """One segment as if it came from that client."""
        self._send(socket.inet_aton(address), port, seq, ACK | PSH, payload, ack=1)

    def close(self):
        self.socket.close()
