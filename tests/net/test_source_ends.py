# SPDX-License-Identifier: Apache-2.0
"""The source's side ends connections, and the client sends nothing that would tell: `doppel run` sees it by the
source's sockets, and what stands for them at the target is gone within a minute."""

import os
import signal
import socket
import time

from harness import case
from lab import memcached, mirror, tcp, wait
from lab.books import tell
from lab.guest import guest
from lab.keeper import keep
from lab.stand_in import StandIn
from lab.tcp import connect
from lab.traffic import set_command
from test_client_net import stored

RESET, VANISHED, KILLED, UNACCEPTED = 7001, 7102, 7203, 7304
WITHIN = 60.0  # s, as README promises


def connections(server):
    """Of clients, not counting the one that asks."""
    return server.stats()["curr_connections"]


class Clients:
    """Connections with one answered request each."""

    def __init__(self, scene, count, port=11211):
        self.host, self.sent = scene.lab.client, 0
        self.sockets = [connect(scene.lab.client, scene.lab.source.address, port) for _ in range(count)]
        self.request()
        for s in self.sockets:
            assert tcp.read_lines(s, 1) == b"STORED\r\n"

    def request(self):
        for number, s in enumerate(self.sockets):
            request = b"set k%d 0 0 1\r\nx\r\n" % number
            s.sendall(request)
            self.sent += len(request)

    def close(self):
        for s in self.sockets:
            s.close()


def assert_ends(scene, target, idle, count):
    """Within a minute the target has as many connections as before, and the ledger names the reason."""
    begin = time.monotonic()
    wait.until(lambda: connections(target) <= idle, "the target's connections to go", WITHIN, 0.5)
    print(f"      gone after {time.monotonic() - begin:.1f} s")
    assert mirror.events(scene).get("source_gone") == count, mirror.events(scene)
    assert "idle" not in mirror.events(scene), mirror.events(scene)


def ask(clients, prefix, answered=True):
    sent = 0
    for n, client in enumerate(clients):
        request = set_command(b"%s%d" % (prefix, n), 100)
        client.sendall(request)
        sent += len(request)
    for client in clients if answered else ():
        stored(client, 1)
    return sent


@case(slow=True)
def all_ways(env):
    """500 that the source's server resets (SO_LINGER 0) after an answer; 50 whose host loses its cable, so that
    the source's keepalive gives up; 50 whose server is killed with their requests unread."""
    scene = env.scene(target_runs=False, ports=())
    source, target = scene.lab.source, scene.lab.target
    vanishing = guest(scene.lab, "vanishing", 40)
    for name, value in (("time", 1), ("intvl", 1), ("probes", 2)):
        source.sysctl(f"net/ipv4/tcp_keepalive_{name}", value)
    StandIn(source, RESET, limit=1, reset=True)
    stayed = memcached.Server(source, VANISHED)
    killed = memcached.Server(source, KILLED)
    targets = {port: memcached.Server(target, port) for port in (RESET, VANISHED, KILLED)}
    before = {port: server.stats()["curr_connections"] for port, server in targets.items()}
    stayed_before = stayed.stats()["curr_connections"]
    scene.ports = tuple(targets)
    keep(scene)

    def open_at(port):
        return targets[port].stats()["curr_connections"] - before[port]
    resets = [connect(scene.lab.client, source.address, RESET) for _ in range(500)]
    sent = ask(resets, b"reset")
    gone = [connect(vanishing, source.address, VANISHED) for _ in range(50)]
    sent += ask(gone, b"gone")
    left = [connect(scene.lab.client, source.address, KILLED) for _ in range(50)]
    sent += ask(left, b"left")
    os.kill(killed.process.pid, signal.SIGSTOP)
    sent += ask(left, b"unread", answered=False)
    ledger = scene.doppel.wait_idle(observed=sent)
    assert ledger["bytes"]["delivered"] == sent, tell(scene, ledger)
    wait.until(lambda: targets[KILLED].stats()["curr_items"] == 100, "what the killed server never read")
    assert targets[RESET].stats()["curr_items"] == 500 and targets[VANISHED].stats()["curr_items"] == 50
    for client in resets:
        try:
            end = client.recv(1)
        except ConnectionResetError:
            end = b""
        assert not end
        client.close()
    scene.lab.unplug("vanishing")
    wait.until(lambda: stayed.stats()["curr_connections"] <= stayed_before, "the source's keepalives to give up", 20)
    killed.kill()
    try:
        wait.until(lambda: not any(open_at(port) > 0 for port in targets), "the target's connections to end", 60, 0.5)
    except wait.Timeout as e:
        names = {RESET: "reset", VANISHED: "vanished", KILLED: "killed"}
        raise AssertionError(f"{e}: " + ", ".join(f"{open_at(port)} {name}" for port, name in names.items())
                             + f"; {tell(scene, scene.doppel.ledger())}") from None
    ledger = scene.doppel.ledger()
    assert ledger["bytes"] == {"observed": sent, "delivered": sent, "in_flight": 0, "lost": 0, "excluded": 0}, ledger
    mirror.assert_nothing_left(scene, timeout=30)
    scene.assert_harmless(resets_to_target=True, resets_to_client=True)


