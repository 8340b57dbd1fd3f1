# SPDX-License-Identifier: Apache-2.0
"""What `doppel warm` and `doppel verify` cost the source: at most one token of a client that recaches, no more reads than
there are keys and looks, and no more in a second than was told."""

import base64
import subprocess

from lab import doppel, wait

from harness import case
from servers import die_with_parent, store

KEYS = 1000
SETTLE = ("--settle", "0.3")
PATIENT = ("--timeout", str(wait.patience(30)))
NAMES = {"plain": b"key:%d", "binary": b"key of blanks %d"}


def named(key):
    """As it stands in a meta command, with its flag."""
    return key if b" " not in key else base64.b64encode(key) + b" b"


def each(command, key, rest=b""):
    return b"".join(b"%s %s %s\r\n" % (command, named(key % n), rest) for n in range(KEYS))


def mark(server, key):
    """All are stale, as their application says."""
    server.tell(each(b"md", key, b"I T300"))


def tokens_taken(server, key):
    answers = [a for a in server.tell(each(b"mg", key, b"c u")) if a.startswith(b"HD")]
    assert len(answers) == KEYS, len(answers)
    return sum(b" Z" in a for a in answers)


def gets(server):
    return int(server.stats()["cmd_get"])


def fill(server, key, value=b"v"):
    server.tell(b"".join(store(key % n, value) for n in range(KEYS)))


def start(*arguments):
    words = [a if isinstance(a, str) else a.where for a in arguments]
    return subprocess.Popen([doppel.binary(), *words, *PATIENT], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, preexec_fn=die_with_parent)


@case(how=("--repair", "--delete-extra", "--prefix"), names=("plain", "binary"))
def a_dry_run_takes_one_token_at_most(env, how, names):
    """It ends there, and tells."""
    source, target = env.pair()
    key = NAMES[names]
    for server in (source, target):
        fill(server, key)
    mark(source, key)
    result = env.run("warm", "--dry-run", how, *(["key"] if how == "--prefix" else []), *SETTLE, source, target)
    taken = tokens_taken(source, key)
    may = 1 if how == "--repair" or names == "binary" else 0  # `me` takes none
    assert taken == may and result.code == (3 if may else 0), (taken, result)
    assert not may or "Stopped: " in result.stdout, result


@case(names=("plain", "binary"))
def marked_while_copies_settle(env, names):
    """Of the many that a confirmation looks at, the first tells; none of the copies stays."""
    source, target = env.pair()
    key = NAMES[names]
    fill(source, key)
    process = start("warm", "--settle", "3", source, target)
    wait.until(lambda: int(target.stats()["curr_items"]) == KEYS, "all to be copied")
    mark(source, key)
    out, err = process.communicate(timeout=wait.patience(60))
    taken = tokens_taken(source, key)
    assert process.returncode == 3 and "Stopped: " in out and taken == 1, (taken, out, err)
    assert not int(target.stats()["curr_items"]), "what was not confirmed is left there"


@case(names=("plain", "binary"))
def marked_between_two_looks_of_a_repair(env, names):
    source, target = env.pair()
    key = NAMES[names]
    fill(source, key)
    fill(target, key, b"other")
    process = start("warm", "--repair", "--settle", "3", source, target)
    wait.until(lambda: gets(target) == KEYS, "the first look")
    mark(source, key)
    out, err = process.communicate(timeout=wait.patience(60))
    taken = tokens_taken(source, key)
    assert taken == (1 if names == "binary" else 0), (taken, out, err)
    assert ("Stopped: " in out) == (taken > 0), (out, err)


@case()
def marked_between_two_looks_of_a_verify(env):
    source, target = env.pair()
    key = NAMES["plain"]
    fill(source, key)
    fill(target, key, b"other")
    process = start("verify", "--all", "--settle", "3", source, target)
    wait.until(lambda: gets(target) == KEYS, "the first look")
    mark(source, key)
    _, err = process.communicate(timeout=wait.patience(60))
    taken = tokens_taken(source, key)
    assert process.returncode == 1 and "took the token" in err and taken == 1, (taken, err)


@case()
def tokens_of_the_target_are_told(env):
    source, target = env.pair()
    key = NAMES["plain"]
    for server in (source, target):
        fill(server, key)
    mark(target, key)
    result = env.run("verify", "--all", *SETTLE, source, target)
    assert f"{KEYS} items are marked as stale there" in result.stderr, result
    for options in ((), ("--delete-extra",)):
        mark(target, key)
        env.run("warm", "--dry-run", *options, source, target)
        assert tokens_taken(target, key) == 0, options


@case()
def a_repair_reads_each_value_twice(env):
    """Once to copy it, once to compare it, however much fits in memory at a time."""
    source, target = env.pair()
    for server in (source, target):
        server.tell(b"".join(store(b"large:%d" % n, b"v" * 900_000) for n in range(40)))
    for options, reads in (((), 80), (("--dry-run",), 40)):
        before = gets(source)
        result = env.run("warm", "--json", "--repair", *options, *SETTLE, source, target)
        assert result.code == 0 and result.json()["present"] == 40, result
        assert result.json()["source_gets"] == gets(source) - before == reads, result


@case(options=("--dry-run", "--dry-run --delete-extra --prefix only", "--repair", "--repair --dry-run"))
def no_faster_than_it_was_told(env, options):
    source, target = env.pair()
    for server in (source, target):
        server.fill(200)
    target.fill(200, key=b"only:%d")
    result = env.run("warm", "--json", *SETTLE, "--rate", "100", *options.split(), source, target)
    least = 3.5 if options.startswith("--repair") else 1.5  # what is compared is read, or looked at, twice
    assert result.code == 0 and result.json()["seconds"] > least, result


@case()
def it_says_what_it_did(env):
    """A dry run copies nothing, a repair is work, and a prefix that no key has is a mistake."""
    source, target = env.pair()
    source.fill(100)
    target.fill(50, value=b"w%d")
    text = env.run("warm", "--dry-run", "--repair", *SETTLE, source, target).stdout
    assert "would be copied" in text and "would be replaced" in text and "confirmed" not in text, text
    found = env.run("warm", "--json", "--repair", "--prefix", "key:1", *SETTLE, source, target).json()
    assert found["repaired"] and found["keys_per_s"] > 0, found
    source.tell(b"".join(b"md key:%d\r\n" % n for n in range(50, 100)))
    found = env.run("warm", "--json", "--repair", *SETTLE, source, target).json()
    assert found["repaired"] and not found["added"] and found["keys_per_s"] > 0, found
    result = env.run("warm", "--prefix", "kye:", *SETTLE, source, target)
    assert result.code == 3 and "no key that begins with" in result.stderr, result
