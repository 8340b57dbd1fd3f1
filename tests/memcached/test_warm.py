# SPDX-License-Identifier: Apache-2.0
"""`doppel warm` copies what a target lacks, takes back what did not hold, and ends the same however often it dies.
(Beside a mirror: tests/net/test_warm.py.)"""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time

from lab import doppel, wait

from fakes import WIDE, Fake, with_wide_flags
from harness import case
from servers import die_with_parent, store

KEYS = 20_000
SETTLE = ("--settle", "0.3")
PATIENT = ("--timeout", str(wait.patience(30)))  # s: a list of keys waits for a thread of the server
LONG = 60 * 60 * 24 * 40  # s: more than memcached takes for a time to live


def start(env, *arguments, tmpdir=None, patient=PATIENT):
    words = [a if isinstance(a, str) else a.where for a in arguments]
    return subprocess.Popen([doppel.binary(), "warm", *patient, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, preexec_fn=die_with_parent, env={**os.environ, "TMPDIR": tmpdir or env.spool})


def warm(env, *arguments, code=0):
    result = env.run("warm", "--json", *PATIENT, *arguments)
    assert result.code == code, result
    return result.json()


def assert_equal(env, source, target):
    result = env.run("verify", *PATIENT, "--all", "--json", "--settle", "0.2", source, target)
    assert result.code == 0, result


def items(server):
    return int(server.stats()["curr_items"])


@case()
def a_hundred_thousand_keys(env):
    source, target = env.pair()
    source.fill(100_000)
    found = warm(env, source, target)
    assert found["keys"] == found["added"] == 100_000, found
    assert not found["undone"] + found["present"] + found["failed"] + found["gone"], found
    assert_equal(env, source, target)


@case()
def keeps_flags_and_times_to_live(env):
    """Also one that is so long that memcached takes the number for a time of its clock."""
    source, target = env.pair()
    now = int(source.stats()["time"])
    source.tell(store(b"plain", b"v", flags=2 ** 32 - 1) + store(b"hour", b"v", ttl=3600) +
                store(b"long", b"v", ttl=now + LONG) + store(b"soon", b"v", ttl=1) +
                store(b"key with blanks", b"\r\n\0") + store(b"empty", b""))
    found = warm(env, *SETTLE, source, target)
    assert found["added"] == 5 and found["gone"] == 1, found
    keys = (b"plain", b"hour", b"long", b"empty", b"a2V5IHdpdGggYmxhbmtz b")
    request = b"".join(b"mg %s f t s\r\n" % key for key in keys)
    here, there = source.tell(request), target.tell(request)
    for a, b in zip(here, there):
        (fa, ta, sa), (fb, tb, sb) = a.split()[1:], b.split()[1:]
        assert (fa, sa) == (fb, sb), (a, b)
        assert abs(int(ta[1:]) - int(tb[1:])) <= 2 and (ta == b"t-1") == (tb == b"t-1"), (a, b)
    assert target.tell(b"mg soon v\r\n") == [b"EN"]


@case()
def leaves_what_is_there(env):
    """Without --repair; with it, it is as the source has it. What the target alone has stays, without --delete-extra."""
    source, target = env.pair()
    source.fill(1000)
    target.tell(store(b"key:1", b"other") + store(b"key:2", b"v2", flags=9, ttl=5000) + store(b"only", b"x"))
    found = warm(env, *SETTLE, source, target)
    assert found["added"] == 998 and found["present"] == 2, found
    assert target.tell(b"mg key:1 v\r\n") == [b"VA 5", b"other"]
    found = warm(env, *SETTLE, "--repair", source, target)
    assert found["repaired"] == 2 and found["present"] == 998 and not found["deleted"], found
    assert target.tell(b"mg only v\r\n") == [b"VA 1", b"x"]
    found = warm(env, *SETTLE, "--delete-extra", source, target)
    assert found["deleted"] == 1, found
    assert_equal(env, source, target)


@case()
def a_dry_run_writes_nothing(env):
    source, target = env.pair()
    source.fill(1000)
    target.tell(store(b"key:1", b"other"))
    found = warm(env, "--dry-run", "--delete-extra", source, target)
    assert found["added"] == 999 and found["present"] == 1, found
    assert items(target) == 1 and int(target.stats()["cmd_set"]) == 1


@case()
def only_what_begins_with_the_prefix(env):
    source, target = env.pair()
    source.fill(100)
    source.fill(50, key=b"user:%d")
    found = warm(env, *SETTLE, "--prefix", "user:", source, target)
    assert found["keys"] == found["added"] == 50 and items(target) == 50, found


@case()
def the_hottest_come_first(env):
    """Those that were read since they were stored."""
    source, target = env.pair()
    source.fill(KEYS)
    source.tell(b"".join(b"mg key:%d\r\n" % n for n in range(0, KEYS, 4)))
    process = start(env, *SETTLE, "--rate", "2000", source, target)
    wait.until(lambda: items(target) >= 500, "the first copies")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = target.dump()
    assert len(there) < KEYS // 4, len(there)
    assert all(int(key[4:]) % 4 == 0 for key in there), "others came before them"


@case()
def no_faster_than_it_was_told(env):
    source, target = env.pair()
    source.fill(400)
    result = env.run("warm", "--json", *PATIENT, *SETTLE, "--rate", "200", source, target)
    assert result.code == 0 and result.json()["seconds"] > 1.5, result


class Writer(threading.Thread):
    """Deletes and sets at the source alone, as if a mirror delivered none of it."""

    def __init__(self, server, keys):
        super().__init__(daemon=True)
        self.server, self.keys, self.done = server, keys, threading.Event()
        self.deleted = set()

    def run(self):
        with self.server.talk() as talk:
            for n in range(self.keys):
                if self.done.is_set():
                    return
                talk.tell(b"md key:%d\r\n" % n if n % 2 else store(b"key:%d" % n, b"new"))
                if n % 2:
                    self.deleted.add(b"key:%d" % n)


@case()
def what_is_deleted_meanwhile_does_not_come_back(env):
    """No mirror is there, so what was deleted before its copy was confirmed shows whether warm took it back."""
    source, target = env.pair()
    source.fill(KEYS)
    process = start(env, "--json", "--settle", "1", "--rate", "10000", source, target)
    wait.until(lambda: items(target) > 0, "the first copies")
    writer = Writer(source, 2000)
    begin = time.monotonic()
    writer.start()
    writer.join()
    took = time.monotonic() - begin
    out, err = process.communicate(timeout=wait.patience(60))
    assert process.returncode in (0, 3), (out, err)
    if took > 0.8:  # some were written to after their confirmation, on a busy machine: nothing is to be said of them
        return
    there = target.dump()
    assert not writer.deleted & there.keys(), f"{len(writer.deleted & there.keys())} of {len(writer.deleted)} came back"
    assert_equal(env, source, target)


@case(moment=("listing", "first", "early", "middle", "late"))
def a_killed_one_is_taken_up(env, moment):
    """By kill -9; what it had begun may have changed meanwhile."""
    source, target = env.pair()
    source.fill(KEYS)
    resume = env.path("resume")
    arguments = ("--json", *SETTLE, "--rate", "15000", "--resume", resume, source, target)
    process = start(env, *arguments)
    least = {"listing": 0, "first": 1, "early": KEYS // 10, "middle": KEYS // 2, "late": KEYS - 1}[moment]
    wait.until(lambda: os.path.exists(resume) and items(target) >= least, "it to get there", interval=0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    begun = items(target)
    source.tell(b"".join(b"md key:%d\r\n" % n for n in range(0, KEYS, 7)))
    target.tell(b"".join(b"md key:%d\r\n" % n for n in range(0, KEYS, 14)))  # of these deletes every other arrived
    if begun:
        other = env.run("warm", "--json", "--resume", resume, source, env.memcached())
        assert other.code == 2 and "other servers" in other.stderr, other
    found = warm(env, *arguments)
    assert found["keys"] in (KEYS, KEYS - len(range(0, KEYS, 7))), found
    assert not os.path.exists(resume), "it is done, and its file is still there"
    left = [key for key in target.dump() if int(key[4:]) % 7 == 0]
    if moment != "late":  # those that were confirmed before the delete are the mirror's to delete
        assert len(left) <= begun, (len(left), begun)
    target.tell(b"".join(b"md %s\r\n" % key for key in left))
    assert_equal(env, source, target)


@case()
def a_small_target_is_told(env):
    source, target = env.memcached(), env.memcached("-m", "8")
    source.fill(60_000, value=b"%0500d")
    result = env.run("warm", "--json", *PATIENT, *SETTLE, "--rate", "40000", source, target)
    assert result.code == 3, result
    found = result.json()
    assert found["evicting"] and found["evicted"] and found["added"] < 60_000, found
    assert "bytes of memory" in result.stderr, result
    text = env.run("warm", *PATIENT, *SETTLE, source, target)
    assert text.code == 3 and "evicts" in text.stdout, text


@case()
def a_target_that_drops_pages_of_flash_is_told(env):
    """memcached counts what went with a page of extstore in none of its `evictions`."""
    source = env.memcached()
    target = env.memcached("-m", "24", "-o", f"ext_page_size=2,ext_wbuf_size=2,ext_path={env.path('flash')}:16m,"
                           "ext_item_age=0,slab_automove_freeratio=0.3")
    source.fill(6000, value=b"%05000d")
    result = env.run("warm", "--json", *PATIENT, *SETTLE, "--rate", "2000", source, target)
    assert result.code == 3, (result, target.stats())
    assert result.json()["evicting"] and result.json()["evicted"], (result, target.stats())
    assert "bytes of memory" not in result.stderr, result  # with its flash it is large enough


@case()
def what_is_too_large_is_counted(env):
    """And does not cost the target what it has: a store that fails removes the item."""
    source, target = env.memcached("-I", "4m"), env.memcached("-I", "1m")
    source.fill(10)
    source.tell(store(b"large", b"x" * 2_000_000))
    target.tell(store(b"large", b"small"))
    result = env.run("warm", "--json", *PATIENT, *SETTLE, source, target)
    assert result.code == 3 and "-I" in result.stderr, result
    assert result.json()["too_large"] == 1 and result.json()["added"] == 10, result
    assert target.tell(b"mg large v\r\n") == [b"VA 5", b"small"]


@case()
def client_flags_of_64_bits(env):
    """They are told, compared and copied as they are, and not cut to what an older target keeps."""
    real, narrow, other = env.memcached(), env.memcached(), env.memcached()
    real.fill(10)
    real.tell(store(b"wide", b"v", flags=7))
    source = env.own(Fake(env, with_wide_flags(real)))
    shown = env.run("keys", "--values", "--json", "--prefix", "wide", source)
    assert [line["flags"] for line in shown.lines()] == [WIDE], shown
    result = env.run("warm", "--json", *PATIENT, *SETTLE, source, narrow)
    assert result.code == 3 and "--enable-large-client-flags" in result.stderr, result
    assert result.json()["wide_flags"] == 1 and result.json()["added"] == 10, result
    assert narrow.tell(b"mg wide\r\n") == [b"EN"]
    narrow.tell(store(b"wide", b"v", flags=7))
    result = env.run("verify", "--all", "--json", "--settle", "0.1", source, narrow)
    assert result.code == 3 and result.json()["flags"] == 1, result
    result = env.run("warm", "--json", "--repair", *PATIENT, *SETTLE, source, narrow)
    assert result.code == 3 and result.json()["wide_flags"] == 1, result
    target = env.own(Fake(env, with_wide_flags(other)))
    assert warm(env, *SETTLE, source, target)["added"] == 11
    assert_equal(env, source, target)
    assert other.tell(b"mg wide f\r\n") == [b"HD f7"], "its upper half was sent"


def peak_of(process):
    """The most memory that it had resident until it ended, in MiB."""
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(OSError), open(f"/proc/{process.pid}/status", encoding="ascii") as status:
            peak = max([peak, *(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))])
        time.sleep(0.01)
    return peak


@case()
def values_that_grow_after_they_were_listed(env):
    """They take no more memory than others: what was read counts, not what the list has."""
    source, target = env.pair()
    source.fill(1500)
    resume = env.path("resume")
    process = start(env, *SETTLE, "--resume", resume, "--rate", "10", source, target)
    wait.until(lambda: items(target) > 0, "the first copies")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=wait.patience(30))
    with source.talk() as talk:
        for i in range(0, 1500, 100):
            talk.tell(b"".join(store(b"key:%d" % n, b"%0100000d" % n) for n in range(i, i + 100)))
    process = start(env, *SETTLE, "--resume", resume, "--json", source, target)
    peak = peak_of(process)
    out, err = process.communicate(timeout=wait.patience(30))
    assert process.returncode == 0, (out, err)
    assert 0 < peak < 64, f"{peak} MiB"
    assert items(target) == 1500


@case()
def values_of_a_megabyte(env):
    source, target = env.pair()
    with source.talk() as talk:
        for i in range(100):
            talk.tell(store(b"key:%d" % i, b"%0*d" % (1_048_000, i)))
    process = start(env, *SETTLE, "--json", source, target)
    peak = peak_of(process)
    out, err = process.communicate(timeout=wait.patience(30))
    assert process.returncode == 0, (out, err)
    assert 0 < peak < 64, f"{peak} MiB"
    assert_equal(env, source, target)


@case()
def two_at_once(env):
    """The second is told who is at it."""
    source, target = env.pair()
    source.fill(KEYS)
    process = start(env, *SETTLE, "--rate", "5000", source, target)
    wait.until(lambda: items(target) > 0, "the first copies")
    second = env.run("warm", source, target, tmpdir=env.directory)
    assert second.code == 1 and f"process {process.pid}" in second.stderr, second
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=wait.patience(30))


