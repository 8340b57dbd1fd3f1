# SPDX-License-Identifier: Apache-2.0
"""Lists of clients: who is mirrored and who is not, from the first byte or by a reload."""

import ipaddress
import socket
import tempfile
import threading
import time

from harness import Skip, case
from lab import doppel, killed, mirror, tcp, wait
from lab.keeper import File
from lab.load import checked
from lab.network import endpoint
from lab.wait import amount

IP = ("v4", "v6")
SMALL = {"shadow_ports": "20000-20063", "flows": 1024, "store": "1MiB"}  # attached in no time


class Monitor:
    """Other addresses of the client's host, beside which its own is everybody else's."""

    def __init__(self, scene, number=1):
        self.host = scene.lab.client
        own = ipaddress.ip_address(self.host.address)
        size = 64 if own.version == 6 else 24
        # A host of the lab has one of the first hundred addresses of its network.
        self.address = str(own + 128 + number)
        self.net = str(ipaddress.ip_network(f"{own + 128}/{own.max_prefixlen - 4}", strict=False))
        # Deprecated: the kernel chooses it for nobody who does not ask for it (RFC 6724, rule 3).
        more = ["nodad", "preferred_lft", "0"] if own.version == 6 else []
        self.host.run(["ip", "addr", "add", f"{self.address}/{size}", "dev", "eth0", *more])
        self.server = scene.lab.source.address

    def connect(self):
        def make():
            s = socket.create_connection((self.server, 11211), wait.patience(10), source_address=(self.address, 0))
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return s
        return Client(self.host.in_netns(make))


class Client:
    """A connection that sets one key after the other, each answered before the next."""

    def __init__(self, s):
        self.socket, self.sent = s, 0

    def set(self, key, value=b"x"):
        request = b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(value), value)
        self.socket.sendall(request)
        assert tcp.read_lines(self.socket, 1) == b"STORED\r\n"
        self.sent += len(request)

    def close(self):
        self.socket.close()


def anybody(scene):
    return Client(tcp.connect(scene.lab.client, scene.lab.source.address))


def mapping(file, **lists):
    return {**file.mapping("data", 11211), **lists}


def row(scene, mapping=0):
    return scene.doppel.counters()["mappings"][mapping]["targets"][0]


@case(families=IP)
def the_monitoring_is_left_out(env):
    """By a file of prefixes. One connection of each kind is older than the mirror: all that the others say
    arrives, all that the monitoring says is counted as excluded by the list, to the byte, and nobody misses it."""
    scene = env.scene()
    monitor = Monitor(scene)
    old = [monitor.connect(), anybody(scene)]
    for n, c in enumerate(old):
        c.set(f"before{n}")
        c.sent = 0
    with tempfile.NamedTemporaryFile("w", suffix=".list") as prefixes:
        prefixes.write(f"# what watches us\n\n{monitor.net}   # its net\n")
        prefixes.flush()
        file = File(scene)
        file.write(mapping(file, exclude_clients=[prefixes.name]))
        assert "prefix" in scene.doppel.attach("--config", file.path).stderr
    watching, working = [old[0], monitor.connect()], [old[1], anybody(scene)]
    for n in range(200):
        for c in (*watching, *working):
            c.set(f"key{n % 50}", b"v" * n)
    load = scene.load("sets", connections=16, count=amount(2000), prefix="load")
    excluded = sum(c.sent for c in watching)
    sent = excluded + sum(c.sent for c in working) + load["sent"]
    ledger = scene.doppel.wait_idle(observed=sent)
    assert ledger["bytes"] == {"observed": sent, "delivered": sent - excluded, "in_flight": 0, "lost": 0,
                               "excluded": excluded}, (sent, excluded, ledger["bytes"], ledger["excluded"])
    assert ledger["excluded"]["client_list"] == excluded, ledger["excluded"]
    assert row(scene)["complete"] == 1 and row(scene)["missing"] == 0, row(scene)
    code, status = scene.doppel.health()
    assert code == 0, status
    assert status["mappings"][0]["clients"] == {"include": 0, "exclude": 1}, status["mappings"]
    said = scene.doppel.run("status").stdout
    assert "all but those of 1 prefix" in said, said
    for c in (*watching, *working):
        c.close()
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


