# SPDX-License-Identifier: Apache-2.0
"""`doppel ready SOURCE TARGET` beside two real memcacheds."""

import json
import time

from lab import wait
from lab.ready import Ready

from place import placed

WORDS = ("127.0.0.1:11211", "127.0.0.1:11212")
ALONE = ("--without-mirror",)


class Window(Ready):
    """Of both servers, without a mirror."""

    def __init__(self, place, *arguments, window=2):
        super().__init__(place.host, *WORDS, *ALONE, *arguments, window=window)

    def end(self, code):
        return super().end((code,))[1]


def read(said):
    """{name: criterion} of one pair."""
    return {c["name"]: c for c in said["criteria"]}


def bad(criteria):
    return {name for name, c in criteria.items() if not c["ok"]}


@placed
def an_empty_target_is_not_ready(place):
    place.pair()
    place.fill(11211, 500)
    window = Window(place)
    place.get(11211, 500)
    place.get(11212, 500)
    criteria = window.end(3)
    assert bad(criteria) == {"warmth", "coverage"}, criteria
    assert criteria["warmth"]["value"] == 0 and criteria["coverage"]["value"] == 0, criteria
    assert criteria["warmth"]["reason"] == "the source hit 500 of 500 gets, the target 0 of 500", criteria


@placed
def an_equal_target_is_ready(place):
    place.pair()
    for port in (11211, 11212):
        place.fill(port, 500)
    window = Window(place, "--sample", "450")
    for port in (11211, 11212):
        place.get(port, 1000)
    criteria = window.end(0)
    assert criteria["warmth"]["value"] == 1, criteria
    assert 0.99 < criteria["coverage"]["value"] < 1, "some were not looked at"
    assert "450 of 450 keys are equal" in criteria["coverage"]["reason"], criteria
    assert criteria["warmth"]["reason"] == "the source hit 500 of 1,000 gets, the target 500 of 1,000", \
        "doppel's own reads are in no window"


@placed
def a_target_of_few_keys_is_ready(place):
    """Where all keys were looked at there is nothing left to chance, however few they are."""
    place.pair()
    for port in (11211, 11212):
        place.fill(port, 100)
    window = Window(place)
    for port in (11211, 11212):
        place.get(port, 100)
    criteria = window.end(0)
    assert criteria["coverage"]["value"] == 1, criteria


@placed
def half_of_the_keys(place):
    """The lower bound of the interval, not the share of the sample; and a limit of the user's."""
    place.pair()
    place.fill(11211, 400)
    place.fill(11212, 200)
    arguments = (*ALONE, "--sample", "200", "--limit", "warmth=50%", "--limit", "coverage=0.3")
    window = Window(place, *arguments)
    for port in (11211, 11212):
        place.get(port, 400)
    criteria = window.end(0)
    assert criteria["warmth"]["value"] == 0.5 and criteria["warmth"]["limit"] == 0.5, criteria
    equal = int(criteria["coverage"]["reason"].split()[0])
    assert 0.03 < equal / 200 - criteria["coverage"]["value"] < 0.06, criteria


@placed
def clients_that_touch_what_they_read(place):
    """memcached counts their hits among the touches, and the misses of `mg` among the gets."""
    place.pair()
    place.fill(11211, 400)
    place.fill(11212, 200)
    window = Window(place)
    for port in (11211, 11212):
        place.talk(port, b"".join(b"mg key%d T5000\r\n" % i for i in range(400)), 400)
    criteria = window.end(3)
    assert criteria["warmth"]["reason"] == "the source hit 400 of 400 gets, the target 200 of 400", criteria
    assert criteria["warmth"]["value"] == 0.5, criteria


@placed
def a_window_without_gets_is_told(place):
    place.pair()
    criteria = read(place.json("ready", *WORDS, *ALONE, "--window", "0.2", code=3))
    assert criteria["warmth"]["value"] is None and criteria["warmth"]["reason"] == "no gets in the window", criteria
    assert criteria["coverage"]["value"] is None and "no keys" in criteria["coverage"]["reason"], criteria


@placed
def a_target_that_evicts(place):
    servers = place.pair("-I", "1m", "-m", "8")
    window = Window(place, window=4)
    place.fill(11212, 300, size=100_000)
    criteria = window.end(3)
    evicted = servers[1].stats()["evictions"]
    assert evicted > 0 and criteria["target_evictions"]["value"] == evicted, criteria
    assert "target_evictions" in bad(criteria), criteria


