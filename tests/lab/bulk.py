# SPDX-License-Identifier: Apache-2.0
"""One TCP connection that sends as fast as its path takes it, for so many seconds; the server's side counts."""

import json
import socket
import subprocess
import sys
import threading
import time

PORT = 5001


def start(sender, receiver, seconds):
    """Returns the receiver's process; received() waits for it."""
    sink = receiver.popen([sys.executable, "-m", "lab.bulk", receiver.address], stdout=subprocess.PIPE, text=True)
    assert sink.stdout.readline() == "ready\n"
    sender.popen([sys.executable, "-m", "lab.bulk", receiver.address, str(seconds)])
    return sink


def received(sink):
    """(bytes, seconds)"""
    said = json.loads(sink.communicate(timeout=60)[0])
    return said["bytes"], said["seconds"]


def receive(address):
    with socket.create_server((address, PORT)) as server:
        print("ready", flush=True)
        connection, _ = server.accept()
        begin, total = time.monotonic(), 0
        while data := connection.recv(1 << 16):
            total += len(data)
    print(json.dumps({"bytes": total, "seconds": time.monotonic() - begin}), flush=True)


def send(address, seconds):
    s = socket.create_connection((address, PORT))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    threading.Timer(seconds, s.shutdown, [socket.SHUT_RDWR]).start()
    try:
        while True:
            s.sendall(bytes(1 << 14))
    except OSError:
        pass


if __name__ == "__main__":
    if len(sys.argv) == 2:
        receive(sys.argv[1])
    else:
        send(sys.argv[1], float(sys.argv[2]))
