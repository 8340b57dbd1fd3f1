# SPDX-License-Identifier: Apache-2.0
"""A bad network between a host and the source: delays, so reorders, and duplicates a part of the frames, or
gives them a priority tag.

nftables diverts that part, at the switch's port of the host, to the veth "detour"; its peer is read
here. A frame that goes back through the peer comes in at the bridge as if it came from the host.
The host must compute checksums by itself (offload="sender-off", or "all-off"): nobody would do it here.
"""

import heapq
import random
import select
import socket
import threading
import time

from . import wait

ETH_P_IP = 0x0800
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
TAG_VID_0 = bytes.fromhex("81006000")  # priority 3, in no VLAN (IEEE 802.1Q, 9.6)


class Relay:
    def __init__(self, lab, per_mille, longest_ms=3.0, shortest_ms=0.0, duplicates=0.0, seed=1, sender="client", tag=None):
        """tag: what comes behind the source's address of each frame, such as TAG_VID_0."""
        self.tag = tag
        self.lab, self.delays, self.duplicates = lab, (shortest_ms / 1000, longest_ms / 1000), duplicates
        self.dice = random.Random(seed)
        self.delayed = self.doubled = 0
        self._over = threading.Event()
        self.mac = bytes.fromhex(lab[sender].mac().replace(":", ""))
        lab.switch.run(["ip", "-batch", "-"], stdin="\n".join([
            "link add detour type veth peer name relay",
            "link set detour master br0 up", "link set relay up",
            # The host's address stays where the host is.
            "link set detour type bridge_slave learning off flood off mcast_flood off bcast_flood off",
            ""]))
        self.socket = lab.switch.in_netns(self._open)
        self._thread = threading.Thread(target=self._body, daemon=True)
        self._thread.start()
        chance = f"numgen random mod 1000 < {per_mille}" if per_mille < 1000 else ""
        lab.switch.run(["nft", "-f", "-"], stdin=f"""
table netdev detour {{
  chain divert {{
    type filter hook ingress device "{sender}" priority 10; policy accept;
    ip saddr {lab[sender].address} ip daddr {lab.source.address} \
{chance} fwd to "detour"
  }}
}}
""")

    def _open(self):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        s.bind(("relay", ETH_P_IP))
        s.setblocking(False)
        return s

    def _take(self, late):
        while True:
            try:
                frame = self.socket.recv(65600)
            except BlockingIOError:
                return
            if frame[6:12] != self.mac:
                continue
            if self.tag:
                frame = frame[:12] + self.tag + frame[12:]
            now = time.monotonic()
            self.delayed += 1
            heapq.heappush(late, (now + self.dice.uniform(*self.delays), self.delayed, frame))
            if self.dice.random() < self.duplicates:
                self.doubled += 1
                heapq.heappush(late, (now + self.dice.uniform(*self.delays),
                                      self.delayed + 0.5, frame))

    def _body(self):
        late = []
        while not self._over.is_set() or late:
            pause = 0.1
            if late:
                pause = max(0.0, late[0][0] - time.monotonic())
            if select.select([self.socket], [], [], pause)[0]:
                self._take(late)
            while late and late[0][0] <= time.monotonic():
                try:
                    self.socket.send(heapq.heappop(late)[2])
                except OSError:
                    pass  # a full queue: one more loss, as in any network

    def close(self):
        self.lab.heal("detour")
        self._over.set()
        self._thread.join(wait.patience(5))
        self.socket.close()
        self.lab.switch.run(["ip", "link", "del", "detour"])