@placed
def a_server_that_is_started_anew(place):
    """What happened meanwhile is not known."""
    servers = place.pair()
    window = Window(place, window=4)
    servers[1].kill()
    place.server(11212)
    criteria = window.end(3)
    assert "started anew" in criteria["warmth"]["reason"] and criteria["warmth"]["value"] is None, criteria
    assert not criteria["target_evictions"]["ok"], criteria


@placed
def others_that_ask_the_target(place):
    """Their hits tell nothing of the source's clients."""
    place.pair()
    for port in (11211, 11212):
        place.fill(port, 500)
    place.talk(11212, b"".join(b"delete key%d\r\n" % i for i in range(250)), 250)
    window = Window(place)
    for port in (11211, 11212):
        place.get(port, 500)
    place.talk(11212, b"gets key400\r\n" * 5000, 15_000)
    criteria = window.end(3)
    assert criteria["warmth"]["value"] is None and "others ask the target" in criteria["warmth"]["reason"], criteria


@placed
def statistics_that_are_reset_and_grow_again(place):
    """What is seen at the end is more than at the begin, of each counter."""
    servers = place.pair()
    place.fill(11211, 500)
    servers[1].stats()
    place.talk(11212, b"stats reset\r\n", 1)
    window = Window(place, window=6)
    place.fill(11212, 500)
    time.sleep(wait.patience(2))
    place.talk(11212, b"stats reset\r\n", 1)
    time.sleep(wait.patience(2))  # doppel looks once a second
    for _ in range(20):
        servers[1].stats()
    place.fill(11212, 1000)
    for port in (11211, 11212):
        place.get(port, 500)
    criteria = window.end(3)
    assert "statistics were reset" in criteria["target_evictions"]["reason"], criteria


@placed
def without_a_mirror_its_criteria_are_not_met(place):
    place.pair()
    criteria = read(place.json("ready", *WORDS, "--window", "0.2", code=3))
    for name in ("mirror_problems", "lost_bytes", "delivered_share", "lag_ms"):
        assert not criteria[name]["ok"] and criteria[name]["reason"] == "not seen: nothing is attached", criteria
        assert "--without-mirror" in criteria[name]["do"], criteria


@placed
def watch_ends_when_it_is_ready(place):
    """Window after window; the estimate is made of three, and goes when it is ready."""
    place.pair()
    place.fill(11211, 1000)
    window = Window(place, "--watch", "--limit", "coverage=0", window=1.5)
    estimates, said = [], None
    for share in (200, 400, 600, 800, 1000, 1000):
        place.fill(11212, share)
        for port in (11211, 11212):
            place.get(port, 1000)
        said = window.next()
        estimates.append(said["ready_in_s"])
        if said["ready"]:
            break
    assert estimates[:2] == [None, None], estimates
    assert any(e is not None and 0 <= e < 60 for e in estimates[2:-1]), estimates
    assert said["ready"] and estimates[-1] is None, said
    assert window.next() is None and window.child.wait(wait.patience(10)) == 0


@placed
def servers_that_are_none(place):
    """Told in the time that was given; what is known of the other one is told as well."""
    place.server(11211)
    for says in (None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        begin = time.monotonic()
        if says is None:
            criteria = read(place.json("ready", *WORDS, *ALONE, "--window", "0.2", "--timeout", "1", code=3))
        else:
            with place.imposter(11212, says):
                criteria = read(place.json("ready", *WORDS, *ALONE, "--window", "0.2", "--timeout", "1", code=3))
        assert time.monotonic() - begin < wait.patience(15), criteria
        assert "127.0.0.1:11212" in criteria["warmth"]["reason"], criteria


@placed
def words_that_are_wrong(place):
    for arguments, errors in ((("127.0.0.1",), 1), ((*WORDS, "--mapping", "data"), 1),
                              ((*WORDS, "--limit", "warmth"), 1),
                              ((*WORDS, "--limit", "warmth=2", "--limit", "x=1", "--auth-file", "/none"), 3)):
        done = place.doppel.run("ready", *arguments, check=False)
        assert done.returncode == 2 or "/none" in done.stderr, (arguments, done)
        assert done.stderr.count("error: ") == errors, (arguments, done.stderr)
    done = place.doppel.run("ready", check=False)
    assert done.returncode == 1 and "nothing is attached" in done.stderr, done