@case(name=("SIGTERM", "SIGHUP"))
def a_signal_ends_it_in_order(env, name):
    source, target = env.pair()
    source.fill(KEYS)
    process = start(env, "--json", *SETTLE, "--rate", "5000", source, target)
    wait.until(lambda: items(target) > 1000, "some copies")
    process.send_signal(signal.Signals[name])
    out, err = process.communicate(timeout=wait.patience(30))
    assert process.returncode == 3 and '"interrupted": true' in out, (out, err)
    assert f'"added": {items(target)}' in out, (items(target), out)


@case(side=("source", "target"))
def a_server_that_dies_is_told(env, side):
    source, target = env.pair()
    source.fill(KEYS)
    process = start(env, *SETTLE, "--rate", "5000", source, target)
    wait.until(lambda: items(target) > 1000, "some copies")
    died = {"source": source, "target": target}[side]
    died.process.kill()
    _, err = process.communicate(timeout=wait.patience(30))
    assert process.returncode == 1 and died.where in err, err
    if side == "source":
        assert "deleted again" in err, err


@case(side=("source", "target"), resume=("", "--resume"))
def a_server_that_is_started_anew_meanwhile_is_told_as_that(env, side, resume):
    source, target = env.pair()
    source.fill(KEYS)
    kept = (resume, env.path("resume")) if resume else ()
    process = start(env, "--settle", "1", "--rate", "5000", *kept, source, target)
    wait.until(lambda: items(target) > 1000, "some copies")
    written = list(target.dump())
    target.tell(b"".join(store(key, b"by-client") for key in written))
    anew = {"source": source, "target": target}[side]
    anew.restart()
    _, err = process.communicate(timeout=wait.patience(30))
    assert process.returncode == 1 and f"error: {anew.where}: was started anew meanwhile" in err, err
    assert ("copies that were not confirmed" in err) == (side == "source"), err
    if side == "source":  # it has none of them now, which is no reason to delete what others wrote
        there = target.tell(b"".join(b"mg %s v\r\n" % key for key in written))
        assert there == [b"VA 9", b"by-client"] * len(written), there[:9]
    assert "the same command goes on" not in err and (f"remove {env.path('resume')}" in err) == bool(resume), err


