# SPDX-License-Identifier: Apache-2.0
"""`doppel probe SOURCE TARGET`: each misfit of two real memcacheds is found, and a good pair has none."""

import os
import re
import tempfile
import time

from place import placed

WORDS = ("127.0.0.1:11211", "127.0.0.1:11212")


def rows(said):
    """{about: level} of what is to be done."""
    return {row["about"]: row["level"] for row in said["rows"] if row["level"] != "ok"}


def row(said, about):
    return next(r for r in said["rows"] if r["about"] == about)


@placed
def good_pair(place):
    place.pair()
    place.fill(11211, 1000)
    said = place.json("probe", *WORDS)
    assert said["fine"] and not rows(said), said
    assert "flush_all" in row(said, "admin commands")["what"], said
    assert "1,000 items" in row(said, "memory")["what"], said


@placed
def each_misfit_is_told(place):
    source = place.server(11211)
    for options, about, level in ((("-I", "1m"), "item size", "fail"),
                                  (("-C",), "cas", "fail"),
                                  (("-X",), "list of keys", "warn"),
                                  (("-o", "no_lru_crawler"), "list of keys", "warn"),
                                  (("-m", "32"), "room to grow", "warn"),
                                  (("-M",), "evictions", "fail"),
                                  (("-F",), "flush_all", "warn"),
                                  (("-t", "1"), "threads", "warn"),
                                  (("-c", "100"), "connections", "warn")):
        target = place.server(11212, *options)
        said = place.json("probe", *WORDS, code=3)
        assert rows(said) == {about: level}, (options, rows(said))
        assert row(said, about)["do"], said
        target.kill()
    source.kill()


@placed
def source_without_a_list_of_keys(place):
    """What the target may do without, the source may not."""
    place.server(11211, "-X")
    place.server(11212)
    said = place.json("probe", *WORDS, code=3)
    assert rows(said) == {"list of keys": "fail"}, said


@placed
def hash_table_that_has_grown(place):
    place.server(11211, "-o", "hashpower=18")
    place.server(11212)
    said = place.json("probe", *WORDS, code=3)
    assert rows(said) == {"hash table": "warn"}, said
    assert row(said, "hash table")["do"].endswith("hashpower=18"), said


@placed
def shutdown_is_told_where_it_is_allowed(place):
    place.pair("-A")
    assert "shutdown" in row(place.json("probe", *WORDS), "admin commands")["what"]


@placed
def items_that_do_not_fit(place):
    place.pair("-m", "8")
    place.fill(11211, 200, size=100_000)
    said = place.json("probe", *WORDS, code=3)
    memory = row(said, "memory")
    assert memory["level"] == "fail" and "do not fit" in memory["what"], memory
    megabytes = int(re.search(r"-m (\d+)", memory["do"]).group(1))
    place.server(11213, "-m", str(megabytes))
    said = place.json("probe", WORDS[0], "127.0.0.1:11213", code=3)
    assert row(said, "memory")["level"] == "ok", "what it advised is enough"
    place.fill(11213, 200, size=100_000)
    said = place.json("top", "--servers", "127.0.0.1:11213", "--once", "--interval", "0.1")
    assert said["servers"][0]["items"] == 200, said


@placed
def memory_is_what_the_target_will_take(place):
    """With the same classes to the page; with others within what is told."""
    _, target = place.pair("-m", "512")
    place.server(11213, "-m", "512", "-f", "2")
    sizes = [50, 200, 500, 1300, 3000, 9000, 40_000]
    for port in (11211, 11212, 11213):
        for i, size in enumerate(sizes):
            place.fill(port, 300, size=size, first=i * 300)
    for port in (11212, 11213):
        what = row(place.json("probe", WORDS[0], f"127.0.0.1:{port}"), "memory")["what"]
        told = [float(n) for n in re.findall(r"([\d.]+) MiB", what)]
        with place.host.connect("127.0.0.1", port) as s, s.makefile("rb") as reader:
            s.sendall(b"stats slabs\r\n")
            lines = dict(line.split()[1:3] for line in iter(reader.readline, b"END\r\n"))
        taken = int(lines[b"total_malloced"]) / 2**20
        if port == 11212:
            assert told[0] == taken, (what, taken)
        assert told[0] <= taken <= told[-2], (what, taken)
    target.kill()


@placed
def users(place):
    """A target that asks for a password: told to whoever has it, and how to give it to others."""
    place.server(11211)
    with tempfile.NamedTemporaryFile("w", prefix="doppel-auth-") as file:
        file.write("me:secret\n")
        file.flush()
        os.chmod(file.name, 0o600)
        place.server(11212, "-Y", file.name)
        done = place.doppel.run("probe", *WORDS, check=False)
        assert done.returncode == 1 and "--auth-file" in done.stderr, done
        said = place.json("probe", *WORDS, "--auth-file", file.name, code=3)
    assert rows(said)["authentication (-Y FILE)"] == "fail", said


@placed
def servers_that_are_none(place):
    """Each is told by name, in the time that was given, and both at once."""
    place.server(11211)
    done = place.doppel.run("probe", "127.0.0.1:1", "127.0.0.1:2", check=False)
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr and "127.0.0.1:2" in done.stderr, done
    for says in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 5000):
        with place.imposter(11212, says):
            begin = time.monotonic()
            done = place.doppel.run("probe", *WORDS, "--timeout", "1", check=False)
            assert done.returncode == 1 and "127.0.0.1:11212" in done.stderr, done
            assert time.monotonic() - begin < 10, done


@placed
def two_names_of_one_server(place):
    """A pair of one with itself would be a perfect one."""
    place.server(11211)
    done = place.doppel.run("probe", WORDS[0], "localhost:11211", check=False)
    assert done.returncode == 2 and "two names of one server" in done.stderr, done


@placed
def words_that_are_wrong(place):
    for arguments in (("127.0.0.1",), ("127.0.0.1:0", "127.0.0.1"), (*WORDS, "--config", "x.json")):
        done = place.doppel.run("probe", *arguments, check=False)
        assert done.returncode == 2 and done.stderr.startswith("error: "), (arguments, done)
