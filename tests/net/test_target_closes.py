# SPDX-License-Identifier: Apache-2.0
"""The target keeps a connection for a shorter time, or for fewer requests, than the source: what it ends while
nothing is under way is an ordinary end, and the client's next request opens the next shadow."""

from harness import case
from lab import memcached, mirror, wait
from lab.books import tell
from lab.keeper import keep
from lab.stand_in import StandIn
from lab.traffic import set_command
from test_client_net import connect, stored

CLIENTS = 16


class Turns:
    """Each client sends one set a turn; a turn is over when the target has executed it."""

    def __init__(self, scene, count=CLIENTS):
        self.scene = scene
        self.clients = [connect(scene) for _ in range(count)]
        self.sent = self.done = 0

    def one(self, executed):
        """`executed`: how many sets the target has executed, so far."""
        for n, client in enumerate(self.clients):
            request = set_command(b"key%d-%d" % (self.done, n), 100)
            client.sendall(request)
            self.sent += len(request)
        for client in self.clients:
            stored(client, 1)
        self.done += 1
        want = self.done * len(self.clients)
        try:
            wait.until(lambda: executed() >= want, f"{want} requests on the target", 5)
        except wait.Timeout as e:
            raise AssertionError(f"{e}; turn {self.done}: "
                                 f"{tell(self.scene, self.scene.doppel.ledger())}") from None

    def finish(self):
        ledger = self.scene.assert_all_delivered(self.sent)
        print(f"      {tell(self.scene, ledger)}")
        for client in self.clients:
            client.close()
        mirror.assert_nothing_left(self.scene, timeout=75)


@case()
def memcached_idle_timeout(env):
    """-o idle_timeout=2 on the target; a request on each connection whenever it has closed them all."""
    scene = env.scene(target_runs=False)
    scene.target = [memcached.Server(scene.lab.target, options=("-o", "idle_timeout=2"))]
    idle = scene.target[0].stats()["curr_connections"]
    keep(scene)
    turns = Turns(scene)
    for _ in range(3):
        turns.one(lambda: scene.target[0].stats()["cmd_set"])
        wait.until(lambda: scene.target[0].stats()["curr_connections"] <= idle, "the target to close them", 15)
    turns.finish()
    scene.assert_same(keys=3 * CLIENTS)
    scene.assert_same_commands()
    scene.assert_harmless(resets_to_target=True)


@case(end=("fin", "rst"))
def ten_requests_each(env, end):
    """The target ends each connection after its tenth answer, as nginx does with keepalive_requests 10."""
    scene = env.scene(target_runs=False)
    target = StandIn(scene.lab.target, limit=10, **({"reset": True} if end == "rst" else {}))
    keep(scene)
    turns = Turns(scene)
    for n in range(35):
        turns.one(lambda: target.seen()["requests"])
        if n % 10 == 9:
            wait.until(lambda: not target.seen()["open"], "the target to close them")
            closed(scene)
    turns.finish()
    seen = target.seen()
    assert not seen["garbage"], seen["garbage"][:3]
    assert set(seen["keys"]) == {k.decode() for k in scene.source[0].contents()}
    assert len(seen["keys"]) == 35 * CLIENTS, "something was executed twice"
    assert seen["accepted"] == 4 * CLIENTS, seen["accepted"]


@case(end=("fin", "rst"))
def a_second_of_silence(env, end):
    """The target ends a connection after 1 s of silence, as nginx does with keepalive_timeout 1s."""
    scene = env.scene(target_runs=False)
    target = StandIn(scene.lab.target, idle=1, **({"reset": True} if end == "rst" else {}))
    keep(scene)
    turns = Turns(scene)
    for _ in range(3):
        turns.one(lambda: target.seen()["requests"])
        wait.until(lambda: not target.seen()["open"], "the target to close them")
        closed(scene)
    turns.finish()
    seen = target.seen()
    assert not seen["garbage"], seen["garbage"][:3]
    assert len(seen["keys"]) == len(set(seen["keys"])) == 3 * CLIENTS, seen["keys"]


def closed(scene):
    """Until the end has reached the mirror: no shadow is established any more."""
    wait.until(lambda: not any(f["state"] == "ESTABLISHED" for f in scene.doppel.json("flows")["flows"]),
               "the mirror to hear of it")
