# SPDX-License-Identifier: Apache-2.0
"""The host's own rules for what it sends: IPsec is not gone past unless the user says so; that netfilter is, is
told; a target that only netfilter leads to is found out. And who may end a mirror."""

import json

from harness import MODES, case
from lab import doppel, snapshot
from lab.bpf import Neighbour
from lab.keeper import File, Keeper
from test_keeper import assert_unchanged
from test_netem import lacks

POLICY = ["dir", "out", "tmpl", "proto", "esp", "mode", "transport"]


def policy(scene, verb="add", target=None):
    words = POLICY if verb == "add" else POLICY[:2]
    return scene.lab.source.run(["ip", "xfrm", "policy", verb, "dst", target or scene.lab.target.address, *words],
                                check=False)


def ipsec(scene):
    done = policy(scene)
    if done.returncode:
        lacks("xfrm", done)


@case(mode=MODES)
def ipsec_is_refused(env, mode):
    """By attach, run, check and probe; with --bypass-ipsec the copies leave all the same."""
    scene = env.scene()
    before = snapshot.take(scene.lab.source)
    ipsec(scene)
    for command in ("attach", "run", "check", "probe"):
        file = File(scene, ("data", 11211))
        said = scene.doppel.run(command, "--config", file.path, check=False)
        text = said.stdout + said.stderr
        assert said.returncode == 1, f"{command}: {said.returncode}, {text}"
        assert f"an IPsec policy of this host covers the target {scene.lab.target.address}" in text, text
        assert "bypass_ipsec" in text, text
    assert_unchanged(scene.lab.source, before)
    scene.doppel.attach(*scene.mapping(), "--bypass-ipsec")
    scene.assert_all_delivered(scene.load("sets", connections=5, count=50)["sent"])


@case()
def ipsec_that_is_optional_is_refused(env):
    """It encrypts as soon as there is a security association, and asks nobody."""
    scene = env.scene()
    ends = ("src", scene.lab.source.address, "dst", scene.lab.target.address)
    done = scene.lab.source.run(["ip", "xfrm", "policy", "add", "dst", scene.lab.target.address, "dir", "out",
                                 "tmpl", *ends, "proto", "esp", "mode", "transport", "level", "use"], check=False)
    if done.returncode:
        lacks("xfrm", done)
    said = scene.doppel.attach(*scene.mapping(), check=False)
    assert said.returncode == 1 and "while a security association is up" in said.stderr, said


@case()
def what_no_ipsec_policy_lets_pass(env):
    scene = env.scene()
    done = scene.lab.source.run(["ip", "xfrm", "policy", "setdefault", "out", "block"], check=False)
    if done.returncode:
        lacks("xfrm, or its default policy", done)
    said = scene.doppel.attach(*scene.mapping(), check=False)
    assert said.returncode == 1 and "this host blocks what no IPsec policy lets pass" in said.stderr, said


@case(mode=MODES)
def ipsec_comes_and_goes(env, mode):
    """The keeper ends the mapping at once, and begins it anew when the policy is gone."""
    scene = env.scene()
    keeper = Keeper(scene, *scene.mapping())
    scene.assert_all_delivered(scene.load("sets", connections=5, count=50, prefix="one")["sent"])
    ipsec(scene)
    keeper.wait_for("an IPsec policy of this host covers the target", timeout=5)
    keeper.wait_for("removed 11211")
    frames = scene.target[0].stats()["cmd_set"]
    scene.load("sets", connections=5, count=50, prefix="two")
    assert scene.target[0].stats()["cmd_set"] == frames, "copies left past the policy"
    assert not policy(scene, "delete").returncode
    keeper.wait_for("added 11211")
    scene.assert_all_delivered(scene.load("sets", connections=5, count=50, prefix="three")["sent"])
    keeper.stop()


@case()
def another_ipsec_policy_is_none_of_ours(env):
    scene = env.scene()
    done = policy(scene, target="10.77.0.200")
    if done.returncode:
        lacks("xfrm", done)
    scene.attach()
    probe = scene.doppel.json("probe")["features"]
    assert any(row["feature"] == "ipsec" and "1 policy" in row["detail"] for row in probe), probe


@case()
def output_rules_are_told(env):
    scene = env.scene()
    scene.lab.source.run(["nft", "-f", "-"], stdin=f"""
table inet guard {{
  chain out {{
    type filter hook output priority filter; policy accept;
    ip daddr {scene.lab.target.address} drop
  }}
}}
""")
    said = scene.attach().stderr
    assert "copies are not subject to this host's rules for what it sends (nftables inet guard out)" in said, said
    row = next(r for r in scene.doppel.json("probe")["features"] if r["feature"] == "output_rules")
    assert "nftables inet guard out" in row["detail"], row
    scene.assert_all_delivered(scene.load("sets", connections=5, count=50)["sent"])


def targets(scene, file):
    """What probe says of the targets of a file."""
    said = scene.doppel.run("probe", "--config", file.path, "--json", check=False).stdout
    return [row for row in json.loads(said)["features"] if row["feature"] == "target"]


@case()
def target_of_netfilter_alone(env):
    """As a ClusterIP is: this host's own connections are led elsewhere, copies are not."""
    scene = env.scene()
    service = "10.77.0.99"
    scene.lab.source.run(["nft", "-f", "-"], stdin=f"""
table ip cluster {{
  chain out {{
    type nat hook output priority -100; policy accept;
    ip daddr {service} tcp dport 11211 dnat to {scene.lab.target.address}:11211
  }}
}}
""")
    file = File(scene)
    file.write(file.mapping("data", 11211, targets=[{"address": service, "port": 11211}]))
    rows = targets(scene, file)
    wanted = f"this host's own connections are led to {scene.lab.target.address}"
    assert len(rows) == 1 and wanted in rows[0]["detail"] and not rows[0]["ok"], rows
    said = scene.doppel.attach("--config", file.path).stderr
    assert f"target {service}:11211: {wanted}" in said, said


@case()
def probe_of_a_target(env):
    scene = env.scene()
    file = File(scene, ("data", 11211))
    rows = targets(scene, file)
    assert [r["detail"] for r in rows] == [f"target {scene.lab.target.address}:11211 accepts connections"], rows
    scene.target[0].kill()
    rows = targets(scene, file)
    assert len(rows) == 1 and "refuses connections" in rows[0]["detail"] and not rows[0]["ok"], rows


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
