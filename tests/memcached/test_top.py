# SPDX-License-Identifier: Apache-2.0
"""`doppel top` beside real memcacheds: exact figures, a screen, servers that are away."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import termios

from lab import doppel, wait
from lab.screen import Screen

from place import placed

SERVERS = "127.0.0.1:11211,127.0.0.1:11212"
BUSY_S = 0.02
# It goes before all others of its processor as soon as it is asked, and is busy with `mn`.
EAGER = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
print("ready", flush=True)
while True:
    c, _ = s.accept()
    for line in c.makefile("rb"):
        until = time.monotonic() + float(sys.argv[2]) * (line == b"mn\\r\\n")
        while time.monotonic() < until:
            pass
        c.sendall({b"mn": b"MN", b"stats": b"STAT pid 1\\r\\nEND"}.get(line.strip(), b"VERSION 1.6.18") + b"\\r\\n")
"""


class Stream:
    """`doppel top --json`, document by document."""

    def __init__(self, place, *arguments):
        self.child = place.host.popen([doppel.binary(), "top", "--json", *arguments],
                                      stdout=subprocess.PIPE, text=True)

    def next(self):
        ready, _, _ = select.select([self.child.stdout], [], [], wait.patience(20))
        assert ready, "no document"
        return json.loads(self.child.stdout.readline())

    def end(self):
        """It ends by SIGTERM, in order."""
        self.child.terminate()
        self.child.stdout.read()
        assert self.child.wait(wait.patience(10)) == 0


@placed
def once_counts_exactly_what_was_done_between(place):
    with tempfile.NamedTemporaryFile("w+", prefix="doppel-log-") as log:
        place.server(11211, log=log)
        place.server(11212)
        place.fill(11211, 10)
        child = place.host.popen([doppel.binary(), "top", "--once", "--json", "--interval", "3", "--servers", SERVERS],
                                 stdout=subprocess.PIPE, text=True)
        wait.until(lambda: " mn\n" in open(log.name, encoding="utf-8").read(), "the first look to be over")
        place.fill(11211, 40, first=10)
        assert place.get(11211, 70) == 50
        said = json.loads(child.communicate(timeout=wait.patience(20))[0])
    assert child.returncode == 0
    first, second = said["servers"]
    figures = {name: first[name] for name in ("sets", "gets", "hits", "misses", "items", "evictions")}
    assert figures == {"sets": 40, "gets": 70, "hits": 50, "misses": 20, "items": 50, "evictions": 0}, first
    assert abs(first["gets_s"] * said["interval_s"] - 70) < 7, "the rate is of the same time"
    assert first["hit_ratio"] == 50 / 70 and second["gets"] == 0 and second["hit_ratio"] is None, said
    assert first["answer_us"] > 0, first
    total, average = said["total"]["other"], said["average"]["other"]
    assert total["gets"] == 70 and average["gets"] == 35 and total["items"] == 50, said


