# SPDX-License-Identifier: Apache-2.0
"""The recipes of docs/where-to-attach.md, each of which mirrors everything. A server, a published port, a VLAN and
a mirror port have tests of their own (load, published, netem.vlan, span)."""

import json
import tempfile

from harness import case
from lab import memcached, mirror, topology
from lab.doppel import Doppel
from lab.guest import guest
from lab.wait import amount
from test_netem import lacks

KEYS = amount(1000, 100)


def attach(scene, device, host=None, **mapping):
    target = {"address": scene.lab.target.address, "port": 11211}
    if host:
        scene.doppel = Doppel(host)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"mappings": [{"device": device, "ports": 11211, "targets": [target], **mapping}]}, file)
        file.flush()
        return scene.doppel.attach("--config", file.name)


def assert_mirrored(scene, address=None, **options):
    if address:
        options["address"] = address
    sent = scene.load("sets", connections=10, count=KEYS, **options)["sent"]
    scene.assert_all_delivered(sent)
    scene.assert_same(keys=KEYS)
    assert not scene.doppel.status()["missing"], scene.doppel.status()


@case(same_mac=(True, False))
def bridge(env, same_mac):
    scene = env.scene()
    topology.bridged(scene.lab, same_mac)
    assert attach(scene, "br0").stderr == ""
    assert_mirrored(scene)


@case()
def macvlan(env):
    scene = env.scene()
    address, failed = topology.upper(scene.lab, "mv0", "macvlan mode bridge")
    if failed:
        lacks("macvlan", failed)
    attach(scene, "mv0")
    assert_mirrored(scene, address)


@case()
def vlan(env):
    scene = env.scene()
    address, failed = topology.upper(scene.lab, "eth0.7", "vlan id 7")
    if failed:
        lacks("VLAN device", failed)
    attach(scene, "eth0.7")
    assert_mirrored(scene, address)


@case()
def bond(env):
    scene = env.scene()
    source, switch = scene.lab.source, scene.lab.switch
    made = source.run(["ip", "link", "add", "bond0", "type", "bond", "mode", "active-backup", "miimon", "50"],
                      check=False)
    if made.returncode:
        lacks("bond", made)
    topology.batch(switch, f"link add e1 type veth peer name e1 netns {source.pid}", "link set e1 master br0 up")
    topology.batch(source, f"addr del {source.address}/24 dev eth0", "link set eth0 down", "link set e1 down",
                   "link set eth0 master bond0", "link set e1 master bond0", "link set bond0 up",
                   f"addr add {source.address}/24 dev bond0")
    attach(scene, "bond0")
    assert_mirrored(scene)


@case()
def loopback(env):
    """Clients on the server itself, whatever address of its they use."""
    scene = env.scene()
    attach(scene, "lo")
    with scene.lab.source.connect("127.0.0.1", 11211) as one, \
            scene.lab.source.connect(scene.lab.source.address, 11211) as other:
        for number, client in enumerate((one, other)):
            client.sendall(b"set key%d 0 0 1\r\nx\r\n" % number)
            assert client.recv(100) == b"STORED\r\n"
        scene.assert_all_delivered(2 * len(b"set key0 0 0 1\r\nx\r\n"))
    scene.assert_same(keys=2)


@case(bridge=(None, "docker0"))
def container(env, bridge):
    """From outside of it: what it is asked leaves by its veth, or by the bridge."""
    scene = env.scene()
    scene.source[0].kill()
    scene.source = [memcached.Server(topology.container(scene.lab, bridge=bridge))]
    topology.publish(scene.lab, 11211)
    attach(scene, bridge or "container", direction="egress")
    assert_mirrored(scene)


@case()
def pod(env):
    """From inside of it, in its own network namespace."""
    scene = env.scene()
    scene.source[0].kill()
    inside = topology.container(scene.lab)
    scene.source = [memcached.Server(inside)]
    for host in (scene.lab.client, scene.lab.target):
        host.run(["ip", "route", "add", "172.17.0.0/16", "via", scene.lab.source.address])
    attach(scene, "eth0", host=inside)
    assert_mirrored(scene, inside.address)


@case()
def gateway(env):
    """A host that only passes the requests on: no socket of it vouches for them."""
    scene = env.scene()
    scene.source[0].kill()
    server = topology.container(scene.lab)
    scene.source = [memcached.Server(server)]
    scene.lab.client.run(["ip", "route", "add", "172.17.0.0/16", "via", scene.lab.source.address])
    attach(scene, "eth0", promiscuous=True)
    assert_mirrored(scene, server.address)


@case(kind=("vxlan", "gretap", "erspan"))
def mirror_in_a_tunnel(env, kind):
    """AWS and GCP send a copy of the frames in VXLAN, switches in GRE or ERSPAN: they are captured on the tunnel's
    device."""
    scene = env.scene()
    scene.source[0].kill()
    server = guest(scene.lab, "server", 20)
    scene.source = [memcached.Server(server)]
    for host in (scene.lab.client, server):
        host.run(["ethtool", "-K", "eth0", "tso", "off", "gso", "off", "tx", "off"])
    failed = topology.mirror_tunnel(scene.lab, kind)
    if failed:
        lacks(kind, failed)
    # Both directions of the server's port: u32 looks at the port, 20 bytes behind the start of the IP header.
    client = scene.lab.client
    client.run(["tc", "qdisc", "add", "dev", "eth0", "clsact"])
    for hook, port in (("egress", "dport"), ("ingress", "sport")):
        done = client.run(["tc", "filter", "add", "dev", "eth0", hook, "protocol", "ip", "prio", "7", "u32",
                           "match", "ip", "protocol", "6", "0xff", "match", "ip", port, "11211", "0xffff",
                           "action", "mirred", "egress", "mirror", "dev", "tunnel0"], check=False)
        if done.returncode:
            lacks("mirred", done)
    said = attach(scene, "eth0", promiscuous=True).stderr
    assert "capture on tunnel0" in said, said
    scene.doppel.detach()
    attach(scene, "tunnel0", promiscuous=True)
    assert_mirrored(scene, server.address, smallest=20, largest=500)
    mirror.assert_nothing_left(scene, timeout=75)
