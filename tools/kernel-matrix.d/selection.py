# SPDX-License-Identifier: Apache-2.0
"""Which suites run, and what of them."""

import shlex

SUITES = ("load", "mirror", "bpf", "host", "net")
WHOLE_ONLY = ("load", "mirror")

# What CI runs, in a few minutes: what packets that come through a hook do to the data plane, but for timeouts, and some
# of IPv6 clients, whose packets do not; one full circle of user space; real traffic through a bad network; and what asks
# the kernel who a packet is for: its sockets (forged), its connection tracking (published), and a target that resets
# at rest.
QUICK = {
    "load": [],
    "bpf": [*(f"Modes/{name}.*hook*" for name in
              "Handshake Data Stream Close Join Loss Window Wrap Offload Untouched".split()),
            "Modes/Handshake.*_run_v6*", "Modes/Data.*_run_v6*"],
    "host": ["Mode/BothModes.DetachRestoresTheHost/*"],
    "net": ["netem.netem[{mode},source-target,all]", "forged.segments[near]", "published.container_port",
            "target_closes.ten_requests_each[rst]"],
}

WITHOUT_TCX = ("6.1",)


class Unknown(Exception):
    """No suite is called that."""


def everything():
    return {suite: [] for suite in SUITES}


def quick():
    return {suite: list(selections) for suite, selections in QUICK.items()}


def parse(words):
    """Of SUITE and SUITE=SELECTION: {suite: selections}."""
    chosen = {}
    for word in words:
        suite, _, what = word.partition("=")
        if suite not in SUITES or (what and suite in WHOLE_ONLY):
            raise Unknown(f"{word}: there are the suites {' '.join(SUITES)}, "
                          f"all but {' and '.join(WHOLE_ONLY)} with a selection")
        chosen.setdefault(suite, [])
        if what:
            chosen[suite].append(what)
    return {suite: chosen[suite] for suite in SUITES if suite in chosen}


def for_guest(kernel, chosen):
    """The guest's configuration. Selections are words for its shell."""
    tcx = kernel not in WITHOUT_TCX

    modes = ["tcx", "clsact"] if tcx else ["clsact"]

    def gtest(suite):
        left_out = "" if tcx else "-*tcx*:*Tcx*"
        if tcx and suite == "bpf" and chosen.get(suite) == QUICK[suite]:
            left_out = "-*clsact*"  # the kernels without TCX have that in CI
        return (":".join(chosen.get(suite, [])) or "*") + left_out

    return {
        "KM_SUITES": " ".join(chosen),
        "KM_MODES": " ".join(modes),
        "KM_BPF": gtest("bpf"),
        "KM_HOST": gtest("host"),
        "KM_NET": shlex.join(word.replace("{mode}", modes[0]) for word in chosen.get("net", [])),
    }
