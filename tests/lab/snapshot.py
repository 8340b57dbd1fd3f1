# SPDX-License-Identifier: Apache-2.0
"""What is set up on a host: compared before attach and after detach."""

import json
import os
import socket

from . import bpf


def _sorted_json(text):
    return sorted(json.dumps(row, sort_keys=True) for row in json.loads(text or "[]"))


def devices(host):
    """Links with their details, without what changes by itself."""
    rows = json.loads(host.run(["ip", "-json", "-details", "link", "show"]).stdout)
    for row in rows:
        row.pop("txqlen", None)
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def take(host):
    """{what: list of its rows}, such that two snapshots of the same state are equal."""
    names = sorted(host.in_netns(lambda: [name for _, name in socket.if_nameindex()]))
    filters = [f"{name} {hook} {line}"
               for name in names for hook in ("ingress", "egress")
               for line in host.run(["tc", "filter", "show", "dev", name, hook],
                                    check=False).stdout.splitlines()]
    return {
        "devices": devices(host),
        "qdiscs": _sorted_json(host.run(["tc", "-json", "qdisc", "show"]).stdout),
        "filters": filters,
        "routes": _sorted_json(host.run(["ip", "-json", "route", "show", "table", "all"]).stdout)
                  + _sorted_json(host.run(["ip", "-json", "-6", "route", "show", "table", "all"]).stdout),
        "rules": _sorted_json(host.run(["ip", "-json", "rule", "show"]).stdout),
        "addresses": host.run(["ip", "-brief", "address", "show"]).stdout.splitlines(),
        "nft": host.run(["nft", "list", "ruleset"]).stdout.splitlines(),
        "bpffs": pins(host),
    }


def pins(host):
    """All paths in the host's bpffs."""
    top = host.root("/sys/fs/bpf")
    return sorted(os.path.join(where, name)[len(top):]
                  for where, dirs, files in os.walk(top) for name in dirs + files)


def objects(host):
    """{(kind, id): path} of every program, map and link pinned in the host's bpffs."""
    top = host.root("/sys/fs/bpf")
    found = {bpf.pinned(top + path): path for path in pins(host)}
    found.pop(None, None)
    return found


def changes(before, after):
    """Sentences about what differs."""
    said = []
    for what in before:
        for sign, rows, others in (("gone", before, after), ("new", after, before)):
            said += [f"{what}: {sign}: {row}" for row in rows[what] if row not in others[what]]
    return said
