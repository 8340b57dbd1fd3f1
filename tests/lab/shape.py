# SPDX-License-Identifier: Apache-2.0
"""A slow link with a short queue, whose tail is dropped, as the last switch before a host has it."""


def narrow(lab, name, mbit, buffer_kb):
    """Toward one host of the lab. A GSO packet is cut before it is queued (tbf_segment)."""
    lab.switch.run(["tc", "qdisc", "replace", "dev", name, "root", "tbf", "rate", f"{mbit}mbit",
                    "burst", "10kb", "limit", f"{buffer_kb}kb"])


def drops(lab, name):
    """Packets that the queue toward the host had no room for."""
    words = lab.switch.run(["tc", "-s", "qdisc", "show", "dev", name]).stdout.replace(",", "").split()
    return int(words[words.index("(dropped") + 1])


def widen(lab, name):
    """The link is what it was before narrow()."""
    lab.switch.run(["tc", "qdisc", "del", "dev", name, "root"])
