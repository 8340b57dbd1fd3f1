# SPDX-License-Identifier: Apache-2.0
"""What has the name of a file that a command is to keep, or to read: nothing of another's is changed, nothing hangs."""

import os
import signal
import socket
import stat
import subprocess
import threading

from lab import doppel, wait

from harness import case
from servers import die_with_parent, store

SHORT = ("--timeout", "0.5", "--settle", "0.1")
COMMANDS = {"warm": ("warm", "--settle", "0.1"), "verify": ("verify", "--all", "--settle", "0.1")}


def small_pair(env):
    source, target = env.pair()
    source.fill(50)
    return source, target


def make(path, what):
    """Something in the case's own directory, and what tells whether it is still the same."""
    if what == "device":  # as /dev/null is one
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    elif what == "FIFO":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
    else:
        kept = path + "-kept" if what in ("link", "link to nothing") else path
        if what != "link to nothing":
            with open(kept, "w", encoding="ascii") as f:
                f.write("of somebody else\n")
        if kept != path:
            os.symlink(kept, path)


def state(directory):
    """Names, kinds, and what is in the files."""
    found = {}
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        kind = os.lstat(path).st_mode
        found[name] = kind, ""
        if stat.S_ISREG(kind):
            with open(path, encoding="ascii") as f:
                found[name] = kind, f.read()
    return found


def refused(env, suffix, what, command, pair):
    """Whatever has the name is left, named, and nothing else was made."""
    directory = env.path(f"{command}{suffix} {what}")
    os.mkdir(directory)
    resume = os.path.join(directory, "job")
    make(resume + suffix, what)
    before = state(directory)
    result = env.run(*COMMANDS[command], "--resume", resume, *pair, timeout=20)
    assert result.code == 2 and f"error: {resume}{suffix}: is " in result.stderr and "hint: " in result.stderr, result
    assert state(directory) == before, (before, state(directory))
    assert int(pair[1].stats()["curr_items"]) == 0, "it has begun"


@case(command=("warm", "verify"), what=("device", "FIFO", "socket", "link", "link to nothing", "text"))
def something_else_to_resume_from(env, command, what):
    refused(env, "", what, command, small_pair(env))


@case(suffix=(".source", ".target", ".new"), what=("device", "FIFO", "link", "link to nothing", "text"))
def something_else_beside_it(env, suffix, what):
    refused(env, suffix, what, "verify", small_pair(env))


@case(command=("warm", "verify"))
def an_empty_file_is_a_new_one(env, command):
    """As mktemp makes it."""
    source, target = small_pair(env)
    if command == "verify":
        target.fill(50)
    resume = env.file("resume", "")
    result = env.run(*COMMANDS[command], "--resume", resume, source, target)
    assert result.code == 0 and not os.path.exists(resume), result


@case()
def a_list_that_cannot_be_opened_leaves_no_other(env):
    source, target = small_pair(env)
    result = env.run(*COMMANDS["verify"], "--resume", env.path("resume"), "--list", env.path("absent/list"), source, target)
    assert result.code == 1 and "absent/list: cannot be written" in result.stderr, result
    assert not [name for name in os.listdir(env.directory) if name.startswith("resume")]


@case()
def what_is_done_is_done_under_each_name(env):
    """A second name of a finished warm's file is nothing to go on with: that would delete what clients have written since."""
    source, target = small_pair(env)
    resume, other = env.file("resume", ""), env.path("other")
    os.link(resume, other)
    assert env.run(*COMMANDS["warm"], "--resume", resume, source, target).code == 0
    assert not os.path.exists(resume) and os.path.getsize(other) == 0
    keeps_what_clients_write(env, other, source, target)


def keeps_what_clients_write(env, resume, source, target):
    target.tell(store(b"key:3", b"by-client") + store(b"key:4", b"by-client"))
    source.tell(b"md key:4 q\r\n")
    result = env.run(*COMMANDS["warm"], "--resume", resume, source, target)
    assert result.code == 0 and not os.path.exists(resume), result
    assert target.tell(b"mg key:3 v\r\nmg key:4 v\r\n") == [b"VA 9", b"by-client"] * 2
    return result


@case(options=("--settle 0.1", "--settle 3 --repair"))
def one_that_ended_in_order_has_nothing_open(env, options):
    """All was confirmed before a signal ended it: what is at the target stays, whoever wrote it. With --repair what was there
    waits for a second look when the signal comes, and what was copied behind it is confirmed."""
    source, target = env.pair()
    source.fill(20_000)
    keys = list(source.dump())
    target.tell(b"".join(store(key, b"other") for key in keys[:1000]))
    resume = env.path("resume")
    command = ("warm", *options.split(), "--resume", resume, source.where, target.where)
    with subprocess.Popen([doppel.binary(), *command, "--rate", "5000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          preexec_fn=die_with_parent) as process:
        wait.until(lambda: int(target.stats()["curr_items"]) > 1100, "some copies", 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(wait.patience(30)) == 3
    there = list(target.dump())
    if "--repair" not in options:
        target.tell(b"".join(store(key, b"by-client") for key in there))
    source.tell(b"".join(b"md %s q\r\n" % key for key in there))
    before = target.tell(b"".join(b"mg %s v\r\n" % key for key in there))
    result = env.run(*command)
    assert result.code == 0 and "goes on" in result.stderr, result
    assert target.tell(b"".join(b"mg %s v\r\n" % key for key in there)) == before, result
    assert int(target.stats()["curr_items"]) == 20_000


@case(option=("--auth-file", "--list", "--ca"))
def a_fifo_that_nobody_opens(env, option):
    source, target = small_pair(env)
    os.mkfifo(env.path("fifo"))
    tls = ("--tls",) if option == "--ca" else ()
    result = env.run("verify", "--all", *SHORT, *tls, option, env.path("fifo"), source, target, timeout=20)
    assert result.code == 2 and f"{env.path('fifo')}: is " in result.stderr, result
    assert option == "--ca" or "0.5 s" in result.stderr, result


@case()
def a_fifo_whose_writer_comes_later(env):
    password = env.file("password", "alice:secret\n")
    server = env.memcached("-Y", password, auth="alice secret")
    os.mkfifo(env.path("fifo"))

    def write():
        with open(env.path("fifo"), "w", encoding="ascii") as f:  # waits for its reader
            f.write("alice:secret\n")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    result = env.run("keys", "--auth-file", env.path("fifo"), server)
    assert result.code == 0, result
    writer.join(wait.patience(10))


@case()
def a_fifo_that_is_read_gets_the_list(env):
    source, target = small_pair(env)
    os.mkfifo(env.path("fifo"))
    lines = []

    def read():
        with open(env.path("fifo"), encoding="ascii") as f:
            lines.extend(f)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    result = env.run(*COMMANDS["verify"], "--list", env.path("fifo"), source, target)
    reader.join(wait.patience(10))
    assert result.code == 3 and len(lines) == 50, (result, lines)


@case()
def a_limit_to_the_size_of_files_is_told(env):
    """ulimit -f: the write fails, and no signal ends the command without a word."""
    source, target = env.pair()
    source.fill(20_000)
    for command in (("keys", source.where), ("verify", "--all", source.where, target.where),
                    ("warm", source.where, target.where)):
        done = subprocess.run(["sh", "-c", 'ulimit -f 16; exec "$@" > /dev/null', "sh", doppel.binary(), *command],
                              capture_output=True, text=True, timeout=wait.patience(60), check=False,
                              env={**os.environ, "TMPDIR": env.spool})
        assert done.returncode == 1 and "File too large" in done.stderr, (command, done)
