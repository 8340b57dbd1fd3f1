# SPDX-License-Identifier: Apache-2.0
"""`"protocol": "udp"`: each datagram that the source takes is sent to the target once, and nobody gets what
that answers."""

import socket
import struct

from harness import MODES, case
from lab import mirror, udp, wait
from lab.doppel import Doppel
from lab.guest import guest
from lab.keeper import File, Keeper
from lab.memcached import Server
from lab.network import FAMILIES
from lab.raw import Wire, ip, packed
from lab.wait import amount

UDP = ("-U", "11211")


def scene_of(env, targets=None, mapped=None, runs=True, offload="default", **settings):
    """memcached with UDP on both sides, mirrored by a mapping of UDP."""
    scene = env.scene(target_runs=False, offload=offload)
    for server in scene.source:
        server.kill()
    scene.source = [Server(scene.lab.source, options=UDP)]
    if runs:
        scene.target = [Server(scene.lab.target, options=UDP)]
    file = File(scene)
    row = {"name": "udp", "device": "eth0", "protocol": "udp", "ports": 11211,
           "targets": targets or [{"address": scene.lab.target.address, "port": 11211}], **(mapped or {})}
    file.write(row, **settings)
    scene.file, scene.row = file, row
    return scene


def attached(env, *arguments, **more):
    scene = scene_of(env, *arguments, **more)
    scene.doppel.attach("--config", scene.file.path)
    return scene


def clients(scene, count=50, copies=1, **more):
    """copies: that the target gets of what they say; 0: perhaps none."""
    pace = udp.Pace(scene.lab.target if copies else None, copies)
    return [udp.Client(scene.lab.client, scene.lab.source.address, pace=pace, **more) for _ in range(count)]


def delivered(scene, sent):
    b = scene.doppel.ledger()["bytes"]
    assert b == {"observed": sent, "delivered": sent, "in_flight": 0, "lost": 0, "excluded": 0}, \
        (sent, b, scene.doppel.ledger())


def same(scene, keys):
    wait.until(lambda: scene.target[0].stats()["curr_items"] >= keys, "the target to have all keys", 10)
    scene.assert_same(keys=keys)


@case(mode=MODES[:1], offload=("default",), count=(10000,), families=("v4", "v6"))
@case(mode=MODES[:1], offload=("default",), count=(2000,), families=FAMILIES[1:])
@case(mode=MODES[1:], offload=("sender-off", "all-off"), count=(1000,))
@case(mode=MODES[:1], offload=("sender-off",), count=(1000,), families=("v6",))
def sets(env, mode, offload, count):
    """Sets over 50 sockets: all are on the target, and its answers reach no client, and not this host's own
    UDP. Detach leaves nothing."""
    scene = attached(env, offload=offload)
    before = udp.sockets_of(scene.lab.source)
    both = clients(scene)
    count = amount(count)
    for n in range(count):
        both[n % len(both)].set(b"key%d" % n, b"v" * (n % 1300))
    delivered(scene, sum(c.bytes for c in both))
    same(scene, count)
    ledger = scene.doppel.ledger()
    assert ledger["packets"]["captured"] == ledger["packets"]["copied"] == count, ledger["packets"]
    wait.until(lambda: scene.doppel.ledger()["packets"]["answers"] == count, "the target's answers", 10)
    assert ledger["flows"]["opened"] == ledger["flows"]["open"] == len(both), ledger["flows"]
    after = udp.sockets_of(scene.lab.source)
    assert after["InDatagrams"] - before["InDatagrams"] == count, (before, after)
    assert {**after, "InDatagrams": 0} == {**before, "InDatagrams": 0}, (before, after)
    for c in both:
        c.socket.settimeout(0.05)
        try:
            raise AssertionError(f"a client was answered twice: {c.socket.recv(100)}")
        except TimeoutError:
            pass
        c.close()
    scene.doppel.detach()
    scene.assert_harmless()


