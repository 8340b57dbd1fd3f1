# SPDX-License-Identifier: Apache-2.0
"""`doppel ready`, within its window."""

import json
import os
import pty
import select
import subprocess

from . import doppel, wait


class Ready:
    """`doppel ready --json`, started; its first window is open: it says so where its errors go to a terminal."""

    def __init__(self, host, *arguments, window=3):
        self.master, self.slave = pty.openpty()
        self.shown = ""
        self.child = host.popen([doppel.binary(), "ready", *arguments, "--json",
                                 "--window", str(wait.patience(window))],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.slave, text=True)
        wait.until(self.looks, "the window to open")

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            self.shown += os.read(self.master, 65536).decode(errors="replace")
        return self.shown

    def looks(self):
        return "looking for " in self.read() or self.child.poll() is not None

    def end(self, codes=(0, 3)):
        """(whether all are met, {name: criterion})"""
        out, _ = self.child.communicate(timeout=wait.patience(60))
        said = self.read()
        os.close(self.master)
        os.close(self.slave)
        assert self.child.returncode in codes, (self.child.returncode, out, said)
        document = json.loads(out)
        assert document["ready"] == (self.child.returncode == 0), document
        return document["ready"], {c["name"]: c for c in document["criteria"]}

    def next(self):
        """The next document of --watch; nothing: it has ended."""
        ready, _, _ = select.select([self.child.stdout], [], [], wait.patience(60))
        assert ready, "no document"
        line = self.child.stdout.readline()
        return json.loads(line) if line else None
