# SPDX-License-Identifier: Apache-2.0
"""Kills a command of doppel at a system call of choice, by strace's injection."""

import collections
import itertools
import re
import shutil
import tempfile

from .doppel import binary

# Calls that change something outside of the process: to be killed before any other is to be killed before the
# next of these.
EFFECTS = {
    "mkdir": r"", "rmdir": r"", "unlink": r"", "unlinkat": r"", "write": r"write\([12],|disable_ipv6", "flock": r"",
    "sendto": r"RTM_(?:NEW|SET|DEL)\w+",
    "bpf": r"BPF_(?:MAP_CREATE|MAP_UPDATE_ELEM|MAP_DELETE_ELEM|PROG_LOAD|OBJ_PIN|LINK_\w+|PROG_RUN|PROG_TEST_RUN)"}
REPEATED = 3  # of a row of equal calls, such as those that fill a map: the first, one in between, the last


def obstacle():
    """Why nothing can be killed here, or None."""
    return None if shutil.which("strace") else "strace is not installed (tools/install-deps tests)"


def effects(doppel, *command):
    """[(kind, name of the call, its number among those of that name)] of a command that runs to its end."""
    with tempfile.NamedTemporaryFile("r", errors="replace") as trace:
        doppel.host.run(["strace", "-f", "-qq", "-o", trace.name, binary(), *command])
        lines = trace.read().splitlines()
    count, found = collections.Counter(), []
    for line in lines:
        call = re.match(r"\d+ +(\w+)\(", line)
        if not call:
            continue
        name = call[1]
        count[name] += 1
        effect = name in EFFECTS and re.search(EFFECTS[name], line)
        if effect:
            found.append((name + effect[0], name, count[name]))
    return found


def points(calls, most):
    """(name, number) of about so many calls: all by netlink, the rest spread over the whole command."""
    chosen = []
    for _, row in itertools.groupby(calls, key=lambda call: call[0]):
        row = list(row)
        step = max(1, (len(row) - 1) / (REPEATED - 1))
        chosen += [row[round(i * step)][1:] for i in range(min(REPEATED, len(row)))]
    rest = [point for point in chosen if point[0] != "sendto"]
    room = max(most - (len(chosen) - len(rest)), most // 2)
    rest = rest[::max(1, round(len(rest) / room))]
    return [point for point in chosen if point[0] == "sendto" or point in rest]


def at(doppel, point, *command):
    """Runs the command, which dies before that call. Whether it did: it may have needed fewer this time."""
    name, number = point
    done = doppel.host.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={name}",
                            "-e", f"inject={name}:signal=KILL:when={number}", binary(), *command],
                           check=False)
    assert done.returncode in (0, 1, -9, 137), done
    return done.returncode in (-9, 137)