@case(side=("source", "target"))
def without_cas_only_if_told_so(env, side):
    pair = {"source": (env.memcached("-C"), env.memcached()), "target": (env.memcached(), env.memcached("-C"))}[side]
    pair[0].fill(1000)
    refused = env.run("warm", *PATIENT, *SETTLE, *pair)
    assert refused.code == 1 and "without CAS" in refused.stderr and items(pair[1]) == 0, refused
    result = env.run("warm", "--json", *PATIENT, "--without-cas", *SETTLE, *pair)
    assert result.code == 0 and result.json()["added"] == 1000 and "without CAS" in result.stderr, result


@case()
def stale_items_are_left(env):
    """The first that a read takes the token of ends it; the token of the others is their application's."""
    source, target = env.pair()
    source.fill(3000)
    source.tell(b"".join(b"md key:%d I T30\r\n" % n for n in range(3000)))
    result = env.run("warm", "--json", *PATIENT, *SETTLE, source, target)
    assert result.code == 3 and "stale" in result.json()["stopped"] and items(target) == 0, result
    found = warm(env, *SETTLE, "--stale-ok", source, target)
    assert found["stale"] == 3000 and items(target) == 0, found


@case()
def two_names_of_one_server(env):
    """What would be deleted at the target is gone from the source."""
    server = env.memcached(address="127.0.0.1")
    server.fill(100)
    other = server.where.replace("127.0.0.1", "localhost")
    for command in (("warm", "--delete-extra"), ("verify", "--all")):
        result = env.run(*command, *PATIENT, server, other)
        assert result.code == 2 and "two names of one server" in result.stderr, result
    assert items(server) == 100


