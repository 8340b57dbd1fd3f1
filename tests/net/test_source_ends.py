# SPDX-License-Identifier: Apache-2.0
"""What the source ends by itself makes its clients send nothing more: `doppel run` sees it by the source's
sockets, and ends the shadows."""

import signal
import time

from harness import case
from lab import mirror, tcp, wait
from lab.keeper import keep

WITHIN = 60.0  # s, as README promises


def connections(server):
    """Of clients, not counting the one that asks."""
    return server.stats()["curr_connections"]


class Clients:
    """Connections with one answered request each."""

    def __init__(self, scene, count, port=11211):
        self.host, self.sent = scene.lab.client, 0
        self.sockets = [tcp.connect(scene.lab.client, scene.lab.source.address, port) for _ in range(count)]
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


@case()
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


@case()
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


@case()
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
