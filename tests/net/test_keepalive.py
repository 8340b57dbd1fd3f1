# SPDX-License-Identifier: Apache-2.0
"""A firewall between source and target that forgets what is silent for 5 s, and clients that are silent for longer."""

import time

from harness import MODES, case
from lab import mirror, wait
from test_client_net import connect
from test_clock import attach, say

FORGETS = 5  # s


def firewall(lab):
    """At the switch: lets TCP between source and target pass that began with a SYN, as long as it remembers it."""
    key, back = "ip saddr . tcp sport", "ip daddr . tcp dport"
    out, answer = f"ip daddr {lab.target.address} tcp dport 11211", f"ip saddr {lab.target.address} tcp sport 11211"
    lab.switch.run(["nft", "-f", "-"], stdin=f"""
table netdev firewall {{
  set known {{ type ipv4_addr . inet_service; flags dynamic,timeout; timeout {FORGETS}s; }}
  chain out {{
    type filter hook ingress device "source" priority 0; policy accept;
    {out} tcp flags & (syn | ack) == syn add @known {{ {key} }} accept
    {out} {key} @known update @known {{ {key} }} accept
    {out} drop
  }}
  chain back {{
    type filter hook ingress device "target" priority 0; policy accept;
    {answer} {back} @known update @known {{ {back} }} accept
    {answer} drop
  }}
}}
""")


def remembered(lab):
    return "elements" in lab.switch.run(["nft", "list", "set", "netdev", "firewall", "known"]).stdout


@case(mode=MODES)
def firewall_remembers(env, mode):
    """Requests each 8 s."""
    scene = env.scene()
    firewall(scene.lab)
    attach(scene, keepalive="2s")
    clients = [connect(scene) for _ in range(10)]
    sent = 0
    for turn in range(3):
        if turn:
            time.sleep(8)  # that nobody says anything for so long is the point
        sent += sum(say(client, b"key%d-%d" % (turn, n)) for n, client in enumerate(clients))
        scene.doppel.wait_idle(observed=sent, stuck=2)
    ledger = scene.assert_all_delivered(sent)
    assert ledger["flows"]["opened"] == 10 and not ledger["flows"]["joined"], ledger["flows"]
    said = mirror.events(scene)
    assert said["keepalive"] >= 40 and "timeout_retransmit" not in said, said
    scene.assert_same(keys=30)
    for client in clients:
        client.close()
    mirror.assert_nothing_left(scene)
    scene.assert_harmless()


@case(mode=MODES)
def firewall_forgets(env, mode):
    """Without keepalives: what times out then goes by a new shadow."""
    scene = env.scene()
    firewall(scene.lab)
    attach(scene, keepalive="0s", tries=2)
    client = connect(scene)
    sent = say(client, b"first")
    scene.doppel.wait_idle(observed=sent)
    wait.until(lambda: not remembered(scene.lab), "the firewall to forget", 10 * FORGETS)
    sent += say(client, b"second") + say(client, b"third")
    scene.assert_all_delivered(sent)
    assert mirror.events(scene)["idle_break"] == 1, mirror.events(scene)
    scene.assert_same(keys=3)
    client.close()
    mirror.assert_nothing_left(scene)
    scene.assert_harmless(resets_to_target=True)
