# SPDX-License-Identifier: Apache-2.0
"""Other programs on the same device go on seeing every packet."""

from harness import MODES, case
from lab import memcached
from lab.bpf import Neighbour
from lab.wait import amount


@case(tcx=True, mode=MODES, neighbour=("tcx-last", "clsact"), when=("before-attach", "after-attach"))
def sees_every_packet(env, mode, neighbour, when):
    """A program that runs after ours counts the same as one that runs before ours."""
    scene = env.scene()
    after = None
    if when == "before-attach":
        after = Neighbour(scene.lab.source, neighbour)
        scene.attach()
    else:
        scene.attach()
        after = Neighbour(scene.lab.source, neighbour)
    # Ahead of everything; our program in TCX would itself have gone to the head.
    before = Neighbour(scene.lab.source, "tcx-first")
    sent = scene.load("sets", connections=20, count=amount(2000))["sent"]
    sent += scene.load("sets", connections=200, count=200, at_once=20, prefix="short")["sent"]
    sent += scene.load("sets", connections=2, count=4, smallest=1 << 20, largest=1 << 20,
                       prefix="huge")["sent"]
    scene.assert_all_delivered(sent)
    assert before.read() == after.read(), f"{before.read()} before ours, {after.read()} after ours"
    assert before.read()[0] > amount(2000), "the neighbours saw too little to compare"
    scene.assert_same(keys=amount(2000) + 204)
    scene.assert_harmless()


@case(tcx=True, mode=MODES)
def sees_every_packet_while_the_target_is_down(env, mode):
    scene = env.scene(target_runs=False)
    scene.lab.unplug("target")
    scene.attach()
    after = Neighbour(scene.lab.source, "clsact")
    before = Neighbour(scene.lab.source, "tcx-first")
    scene.load("sets", connections=20, count=amount(2000))
    assert before.read() == after.read(), f"{before.read()} before ours, {after.read()} after ours"
    assert before.read()[0] > amount(2000), "the neighbours saw too little to compare"


@case(mode=MODES)
def status_names_the_neighbour(env, mode):
    """`status` lists a neighbour's program on the hook, in running order."""
    scene = env.scene()
    Neighbour(scene.lab.source, "clsact")
    scene.attach()
    text = scene.doppel.run("status").stdout
    assert "neighbour" in text, text


@case(mode=MODES)
def other_traffic_is_untouched(env, mode):
    """Traffic to a port that no mapping names is neither copied nor counted."""
    scene = env.scene()
    scene.attach()
    other = memcached.Server(scene.lab.source, 11311)
    scene.load("sets", port=11311, connections=20, count=amount(2000))
    assert other.stats()["cmd_set"] == amount(2000)
    assert scene.doppel.ledger()["bytes"]["observed"] == 0
    assert scene.target[0].stats()["cmd_set"] == 0
    direct = scene.lab.source.connect(scene.lab.target.address, 11211)
    try:
        direct.sendall(b"set direct 0 0 2\r\nok\r\n")
        assert direct.recv(100) == b"STORED\r\n", "this host's own connection to the target is disturbed"
    finally:
        direct.close()
    scene.assert_harmless()