@case(families=IP)
def only_some_are_wanted(env):
    """The longest prefix decides: of a net that is left out one address is wanted; others are in no list."""
    scene = env.scene()
    chosen, other = Monitor(scene, 1), Monitor(scene, 2)
    file = File(scene)
    file.write(mapping(file, include_clients=[chosen.address], exclude_clients=[chosen.net]))
    scene.doppel.attach("--config", file.path)
    clients = [chosen.connect(), other.connect(), anybody(scene)]
    for n in range(20):
        for c in clients:
            c.set(f"key{n}")
    sent = sum(c.sent for c in clients)
    ledger = scene.doppel.wait_idle(observed=sent)
    assert ledger["bytes"]["delivered"] == clients[0].sent, (clients[0].sent, ledger["bytes"])
    assert ledger["excluded"]["client_list"] == clients[1].sent + clients[2].sent, ledger["excluded"]
    for c in clients:
        c.close()
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


@case(families=IP)
def excluded_by_a_reload(env):
    """A connection that is mirrored is left out from the reload on, and joins by the next one; those of others
    keep their shadows and lose nothing."""
    scene = env.scene()
    monitor = Monitor(scene)
    file = File(scene)
    file.write(mapping(file))
    scene.doppel.attach("--config", file.path)
    watching, working = monitor.connect(), anybody(scene)
    for c in (watching, working):
        c.set("first")
    load = scene.start("sets", connections=8, count=amount(20000), prefix="load")
    expected = 0
    for lists in ({"exclude_clients": [monitor.net]}, {"include_clients": [scene.lab.client.address]}):
        for wanted in (False, True):
            file.write(mapping(file, **({} if wanted else lists)))
            scene.doppel.run("reload")
            before = watching.sent
            for n in range(20):
                watching.set(f"{'watch' if wanted else 'left'}{n}")
                working.set(f"work{n}")
            expected += 0 if wanted else watching.sent - before
    watching.set("last")
    working.set("last")
    sent = checked(load.result())["sent"] + watching.sent + working.sent
    ledger = scene.doppel.wait_idle(observed=sent)
    assert ledger["bytes"] == {"observed": sent, "delivered": sent - expected, "in_flight": 0, "lost": 0,
                               "excluded": expected}, (sent, expected, ledger["bytes"], ledger["excluded"])
    assert ledger["excluded"]["client_list"] == expected, ledger["excluded"]
    flows = ledger["flows"]
    assert flows["opened"] == 2 + 8 and flows["joined"] == 2, flows  # it joined twice, nobody else did
    assert not any(k.startswith(b"left") for k in scene.target[0].contents())
    watching.close()
    working.close()
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


def many(count, also):
    """So many prefixes of both families and of several lengths, none of which has a host of the lab but `also`."""
    kinds = (lambda n: f"2001:db8:{n >> 16:x}:{n & 0xffff:x}::/64",
             lambda n: f"{ipaddress.ip_address((100 << 24) + 8 * n)}/29",
             lambda n: str(ipaddress.ip_address((150 << 24) + 8 * n + 5)))
    return [*also, *(kinds[n % 3](n) for n in range(count - len(also)))]


@case(families=IP)
def a_hundred_thousand_prefixes(env):
    """Attached in seconds, one of them the monitoring's address; changed five times under load, while every
    byte is told apart and others lose nothing."""
    env.allow(180)
    scene = env.scene()
    monitor = Monitor(scene)
    lines = many(100_000, [monitor.address])
    assert len(set(lines)) == 100_000
    with tempfile.NamedTemporaryFile("w", suffix=".list") as prefixes:
        def write(wanted):
            prefixes.seek(0)
            prefixes.truncate()
            prefixes.write("\n".join(wanted) + "\n")
            prefixes.flush()

        write(lines)
        file = File(scene)
        file.write(mapping(file, exclude_clients=[prefixes.name]))
        begin = time.monotonic()
        scene.doppel.attach("--config", file.path)
        took = [time.monotonic() - begin]
        assert scene.doppel.status()["mappings"][0]["clients"] == {"include": 0, "exclude": 100_000}
        watching = monitor.connect()
        stop = threading.Event()

        def watch():
            while not stop.is_set():
                watching.set("watching")

        load = scene.start("sets", connections=16, count=1_000_000, prefix="load", deadline=240)
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with mirror.Sampler(scene):
                for n in range(5):
                    write(lines[:100_000 - n - 1])
                    begin = time.monotonic()
                    scene.doppel.run("reload")
                    took.append(time.monotonic() - begin)
                assert load.running(), "the load is over"
                sent = checked(load.end())["sent"]
        finally:
            stop.set()
            watcher.join()
    print("      attach {:.2f} s, reloads {}".format(took[0], ", ".join(f"{t:.2f} s" for t in took[1:])))
    ledger = scene.doppel.wait_idle(observed=sent + watching.sent)
    assert ledger["bytes"] == {"observed": sent + watching.sent, "delivered": sent, "in_flight": 0, "lost": 0,
                               "excluded": watching.sent}, (sent, watching.sent, ledger["bytes"], ledger["excluded"])
    assert ledger["excluded"]["client_list"] == watching.sent, ledger["excluded"]
    assert ledger["flows"]["opened"] == 16 and not ledger["flows"]["joined"], ledger["flows"]
    watching.close()
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


