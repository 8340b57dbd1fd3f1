# SPDX-License-Identifier: Apache-2.0
"""The kernel that runs on this machine: programs are loaded into it, and attached nowhere."""

import os
import subprocess
import tempfile

from contents import prog_load


def release():
    """As "6.18": what is recorded belongs to that series."""
    return ".".join(os.uname().release.split(".")[:2])


def load(objects, work, tally):
    if os.geteuid() != 0:
        tally.skip(f"load on {release()}", "needs root")
        return
    with tempfile.TemporaryDirectory() as logs:
        for file in objects:
            done = subprocess.run([prog_load(work), file, logs], stdout=subprocess.PIPE, text=True, check=False)
            for line in done.stdout.splitlines():
                tally.line(line)
            if done.returncode != 0:
                tally.fail(f"load {file}", f"prog-load ended with exit code {done.returncode}")
