# SPDX-License-Identifier: Apache-2.0
"""The network tests. What they print in full goes to the console, so that it is there even if the
guest does not get to its end."""

import os
import re
import shlex
import subprocess

from report import failed, passed

RUN = "/km/tree/tests/net/run"
MODES = os.environ["KM_MODES"].split()
ONCE_MORE = "what failed, once more:\n"
ABSENT = "systemd is not installed"  # the guest's root has none; it says nothing about the kernel
VERDICT = re.compile(r"(PASS|FAIL|SKIP)  (\S+?)(?: \(([\d.]+) s\)|: (.*))?$")


def main():
    argv = [RUN, *(["--mode", MODES[0]] if len(MODES) == 1 else []),
            *shlex.split(os.environ["KM_NET"])]
    name = None  # of the failed test that is being described
    told = []
    again = False

    def end_of_failure():
        if name:
            failed(name, " / ".join(told[-40:])[:600])

    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child, \
            open("/tmp/results/net.log", "w", encoding="utf-8") as log:
        for line in child.stdout:
            print(line, end="", flush=True)
            log.write(line)
            again = again or line == ONCE_MORE
            match = None if again else VERDICT.match(line)
            if match is None:
                if line.startswith("    ") and "Error: " in line and not again:
                    told.append(line.strip())
                continue
            end_of_failure()
            verdict, test, seconds, reason = match.groups()
            name, told = (f"net {test}", []) if verdict == "FAIL" else (None, [])
            if verdict == "PASS":
                passed(f"net {test} ({seconds} s)")
            elif verdict == "SKIP" and not (reason or "").startswith(ABSENT):
                failed(f"net {test}", f"skipped: {reason}")  # these kernels have all that it takes
        end_of_failure()
    if child.returncode not in (0, 1, 77):
        failed("net", f"tests/net/run ended with exit code {child.returncode}")


if __name__ == "__main__":
    main()