@case()
def an_empty_source(env):
    source, target = env.pair()
    target.fill(10)
    assert warm(env, *SETTLE, source, target)["keys"] == 0
    assert warm(env, *SETTLE, "--delete-extra", source, target)["deleted"] == 10
    assert warm(env, *SETTLE, "--delete-extra", source, target)["deleted"] == 0


@case()
def what_comes_back_while_it_is_deleted(env):
    """The key is at the source again when the target's is gone: it is copied. An `add` that a mirror brings late then finds
    the key absent, and stores what the source never had: it is replaced."""
    source, target = env.pair()
    for server in (source, target):
        server.fill(10)
    target.tell(store(b"back", b"old") + store(b"worse", b"old") + store(b"gone", b"old"))
    warming = start(env, "--settle", "1", "--delete-extra", "--json", source, target)
    wait.until(lambda: items(target) == 10, "the three to be deleted")
    source.tell(store(b"back", b"new") + store(b"worse", b"new"))
    target.tell(store(b"worse", b"never"))
    out, err = warming.communicate(timeout=wait.patience(60))
    assert warming.returncode == 0, err
    found = json.loads(out)
    assert found["deleted"] == 3 and found["added"] == found["repaired"] == 1, found
    assert_equal(env, source, target)


@case()
def interrupted_while_it_deletes(env):
    """What is deleted is looked at before it ends."""
    source, target = env.pair()
    target.tell(store(b"back", b"old"))
    warming = start(env, "--settle", "1", "--delete-extra", "--json", source, target)
    wait.until(lambda: items(target) == 0, "it to be deleted")
    warming.send_signal(signal.SIGINT)
    source.tell(store(b"back", b"new"))
    out, err = warming.communicate(timeout=wait.patience(60))
    found = json.loads(out)
    assert found["deleted"] == found["added"] == 1 and found["interrupted"], (found, err)
    assert_equal(env, source, target)


