# SPDX-License-Identifier: Apache-2.0
"""A mapping that a reload removes leaves its last ledger: told, logged, and in the sum of what is gone."""

from harness import MODES, case
from lab import tcp, wait
from lab.keeper import File, Keeper


@case(mode=MODES, with_keeper=(False, True))
def is_told_and_kept(env, mode, with_keeper):
    scene = env.scene(ports=(11211, 11212))
    file = File(scene, ("stays", 11211), ("goes", 11212))
    if with_keeper:
        keeper = Keeper(scene, "--config", file.path)
    else:
        scene.doppel.attach("--config", file.path)
    client = tcp.connect(scene.lab.client, scene.lab.source.address, 11212)
    client.sendall(b"set a 0 0 1\r\nx\r\n")
    tcp.read_lines(client, 1)
    first = scene.doppel.wait_idle()["bytes"]["delivered"]
    scene.lab.unplug("target")
    value = b"x" * 20000
    client.sendall(b"set b 0 0 %d\r\n%s\r\n" % (len(value), value))
    tcp.read_lines(client, 1)
    wait.until(lambda: scene.doppel.ledger()["bytes"]["in_flight"] > len(value), "the set to be in flight")
    late = scene.doppel.ledger()["bytes"]["in_flight"]
    file.write(("stays", 11211))
    said = scene.doppel.run("reload").stdout
    last = f"the last of goes: {first + late} bytes observed, {first} delivered, {late} lost (detached {late})"
    assert last in said, said
    if with_keeper:
        assert last in keeper.said(), keeper.said()
    for again in range(2):
        removed = scene.doppel.counters()["removed"]
        assert removed["mappings"] == 1, removed
        assert removed["bytes"] == {"observed": first + late, "delivered": first, "in_flight": 0, "lost": late,
                                    "excluded": 0}, removed
        assert "(removed)" in scene.doppel.run("counters").stdout
        if again == 0:
            scene.lab.plug("target")
            file.write(("stays", 11211), ("goes", 11212))
            scene.doppel.run("reload")
    client.close()
    ended = scene.doppel.run("detach").stdout
    assert "(removed)" in ended, ended
