# SPDX-License-Identifier: Apache-2.0
"""Copies that come from several addresses of the source: each of them has all shadow ports."""

from harness import MODES, case
from lab import health, mirror, snapshot, wait
from lab.books import tell
from lab.crowd import Crowd
from lab.guest import router
from lab.keeper import keep
from lab.load import checked

PORTS = 64  # of each address
RANGE = "20000-20063"
FURTHER = [f"10.77.0.{n}" for n in (61, 62, 63)]
FURTHER6 = [f"fd77::{n}" for n in (61, 62, 63)]
CLIENTS = [f"10.77.0.{n}" for n in range(101, 105)]


def scene_of(env, **options):
    scene = env.scene(**options)
    for address in further(scene):
        has(scene, address)
    return scene


def further(scene):
    return FURTHER6 if scene.lab.six("target") else FURTHER


def has(scene, address, what="add"):
    """The source, or has no more. Of IPv6 it is a deprecated one, so that no route says it (RFC 6724, 5)."""
    six = ":" in address
    more = ["nodad", "preferred_lft", "0"] if six and what == "add" else []
    scene.lab.source.run(["ip", "addr", what, f"{address}/{64 if six else 24}", "dev", "eth0", *more])


def from_addresses(scene, addresses):
    """What `keep` writes into each mapping."""
    return {"targets": [{"address": scene.lab.target.address, "port": 11211, "shadow_addresses": addresses}]}


def assert_harmless(scene, resets_to_target=False):
    """As Scene has it, but that copies come from the further addresses."""
    found = scene.watch.report()
    if resets_to_target:
        found.pop("rst-to-target", None)
    found["foreign-ip"] = [one for one in found.get("foreign-ip", ())
                           if one.split(" ")[0].rsplit(":", 1)[0] not in FURTHER + FURTHER6]
    found = {what: frames for what, frames in found.items() if frames}
    assert not found, {what: frames[:3] for what, frames in found.items()}
    moved = scene.health.moved(hosts=("client", "source", "target"))
    assert not moved, "; ".join(moved)


def shadows(scene):
    """{address: ports} of the source that open connections of the target are with."""
    found = {}
    for row in scene.doppel.json("flows")["flows"]:
        if row["shadow"]:
            address, port = row["shadow"].rsplit(":", 1)
            found.setdefault(address.strip("[]"), set()).add(int(port))
    return found


@case(mode=MODES)
def more_connections_than_ports(env, mode):
    """Nearly four times as many connections as shadow ports, from four addresses: all bytes are delivered, each once,
    and nothing stays behind."""
    scene = scene_of(env)
    before = snapshot.pins(scene.lab.source)
    keeper = keep(scene, from_addresses(scene, FURTHER), shadow_ports=RANGE)
    with mirror.Sampler(scene):
        crowd = Crowd(scene.lab.client, scene.lab.source.address, scene.ports, CLIENTS)
        crowd.grow(240)
        scene.assert_all_delivered(crowd.sent)
        used = shadows(scene)
        assert sorted(used) == sorted([*FURTHER, scene.lab.source.address]), used
        assert sum(map(len, used.values())) == 240, {a: len(p) for a, p in used.items()}
        ports = scene.doppel.counters()["shadow_ports"]
        assert ports == {"total": 4 * PORTS, "free": 4 * PORTS - 240}, ports
        crowd.again(240)
        ledger = scene.assert_all_delivered(crowd.sent)
    assert ledger["flows"]["opened"] == 240, ledger["flows"]
    scene.assert_same()
    for child in crowd.children:
        child.kill()
        child.wait()
    mirror.assert_nothing_left(scene, timeout=75)
    assert_harmless(scene)
    keeper.stop()
    scene.doppel.detach()
    assert snapshot.pins(scene.lab.source) == before


@case(families=("v6", "v4_to_v6", "v6_to_v4"))
def whatever_the_version(env):
    """The same of IPv6, and where clients have another version than the target."""
    scene = scene_of(env)
    keep(scene, from_addresses(scene, further(scene)), shadow_ports=RANGE)
    load = scene.start("sets", connections=200, count=1_000_000, rate=2000, deadline=100)
    wait.until(lambda: scene.doppel.ledger()["flows"]["open"] == 200, "the connections", 20)
    used = shadows(scene)
    assert len(used) == 4 and sum(map(len, used.values())) == 200, used
    sent = checked(load.end())["sent"]
    scene.assert_all_delivered(sent)
    mirror.assert_nothing_left(scene, timeout=75)
    assert_harmless(scene)