@case()
def a_source_that_lost_what_it_had(env):
    source, target = env.pair()
    source.fill(100)
    target.fill(KEYS)
    result = env.run("warm", *PATIENT, *SETTLE, "--delete-extra", source, target)
    assert result.code == 1 and "would delete most" in result.stderr and items(target) == KEYS, result


@case()
def a_source_that_lost_a_part_of_what_it_had(env):
    """It has more than the target, but hardly one of those that --prefix chooses."""
    source, target = env.pair()
    source.fill(KEYS)
    source.fill(10, key=b"session:%d")
    target.fill(3000, key=b"session:%d")
    chosen = ("--delete-extra", "--prefix", "session:", source, target)
    for more in ((), ("--dry-run",)):
        result = env.run("warm", *PATIENT, *SETTLE, *more, *chosen)
        assert result.code == 1 and "would delete most" in result.stderr and "session:" in result.stderr, result
        assert items(target) == 3000
    source.fill(2000, key=b"session:%d")
    assert warm(env, *SETTLE, *chosen)["deleted"] == 1000 and items(target) == 2000


@case()
def names_with_blanks_when_it_only_looks(env):
    source, target = env.pair()
    for server in (source, target):
        server.tell(store(b"a b", b"v") + store(b"c\nd", b"v") + store(b"plain", b"v"))
    target.tell(store(b"only this one", b"v"))
    found = warm(env, "--dry-run", source, target)
    assert found["present"] == 3 and found["added"] == 0, found
    assert warm(env, *SETTLE, "--delete-extra", source, target)["deleted"] == 1
    assert_equal(env, source, target)