@placed
def who_is_slower_than_the_server_times_all_of_its_answer(place):
    """They share a processor, on which doppel goes on when the answer is there."""
    with tempfile.TemporaryDirectory(prefix="doppel-top-") as directory:
        path = os.path.join(directory, "eager.sock")
        shared = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
        server = place.host.popen([*shared, sys.executable, "-c", EAGER, path, str(BUSY_S)],
                                  stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout.readline() == "ready\n"
            said = json.loads(place.host.run([*shared, doppel.binary(), "top", "--once", "--json", "--interval", "0.5",
                                              "--servers", path]).stdout)
        finally:
            server.kill()
            server.wait(wait.patience(10))
    assert said["servers"][0]["answer_us"] >= BUSY_S * 1e6, said


@placed
def documents_add_up(place):
    """Nothing between two looks is counted twice or left out."""
    place.server(11211)
    stream = Stream(place, "--interval", "0.2", "--servers", "127.0.0.1")
    stream.next()
    for n in range(5):
        place.fill(11211, 20, first=20 * n)
    sets = 0
    while sets < 100:
        sets += stream.next()["servers"][0]["sets"]
    assert sets == 100, sets
    stream.end()


@placed
def lines_where_there_is_no_terminal(place):
    place.server(11211)
    done = place.doppel.run("top", "--once", "--interval", "0.1", "--servers", "127.0.0.1,127.0.0.1:9")
    assert "INSTANCE" in done.stdout and "Connection refused" in done.stdout, done.stdout
    assert "\x1b" not in done.stdout, "no sequence of a terminal"


@placed
def a_server_goes_and_comes_back(place):
    place.server(11211)
    gone = place.server(11212)
    stream = Stream(place, "--interval", "0.2", "--servers", SERVERS)

    def second():
        return stream.next()["servers"][1]
    assert second()["up"]
    gone.kill()
    away = wait.until(lambda: next((s for s in [second()] if not s["up"]), None), "the server to be away")
    assert away["why"] and away["items"] is None, away
    place.server(11212)
    wait.until(lambda: second()["up"], "the server to be back")
    stream.end()


@placed
def a_silent_server_holds_nobody_up(place):
    place.server(11211)
    with place.imposter(11212):
        stream = Stream(place, "--interval", "0.2", "--timeout", "30", "--servers", SERVERS)
        for _ in range(3):
            first, second = stream.next()["servers"]
            assert first["up"] and first["items"] == 0, first
            assert not second["up"] and second["why"] == "has not answered yet", second
        stream.end()


@placed
def words_that_are_wrong(place):
    for arguments in (("--servers", "127.0.0.1:0"), ("--servers", "a,,b"), ("--interval", "0")):
        done = place.doppel.run("top", "--once", *arguments, check=False)
        assert done.returncode == 2 and done.stderr.startswith("error: "), (arguments, done)
    done = place.doppel.run("top", "--once", check=False)
    assert done.returncode == 1 and "nothing is attached" in done.stderr and "--servers" in done.stderr, done


@placed
def screen_and_its_keys(place):
    place.pair()
    screen = Screen(place.host, "--interval", "0.2", "--servers", SERVERS)
    screen.shows("INSTANCE")
    screen.shows("127.0.0.1:11212")
    assert "\x1b[?1049h" in screen.shown
    assert termios.tcgetattr(screen.slave) != screen.before, "keys come one by one"
    screen.press("h")
    screen.shows("this page, and back")
    screen.press("h")
    screen.shows("INSTANCE")
    screen.press("k")
    screen.shows("nothing is attached")
    screen.press("k")
    screen.shows("INSTANCE")
    screen.press(" ")
    screen.shows("paused")
    screen.press(" ")
    screen.press("m")
    screen.press("m")
    screen.shows("INSTANCE")
    screen.press("q")
    screen.assert_ended()


@placed
def screen_of_another_size(place):
    place.pair()
    screen = Screen(place.host, "--interval", "0.2", "--servers", SERVERS)
    screen.shows("LIMIT")
    screen.press("")
    screen.size(10, 40)
    screen.child.send_signal(signal.SIGWINCH)
    screen.shows("INSTANCE")
    assert "LIMIT" not in screen.shown, "cut, not wrapped"
    screen.press("")
    screen.size(2, 5)
    screen.child.send_signal(signal.SIGWINCH)
    screen.shows("doppe")
    screen.press("")
    screen.size(40, 160)
    screen.child.send_signal(signal.SIGWINCH)
    screen.shows("LIMIT")
    screen.press("q")
    screen.assert_ended()


@placed
def screen_ends_by_signals(place):
    place.server(11211)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        screen = Screen(place.host, "--interval", "0.2", "--servers", "127.0.0.1")
        screen.shows("INSTANCE")
        screen.press("")
        screen.child.send_signal(number)
        screen.assert_ended()


@placed
def screen_quits_beside_a_silent_server(place):
    with place.imposter(11211):
        screen = Screen(place.host, "--interval", "0.2", "--servers", "127.0.0.1", "--timeout", "60")
        screen.shows("has not answered yet")
        screen.press("q")
        screen.assert_ended()


@placed
def terminal_that_is_not_known(place):
    place.server(11211)
    screen = Screen(place.host, "--interval", "0.2", "--servers", "127.0.0.1", term="no-such-terminal")
    wait.until(lambda: screen.read() or screen.child.poll() is not None, "top to end")
    screen.read()
    assert screen.child.returncode == 1 and "$TERM" in screen.shown, screen.shown
    assert termios.tcgetattr(screen.slave) == screen.before
