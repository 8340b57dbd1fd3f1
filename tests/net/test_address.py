# SPDX-License-Identifier: Apache-2.0
"""Services of one port that their addresses tell apart."""

from harness import case
from lab import doppel, memcached
from lab.keeper import File, Keeper
from lab.network import FAMILIES, NET4, NET6
from lab.tcp import connect
from lab.traffic import set_command

PORT, OTHER_PORT = 11211, 21211  # the other service's copies go to a port of their own
KEYS = 40


def second_address(lab):
    """The source gets one more, of the version that clients speak."""
    six = lab.six("client")
    address = str((NET6 if six else NET4)[77])
    lab.source.run(["ip", "addr", "add", f"{address}/{64 if six else 24}", "dev", "eth0", *(["nodad"] if six else [])])
    return address


def bound(address):
    return f"[{address}]" if ":" in address else address


class Services:
    """Two memcacheds of the source, on one port of two addresses, and one of the target for each."""

    def __init__(self, env):
        self.scene = scene = env.scene(ports=(), target_runs=False)
        lab = scene.lab
        self.addresses = [lab.source.address, second_address(lab)]
        self.sources = [memcached.Server(lab.source, PORT, address=bound(a), admin_port=PORT + 788 + n)
                        for n, a in enumerate(self.addresses)]
        self.targets = [memcached.Server(lab.target, p) for p in (PORT, OTHER_PORT)]
        self.clients = []
        self.sent = [0, 0]

    def mapping(self, n, name, address=True):
        row = {"name": name, "device": "eth0", "ports": PORT,
               "targets": [{"address": self.scene.lab.target.address, "port": (PORT, OTHER_PORT)[n]}]}
        return {**row, "address": self.addresses[n]} if address else row

    def connect(self):
        self.clients = [connect(self.scene.lab.client, a) for a in self.addresses]

    def set(self, first, count=KEYS):
        """The same keys on both services, with values of their own."""
        for key in range(first, first + count):
            for n, client in enumerate(self.clients):
                request = set_command(b"key%d" % key, 20 + 100 * n)
                client.sendall(request)
                assert client.recv(100) == b"STORED\r\n"
                self.sent[n] += len(request)

    def delivered(self):
        return {m["name"]: m["targets"][0]["bytes"]["delivered"] for m in self.scene.doppel.counters()["mappings"]}

    def assert_same(self, minimum=1):
        for source, target in zip(self.sources, self.targets):
            want = source.contents()
            wrong = memcached.differences(want, target.contents())
            assert not wrong, wrong
            assert len(want) >= minimum


@case(families=("v4", *FAMILIES), rest=(False, True))
def two_services(env, rest):
    """No key wrong; with `rest` the second mapping has no address, and the first one goes before it."""
    services = Services(env)
    scene = services.scene
    file = File(scene, services.mapping(0, "one"), services.mapping(1, "two", address=not rest))
    scene.doppel.attach("--config", file.path)
    services.connect()
    services.set(0)
    ledger = scene.doppel.wait_idle(observed=sum(services.sent))
    assert ledger["bytes"]["delivered"] == sum(services.sent), ledger
    assert services.delivered() == dict(zip(("one", "two"), services.sent))
    services.assert_same(KEYS)
    code, said = scene.doppel.health()
    assert code == 0 and not said["problems"], said
    assert said["mappings"][0]["address"] == services.addresses[0]
    assert said["mappings"][1]["address"] == (None if rest else services.addresses[1])
    scene.doppel.detach()
    assert not scene.health.moved()


@case()
def tcpcopys_own_form(env):
    services = Services(env)
    scene = services.scene
    to = scene.lab.target.address
    scene.doppel.attach("--device", "eth0", "-x", ",".join(
        f"{address}:{PORT}-{to}:{port}" for address, port in zip(services.addresses, (PORT, OTHER_PORT))))
    services.connect()
    services.set(0)
    scene.doppel.wait_idle(observed=sum(services.sent))
    services.assert_same(KEYS)
    assert services.delivered() == {f"{a}:{PORT}": n for a, n in zip(services.addresses, services.sent)}
    scene.doppel.detach()


@case(families=("v4", "v6"))
def reload_under_traffic(env):
    """A mapping for one address comes, changes and goes; the first service's stream has no gap meanwhile."""
    services = Services(env)
    scene = services.scene
    one, two = services.mapping(0, "one"), services.mapping(1, "two")
    file = File(scene, one)
    keeper = Keeper(scene, "--config", file.path)
    services.connect()
    key = 0
    for n in range(12):
        file.write(*((one, two), (one,), (one, {**two, "address": one["address"], "ports": PORT + 1}))[n % 3])
        services.set(key, 5)
        keeper.reload()
        services.set(key + 5, 5)
        key += 10
    scene.doppel.wait_idle()
    first = next(m for m in scene.doppel.counters()["mappings"] if m["name"] == "one")["targets"][0]["bytes"]
    assert first == {"observed": services.sent[0], "delivered": services.sent[0], "in_flight": 0, "lost": 0,
                     "excluded": 0}, first
    wrong = memcached.differences(services.sources[0].contents(), services.targets[0].contents())
    assert not wrong, wrong
    assert not doppel.violations(scene.doppel.counters())
    keeper.stop()


@case(families=("v4", "v6"))
def an_address_of_a_mapping_for_all(env):
    """A mapping without address loses what goes to one address to a new mapping, and gets it back: what it had is
    delivered, its shadow closes, and the connection goes on with the other at a request boundary."""
    services = Services(env)
    scene = services.scene
    rest, two = services.mapping(0, "rest", address=False), services.mapping(1, "two")
    file = File(scene, rest)
    scene.doppel.attach("--config", file.path)
    services.connect()
    services.set(0)
    file.write(rest, two)
    scene.doppel.run("reload")
    rows = scene.doppel.json("flows")["flows"]
    assert not [f for f in rows if f["mapping"] == "rest" and services.addresses[1] in f["server"]], rows
    moved = services.sent[1]
    services.set(KEYS)
    scene.doppel.wait_idle(observed=sum(services.sent))
    assert services.delivered() == {"rest": services.sent[0] + moved, "two": services.sent[1] - moved}
    file.write(rest)
    scene.doppel.run("reload")
    before, sent = services.delivered()["rest"], sum(services.sent)
    services.set(2 * KEYS, 5)
    more = sum(services.sent) - sent
    last = scene.doppel.wait_idle(observed=before + more)
    assert last["bytes"]["lost"] == 0 and last["bytes"]["excluded"] == 0, last
    assert services.delivered() == {"rest": before + more}
    scene.doppel.detach()
