# SPDX-License-Identifier: Apache-2.0
"""A mirror that something is done to, and what `status` and the keeper say of it."""

import time

from lab import wait
from lab.keeper import File, Keeper
from lab.wait import amount
from test_client_net import connect
from test_clock import say

WITHIN = 10.0  # s: so soon `status` tells what is wrong, and that it is over
HOW = ("attach", "run")
STOPPED, TARGET, KEEPER, SCARCE = 4, 5, 6, 7  # include/doppel/exits.def


class Patient:
    """A mirror, and what `status` says of it. `load`: options of the load that it is under; None: it is idle.
    `mapping`: keys of its mapping that are others. `more`: mappings beside it. `keeper`: more options of `run`.
    The settings are those of the file."""

    def __init__(self, env, how, load=(), scene=None, mapping=None, more=(), keeper=(), **settings):
        self.scene = scene or env.scene()
        self.keeper = None
        self.file = File(self.scene)
        self.file.write(self.file.mapping("data", 11211, **(mapping or {})), *more, **settings)
        if how == "run":
            self.keeper = Keeper(self.scene, "--config", self.file.path, *keeper)
        else:
            self.scene.doppel.attach("--config", self.file.path)
        if load is not None:
            self.scene.start("sets", **{"connections": 20, "count": 100_000, "rate": amount(400), **dict(load)})
            wait.until(lambda: self.scene.target[0].stats()["cmd_set"] > 40, "the load to be under way", 20)
        self.well()

    def well(self, within=20):
        """`status` says that all is well, and nothing else."""
        def calm():
            code, said = self.scene.doppel.health()
            assert (code == 0) == said["well"] and code == said["exit"], (code, said)
            return code == 0
        self.until(calm, "all to be well", within)

    def until(self, condition, what, within=WITHIN):
        begin = time.monotonic()
        try:
            found = wait.until(condition, what, within, 0.25)
        except wait.Timeout as e:
            raise AssertionError(f"{e}\n{self.scene.doppel.health()}"
                                 f"\n{self.keeper.said() if self.keeper else ''}") from None
        print(f"      {what}: {time.monotonic() - begin:.1f} s")
        return found

    def falls_ill(self, kinds, code, others=(), words=None):
        """One of these problems is told within ten seconds, with that exit code; `others`: graver ones may come
        with it and have theirs. A keeper logs it with these words."""
        def told():
            got, said = self.scene.doppel.health()
            return next((p for p in said["problems"] if p["class"] in kinds
                         and p["exit"] == code and (got == code or got in others)), None)
        problem = self.until(told, f"status to tell {kinds}")
        text = self.scene.doppel.run("status", check=False).stdout
        assert text.startswith("not well: "), text
        if self.keeper and words:
            self.until(lambda: self.lines("warning: ", words), f"the keeper to say {words!r}")
        return problem

    def stays_ill(self, kinds, seconds):
        """Whoever looks within so long is told one of these problems."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            said = self.scene.doppel.status()["problems"]
            assert [p for p in said if p["class"] in kinds], said
            time.sleep(0.1)

    def recovers(self, kinds):
        """These problems are over within ten seconds, and soon all is well."""
        def over():
            said = self.scene.doppel.status()
            return not [p for p in said["problems"] if p["class"] in kinds]
        self.until(over, f"{kinds} to be over")
        self.well()

    def lines(self, begin, words):
        return [line for line in self.keeper.said().splitlines() if line.startswith(begin) and words in line]

    def logged(self, words):
        """With a keeper: one line when it came, and one when it is over."""
        if not self.keeper:
            return
        self.until(lambda: self.lines("no longer: ", words), f"the keeper to say that {words!r} is over")
        assert [len(self.lines(begin, words)) for begin in ("warning: ", "no longer: ")] == [1, 1], self.keeper.said()

    def state(self):
        return self.scene.doppel.status()["targets"][0]

    def is_refused(self, client):
        """The target is killed, and the client asks until that is known."""
        self.scene.target[0].kill()
        turns = iter(range(1000))

        def known():
            say(client, b"refused%d" % next(turns))
            return self.state()["state"] == "refusing"
        self.until(known, "the target to refuse")
        return self.falls_ill({"refusing"}, TARGET, words="refuses connections")

    def resets(self):
        """Those that left the source for the target since the last call."""
        return self.scene.watch.report().get("rst-to-target", ())

    def client(self):
        """A connection whose first request is on the target."""
        client = connect(self.scene)
        say(client, b"one")
        self.scene.doppel.wait_idle()
        return client

    def told(self):
        return {problem["class"] for problem in self.scene.doppel.status()["problems"]}

    def is_cut(self, client, others=(), words=None):
        """Nothing gets to the target any more, and that is told. What undoes it."""
        cut = self.scene.lab.lose("source", "target", 1000, "tcp dport 11211")
        say(client, b"cut")
        self.falls_ill({"silent"}, TARGET, others=others, words=words)
        return cut
