# SPDX-License-Identifier: Apache-2.0
"""The guest's root: a cpio archive (newc) made of this machine's own files."""

import os
import re
import shutil
import stat
import subprocess


class Missing(Exception):
    """A file that the guest cannot do without is not on this machine."""


class RootFs:
    def __init__(self):
        self._entries = {}  # name without leading slash -> (mode, bytes, rdev major, minor, mtime)
        for link in ("bin", "sbin", "lib", "lib64"):
            # merged /usr as on Debian 12, so that a library has one name in here
            self._entries[link] = (stat.S_IFLNK | 0o777, f"usr/{link}".encode(), 0, 0, 0)
        for directory in ("dev", "proc", "sys", "run", "tmp", "root", "var/run"):
            self.directory(directory)
        # the kernel opens it for init before anything is mounted
        self._entries["dev/console"] = (stat.S_IFCHR | 0o600, b"", 5, 1, 0)

    def directory(self, name):
        parts = name.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            self._entries.setdefault("/".join(parts[:depth]), (stat.S_IFDIR | 0o755, b"", 0, 0, 0))

    def write(self, name, data, mode=0o644, mtime=0):
        name = self._merged(name)
        if "/" in name:
            self.directory(name.rsplit("/", 1)[0])
        self._entries[name] = (stat.S_IFREG | mode, data, 0, 0, mtime)

    def symlink(self, name, to):
        name = self._merged(name)
        self.directory(name.rsplit("/", 1)[0])
        self._entries[name] = (stat.S_IFLNK | 0o777, to.encode(), 0, 0, 0)

    def copy(self, path, name=None):
        # Python believes what is compiled already only if its source is as old as it was then.
        with open(path, "rb") as file:
            self.write(name or str(path), file.read(), 0o755 if os.access(path, os.X_OK) else 0o644,
                       int(os.stat(path).st_mtime))

    def program(self, path, name=None):
        """A program of this machine, by its name or path, with the libraries it needs."""
        found = shutil.which(str(path), path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if not found:
            raise Missing(f"{path} is not installed")
        self.linked(found, name or f"usr/bin/{os.path.basename(found)}")

    def linked(self, file, name):
        """A program or library, with the libraries it needs."""
        self.copy(file, name)
        listed = subprocess.run(["ldd", file], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in listed.stdout.splitlines():
            if "not found" in line:
                raise Missing(f"{file}: {line.strip()}")
            match = re.search(r"(/\S+) \(0x", line)
            if match:
                self.copy(match.group(1))

    def save(self, file):
        with open(file, "wb") as out:
            entries = sorted(self._entries.items())  # a directory sorts before what is in it
            for inode, (name, entry) in enumerate(entries, start=1):
                _member(out, inode, name, *entry)
            _member(out, 0, "TRAILER!!!", 0, b"", 0, 0, 0)

    @staticmethod
    def _merged(name):
        name = name.strip("/")
        return f"usr/{name}" if name.split("/")[0] in ("bin", "sbin", "lib", "lib64") else name


def _member(out, inode, name, mode, data, major, minor, mtime):
    # Documentation/driver-api/early-userspace/buffer-format.rst: 13 fields of 8 hex
    # digits, then the name and the data, each padded to a multiple of 4.
    encoded = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, mtime, len(data), 0, 0, major, minor, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    out.write(header + b"\0" * (-len(header) % 4) + data + b"\0" * (-len(data) % 4))