@case(slow=True)
def killed_while_the_lists_change(env):
    """Wherever a reload is killed, the next one puts in force what is asked for, for open connections as well."""
    env.allow(240)
    if killed.obstacle():
        raise Skip(killed.obstacle())
    scene = env.scene()
    monitor = Monitor(scene)
    watching, working = monitor.connect(), anybody(scene)
    file = File(scene)
    lists = {"with": {"exclude_clients": [monitor.net, "192.0.2.0/24"]}, "without": {"exclude_clients": ["192.0.2.0/24"]}}
    count = 0

    def put(name):
        file.write(mapping(file, **lists[name]), **SMALL)

    def assert_in_force(name, after):
        """What each says now arrives, or does not."""
        nonlocal count
        count += 1
        watching.set(f"watching{count}")
        working.set(f"working{count}")
        wait.until(lambda: f"working{count}".encode() in scene.target[0].contents(), f"the set, {after}")
        if name == "without":
            wait.until(lambda: f"watching{count}".encode() in scene.target[0].contents(), f"the joined one, {after}")
        else:
            left = row(scene)["excluded"]["client_list"]
            watching.set(f"again{count}")
            wait.until(lambda: row(scene)["excluded"]["client_list"] > left, f"the monitoring's bytes, {after}")
            assert f"watching{count}".encode() not in scene.target[0].contents(), after

    put("without")
    scene.doppel.attach("--config", file.path)
    deaths, chosen = 0, []
    for there, back in (("with", "without"), ("without", "with")):
        put(back)
        scene.doppel.run("reload")
        put(there)
        points = killed.points(killed.effects(scene.doppel, "reload"), 10)
        chosen += points
        for number, point in enumerate(points):
            put(back)
            scene.doppel.run("reload")
            assert_in_force(back, f"back to {back}")
            put(there)
            deaths += killed.at(scene.doppel, point, "reload")
            # On to what was meant, or back to what was so.
            wanted = there if number % 2 else back
            put(wanted)
            scene.doppel.run("reload")
            assert_in_force(wanted, f"reload to {there} killed at {point}, then to {wanted}")
    assert deaths > len(chosen) / 2, deaths
    sent = watching.sent + working.sent
    ledger = scene.doppel.wait_idle()
    b = ledger["bytes"]
    assert b["observed"] == sent and not b["lost"], (sent, b, ledger["lost"])
    assert ledger["excluded"]["client_list"] == b["excluded"], ledger["excluded"]
    watching.close()
    working.close()
    mirror.assert_nothing_left(scene)


@case(families=IP)
def doppels_own_commands_are_left_out(env):
    """What reads from the source, on whichever host, is no client's; what writes there is as any client's."""
    scene = env.scene()
    scene.doppel.attach(*scene.mapping())
    sent = scene.load("sets", connections=8, count=amount(2000), prefix="load")["sent"]
    source, target = (endpoint(h.address, 11211) for h in (scene.lab.source, scene.lab.target))
    before = scene.doppel.wait_idle(observed=sent)["excluded"]["own"]
    for command in (("keys", source), ("verify", "--all", source, target), ("probe", source, target),
                    ("top", "--once", "--servers", source)):
        scene.lab.client.run([doppel.binary(), *command], check=command[0] != "probe")  # it warns
        ledger = scene.doppel.wait_idle(observed=sent)
        own = ledger["excluded"]["own"]
        assert own > before, (command, ledger["excluded"])
        assert ledger["bytes"] == {"observed": sent + own, "delivered": sent, "in_flight": 0, "lost": 0,
                                   "excluded": own}, (command, sent, ledger["bytes"], ledger["excluded"])
        before = own
    assert row(scene)["complete"] == 1 and row(scene)["missing"] == 0, row(scene)
    scene.target[0].preload(10)
    scene.lab.client.run([doppel.binary(), "warm", target, source])
    ledger = scene.doppel.wait_idle(observed=sent + own + 1)
    assert ledger["bytes"]["delivered"] > sent and ledger["excluded"]["own"] == own, ledger
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()