def taken(host, port):
    """How many established sockets of the port hold bytes that nobody has read."""
    rows = [row.split() for row in host.proc_net("tcp").splitlines()[1:]]
    return sum(1 for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"
               and int(row[4].split(":")[1], 16))


@case(slow=True)
def never_accepted(env):
    """The source's server accepts nothing: what waits in its backlog the source has, what is beyond it has not,
    though those clients believe to be connected. When the server is gone, so is all of it."""
    scene = env.scene(target_runs=False, ports=())
    source = scene.lab.source
    source.sysctl("net/core/somaxconn", 4)
    listener = source.in_netns(listen, source.address)
    target = memcached.Server(scene.lab.target, UNACCEPTED)
    idle = target.stats()["curr_connections"]
    scene.ports = (UNACCEPTED,)
    keep(scene)
    clients = []
    for _ in range(8):
        try:
            clients.append(connect(scene.lab.client, source.address, UNACCEPTED, timeout=1))
        except OSError:
            pass  # beyond the backlog, and its SYN as well
    ask(clients, b"waits", answered=False)
    wait.settled(lambda: scene.doppel.ledger()["bytes"], "what the clients sent", 1)
    took = taken(source, UNACCEPTED)
    executed = target.stats()["curr_items"]
    assert took > 0, "the source has taken nothing at all"
    assert executed == took, f"the target executed {executed} requests, the source has {took} of {len(clients)}"
    listener.close()  # resets what was never accepted
    wait.until(lambda: target.stats()["curr_connections"] <= idle, "the target's connections to end", 60, 0.5)
    for client in clients:
        client.close()
    mirror.assert_nothing_left(scene, timeout=60)


def listen(address):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, UNACCEPTED))
    s.listen(4)
    return s


@case(slow=True)
def killed_with_requests_unread(env):
    """The target has answered what the source never read; a service beside it keeps its conversations."""
    scene = env.scene(ports=(11211, 11212))
    keeper = keep(scene)
    idle = [connections(server) for server in scene.target]
    ended, staying = Clients(scene, 50), Clients(scene, 5, 11212)
    scene.doppel.wait_idle(observed=ended.sent + staying.sent)
    assert [connections(s) for s in scene.target] == [idle[0] + 50, idle[1] + 5]
    scene.source[0].process.send_signal(signal.SIGSTOP)
    ended.request()
    scene.assert_all_delivered(ended.sent + staying.sent)
    scene.source[0].kill()
    assert_ends(scene, scene.target[0], idle[0], 50)
    assert connections(scene.target[1]) == idle[1] + 5
    staying.request()
    scene.assert_all_delivered(ended.sent + staying.sent)
    staying.close()
    ended.close()
    mirror.assert_nothing_left(scene)
    scene.assert_harmless(resets_to_client=True, resets_to_target=True)
    keeper.stop()


@case(slow=True)
def clients_that_vanish(env):
    """The source's keepalive ends its connections with them."""
    scene = env.scene()
    for name, seconds in (("time", 1), ("intvl", 1), ("probes", 3)):
        scene.lab.source.sysctl(f"net/ipv4/tcp_keepalive_{name}", seconds)
    keeper = keep(scene)
    idle = [connections(server) for server in (scene.source[0], scene.target[0])]
    clients = Clients(scene, 50)
    scene.assert_all_delivered(clients.sent)
    scene.lab.unplug("client")
    wait.until(lambda: connections(scene.source[0]) <= idle[0], "the source to miss its clients", 30, 0.5)
    assert_ends(scene, scene.target[0], idle[1], 50)
    scene.assert_all_delivered(clients.sent)
    mirror.assert_nothing_left(scene)
    clients.close()
    keeper.stop()


@case(slow=True)
def silent_but_alive(env):
    """A conversation that says nothing for several looks goes on where it was."""
    scene = env.scene()
    keeper = keep(scene)
    clients = Clients(scene, 10)
    scene.assert_all_delivered(clients.sent)
    begin = time.monotonic()
    wait.until(lambda: time.monotonic() - begin > 50, "three looks at the sockets", 60, 1)
    assert not mirror.events(scene).get("source_gone"), mirror.events(scene)
    clients.request()
    ledger = scene.assert_all_delivered(clients.sent)
    assert ledger["flows"]["opened"] == 10, ledger
    clients.close()
    keeper.stop()
