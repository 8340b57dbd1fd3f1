# SPDX-License-Identifier: Apache-2.0
"""One host of the lab: a process that holds a network, a mount and a UTS namespace.

The namespaces have no name in /run/netns: they live exactly as long as their processes, so that a
test which is killed leaves nothing behind. Every process started here is killed by the kernel when
the process that made the lab dies (PR_SET_PDEATHSIG), except in a lab that is meant to persist.
"""

import ctypes
import os
import signal
import socket
import subprocess
import threading

from . import wait

CLONE_NEWNET = 0x40000000
# s: the last process of a host ends with its mounts and their pins, which takes the lock of all network devices
# (rtnl); others' namespaces keep that busy for ten seconds on a busy machine.
ENDS = 60
_libc = ctypes.CDLL(None, use_errno=True)

# As on a real host: /sys shows this network namespace, and bpffs is at its usual place. The
# mounts are private, so nothing of this reaches the machine's own mount table.
_HOLDER = """
mount -t sysfs sysfs /sys && mount -t bpf bpf /sys/fs/bpf && hostname "$0" &&
exec 3>&- && echo ready && exec sleep infinity
"""


class Failed(AssertionError):
    """A command in a host failed."""


def start_ticks(pid):
    """Start time of a process: with the pid it names the process for good."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return int(f.read().rsplit(")", 1)[1].split()[19])


class Host:
    def __init__(self, name, pid=None, persistent=False):
        self.name = name
        self.pid = pid
        self.address = self.address4 = self.address6 = None  # the first: what others use
        self.persistent = persistent
        self._children = []
        self._holder = None
        if pid is None:
            self._start()

    def _lifeline(self):
        return [] if self.persistent else ["setpriv", "--pdeathsig", "KILL", "--"]

    def _start(self):
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "--propagation", "private", "--",
             *self._lifeline(), "sh", "-c", _HOLDER, self.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            start_new_session=self.persistent)
        self.pid = self._holder.pid
        if self._holder.stdout.readline() != "ready\n":
            self._holder.wait(wait.patience(5))
            raise Failed(f"cannot make host {self.name}: namespaces or mounts are not permitted")
        self._holder.stdout.close()
        self.run(["ip", "link", "set", "lo", "up"])
        # Duplicate address detection would change routes a second after the lab is ready.
        for name in ("accept_dad", "dad_transmits"):
            self.sysctl(f"net/ipv6/conf/default/{name}", 0)

    def sysctl(self, name, value):
        """Sets one of the host's own sysctls; procfs goes by the namespace of the writing thread."""
        def write():
            with open(f"/proc/sys/{name}", "w", encoding="ascii") as f:
                f.write(str(value))
        self.in_netns(write)

    def _enter(self):
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", "--uts", "--"]

    def prefix(self):
        """What to put before a command line so that it runs in this host; keeps the pid."""
        return [*self._enter(), *self._lifeline()]

    def run(self, argv, check=True, timeout=60, stdin=None):
        """Runs a command to its end; its output is text in .stdout and .stderr.

        Without a lifeline: it ends soon by itself, and to start another program costs more than most commands do.
        """
        timeout = wait.patience(timeout)
        try:
            done = subprocess.run(self._enter() + [str(a) for a in argv], text=True, input=stdin,
                                  capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as e:
            raise Failed(f"{self.name}: {' '.join(map(str, argv))}: not done after {timeout} s") from e
        if check and done.returncode != 0:
            raise Failed(f"{self.name}: {' '.join(map(str, argv))}: exit code {done.returncode}\n"
                         f"{done.stdout}{done.stderr}")
        return done

    def popen(self, argv, **kwargs):
        """Starts a command; it is killed with the host at the latest."""
        kwargs.setdefault("start_new_session", self.persistent)
        child = subprocess.Popen(self.prefix() + [str(a) for a in argv], **kwargs)
        self._children.append(child)
        return child

    def in_netns(self, function, *args):
        """Calls function in a thread that is in this host's network namespace.

        A socket or a TCX link made there stays in that namespace, and can be used by all threads.
        """
        box = {}

        def body():
            try:
                fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _libc.setns(fd, CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f"setns to {self.name}")
                finally:
                    os.close(fd)
                box["value"] = function(*args)
            except BaseException as e:  # handed over to the caller's thread
                box["error"] = e

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if "error" in box:
            raise box["error"]
        return box["value"]

    def connect(self, address, port, timeout=10.0):
        return self.in_netns(lambda: socket.create_connection((address, port), wait.patience(timeout)))

    def ifindex(self, device="eth0"):
        return self.in_netns(socket.if_nametoindex, device)

    def mac(self, device="eth0"):
        return self.read(f"/sys/class/net/{device}/address").strip()

    def root(self, path):
        """A path of this host as the tests' own process can open it."""
        return f"/proc/{self.pid}/root{path}"

    def read(self, path):
        with open(self.root(path), encoding="utf-8", errors="replace") as f:
            return f.read()

    def proc_net(self, name):
        with open(f"/proc/{self.pid}/net/{name}", encoding="ascii") as f:
            return f.read()

    def listens(self, port):
        """Whether a TCP socket listens on the port (seen from outside, without a connection)."""
        suffix = f":{port:04X}"
        return any(row.split()[1].endswith(suffix) and row.split()[3] == "0A"
                   for family in ("tcp", "tcp6")
                   for row in self.proc_net(family).splitlines()[1:])

    def inhabitants(self):
        """Pids of all processes in this host's network namespace, the holder last."""
        mine = os.stat(f"/proc/{self.pid}/ns/net")
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in (self.pid, os.getpid()):
                continue
            try:
                theirs = os.stat(f"/proc/{entry}/ns/net")
            except OSError:
                continue  # ended meanwhile
            if (theirs.st_ino, theirs.st_dev) == (mine.st_ino, mine.st_dev):
                found.append(int(entry))
        return found + [self.pid]

    def close(self):
        """Ends everything that runs in this host, and with it the host."""
        try:
            pids = self.inhabitants()
        except OSError:
            pids = []  # the holder is gone: so is what it held
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for child in self._children + ([self._holder] if self._holder else []):
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        pass  # what was buffered for a process that is gone
            child.wait(wait.patience(ENDS))
        if not self._holder:
            wait.until(lambda: not os.path.exists(f"/proc/{self.pid}"), f"{self.name} to go", ENDS)
