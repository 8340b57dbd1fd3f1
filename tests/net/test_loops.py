# SPDX-License-Identifier: Apache-2.0
"""Hosts that mirror to each other."""

from harness import MODES, case
from lab import memcached, mirror, udp, wait
from lab.doppel import Doppel
from lab.guest import guest
from lab.keeper import File
from lab.network import endpoint
from lab.tcp import connect
from lab.wait import amount

IP = ("v4", "v6")


@case(mode=MODES, families=IP)
def two_hosts(env, mode):
    """Each has clients of its own, whose requests both get, once. What comes back is a loop, and counted as one."""
    scene = env.scene()
    other = Doppel(scene.lab.target, scene.doppel.attach_mode)
    scene.doppel.attach(*scene.mapping())
    other.attach("--device", "eth0", "-x", f"11211-{endpoint(scene.lab.source.address, 11211)}")
    count = amount(2000)
    sent = [scene.load("sets", connections=8, count=count, prefix=name, address=host.address)["sent"]
            for name, host in (("source", scene.lab.source), ("target", scene.lab.target))]
    for doppel, own, others in ((scene.doppel, *sent), (other, *reversed(sent))):
        ledger = doppel.wait_idle(observed=own + others)
        assert ledger["bytes"] == {"observed": own + others, "delivered": own, "in_flight": 0, "lost": 0,
                                   "excluded": others}, (own, others, ledger["bytes"])
        assert ledger["excluded"]["loop"] == others, ledger["excluded"]
        row = doppel.counters()["mappings"][0]["targets"][0]
        assert row["complete"] == 1 and row["missing"] == 0, row
    code, said = scene.doppel.health()
    assert code == 0 and any("its own target" in p["what"] for p in said["problems"]), (code, said["problems"])
    # Nothing goes round: who is asked has been asked once for each.
    servers = scene.source[0], scene.target[0]
    wait.until(lambda: [s.stats()["cmd_set"] for s in servers] == [2 * count] * 2, "each request on both, once")
    before = [d.ledger()["packets"]["captured"] for d in (scene.doppel, other)]
    assert wait.settled(lambda: [d.ledger()["packets"]["captured"] for d in (scene.doppel, other)], "the ring") == before
    scene.assert_same(keys=2 * count)
    other.detach()
    mirror.assert_nothing_left(scene)


@case(timestamps=(True, False))
def three_hosts(env, timestamps):
    """In a ring a connection is known where it began: the host there has executed its requests twice, which status
    tells, the others once. One without timestamps goes round until its time to live is used up."""
    scene = env.scene()
    lab = scene.lab
    third = guest(lab, "third", 40)
    servers = [*scene.source, *scene.target, memcached.Server(third, 11211, 64)]
    hosts = lab.source, lab.target, third
    ring = [scene.doppel, Doppel(lab.target), Doppel(third)]
    for doppel, following in zip(ring, (*hosts[1:], hosts[0])):
        doppel.attach("--device", "eth0", "-x", f"11211-{endpoint(following.address, 11211)}")
    lab.client.sysctl("net/ipv4/tcp_timestamps", int(timestamps))
    client = connect(lab.client, lab.source.address)
    client.sendall(b"set n 0 0 1\r\n0\r\n")
    assert client.recv(100) == b"STORED\r\n"

    def told():
        found = [(code, p) for code, said in (d.health() for d in ring) for p in said["problems"]]
        return [code for code, p in found if p["class"] == "left_out" and "in a ring" in p["what"]]
    wait.until(told, "the ring to be told")
    assert 7 in told(), told()
    if timestamps:
        client.sendall(b"set m 0 0 1\r\n0\r\n")
        assert client.recv(100) == b"STORED\r\n"
        wait.until(lambda: [s.stats()["cmd_set"] for s in servers] == [4, 2, 2], "each to have it, and where it began twice")
        ledgers = [d.ledger() for d in ring]
        assert [x["excluded"]["ring"] for x in ledgers] == [32, 0, 0], ledgers
        assert not any(x["excluded"]["hops"] for x in ledgers), ledgers
    client.close()
    counted = lambda: [d.ledger()["packets"]["captured"] for d in ring]
    wait.settled(counted, "the ring to come to rest", quiet=1)
    wait.until(lambda: not told(), "what is over not to be told", 20)
    for doppel in ring[1:]:
        doppel.detach()
    mirror.assert_nothing_left(scene)


@case()
def a_ring_that_is_joined(env):
    """A connection that is older than the ring is known by the SYN that its shadow has."""
    scene = env.scene()
    lab = scene.lab
    third = guest(lab, "third", 40)
    servers = [*scene.source, *scene.target, memcached.Server(third, 11211, 64)]
    client = connect(lab.client, lab.source.address)
    hosts = lab.source, lab.target, third
    ring = [scene.doppel, Doppel(lab.target), Doppel(third)]
    for doppel, following in zip(ring, (*hosts[1:], hosts[0])):
        doppel.attach("--device", "eth0", "-x", f"11211-{endpoint(following.address, 11211)}")
    for n in range(3):
        client.sendall(b"set n%d 0 0 1\r\n0\r\n" % n)
        assert client.recv(100) == b"STORED\r\n"
    wait.until(lambda: [s.stats()["cmd_set"] for s in servers] == [6, 3, 3], "each to have it, and where it began twice")
    client.close()
    wait.settled(lambda: [d.ledger()["packets"]["captured"] for d in ring], "the ring to come to rest", quiet=1)
    assert [s.stats()["cmd_set"] for s in servers] == [6, 3, 3]


@case()
def datagrams_in_a_mesh(env):
    """Three hosts that mirror UDP to both others: each datagram ends after six hosts, and is told."""
    scene = env.scene(target_runs=False)
    scene.source[0].kill()
    third = guest(scene.lab, "third", 40)
    hosts = scene.lab.source, scene.lab.target, third
    servers = [memcached.Server(host, 11211, 64, options=("-U", "11211")) for host in hosts]
    mesh = [scene.doppel, Doppel(scene.lab.target), Doppel(third)]
    for doppel, host in zip(mesh, hosts):
        file = File(scene)
        file.write({"name": "udp", "device": "eth0", "protocol": "udp", "ports": 11211,
                    "targets": [{"address": h.address, "port": 11211} for h in hosts if h is not host]})
        doppel.attach("--config", file.path)
    client = udp.Client(scene.lab.client, scene.lab.source.address)
    client.set(b"k", b"v")
    sets = lambda: [s.stats()["cmd_set"] for s in servers]
    done = wait.settled(sets, "the mesh to come to rest", quiet=1)
    assert min(done) >= 1 and sum(done) <= 1 + sum(2 ** n for n in range(1, 7)), done
    assert sum(d.ledger()["excluded"]["hops"] + d.ledger()["excluded"]["loop"] for d in mesh), [d.ledger() for d in mesh]
    client.close()