@case(families=("v4", "v6", "v4_to_v6"))
def fragments(env):
    """Datagrams beyond the MTU come in fragments, and so do their copies, but not to the other IP version: those
    are counted."""
    scene = attached(env)
    other = (":" in scene.lab.source.address) != (":" in scene.lab.target.address)
    client = clients(scene, 1, copies=0 if other else 1)[0]
    for n in range(amount(200)):
        client.set(b"large%d" % n, b"%04d" % n * (375 + 37 * (n % 50)))
    b = scene.doppel.ledger()["bytes"]
    assert b["observed"] == client.bytes, (b, client.bytes)
    if other:
        assert scene.doppel.ledger()["excluded"]["fragment"] == b["excluded"] > client.bytes // 2, b
    else:
        delivered(scene, client.bytes)
        same(scene, amount(200))
    client.close()
    scene.assert_harmless()


def reassembled(host):
    """Fragments that came in."""
    names, values = (line.split() for line in host.proc_net("snmp").splitlines() if line.startswith("Ip:"))
    return int(dict(zip(names[1:], values[1:]))["ReasmReqds"])


@case()
def fragments_of_what_is_left_out(env):
    """Where a target does not get the first fragment of a datagram, as the ceiling is reached, it gets none."""
    scene = attached(env, mapped={"max_bitrate": "1Mbit"})
    before = reassembled(scene.lab.target)
    client = clients(scene, 1, copies=0)[0]
    size = len(b"x" * 60000) + udp.FRAME
    for _ in range(50):
        client.send(b"x" * 60000)
    b = scene.doppel.ledger()["bytes"]
    assert 0 < b["delivered"] < b["observed"] == 50 * size, b
    each = -(-(size + 8) // 1480)
    want = before + b["delivered"] // size * each
    assert wait.settled(lambda: reassembled(scene.lab.target), "the fragments") == want, (want, b)


@case()
def fragments_that_come_again(env):
    """The first one twice, amid the others; and an identification that comes again after one out of order."""
    scene = attached(env)
    wire = Wire(scene.lab, scene.lab.client)
    ends = packed(scene.lab.client.address), wire.server
    whole = struct.pack("!HHHH", 5555, 11211, 8 + 4000, 0) + b"x" * 4000

    def fragments(ident):
        return [ip(ends, whole[at:at + 1480], ident=ident, offset=at, more=at < 2960, protocol=17)
                for at in (0, 1480, 2960)]
    taken = [udp.sockets_of(host)["InDatagrams"] for host in (scene.lab.source, scene.lab.target)]

    def come(*fragments, target):
        for fragment in fragments:
            wire.packet(fragment)
        taken[0] += 1
        taken[1] += target
        wait.until(lambda: [udp.sockets_of(host)["InDatagrams"] for host in (scene.lab.source, scene.lab.target)] == taken,
                   "source and target to take it", 5)
    first, second, third = fragments(77)
    come(first, second, first, third, target=1)
    first, second, third = fragments(78)
    come(third, first, second, target=0)
    for _ in range(3):
        come(first, second, third, target=1)


@case()
def surplus_behind_a_datagram(env):
    """The packet is longer than its datagram (RFC 9868), and the path to the target does not take it: the datagram
    arrives."""
    scene = scene_of(env)
    lab = scene.lab
    lab.source.run(["ip", "route", "add", f"{lab.target.address}/32", "dev", "eth0", "mtu", "1300"])
    lab.target.run(["ip", "link", "set", "eth0", "mtu", "1300"])  # what is longer does not get in
    scene.doppel.attach("--config", scene.file.path)
    wire = Wire(lab, lab.client)
    ends = packed(lab.client.address), wire.server
    before = udp.sockets_of(lab.target)["InDatagrams"]
    wire.packet(ip(ends, struct.pack("!HHHH", 5555, 11211, 8 + 10, 0) + b"x" * 1472, protocol=17))
    wait.until(lambda: udp.sockets_of(lab.target)["InDatagrams"] == before + 1, "the target to take it", 5)
    delivered(scene, 10)


@case(families=("v4", "v4_to_v6"))
def segments_of_a_packet(env):
    """A sender hands over many datagrams as one packet (UDP_SEGMENT), whose checksum is still to be made, and the
    path to the target takes none of them whole."""
    scene = scene_of(env, runs=False)
    lab = scene.lab
    six = ":" in lab.target.address
    taker = lab.target.in_netns(socket.socket, socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    taker.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE: each counts as the packet that it was cut from
    taker.bind(("", 11211))
    taker.settimeout(wait.patience(5))
    lab.source.run(["ip", *(["-6"] if six else []), "route", "add", lab.target.address + ("/128" if six else "/32"),
                    "dev", "eth0", "mtu", "1300"])
    scene.doppel.attach("--config", scene.file.path)
    client = udp.Client(lab.client, lab.source.address)
    client.socket.setsockopt(socket.IPPROTO_UDP, 103, 1400)  # UDP_SEGMENT
    for segments in (10, 20, 45):
        parts = [bytes([n]) * 1400 for n in range(segments)]
        client.socket.send(b"".join(parts))
        assert sorted(taker.recv(2000) for _ in parts) == parts
    delivered(scene, 1400 * (10 + 20 + 45))
    taker.close()
    client.close()


@case(families=("v4", "v6"))
def on_its_way_through(env):
    """What this host forwards is not its service's, though a socket of that port is bound to no address."""
    scene = attached(env)
    lab = scene.lab
    third = guest(lab, "third", 40)
    six = ":" in lab.source.address
    lab.source.sysctl("net/ipv6/conf/all/forwarding" if six else "net/ipv4/ip_forward", 1)
    lab.client.run(["ip", *(["-6"] if six else []), "route", "add", third.address + ("/128" if six else "/32"), "via",
                    lab.source.address])
    before = udp.sockets_of(third)["NoPorts"]
    through = udp.Client(lab.client, third.address)
    through.send(b"set key 0 0 1\r\nv\r\n")
    wait.until(lambda: udp.sockets_of(third)["NoPorts"] > before, "the other host to get it", 5)
    assert mirror.events(scene).get("no_socket"), mirror.events(scene)
    client = clients(scene, 1)[0]
    client.set(b"key", b"v")
    delivered(scene, client.bytes)


@case(families=("v4", "v6", "v4_to_v6"))
def narrow_path(env):
    """The route to the target takes 1,300 bytes: what is longer is fragmented here."""
    scene = scene_of(env)
    six = ":" in scene.lab.target.address
    scene.lab.source.run(["ip", *(["-6"] if six else []), "route", "add",
                          scene.lab.target.address + ("/128" if six else "/32"), "dev", "eth0", "mtu", "1300"])
    scene.doppel.attach("--config", scene.file.path)
    client = clients(scene, 1)[0]
    for n in range(amount(300)):
        client.set(b"key%d" % n, b"%04d" % n * (250 + n % 97))
    delivered(scene, client.bytes)
    same(scene, amount(300))
    client.close()
    scene.assert_harmless()


@case()
def without_checksum(env):
    """0 is none in IPv4 (RFC 768), and stays so."""
    scene = attached(env)
    client = clients(scene, 1, checksum=False)[0]
    for n in range(amount(100)):
        client.set(b"key%d" % n, b"v" * n)
    delivered(scene, client.bytes)
    same(scene, amount(100))
    client.close()
    scene.assert_harmless()


@case()
def silent_flows_end(env):
    """With a keeper and without, a flow that is silent gives its port back, and goes on with a new one."""
    scene = scene_of(env, udp_timeout="1s")
    keeper = Keeper(scene, "--config", scene.file.path)
    both = clients(scene, 20)
    for n, c in enumerate(both):
        c.set(b"a%d" % n, b"v")
    wait.until(lambda: scene.doppel.ledger()["flows"]["open"] == 0, "silent flows to end", 10)
    ledger = scene.doppel.ledger()
    assert ledger["flows"]["closed"] == 20 and mirror.events(scene)["idle"] == 20, ledger
    for n, c in enumerate(both):
        c.set(b"b%d" % n, b"v")
    assert scene.doppel.ledger()["flows"]["opened"] == 40, scene.doppel.ledger()["flows"]
    delivered(scene, sum(c.bytes for c in both))
    same(scene, 40)
    keeper.stop()


@case()
def more_than_ports(env):
    """Flows of UDP take half of the ports at most. Silent ones make room for others; nobody else does."""
    scene = scene_of(env, udp_timeout="1s", shadow_ports="16384-16447", flows=4096)
    scene.doppel.attach("--config", scene.file.path)
    first = clients(scene, 40, copies=0)
    for n, c in enumerate(first):
        c.set(b"a%d" % n, b"v")
    ledger = scene.doppel.ledger()
    refused = ledger["excluded"]["ports_exhausted"]
    assert refused == ledger["bytes"]["excluded"] and ledger["flows"]["opened"] <= 32 and refused, ledger
    assert ledger["bytes"]["observed"] == sum(c.bytes for c in first), ledger
    late = clients(scene, 1, copies=0)[0]

    def mirrored():
        late.set(b"late", b"v")
        return scene.doppel.ledger()["bytes"]["excluded"] == refused
    before = scene.doppel.ledger()["flows"]["opened"]

    def has_room():
        nonlocal refused
        refused = scene.doppel.ledger()["bytes"]["excluded"]
        return mirrored()
    wait.until(has_room, "silent flows to make room", 10)
    assert scene.doppel.ledger()["flows"]["opened"] > before


@case()
def target_is_away(env):
    """Nobody listens at the target: its ICMP errors do not reach this host's UDP, and `status` says so."""
    scene = scene_of(env, runs=False)
    scene.lab.target.sysctl("net/ipv4/icmp_ratelimit", 0)
    keeper = Keeper(scene, "--config", scene.file.path)
    before = udp.sockets_of(scene.lab.source)
    client = clients(scene, 1, copies=0)[0]

    def told():
        client.set(b"key", b"v")
        code, said = scene.doppel.health()
        return code != 0 and any("refuse" in p["what"] for p in said["problems"])
    wait.until(told, "the refusal to be told", 10)
    after = udp.sockets_of(scene.lab.source)
    assert after["NoPorts"] == before["NoPorts"] and after["InErrors"] == before["InErrors"], (before, after)
    b = scene.doppel.ledger()["bytes"]
    assert b["observed"] == client.bytes, (b, client.bytes)
    scene.target = [Server(scene.lab.target, options=UDP)]

    def over():
        client.set(b"key", b"w")
        return scene.doppel.health()[0] == 0
    wait.until(over, "the refusal to be over", 40)
    keeper.stop()


@case()
def no_connection_is_tried(env):
    """A target that has no TCP, and answers nothing: the refusal is over when it takes what comes."""
    scene = scene_of(env, runs=False)
    lab = scene.lab
    lab.target.sysctl("net/ipv4/icmp_ratelimit", 0)
    keeper = Keeper(scene, "--config", scene.file.path)
    client = clients(scene, 1, copies=0)[0]

    def refuses():
        client.set(b"key", b"v")
        return scene.doppel.health()[0] == 5
    wait.until(refuses, "the refusal to be told", 10)
    taker = lab.target.in_netns(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    taker.bind(("", 11211))
    wait.until(lambda: not refuses(), "the refusal to be over", 20)
    assert "untried" not in scene.doppel.run("status").stdout, scene.doppel.run("status").stdout
    taker.close()
    keeper.stop()


@case()
def half_of_each_address(env):
    """Whatever addresses other targets have: connections to one that has the route's alone find ports there."""
    scene = scene_of(env)
    further = "10.77.0.61"
    scene.lab.source.run(["ip", "addr", "add", f"{further}/24", "dev", "eth0"])
    target = {"address": scene.lab.target.address, "port": 11211}
    scene.file.write(scene.row, {"name": "tcp", "device": "eth0", "ports": 11211, "targets": [target]},
                     {"name": "other", "device": "eth0", "ports": 11212,
                      "targets": [{**target, "shadow_addresses": [further]}]}, shadow_ports="16384-16447")
    scene.doppel.attach("--config", scene.file.path)
    for n, c in enumerate(clients(scene, 100, copies=0)):
        c.set(b"a%d" % n, b"v")
    sent = scene.load("sets", connections=20, count=200)["sent"]
    rows = {m["name"]: m["targets"][0] for m in scene.doppel.counters()["mappings"]}
    assert rows["udp"]["flows"]["open"] == 32, rows["udp"]["flows"]
    wait.until(lambda: {m["name"]: m["targets"][0] for m in scene.doppel.counters()["mappings"]}["tcp"]["bytes"]["delivered"]
               == sent, "all of TCP", 10)


@case()
def portions(env):
    """Eight copies, and a sample: as of TCP, by client and port."""
    scene = scene_of(env)
    second = Server(scene.lab.target, 11212, options=("-U", "11212"))
    address = scene.lab.target.address
    scene.file.write({**scene.row, "targets": [{"address": address, "port": 11211, "copies": 8},
                                               {"address": address, "port": 11212, "sample": "25%"}]})
    scene.doppel.attach("--config", scene.file.path)
    both = clients(scene, amount(400), copies=8)
    for n, c in enumerate(both):
        c.set(b"key%d" % n, b"v")
        c.set(b"also%d" % n, b"v")
    sent = 2 * len(both)
    wait.until(lambda: scene.target[0].stats()["cmd_set"] == 8 * sent, "eight copies", 10)
    rows = scene.doppel.counters()["mappings"][0]["targets"]
    assert rows[0]["bytes"]["delivered"] == rows[0]["bytes"]["observed"] == 8 * sum(c.bytes for c in both), rows[0]
    taken = second.stats()["cmd_set"]
    assert taken % 2 == 0 and 0.1 < taken / sent < 0.4, taken
    assert rows[1]["bytes"]["observed"] == sum(c.bytes for c in both), rows[1]["bytes"]
    assert rows[1]["bytes"]["delivered"] + rows[1]["excluded"]["sample"] == rows[1]["bytes"]["observed"], rows[1]
    scene.doppel.detach()
    scene.assert_harmless()


@case()
def nobody_takes_it(env):
    """A datagram that no socket of this host takes is none of the source's."""
    scene = attached(env)
    scene.source[0].kill()
    client = udp.Client(scene.lab.client, scene.lab.source.address)
    client.send(b"set key 0 0 1\r\nv\r\n")
    wait.until(lambda: mirror.events(scene).get("no_socket"), "the event", 5)
    assert scene.doppel.ledger()["bytes"]["observed"] == 0, scene.doppel.ledger()["bytes"]
    client.close()


@case(families=("v4", "v6_to_v4"))
def on_the_client(env):
    """Direction egress, on the host of the clients."""
    scene = env.scene(target_runs=False)
    scene.source[0].kill()
    scene.source = [Server(scene.lab.source, options=UDP)]
    scene.target = [Server(scene.lab.target, options=UDP)]
    scene.doppel = Doppel(scene.lab.client, env.mode)
    file = File(scene)
    file.write({"name": "udp", "device": "eth0", "direction": "egress", "protocol": "udp", "ports": 11211,
                "targets": [{"address": scene.lab.target.address, "port": 11211}]})
    scene.doppel.attach("--config", file.path)
    client = clients(scene, 1)[0]
    for n in range(amount(300)):
        client.set(b"key%d" % n, b"v" * n)
    delivered(scene, client.bytes)
    same(scene, amount(300))
    client.close()
    scene.doppel.detach()


@case()
def tcp_beside_it(env):
    """The same port by TCP and UDP, added and taken away by reloads: the one that stays loses nothing."""
    scene = scene_of(env)
    tcp = {"name": "tcp", "device": "eth0", "ports": 11211,
           "targets": [{"address": scene.lab.target.address, "port": 11211}]}
    scene.file.write(tcp)
    scene.doppel.attach("--config", scene.file.path)
    load = scene.start("sets", connections=8, count=amount(6000), rate=amount(2000))
    client = clients(scene, 1)[0]
    sent = 0
    for n in range(3):
        scene.file.write(tcp, scene.row)
        scene.doppel.run("reload", "--config", scene.file.path)
        for k in range(50):
            client.set(b"udp%d_%d" % (n, k), b"v")
            sent += 1
        counted = {m["name"]: m for m in scene.doppel.counters()["mappings"]}["udp"]["targets"][0]
        assert counted["bytes"]["delivered"] == counted["bytes"]["observed"] > 0, counted
        scene.file.write(tcp)
        scene.doppel.run("reload", "--config", scene.file.path)
    done = load.result()
    scene.assert_all_delivered(done["sent"])
    same(scene, amount(6000) + sent)
    client.close()
    scene.doppel.detach()
    scene.assert_harmless()
