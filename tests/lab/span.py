# SPDX-License-Identifier: Apache-2.0
"""A mirror port: the source's second device, span0, gets what passes between the client and a server that
is another host. Frames can be left out or cut on the way, as such ports do, and the test knows which.

Client and server must compute checksums and cut segments by themselves: nobody would do it here.
"""

import random
import select
import socket
import struct
import threading

from . import wait
from .guest import guest

SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 263, 6, 23
LONGEST = 65600


class Span:
    def __init__(self, lab, number=20):
        self.lab = lab
        self.server = guest(lab, "server", number)
        for host in (lab.client, self.server):
            host.run(["ethtool", "-K", "eth0", "tso", "off", "gso", "off", "tx", "off"])
        lab.switch.run(["ip", "-batch", "-"], stdin="\n".join([
            f"link add span type veth peer name span0 netns {lab.source.pid}", "link set span up", ""]))
        lab.source.run(["ip", "link", "set", "span0", "up"])
        self.drop = self.cut = 0.0  # part of the frames
        self.dice = random.Random(1)
        self.lose = None  # a function of a client's payload
        self.frames = self.dropped = self.hit = self.hit_bytes = 0
        self._over = threading.Event()
        self.input, self.output = lab.switch.in_netns(self._open)
        self._thread = threading.Thread(target=self._body, daemon=True)
        self._thread.start()

    @staticmethod
    def _open():
        """One socket for all ports of the switch, so that nothing changes places."""
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL: ahead of the bridge
        s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        s.setblocking(False)
        out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        out.bind(("span", 0x0800))
        return s, out

    def _pass(self, frame, port):
        """The frame as the mirror port sends it, or None."""
        length, = struct.unpack_from("!H", frame, 16)
        tcp = 14 + (frame[14] & 15) * 4
        payload = 14 + length - tcp - (frame[tcp + 12] >> 4) * 4
        carries = port == "client" and payload > 0
        self.frames += 1
        lost = self.drop and self.dice.random() < self.drop
        if carries and self.lose:
            lost = self.lose(frame[14 + length - payload:14 + length])
        cut = not lost and self.cut and carries and self.dice.random() < self.cut
        if lost or cut:
            self.dropped += 1
            self.hit += carries
            self.hit_bytes += payload if carries else 0
        if lost:
            return None
        return frame[:14 + length - payload // 2] if cut else frame

    def _body(self):
        ends = {socket.inet_aton(self.lab.client.address), socket.inet_aton(self.server.address)}
        while not self._over.is_set():
            if not select.select([self.input], [], [], 0.1)[0]:
                continue
            try:
                frame, (port, *_) = self.input.recvfrom(LONGEST)
            except BlockingIOError:
                continue
            if port in ("client", "server") and frame[12:14] == b"\x08\x00" and frame[23] == 6 \
                    and {frame[26:30], frame[30:34]} == ends:
                frame = self._pass(frame, port)
                if frame:
                    self.output.send(frame)

    def mapping(self, port=11211):
        return {"name": "span", "device": "span0", "promiscuous": True, "ports": port,
                "targets": [{"address": self.lab.target.address, "port": port}]}

    def assert_fast_enough(self):
        """Nothing was lost here but what the test wanted."""
        _, dropped = struct.unpack("=II", self.input.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        assert not dropped, f"the mirror port itself lost {dropped} frames"

    def close(self):
        self._over.set()
        self._thread.join(wait.patience(5))
        self.input.close()
        self.output.close()
