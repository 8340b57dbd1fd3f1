# SPDX-License-Identifier: Apache-2.0
"""A real systemd on a host of the lab, with the unit of tools/ as a package would install it.

It is process 1 of PID, IPC, UTS, control group and mount namespaces of its own, in the network namespace of
the host, and sees the host's BPF file system. What it finds of the machine is read-only.
"""

import os
import shutil
import subprocess
import tempfile

from . import doppel, wait

SYSTEMD = "/lib/systemd/systemd"
HOME = "/run/lab"  # program, configuration and log, in a tmpfs: the unit's ProtectHome and PrivateTmp hide others

# A control group of its own, which becomes the root of the namespace. $1 is its name.
_ENTER = """
set -e
if grep -q :name=systemd: /proc/self/cgroup; then
  kind=cgroup options=none,name=systemd
else
  kind=cgroup2 options=rw
fi
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t $kind -o $options cgroup /sys/fs/cgroup/systemd
mkdir -p "/sys/fs/cgroup/systemd/$1"
echo $$ > "/sys/fs/cgroup/systemd/$1/cgroup.procs"
exec unshare --pid --fork --kill-child --mount-proc --ipc --uts --cgroup sh -c "$2" sh $kind $options
"""

# A machine that never ran systemd must look the same afterwards: its files and sysctls cannot be written,
# but for those of the network namespace, which the keeper needs.
_BOOT = f"""
set -e
mount --make-rprivate /
for where in /run /tmp /var/lib/systemd /etc/systemd/system; do mount -t tmpfs tmpfs $where; done
umount /sys/fs/cgroup/systemd
if [ $1 = cgroup2 ]; then
  mount -t cgroup2 cgroup /sys/fs/cgroup
else
  mount -t cgroup -o $2 cgroup /sys/fs/cgroup/systemd
fi
mount --bind /proc/sys /proc/sys
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
mkdir -p {HOME} /run/systemd/system/doppel.service.d
printf '[Unit]\\nDefaultDependencies=no\\n' > /run/systemd/system/lab.target
touch {HOME}/mounted
until [ -e {HOME}/filled ]; do sleep 0.02; done
container=lab exec {SYSTEMD} --system --unit=lab.target --log-target=console --show-status=no
"""

# What the lab changes of the unit: where things are, and no dependency on a whole boot.
_DROP_IN = f"""
[Unit]
DefaultDependencies=no
ConditionPathExists=
ConditionPathExists={HOME}/doppel.json
[Service]
ExecStart=
ExecStart={{start}}
ExecReload=
ExecReload={{reload}}
StandardOutput=append:{HOME}/log
StandardError=append:{HOME}/log
"""


def installed():
    return os.access(SYSTEMD, os.X_OK) and shutil.which("systemctl")


class Systemd:
    """The service is not started yet. `file` is a lab.keeper.File: its text at start() and reload() counts."""

    def __init__(self, scene, file):
        self.host, self.file = scene.lab.source, file
        self.group = f"doppel-lab-{self.host.pid}"
        self.console = tempfile.TemporaryFile()
        self.process = self.host.popen(["unshare", "--mount", "sh", "-c", _ENTER, "sh", self.group, _BOOT],
                                       stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console)
        self.pid = None
        wait.until(self._mounted, "the mounts of systemd", 10)
        self._install()
        wait.until(lambda: self.systemctl("is-system-running", check=False).stdout.strip() in (
            "running", "degraded"), "systemd to run", 20)

    def _mounted(self):
        assert self.process.poll() is None, f"systemd did not come up:\n{self.said_by_systemd()}"
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children, encoding="ascii") as f:
            self.pid = next(map(int, f.read().split()), None)
        return self.pid and os.path.exists(self.path(f"{HOME}/mounted"))

    def _install(self):
        shutil.copy(doppel.binary(), self.path(f"{HOME}/doppel"))
        self.configure()
        unit = os.path.join(doppel.REPOSITORY, "tools", "doppel.service")
        with open(unit, encoding="ascii") as f:
            lines = dict(line.rstrip("\n").split("=", 1) for line in f if line.startswith("Exec"))
        start, reload = (lines[key].replace("/usr/local/bin/", f"{HOME}/").replace("/etc/doppel/", f"{HOME}/")
                         for key in ("ExecStart", "ExecReload"))
        units = self.path("/run/systemd/system")
        shutil.copy(unit, units)
        with open(f"{units}/doppel.service.d/lab.conf", "w", encoding="ascii") as f:
            f.write(_DROP_IN.format(start=start, reload=reload))
        with open(self.path(f"{HOME}/filled"), "w", encoding="ascii"):
            pass

    def path(self, path):
        """A path of systemd's mount namespace as the tests' own process can open it."""
        return f"/proc/{self.pid}/root{path}"

    def configure(self):
        shutil.copy(self.file.path, self.path(f"{HOME}/doppel.json"))

    def systemctl(self, *words, check=True):
        return self.host.run(["nsenter", "--target", self.pid, "--all", "--", "systemctl", *words], check=check)

    def property(self, name):
        return self.systemctl("show", "--value", f"--property={name}", "doppel").stdout.strip()

    def main_pid(self):
        """Of the keeper, as the machine counts; None if there is none."""
        inside = self.property("MainPID")
        with open(self.path(f"/sys/fs/cgroup/{self._group()}/cgroup.procs"), encoding="ascii") as f:
            return next((int(pid) for pid in f if _pid_inside(int(pid)) == inside), None)

    def _group(self):
        prefix = "systemd" if os.path.isdir(self.path("/sys/fs/cgroup/systemd")) else "."
        return f"{prefix}{self.property('ControlGroup')}"

    def state(self):
        return self.property("ActiveState")

    def log(self):
        """What the keeper said, of all its lives."""
        try:
            with open(self.path(f"{HOME}/log"), encoding="utf-8") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def said_by_systemd(self):
        self.console.seek(0)
        return self.console.read().decode(errors="replace")

    def wait_for_log(self, text, times=1):
        try:
            wait.until(lambda: self.log().count(text) >= times, f"the service to say {text!r}", 20)
        except wait.Timeout as e:
            raise AssertionError(f"{e}\n{self.log()}{self.said_by_systemd()}") from None

    def close(self):
        """Ends systemd, what it runs, and its control groups."""
        self.process.kill()
        self.process.wait(wait.patience(10))
        subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", _LEAVE, "sh", self.group],
                       check=True)


# The groups are empty once the last process of the namespace is reaped.
_LEAVE = """
if grep -q :name=systemd: /proc/self/cgroup; then
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup
else
  mount -t cgroup2 cgroup /sys/fs/cgroup
fi
for attempt in $(seq 200); do
  find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} + 2>/dev/null
  [ -d "/sys/fs/cgroup/$1" ] || exit 0
  sleep 0.05
done
exit 1
"""


def _pid_inside(pid):
    """The same process as its innermost PID namespace counts."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(line.split()[-1] for line in f if line.startswith("NSpid:"))
