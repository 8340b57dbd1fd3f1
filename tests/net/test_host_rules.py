# SPDX-License-Identifier: Apache-2.0
"""Who may end a mirror, and what is a mirror's."""

from harness import case
from lab.bpf import Neighbour


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