@case(resume=("", "--resume"))
def names_that_were_stored_by_the_binary_protocol(env, resume):
    """`me` of memcached 1.6.18 repeats them as they are: in several words, or on several lines."""
    source, target = env.pair()
    keys = [b"a b", b"a\nb", b"a\r\nb", b"a=b c", b"exp=5 la=6", b"\0", b"\xff", b"plain"]
    source.store_binary(keys, ttl=1000)
    source.store_binary([b"for ever " + key for key in keys])
    kept = (resume, env.path("resume")) if resume else ()
    found = warm(env, *SETTLE, *kept, source, target)
    assert found["added"] == items(target) == 2 * len(keys), found
    target.tell(store(b"a b", b"other", ttl=1000))
    found = warm(env, *SETTLE, "--repair", source, target)
    assert found["repaired"] == 1 and found["present"] == 2 * len(keys) - 1, found
    assert_equal(env, source, target)


@case()
def extra_names_that_no_line_holds(env):
    """They are left, and told."""
    source, target = env.pair()
    for server in (source, target):
        server.fill(10)
    target.store_binary([b"target %03d " % i + b"y" * 200 for i in range(50)])
    target.tell(store(b"only", b"x"))
    found = warm(env, *SETTLE, "--delete-extra", source, target, code=3)
    assert found["unnamed"] == 50 and found["deleted"] == 1 and items(target) == 60, found
    result = env.run("warm", *PATIENT, *SETTLE, "--delete-extra", source, target)
    assert result.code == 3 and "fit in no line of text" in result.stdout, result
    assert not warm(env, *SETTLE, source, target)["unnamed"], "without --delete-extra nobody asks for them"
    found = warm(env, "--dry-run", target, source, code=3)
    assert found["failed"] == 50 and found["present"] == 10 and not found["gone"], found


@case()
def repair_wants_cas(env):
    source, target = env.memcached(), env.memcached("-C")
    source.fill(10)
    target.fill(10, value=b"w%d")
    result = env.run("warm", *PATIENT, "--repair", "--without-cas", *SETTLE, source, target)
    assert result.code == 1 and "--repair" in result.stderr, result


@case()
def a_file_of_before_a_restart(env):
    """Or one that was left for long: what it had begun to copy may be what clients wrote to the target since."""
    source, target = env.memcached(address="127.0.0.1"), env.memcached()
    source.fill(KEYS)
    resume = env.path("resume")
    arguments = ("warm", *PATIENT, *SETTLE, "--resume", resume, source, target)
    process = start(env, *SETTLE, "--rate", "5000", "--resume", resume, source, target)
    wait.until(lambda: items(target) > 100, "the first copies")
    process.kill()
    process.communicate()
    target.tell(b"".join(store(b"key:%d" % n, b"newer") for n in range(KEYS)))
    os.utime(resume, (1, 1))
    result = env.run(*arguments)
    assert result.code == 1 and "was left" in result.stderr, result
    os.utime(resume)
    source.restart()
    result = env.run(*arguments)
    assert result.code == 1 and "started anew" in result.stderr, result
    assert target.tell(b"mg key:5 v\r\n") == [b"VA 5", b"newer"]


@case(what=("flushed", "evicted"))
def a_target_that_lost_copies_before_it_is_taken_up(env, what):
    """What was copied is not there any more, so that the same command does not end as if it were."""
    source, target = env.memcached(), env.memcached("-m", "2")
    source.fill(KEYS)
    resume = env.path("resume")
    process = start(env, *SETTLE, "--rate", "5000", "--resume", resume, source, target)
    wait.until(lambda: items(target) > 1000, "the first copies")
    process.send_signal(signal.SIGINT)
    assert process.wait(wait.patience(30)) == 3, process.communicate()
    if what == "flushed":
        target.tell(b"flush_all\r\n")
    else:
        target.fill(50_000, key=b"other:%d")
        assert int(target.stats()["evictions"]) > 0
    before = items(target)
    result = env.run("warm", *PATIENT, *SETTLE, "--resume", resume, source, target)
    assert result.code == 1 and what in result.stderr and f"remove {resume}, and warm anew" in result.stderr, result
    assert os.path.exists(resume) and items(target) <= before, result


@case()
def a_flush_of_both_before_it_is_taken_up(env):
    """As a mirror brings it: nothing is missing."""
    source, target = env.pair()
    resume = a_killed_one(env, source, target)
    for server in (source, target):
        server.tell(b"flush_all\r\n")
    time.sleep(1.2)  # s: what is stored in the second of a flush is gone
    source.fill(100)
    found = warm(env, *SETTLE, "--resume", resume, source, target)
    assert not found["flushed"] and found["added"] > 0, found
    assert_equal(env, source, target)