@case()
def an_address_goes(env):
    """The host loses an address that copies come from, and has it again: the mirror goes on meanwhile, and status says
    what is wrong for as long as it is."""
    scene = scene_of(env)
    keep(scene, from_addresses(scene, FURTHER), shadow_ports=RANGE)

    def told():
        return [p["what"] for p in scene.doppel.status()["problems"] if FURTHER[1] in p["what"]]

    assert not told()
    has(scene, FURTHER[1], "del")
    wait.until(told, "the address to be missed", 20)
    has(scene, FURTHER[1])
    wait.until(lambda: not told(), "the address to be found", 20)
    sent = scene.load("sets", connections=100, count=1000)["sent"]
    scene.assert_all_delivered(sent)
    mirror.assert_nothing_left(scene, timeout=75)
    assert_harmless(scene)


@case()
def beyond_all_of_them(env):
    """More connections than all addresses have ports: those beyond are left out, and counted."""
    scene = scene_of(env)
    keep(scene, from_addresses(scene, FURTHER[:1]), shadow_ports=RANGE)
    with mirror.Sampler(scene):
        sent = scene.load("sets", connections=200, count=4000, rate=2000)["sent"]
    ledger = scene.doppel.wait_idle(observed=sent)
    b = ledger["bytes"]
    assert b["lost"] == 0 and 0 < b["delivered"] < sent, b
    assert ledger["excluded"]["ports_exhausted"], ledger["excluded"]
    mirror.assert_nothing_left(scene, timeout=75)
    assert_harmless(scene)


@case()
def another_list(env):
    """A reload with fewer addresses drains the target's shadows as for another target, and one with others takes the
    room of those that are gone; a list that has no room is refused, and all goes on."""
    scene = scene_of(env)
    keeper = keep(scene, from_addresses(scene, FURTHER[:2]), shadow_ports=RANGE)
    _, file = scene.kept

    def lists(addresses, expect):
        file.write(*(file.mapping(f"p{port}", port, **from_addresses(scene, addresses)) for port in scene.ports),
                   shadow_ports=RANGE)
        keeper.reload(expect)

    load = scene.start("sets", connections=32, count=1_000_000, rate=1000, deadline=100)
    wait.until(lambda: scene.doppel.ledger()["flows"]["open"] == 32, "the connections", 20)
    lists(FURTHER, "none are left for 10.77.0.63")
    assert set(shadows(scene)) == {scene.lab.source.address, *FURTHER[:2]}, shadows(scene)
    lists(FURTHER[:1], "reloaded: ")
    lists([FURTHER[0], FURTHER[2]], "reloaded: ")
    sent = checked(load.end())["sent"]
    ledger = scene.doppel.wait_idle()
    assert not ledger["bytes"]["lost"], tell(scene, ledger)
    assert sent
    sent = scene.load("sets", connections=60, count=600, prefix="more")["sent"]
    after = scene.doppel.wait_idle()
    assert after["bytes"]["delivered"] == ledger["bytes"]["delivered"] + sent, tell(scene, after)
    mirror.assert_nothing_left(scene, timeout=75)
    assert_harmless(scene, resets_to_target=True)


@case()
def a_router_tells_each_of_them(env):
    """An ICMP error is for the shadow whose address it quotes: segments of each become small enough, and this host's
    stack hears nothing of it."""
    scene = scene_of(env)
    router(scene.lab)
    keep(scene, from_addresses(scene, FURTHER), shadow_ports=RANGE)
    before = health.counters(scene.lab.source)["Icmp.InErrors"]
    sent = scene.load("sets", connections=32, count=320, smallest=4000, largest=4000)["sent"]
    ledger = scene.assert_all_delivered(sent)
    events = mirror.events(scene)
    assert events.get("path_mtu") and ledger["flows"]["opened"] == 32, (events, ledger["flows"])
    assert "timeout_retransmit" not in events, events
    assert health.counters(scene.lab.source)["Icmp.InErrors"] == before, "ICMP errors reached this host's stack"
    scene.assert_same(keys=320)
    assert_harmless(scene)
