# SPDX-License-Identifier: Apache-2.0
"""What was recorded is mirrored later: tcpreplay plays a capture file into one end of a veth, and capture is on the
other (docs/where-to-attach.md)."""

import os
import signal
import tempfile

from harness import case
from lab import memcached, mirror, wait
from lab.guest import guest
from lab.wait import amount
from test_where_to_attach import KEYS, attach


def record(host, file, traffic):
    """What goes by while `traffic` is made. Whoever records where frames are sent sees what the device has yet to do:
    merged segments, and checksums that nobody has computed."""
    child = host.popen(["tcpdump", "-i", "eth0", "-w", file, "-U", "--immediate-mode", "tcp port 11211"],
                       stderr=open(file + ".log", "w", encoding="utf-8"))

    def log():
        with open(file + ".log", encoding="utf-8") as f:
            return f.read()
    wait.until(lambda: "listening on" in log(), "the recorder")
    made = traffic()
    wait.settled(lambda: os.path.getsize(file), "the file's size", quiet=0.3, timeout=20)
    child.send_signal(signal.SIGINT)
    assert child.wait(wait.patience(10)) == 0, log()
    assert "0 packets dropped by kernel" in log(), log()
    return made


@case(twice=(False, True))
def a_capture_file(env, twice):
    """Each request of it arrives, each once. Once more it is the same connections, from the same ports."""
    scene = env.scene()
    scene.source[0].kill()
    server = guest(scene.lab, "server", 20)
    scene.source = [memcached.Server(server)]
    for host in (scene.lab.client, server):
        host.run(["ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off", "tx", "off"])
    with tempfile.TemporaryDirectory(prefix="offline") as where:
        file = os.path.join(where, "clients.pcap")
        sent = record(scene.lab.client, file, lambda: scene.load(
            "sets", address=server.address, connections=20, count=KEYS, smallest=20, largest=5000)["sent"])
        scene.lab.source.run(["ip", "link", "add", "replay0", "type", "veth", "peer", "name", "capture0"])
        for name in ("replay0", "capture0"):
            scene.lab.source.run(["ip", "link", "set", name, "up"])
        attach(scene, "capture0", promiscuous=True)
        for turn in range(1 + twice):
            scene.lab.source.run(["tcpreplay", "-q", "-i", "replay0", "--mbps", str(amount(100)), file], timeout=60)
            scene.assert_all_delivered((turn + 1) * sent)
    assert scene.target[0].stats()["cmd_set"] == (1 + twice) * KEYS
    scene.assert_same(keys=KEYS)
    mirror.assert_nothing_left(scene, timeout=75)
