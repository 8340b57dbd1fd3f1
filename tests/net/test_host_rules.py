# SPDX-License-Identifier: Apache-2.0
"""Who may end a mirror, and what is a mirror's."""

from harness import MODES, case
from lab import doppel, snapshot
from lab.bpf import Neighbour
from test_keeper import assert_unchanged


def elsewhere(scene, *arguments):
    """doppel in a mount namespace with a bpffs of its own, as in a container with the host's network."""
    return scene.lab.source.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c",
         'mount -t bpf bpf /sys/fs/bpf && exec "$@"', "sh", doppel.binary(), *arguments], check=False)


@case(mode=MODES)
def detach_from_another_mount_namespace(env, mode):
    """It refuses, names the way, and leaves the mirror as it is; with --force it ends it."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    scene.attach()
    said = elsewhere(scene, "detach")
    assert said.returncode == 1 and "attached from another mount namespace" in said.stderr, said.stderr
    assert "--mount doppel detach" in said.stderr and "--force" in said.stderr, said.stderr
    said = elsewhere(scene, "attach", *scene.mapping())
    assert said.returncode == 1 and "another mount namespace" in said.stderr, said.stderr
    scene.assert_all_delivered(scene.load("sets", connections=5, count=50)["sent"])
    said = elsewhere(scene, "detach", "--force")
    assert said.returncode == 0, said.stderr
    scene.doppel.detach()  # the pins that are left
    assert_unchanged(scene.lab.source, before)


@case(how=("tcx-first", "clsact"))
def a_name_is_not_ownership(env, how):
    """Somebody's program that is called as ours are, but has none of our maps, is left alone."""
    scene = env.scene()
    other = Neighbour(scene.lab.source, how, name=b"doppel_mine")
    scene.attach()
    hooks = [h for h in scene.doppel.status()["hooks"] if h["program"] == "doppel_mine"]
    assert len(hooks) == 1 and not hooks[0]["ours"], hooks
    scene.doppel.detach()
    other.assert_counts(scene, 100)
