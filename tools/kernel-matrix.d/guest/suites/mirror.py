# SPDX-License-Identifier: Apache-2.0
"""100 sets, mirrored from one memcached to another, once for each way of attaching."""

import hashlib
import json
import os
import subprocess

from lab import health, memcached, snapshot, wait
from lab.network import Lab
from report import check, no, note, raw

DOPPEL = "/km/tree/build/doppel"
PORT = 11211
SETS, CONNECTIONS = 100, 10
BIG = 100_000  # several of these are many segments, so GRO and the target's window matter
MODES = os.environ["KM_MODES"].split()


def value(number):
    size = BIG if number % 25 == 0 else 1 + 37 * number
    return hashlib.shake_128(b"%d" % number).hexdigest(size // 2 + 1)[:size].encode()


def send_sets(lab):
    """Connection by connection, each closed after its share, with every answer read."""
    share = SETS // CONNECTIONS
    for first in range(0, SETS, share):
        with lab.client.connect(lab.source.address, PORT) as connection:
            for number in range(first, first + share):
                body = value(number)
                connection.sendall(b"set key%d 0 0 %d\r\n%s\r\n" % (number, len(body), body))
                answer = connection.recv(64)
                assert answer == b"STORED\r\n", f"the source answered {answer!r}"


def row(lab):
    """The one target of the one mapping, as `doppel counters` gives it."""
    text = lab.source.run([DOPPEL, "counters", "--json"]).stdout
    return json.loads(text)["mappings"][0]["targets"][0]


def loaded():
    """What the kernel holds of ours, in the report's form."""
    return subprocess.run(["prog-load", "--loaded", "doppel_"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def settled_snapshot(host):
    """Duplicate address detection adds the routes of link-local addresses a while after link up."""
    wait.until(lambda: not host.run(["ip", "-6", "address", "show", "tentative"]).stdout,
               "the lab's IPv6 addresses", 20)
    return snapshot.take(host)


def mirror(lab, source, target, mode):
    before = settled_snapshot(lab.source)
    counters = health.Baseline(lab)
    with check(f"{mode}: attach", vital=True):
        done = lab.source.run([DOPPEL, "attach", "--device", "eth0", "--attach-mode", mode,
                               "-x", f"{PORT}-{lab.target.address}:{PORT}"], timeout=120)
        for line in (done.stdout + done.stderr).splitlines():
            note(line)
        raw(loaded().replace("\tattached\t", f"\tattached ({mode})\t"))
    try:
        with check(f"{mode}: clients are served", vital=True):
            send_sets(lab)
        with check(f"{mode}: {SETS} keys arrive on the target"):
            wait.until(lambda: target.stats()["curr_items"] == SETS, f"{SETS} keys", 30)
        with check(f"{mode}: keys and values are equal"):
            no(memcached.differences(source.contents(), target.contents()))
        with check(f"{mode}: ledger"):
            check_ledger(lab)
        with check(f"{mode}: no host counted a corrupt packet"):
            no(counters.moved())
    finally:
        with check(f"{mode}: detach"):
            lab.source.run([DOPPEL, "detach"], timeout=60)
    with check(f"{mode}: nothing is left"):
        no(snapshot.changes(before, snapshot.take(lab.source)))
        # programs go after a grace period
        wait.until(lambda: not loaded(), "the programs to go", 10)


def check_ledger(lab):
    def idle():
        now = row(lab)
        return now if now["bytes"]["in_flight"] == 0 else None

    now = wait.until(idle, "no byte in flight", 10)
    note(json.dumps(now))
    sent = now["bytes"]
    expected = sum(len(b"set key%d 0 0 %d\r\n\r\n" % (n, len(value(n)))) + len(value(n)) for n in range(SETS))
    assert sent["observed"] == expected, f"observed {sent['observed']}, sent were {expected}"
    assert sent["delivered"] == expected, f"delivered {sent['delivered']} of {expected}"
    assert sent["lost"] == sent["excluded"] == 0, f"lost {sent['lost']}, excluded {sent['excluded']}"


def probe(lab):
    with check("probe"):
        for line in lab.source.run([DOPPEL, "probe"]).stdout.splitlines():
            note(line)


def main():
    for mode in MODES:
        with check(f"{mode}: lab", vital=True):
            lab = Lab()
        with lab:
            with check(f"{mode}: memcached", vital=True):
                source, target = (memcached.Server(host, PORT, memory_mb=64, connections=100)
                                  for host in (lab.source, lab.target))
            if mode == MODES[0]:
                probe(lab)
            mirror(lab, source, target, mode)


if __name__ == "__main__":
    try:
        main()
    except AssertionError:
        pass  # a vital check, which has told it
