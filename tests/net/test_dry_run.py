# SPDX-License-Identifier: Apache-2.0
"""`"dry_run"`: all is observed and nothing is sent, until a reload ends it, or again from a reload on."""

from harness import MODES, case
from lab import mirror, tcp
from lab.keeper import File, Keeper
from lab.wait import amount

IP = ("v4", "v6")


def one(scene, client, key):
    """A set that is answered. How many bytes it has."""
    request = b"set %s 0 0 1\r\nx\r\n" % key
    client.sendall(request)
    assert tcp.read_lines(client, 1) == b"STORED\r\n", key
    return len(request)


def connections(scene):
    return scene.target[0].stats()["total_connections"]


@case(mode=MODES, families=IP)
def nothing_is_sent(env, mode):
    """The ledger has each byte, and the target hears nothing: no connection, no packet."""
    scene = env.scene()
    old = tcp.connect(scene.lab.client, scene.lab.source.address)
    one(scene, old, b"before")
    file = File(scene)
    file.write({**file.mapping("data", 11211), "dry_run": True})
    attached = scene.doppel.attach("--config", file.path)
    assert "gets nothing, as the mapping is a dry run" in attached.stderr, attached.stderr
    before = connections(scene)
    sent = one(scene, old, b"old")
    sent += scene.load("sets", connections=16, count=amount(4000))["sent"]
    ledger = scene.doppel.ledger()
    assert ledger["bytes"] == {"observed": sent, "delivered": 0, "in_flight": 0, "lost": 0, "excluded": sent}, \
        (sent, ledger["bytes"])
    assert ledger["excluded"]["dry_run"] == sent, ledger["excluded"]
    assert not ledger["flows"]["opened"] and not ledger["packets"]["copied"], ledger
    assert connections(scene) == before + 1, "more than the one that asks here"
    code, said = scene.doppel.health()
    assert code == 0 and any("dry run" in p["what"] for p in said["problems"]), said
    old.close()
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


@case(mode=MODES)
def begun_and_ended_by_a_reload(env, mode):
    """What is said meanwhile is counted and not sent; before and after it each byte arrives. The keeper
    has the same connections all the time."""
    scene = env.scene()
    file = File(scene)

    def write(dry):
        file.write({**file.mapping("data", 11211), "dry_run": dry})
    write(False)
    keeper = Keeper(scene, "--config", file.path)
    client = tcp.connect(scene.lab.client, scene.lab.source.address)
    sent = dry = 0
    for turn in range(3):
        for n in range(20):
            sent += one(scene, client, b"live%d-%d" % (turn, n))
        write(True)
        keeper.reload()
        scene.doppel.wait_idle(observed=sent)
        for n in range(20):
            size = one(scene, client, b"dry%d-%d" % (turn, n))
            sent += size
            dry += size
        write(False)
        keeper.reload()
    sent += one(scene, client, b"last")
    ledger = scene.doppel.wait_idle(observed=sent)
    assert ledger["bytes"] == {"observed": sent, "delivered": sent - dry, "in_flight": 0, "lost": 0, "excluded": dry}, \
        (sent, dry, ledger["bytes"], ledger["excluded"])
    assert ledger["excluded"]["dry_run"] == dry, ledger["excluded"]
    keys = set(scene.target[0].contents())
    assert len(keys) == 61 and not any(key.startswith(b"dry") for key in keys), keys
    client.close()
    mirror.assert_nothing_left(scene)
    keeper.stop()
    scene.assert_harmless()
