# SPDX-License-Identifier: Apache-2.0
"""docs/migration.md, typed line by line, with clients that never stop."""

import hashlib
import tempfile
import time

from harness import case
from lab import load, page
from lab.traffic import value

PORTS = (11211, 11212)
CONNECTIONS, RATE = 8, 300  # of each port; commands a second


def size_of(digest):
    """10 B to 500 KB, most of them small: a hundred thousand take some 300 MB."""
    part = int.from_bytes(digest[:4], "big") / 2**32
    return int(10 * 50_000 ** (part ** 6))


def ttl_of(digest):
    """None, or an hour to a day."""
    return 0 if digest[4] % 2 else 3600 + int.from_bytes(digest[5:7], "big")


def fill(server, count):
    """Keys that no client touches. The look into the server is not mirrored, and neither are these."""
    with server.admin() as admin:
        for at in range(0, count, 500):
            keys = [b"old-%d-%07d" % (server.port, n) for n in range(at, min(at + 500, count))]
            request = []
            for key in keys:
                digest = hashlib.sha1(key).digest()
                size = size_of(digest)
                request.append(b"set %s %d %d %d\r\n%s\r\n"
                               % (key, digest[7], ttl_of(digest), size, value(key, size)))
            admin.socket.sendall(b"".join(request))
            for key in keys:
                answer = admin.reader.readline()
                assert answer == b"STORED\r\n", f"{key!r}: {answer!r}"


def clients(scene, host):
    """One load to each port of that host."""
    return [scene.start("mixed", address=host.address, port=port, connections=CONNECTIONS, rate=RATE, seconds=1500,
                        deadline=1600, smallest=10, largest=4000, prefix=f"live{port}-") for port in PORTS]


def end(loads):
    for one in loads:
        load.checked(one.end())


def move(env, count, ledger):
    """The page from its first block to its last, with `count` keys; `ledger`: the file that the page keeps one in."""
    scene = env.scene(ports=PORTS, memory_mb=1024)
    lab = scene.lab
    names = {"192.168.2.184": lab.target.address, "192.168.2.150": lab.source.address,
             "/var/tmp/ledger.json": ledger}
    for server in scene.source:
        fill(server, count // 2)
    loads = clients(scene, lab.source)
    for block in page.blocks("migration.md"):
        if block.heading == "7. Switch" and not block.elsewhere:
            end(loads)
            loads = clients(scene, lab.target)
        began = time.monotonic()
        page.typed(lab.target if block.elsewhere else lab.source, block, names, timeout=600)
        print(f"      {block.heading}: {time.monotonic() - began:.1f} s, of {len(block.text.splitlines())} lines")
        if block.heading == "8. The way back" and "warm" in block.text:
            end(loads)
            loads = []
    assert not loads, "the clients were never pointed at the new machine"
    scene.assert_same(minimum=count // 2)


@case(slow=True)
def the_page(env):
    env.allow(600)  # warm goes slower where the source answers later, and that is this machine's own load
    with tempfile.NamedTemporaryFile(prefix="ledger-", suffix=".json") as ledger:
        move(env, 10_000, ledger.name)


@case(long=True)
def the_page_with_a_hundred_thousand_keys(env):
    env.allow(1200)
    with tempfile.NamedTemporaryFile(prefix="ledger-", suffix=".json") as ledger:
        move(env, 100_000, ledger.name)
