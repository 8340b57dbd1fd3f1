# SPDX-License-Identifier: Apache-2.0
"""Bad networks as netem makes them, and VLANs. Kernels without these modules skip that; Debian's have
them, so that tools/kernel-matrix runs it."""

from harness import MODES, Elsewhere, case
from lab import health, mirror
from lab.keeper import File, Keeper, keep
from lab.wait import amount

# Every packet of a path, in both directions.
WEATHER = {
    "delay": "delay 20ms 5ms 25%",
    "loss": "loss 2%",
    "bursts": "loss gemodel 1% 30%",
    "duplicates": "duplicate 10%",
    "reordering": "delay 5ms reorder 70% 50%",
    "damage": "corrupt 1%",
    "all": "delay 3ms 3ms loss 1% duplicate 2% corrupt 0.5% reorder 20%",
}
PATHS = {
    # (host, device) that send: toward the one end, toward the other
    "source-target": (("switch", "target"), ("target", "eth0")),
    "client-source": (("client", "eth0"), ("switch", "client")),
}


_lacking = {}  # what this kernel has not: why


def lacks(what, done):
    """If that command failed, the case is left to other kernels, and those after it as well."""
    if done.returncode:
        _lacking[what] = f"no {what}: {done.stderr.strip()}"
    if what in _lacking:
        raise Elsewhere(_lacking[what])


def weather(scene, path, what):
    for host, device in PATHS[path]:
        lacks("netem", scene.lab[host].run(
            ["tc", "qdisc", "add", "dev", device, "root", "netem", "limit", "100000", *WEATHER[what].split()],
            check=False))


@case(mode=MODES, path=tuple(PATHS), what=tuple(WEATHER))
def netem(env, mode, path, what):
    """Everything arrives, once, on the shadow that the connection began with."""
    if "netem" in _lacking:
        raise Elsewhere(_lacking["netem"])
    scene = env.scene(static_arp=True)  # nothing tells a damaged ARP packet
    weather(scene, path, what)
    keep(scene)
    with mirror.Sampler(scene):
        sent = scene.load("sets", connections=32, count=amount(4000), batch=4)["sent"]
        sent += scene.load("sets", connections=4, count=8, smallest=100_000, largest=100_000,
                           prefix="large")["sent"]
        sent += scene.load("sets", connections=50, count=50, at_once=20, finish="shutdown",
                           prefix="short")["sent"]
        scene.doppel.wait_idle(observed=sent, timeout=60, stuck=30)
    ledger = scene.assert_all_delivered(sent)
    flows = ledger["flows"]
    assert flows["opened"] == 86 and not flows["joined"] and not flows["broken"], flows
    scene.assert_same(keys=amount(4000) + 58)
    mirror.assert_nothing_left(scene, timeout=75)
    scene.assert_harmless(hosts=())
    if what not in ("damage", "all"):
        # Tcp.InErrs also counts a SYN that comes twice.
        moved = scene.health.moved([name for name in health.CORRUPTION if name != "Tcp.InErrs"])
        assert not moved, moved


@case(mode=MODES)
def vlan(env, mode):
    """Capture on a VLAN device, and the target behind it."""
    scene = env.scene()
    for number, host in enumerate((scene.lab.client, scene.lab.source, scene.lab.target), 1):
        lacks("VLAN device", host.run(["ip", "link", "add", "link", "eth0", "name", "vlan7", "type", "vlan",
                                       "id", 7], check=False))
        host.address = f"10.78.0.{number}"
        host.run(["ip", "address", "add", f"{host.address}/24", "dev", "vlan7"])
        host.run(["ip", "link", "set", "vlan7", "up"])
    file = File(scene)
    file.write(file.mapping("data", 11211, device="vlan7"))
    keeper = Keeper(scene, "--config", file.path)
    sent = scene.load("sets", connections=20, count=amount(4000))["sent"]
    sent += scene.load("sets", connections=4, count=8, smallest=100_000, largest=100_000,
                       prefix="large")["sent"]
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=amount(4000) + 8)
    mirror.assert_nothing_left(scene, timeout=75)
    assert not scene.health.moved(), scene.health.moved()
    keeper.stop()