@case()
def a_file_of_an_earlier_doppel(env):
    """It does not tell which mirror it began with."""
    source, target = env.pair()
    resume = a_killed_one(env, source, target)
    with open(resume, "r+b") as f:
        head = f.read(2048)
        at = head.index(b"\nmirror ")
        f.seek(at)
        f.write((b"\nend\n" + b" " * 2048)[:2048 - at])
    result = env.run("warm", *PATIENT, *SETTLE, "--resume", resume, source, target)
    assert result.code == 1 and f"{resume}: is of an earlier doppel" in result.stderr, result


def a_killed_one(env, source, target):
    """The file of a warm that was killed when it had copied something; its keys are hot, so that it copied the first first."""
    source.fill(KEYS)
    source.tell(b"".join(b"mg key:%d\r\n" % n for n in range(KEYS)))
    resume = env.path("resume")
    process = start(env, *SETTLE, "--rate", "5000", "--resume", resume, source, target)
    wait.until(lambda: items(target) > 100, "the first copies")
    process.kill()
    process.communicate()
    return resume


def damage(path, how):
    with open(path, "rb") as f:
        size, head = os.path.getsize(path), f.read(4096)
    lengths = {"half a head": head.index(b"\nbytes "), "no progress": 3000, "half a list": size // 2, "longer": size + 1000}
    if how in lengths:
        os.truncate(path, lengths[how])
        return
    with open(path, "r+b") as f:
        f.seek(size * 3 // 4)
        rest = f.read()
        f.seek(size * 3 // 4)
        f.write({"zeros": bytes(len(rest)), "zeros in a line": bytes(len(rest) - 1), "other lines": b"x\n" * (len(rest) // 2),
                 "another key": rest.replace(b"key=key", b"key=kez", 1)}[how])


@case(how=("half a head", "no progress", "half a list", "longer", "zeros", "zeros in a line", "other lines", "another key"))
def a_damaged_file(env, how):
    """The same command cannot go on with it, and does not say so."""
    source, target = env.pair()
    resume = a_killed_one(env, source, target)
    damage(resume, how)
    result = env.run("warm", *PATIENT, *SETTLE, "--resume", resume, source, target)
    assert result.code == 1 and f"{resume}: is damaged: " in result.stderr, result
    assert "remove it, warm anew, and verify" in result.stderr and "goes on" not in result.stderr.split("damaged")[1], result
    os.unlink(resume)
    warm(env, *SETTLE, "--repair", "--resume", resume, source, target)
    assert_equal(env, source, target)


@case()
def a_target_that_stands_still(env):
    """What it has already is not ours to delete, though the answers to our stores are lost."""
    source, target = env.pair()
    for server in (source, target):
        server.fill(KEYS)
    before = int(target.stats()["bytes_read"])
    process = start(env, *SETTLE, "--rate", "20000", source, target, patient=("--timeout", "1"))
    wait.until(lambda: int(target.stats()["bytes_read"]) > before + 100_000, "it to be at work", interval=0.001)
    target.process.send_signal(signal.SIGSTOP)
    ended = threading.Timer(wait.patience(2.5), lambda: target.process.send_signal(signal.SIGCONT))
    ended.start()
    _, err = process.communicate(timeout=wait.patience(60))
    ended.join()
    assert process.returncode == 1 and items(target) == KEYS, (err, items(target))


@case()
def a_name_that_no_line_holds(env):
    """It was never copied, so a warm that is taken up has nothing to delete there."""
    source, target = env.pair()
    source.fill(KEYS)
    source.store_binary([b" " * 250])
    resume = env.path("resume")
    process = start(env, *SETTLE, "--rate", "5000", "--resume", resume, source, target)
    wait.until(lambda: items(target) > 100, "the first copies")
    process.kill()
    process.communicate()
    found = warm(env, *SETTLE, "--resume", resume, source, target, code=3)
    assert found["failed"] == 1 and items(target) == KEYS, found


@case(side=("source", "target"))
def a_pending_flush_ends_it_before_it_begins(env, side):
    source, target = env.pair()
    source.fill(100)
    (source if side == "source" else target).tell(b"flush_all 1000\r\n")
    result = env.run("warm", source, target)
    assert result.code == 1 and "a flush_all with a delay is pending there" in result.stderr, result
    assert items(target) == 0
    rows = {row["about"]: row for row in env.run("probe", "--json", source, target).json()["rows"]}
    assert rows["flush_all"]["level"] == "fail" and f"at the {side}" in rows["flush_all"]["what"], rows


@case()
def a_flush_that_is_over_is_none(env):
    source, target = env.pair()
    source.tell(b"flush_all\r\n")
    source.fill(100)
    assert warm(env, *SETTLE, source, target)["added"] == 100


@case()
def takes_one_token_and_no_more(env):
    """Each item is stale, and the first that is read ends it."""
    source, target = env.pair()
    source.fill(3000)
    source.tell(b"".join(b"md key:%d I\r\n" % n for n in range(3000)))
    result = env.run("warm", "--json", source, target)
    assert result.code == 3 and "stale" in result.json()["stopped"], result
    taken = [a for a in source.tell(b"".join(b"mg key:%d c\r\n" % n for n in range(3000))) if b" Z" in a]
    assert len(taken) == 1, len(taken)


@case()
def repairs_what_is_stale_on_the_target(env):
    """The same value, and its clients are told that it is old."""
    source, target = env.pair()
    for server in (source, target):
        server.fill(100)
    target.tell(b"".join(b"md key:%d I\r\n" % n for n in range(5)))
    found = warm(env, "--repair", *SETTLE, source, target)
    assert found["repaired"] == 5 and found["present"] == 95, found
    assert_equal(env, source, target)


@case()
def statistics_that_begin_anew_are_no_evictions(env):
    source, target = env.memcached(), env.memcached("-m", "4")
    target.fill(20_000, value=b"%0500d")
    assert int(target.stats()["evictions"]) > 1000
    target.tell(b"flush_all\r\n")
    source.fill(2000)
    process = start(env, "--json", *SETTLE, "--rate", "1000", source, target)
    wait.until(lambda: items(target) > 100, "some to be copied")
    with target.plain() as s:
        s.sendall(b"stats reset\r\n")
        assert s.makefile("rb").readline() == b"RESET\r\n"
    out, err = process.communicate(timeout=wait.patience(60))
    found = json.loads(out)
    assert process.returncode == 0 and found["added"] == 2000 and not found["evicted"], (found, err)


@case()
def a_full_target_that_refuses_keeps_what_it_has(env):
    """memcached -M deletes the item that a store for which it has no memory is about."""
    source, target = env.memcached(), env.memcached("-M", "-m", "4")
    for server in (source, target):
        server.fill(1000, value=b"%0500d")
    target.tell(b"".join(store(b"other:%d" % n, b"x" * 500) for n in range(20_000)))
    source.tell(b"".join(store(b"more:%d" % n, b"x" * 500) for n in range(100)))
    have = target.dump().keys()
    result = env.run("warm", "--json", *PATIENT, *SETTLE, source, target)
    assert result.json()["evicting"], result
    lost = {key for key in have - target.dump().keys() if key.startswith(b"key:")}
    assert not lost, f"{len(lost)} items are gone, such as {sorted(lost)[:3]}"


@case()
def a_dry_run_tells_what_would_be_repaired(env):
    source, target = env.pair()
    source.fill(100)
    target.fill(90)
    target.tell(b"".join(store(b"key:%d" % n, b"other") for n in range(30)))
    before = target.dump()
    found = warm(env, "--dry-run", "--repair", *SETTLE, source, target)
    assert (found["added"], found["repaired"], found["present"]) == (10, 30, 60), found
    assert target.dump() == before


@case()
def targets_whose_long_names_begin_alike(env):
    """Each has a lock of its own: the name of one is longer than that of an abstract socket may be."""
    directory = env.path("d")
    directory += "d" * (104 - len(directory))
    source = env.memcached()
    source.fill(2000)
    first, second = (env.memcached(path=directory + end) for end in "12")
    busy = start(env, "--rate", "300", source, first)
    try:
        wait.until(lambda: items(first) > 50, "the first warm to copy")
        warm(env, *SETTLE, source, second)
        assert busy.poll() is None, "it had ended before"
    finally:
        busy.send_signal(signal.SIGINT)
        busy.communicate(timeout=wait.patience(30))
