# SPDX-License-Identifier: Apache-2.0
"""Capture goes away, as if another program of the host had removed it, and comes back."""

import os
import struct

from . import bpf, snapshot, wait

LINK_DETACH = 34


def remove(scene, keeper):
    """Nobody puts it back before restore()."""
    keeper.kill()
    source = scene.lab.source
    removed = 0
    for path in snapshot.pins(source):
        if "/links/doppel_ingress" in path:
            fd = bpf.open_pin(source.root("/sys/fs/bpf" + path))
            try:
                bpf.call(LINK_DETACH, struct.pack("=I", fd))
            finally:
                os.close(fd)
            removed += 1
    if not removed:
        for line in source.run(["tc", "filter", "show", "dev", "eth0", "ingress"]).stdout.splitlines():
            words = line.split()
            if "doppel_ingress" in line and "pref" in words:
                source.run(["tc", "filter", "del", "dev", "eth0", "ingress", "prio",
                            words[words.index("pref") + 1]])
                removed += 1
    assert removed, f"no capture to be removed: {snapshot.pins(source)}"


def restore(scene, keeper):
    keeper.start("adopted")
    wait.until(lambda: not scene.doppel.status()["missing"], "capture to be back", 40)
