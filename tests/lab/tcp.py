# SPDX-License-Identifier: Apache-2.0
"""Client connections with unusual wishes: a port, a sequence number, small buffers, keepalives."""

import socket
import struct

from . import wait

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_TIMESTAMP = 19, 20, 21, 24
TCP_RECV_QUEUE, TCP_SEND_QUEUE = 1, 2


def connect(host, address, port=11211, own_port=None, isn=None, receive=None, keepalive=False,
            timeout=10.0):
    """A connected socket of the host. isn: the number of its SYN, as TCP_REPAIR allows (tcp(7))."""
    def make():
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(wait.patience(timeout))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        if keepalive:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        if own_port:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((host.address, own_port))
        if isn is not None:
            s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
            s.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, struct.pack("=I", isn))
            s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, -1)  # off again, without a window probe
        s.connect((address, port))
        return s
    return host.in_netns(make)


def reset(s):
    """Closes with a RST."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def read_lines(s, count, end=b"\r\n", limit=1 << 26):
    """Reads until `end` came `count` times; the bytes."""
    data, seen = [], 0
    tail = b""
    while seen < count:
        piece = s.recv(1 << 18)
        if not piece:
            raise AssertionError(f"closed after {seen} of {count} answers")
        data.append(piece)
        limit -= len(piece)
        seen += (tail + piece).count(end)
        tail = (tail + piece)[-(len(end) - 1):] if len(end) > 1 else b""
        if limit < 0:
            raise AssertionError("the answer does not end")
    return b"".join(data)
