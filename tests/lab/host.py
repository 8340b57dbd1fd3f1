# SPDX-License-Identifier: Apache-2.0
"""One host of the lab: a process that holds a network, a mount and a UTS namespace.

The namespaces have no name in /run/netns: they live exactly as long as their processes, so that a
test which is killed leaves nothing behind. Every process started here is killed by the kernel when
the process that made the lab dies (PR_SET_PDEATHSIG), except in a lab that is meant to persist.

A thread of the test's own lives in these namespaces, too, and starts the host's processes. So none of
them has to enter by nsenter, whose start costs as much as that of the command.
"""

import concurrent.futures
import ctypes
import os
import signal
import socket
import subprocess
import threading

from . import wait

CLONE_FS, CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x200, 0x20000, 0x4000000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
# s: the last process of a host ends with its mounts and their pins, which takes the lock of all network devices
# (rtnl); others' namespaces keep that busy for ten seconds on a busy machine.
ENDS = 60
_libc = ctypes.CDLL(None, use_errno=True)


class Failed(AssertionError):
    """A command in a host failed."""


def start_ticks(pid):
    """Start time of a process: with the pid it names the process for good."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return int(f.read().rsplit(")", 1)[1].split()[19])


def _checked(result):
    if result != 0:
        raise OSError(error := ctypes.get_errno(), os.strerror(error))


def _mount(source, place, kind, flags=0):
    _checked(_libc.mount(*(text and text.encode() for text in (source, place, kind)), ctypes.c_ulong(flags), None))


class Host:
    def __init__(self, name, pid=None, persistent=False):
        self.name = name
        self.pid = pid
        self.address = self.address4 = self.address6 = None  # the first: what others use
        self.persistent = persistent
        self._children = []
        self._holder = None
        # Lives as long as the host: what a thread has started is killed when that ends (PR_SET_PDEATHSIG).
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        if pid is None:
            self._start()
        else:
            self._inside(self._enter)

    def _lifeline(self):
        return [] if self.persistent else ["setpriv", "--pdeathsig", "KILL", "--"]

    def _make(self):
        """By the thread that lives here. As on a real host: /sys shows this network namespace, and bpffs is at its usual
        place. The mounts are private, so nothing of this reaches the machine's own mount table."""
        _checked(_libc.unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS))
        _mount("none", "/", None, MS_REC | MS_PRIVATE)
        _mount("sysfs", "/sys", "sysfs")
        _mount("bpf", "/sys/fs/bpf", "bpf")
        socket.sethostname(self.name)
        return subprocess.Popen([*self._lifeline(), "sleep", "infinity"], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=self.persistent)

    def _enter(self):
        """By the thread that lives here, where another process has made the host."""
        _checked(_libc.unshare(CLONE_FS))
        for name in ("net", "uts", "mnt"):
            fd = os.open(f"/proc/{self.pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _checked(_libc.setns(fd, 0))
            finally:
                os.close(fd)

    def _start(self):
        try:
            self._holder = self._inside(self._make)
        except OSError as e:
            self._thread.shutdown()
            raise Failed(f"cannot make host {self.name}: namespaces or mounts are not permitted ({e})") from e
        self.pid = self._holder.pid
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

    def _inside(self, function, *args, **kwargs):
        """Calls function in the thread that lives here."""
        return self._thread.submit(function, *args, **kwargs).result()

    def run(self, argv, check=True, timeout=60, stdin=None):
        """Runs a command to its end; its output is text in .stdout and .stderr.

        Without a lifeline: it ends soon by itself, and to start another program costs more than most commands do.
        """
        argv = [str(a) for a in argv]
        timeout = wait.patience(timeout)
        with self._inside(subprocess.Popen, argv, text=True, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            try:
                out, err = child.communicate(stdin, timeout)
            except subprocess.TimeoutExpired as e:
                raise Failed(f"{self.name}: {' '.join(argv)}: not done after {timeout} s") from e
            finally:
                child.kill()  # nothing, once it has ended
        if check and child.returncode != 0:
            raise Failed(f"{self.name}: {' '.join(argv)}: exit code {child.returncode}\n{out}{err}")
        return subprocess.CompletedProcess(argv, child.returncode, out, err)

    def popen(self, argv, **kwargs):
        """Starts a command; it is killed with the host at the latest."""
        kwargs.setdefault("start_new_session", self.persistent)
        child = self._inside(subprocess.Popen, [*self._lifeline(), *map(str, argv)], **kwargs)
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
                    _checked(_libc.setns(fd, CLONE_NEWNET))
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

    def _leave(self):
        """The namespaces do not outlive their processes for the thread's sake."""
        task = f"/proc/self/task/{self._inside(threading.get_native_id)}"
        self._thread.shutdown()
        wait.until(lambda: not os.path.exists(task), f"the thread in {self.name} to end", ENDS, 0.002)

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
        self._leave()
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
