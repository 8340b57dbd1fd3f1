# SPDX-License-Identifier: Apache-2.0
"""One run of a guest: three serial ports out, and nothing else in or out."""

import shlex
import subprocess
import time

ARGUMENTS = (
    "-accel tcg -cpu max -smp 2 -m 3G -nodefaults -no-user-config -nic none -display none -no-reboot"
).split()

# panic=-1 with -no-reboot ends the emulator at once. Emulated, and beside other load, a
# CPU may well be away for longer than the watchdog's 10 s without anything being wrong.
# Mitigations stay on: the verifier behaves differently without them.
CMDLINE = "console=ttyS0 panic=-1 oops=panic watchdog_thresh=40 rdinit=/init"


class Machine:
    """console.log: the kernel's messages; report: lines for us; results.tar: files."""

    def __init__(self, kernel, root, directory):
        self.kernel, self.root, self.directory = kernel, root, directory
        self.console = directory / "console.log"
        self.report = directory / "report"
        self.results = directory / "results.tar"
        for file in (self.console, self.report, self.results):
            file.write_bytes(b"")
        self._base = ["qemu-system-x86_64", *ARGUMENTS, "-append", CMDLINE]
        self._base += ["-kernel", str(kernel.image), "-initrd", str(root)]

    def _command(self, console):
        words = [*self._base, "-serial", console]
        for file in (self.report, self.results):
            words += ["-serial", f"file:{file}"]
        return words

    def command_line(self):
        return shlex.join(self._command("mon:stdio"))

    def interactive(self):
        """The console on this terminal. Ctrl-A X ends it."""
        return subprocess.call(self._command("mon:stdio"))

    def run(self, timeout, on_line):
        """Feeds each line of the report to on_line. Returns seconds taken, or None at a timeout."""
        start = time.monotonic()
        # whoever ends this process, even with SIGKILL, ends the guest
        command = ["setpriv", "--pdeathsig", "KILL", *self._command(f"file:{self.console}")]
        guest = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            with open(self.report, encoding="utf-8", errors="replace") as report:
                rest = ""
                while True:
                    ended = guest.poll() is not None
                    rest += report.read()
                    *lines, rest = rest.split("\n")
                    for line in lines:
                        on_line(line.rstrip("\r"))
                    if ended:
                        return time.monotonic() - start
                    if time.monotonic() - start > timeout:
                        return None
                    time.sleep(0.05)
        finally:
            if guest.poll() is None:
                guest.kill()
            guest.wait()
