# SPDX-License-Identifier: Apache-2.0
"""Very many connections that are silent nearly all the time: what is idle holds nothing of the store."""

import socket
import time

from harness import MODES, case
from lab import mirror, wait
from lab.books import settled, tell
from lab.crowd import Crowd
from lab.keeper import Keeper, keep
from lab.traffic import set_command
from lab.wait import amount
from test_client_net import connect, stored

ALONE = True  # Tens of thousands of connections.

PORTS = (11211, 11212, 11213, 11214)  # a memcached has 20,000 files at most


def missing(scene):
    """How many keys of the source the target has not."""
    count = 0
    for source, target in zip(scene.source, scene.target):
        with source.admin() as a, target.admin() as b:
            count += len(a.keys() - b.keys())
    return count


def assert_complete(scene, crowd):
    """Nothing is waited for that has broken: the rest of the keys will not come."""
    ledger = scene.doppel.wait_idle(observed=crowd.sent)
    absent = missing(scene)
    b = ledger["bytes"]
    print(f"      {crowd.open} connections, {tell(scene, ledger)}, {scene.doppel.counters()['store']}")
    assert not absent and b["delivered"] == crowd.sent, f"{absent} keys are missing: {tell(scene, ledger)}"


@case()
def forty_and_fifty_thousand(env):
    """39,000 connections with one set each, then 54,000, with the default store of 64 MiB. At last those that
    were silent longest speak again."""
    scene = env.scene(ports=PORTS, memory_mb=64)
    scene.lab.source.sysctl("net/ipv4/ip_local_port_range", "1024 11000")
    for host in (scene.lab.client, scene.lab.source, scene.lab.target):
        host.sysctl("net/ipv4/tcp_max_syn_backlog", 16384)
    keep(scene, flows=65536, shadow_ports="11300-65535")
    addresses = [f"10.77.0.{n}" for n in range(101, 117)]
    crowd = Crowd(scene.lab.client, scene.lab.source.address, PORTS, addresses)
    crowd.grow(amount(39_000))
    assert_complete(scene, crowd)
    crowd.grow(amount(15_000))
    assert_complete(scene, crowd)
    crowd.again(amount(2000))
    assert_complete(scene, crowd)
    scene.assert_harmless()


@case()
def more_conversations_than_chunks(env):
    """700 connections on a store of 512 chunks, that speak in turn."""
    scene = env.scene()
    keep(scene, store="1MiB", flow_cap="64KiB", shadow_ports="20000-20799")
    clients = [connect(scene) for _ in range(700)]
    sent = 0
    with mirror.Sampler(scene):
        for turn in range(4):
            for n, client in enumerate(clients):
                request = set_command(b"key%d-%d" % (turn, n), 20)
                client.sendall(request)
                sent += len(request)
                stored(client, 1)
        ledger = settled(scene)
    absent = missing(scene)
    assert not absent, f"{absent} keys are missing: {tell(scene, ledger)}"
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=2800)
    for client in clients:
        client.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case(mode=MODES[:1], connections=(10000,))
def the_keeper_sleeps(env, mode, connections):
    """Its CPU time, which another's load makes longer: caches and hyper-threads are shared."""
    scene = env.scene()
    connections = amount(connections)
    keeper = Keeper(scene, *scene.mapping())
    idle = []

    def connect():
        for n in range(connections):
            s = socket.create_connection((scene.lab.source.address, 11211), wait.patience(20))
            s.sendall(b"set idle%d 0 0 1\r\nx\r\n" % n)
            idle.append(s)
    scene.lab.client.in_netns(connect)
    ledger = scene.doppel.wait_idle()
    assert ledger["flows"]["open"] == connections, ledger
    before, begin = keeper.cpu_ms(), time.monotonic()
    # So long that each of what it does now and then has its part in it.
    wait.until(lambda: time.monotonic() - begin > 40, "the time to pass", 50, 0.5)
    used = (keeper.cpu_ms() - before) * 10 / (time.monotonic() - begin)
    for s in idle:
        s.close()
    assert used < wait.patience(50), f"{used:.1f} ms of CPU in 10 s"
    keeper.stop()
