# SPDX-License-Identifier: Apache-2.0
"""What warm and verify leave alone, and what they must not call a change."""

import os
import subprocess

from harness import case
from test_warm import PATIENT


@case(command=("warm", "verify"))
def a_disk_that_is_full(env, command):
    """A part of a list is of no use: the disk is not left full of it."""
    source, target = env.pair()
    source.fill(20_000)
    disk = env.path("disk")
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=True)
    try:
        more = ("--all",) if command == "verify" else ()
        result = env.run(command, *PATIENT, *more, "--resume", f"{disk}/resume", source, target)
        left = os.listdir(disk)
    finally:
        subprocess.run(["umount", disk], check=True)
    assert result.code == 1 and "No space left" in result.stderr and not left, (result, left)


@case(other=("resume", "./resume", "link", "resume.source"))
def one_file_for_two_things(env, other):
    source, target = env.pair()
    source.fill(10)
    resume, names = env.path("resume"), env.path(other)
    if other == "link":
        os.symlink(resume, names)
    result = env.run("verify", "--all", "--settle", "0.2", "--list", names, "--resume", resume, source, target)
    assert result.code == 2 and "one file" in result.stderr, result
    assert not os.path.exists(resume), "it has begun"
