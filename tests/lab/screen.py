# SPDX-License-Identifier: Apache-2.0
"""`doppel top` on a terminal."""

import fcntl
import os
import pty
import select
import struct
import termios

from . import doppel, wait


class Screen:
    """`doppel top` on a terminal of its own."""

    def __init__(self, host, *arguments, term="xterm"):
        self.master, self.slave = pty.openpty()
        self.size(40, 160)
        self.before = termios.tcgetattr(self.slave)
        self.shown = ""
        env = {**os.environ, "TERM": term, "LC_ALL": "C.UTF-8"}
        self.child = host.popen([doppel.binary(), "top", *arguments], env=env,
                                      stdin=self.slave, stdout=self.slave, stderr=self.slave)

    def size(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, timeout=0.05):
        while select.select([self.master], [], [], timeout)[0]:
            self.shown += os.read(self.master, 65536).decode(errors="replace")

    def shows(self, text):
        """Waits until it has drawn that, since the last key."""
        def drawn():
            self.read()
            return text in self.shown
        try:
            wait.until(drawn, f"{text!r} on the screen")
        except wait.Timeout as e:
            raise AssertionError(f"{e}\n{self.shown!r}") from None

    def press(self, keys):
        self.shown = ""
        os.write(self.master, keys.encode())

    def assert_ended(self, code=0):
        """It has ended, and the terminal is as it was."""
        wait.until(lambda: self.read() or self.child.poll() is not None, "top to end")
        assert self.child.returncode == code, self.child.returncode
        self.read()
        assert termios.tcgetattr(self.slave) == self.before, "echo and lines are as before"
        assert "\x1b[?1049l" in self.shown, "the former screen is back"
        assert "\x1b[?25h" in self.shown or "\x1b[?12l\x1b[?25h" in self.shown, "the cursor is back"
        os.close(self.master)
        os.close(self.slave)
