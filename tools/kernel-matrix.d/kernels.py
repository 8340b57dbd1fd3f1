# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels, unpacked beside the build and never installed on this machine."""

import lzma
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

# The meta packages follow security updates; what they depend on is the kernel itself.
META = {
    "6.1": "linux-image-cloud-amd64",
    "6.12": "linux-image-6.12-cloud-amd64",
}


class Unavailable(Exception):
    """This machine's package sources do not offer the kernel."""


class Kernel:
    def __init__(self, name, root):
        self.name = name
        self.image = next((root / "boot").glob("vmlinuz-*"))
        self.release = self.image.name[len("vmlinuz-") :]
        self.modules = next(
            path
            for path in (root / "lib/modules" / self.release, root / "usr/lib/modules" / self.release)
            if path.is_dir()
        )
        self._files = None

    def module_chain(self, names):
        """(name, ELF image) of the modules and what they depend on, in the order of insertion.

        Names which this kernel does not have as a module are left out: built in, or absent.
        """
        done = {}

        def visit(name):
            name = name.replace("-", "_")
            if name in done:
                return
            path = self._module_files().get(name)
            if path is None:
                return
            image = path.read_bytes()
            if path.suffix == ".xz":
                image = lzma.decompress(image)
            done[name] = None  # a cycle must not recurse for ever
            for dependency in _depends(image):
                visit(dependency)
            del done[name]
            done[name] = image

        for name in names:
            visit(name)
        return list(done.items())

    def _module_files(self):
        if self._files is None:
            self._files = {
                re.sub(r"\.ko(\.xz)?$", "", path.name).replace("-", "_"): path
                for path in self.modules.rglob("*.ko*")
            }
        return self._files


def _depends(image):
    # .modinfo is a run of NUL-terminated "key=value". The packages ship no
    # modules.dep (the postinst makes it), and reading this spares kmod here.
    match = re.search(rb"\0depends=([^\0]*)\0", image)
    return [name for name in match.group(1).decode().split(",") if name] if match else []


def get(name, cache):
    """The kernel of that name from the cache directory, fetched and unpacked if it is not there."""
    root = cache / name
    if not root.is_dir():
        _fetch(name, root)
    return Kernel(name, root)


def _fetch(name, root):
    root.parent.mkdir(parents=True, exist_ok=True)
    package = _versioned_package(name)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root.parent))
    try:
        download = ["apt-get", "-q", "download", package]
        if os.geteuid() == 0:
            # the _apt user cannot write here, and apt would warn about that each time
            download[1:1] = ["-o", "APT::Sandbox::User=root"]
        _run(download, cwd=scratch)
        archive = next(scratch.glob("*.deb"))
        unpacked = scratch / "root"
        _run(["dpkg-deb", "-x", archive, unpacked])
        shutil.rmtree(unpacked / "usr/share", ignore_errors=True)
        # the directory appears only when it is complete, so that an interrupted run leaves no trap
        unpacked.rename(root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _versioned_package(name):
    out = _run(["apt-cache", "depends", "--important", META[name]], check=False)
    for line in out.splitlines():
        match = re.match(r"\s*Depends:\s*(linux-image-\S+)", line)
        if match:
            if not match.group(1).startswith(f"linux-image-{name}."):
                raise Unavailable(f"{META[name]} here means {match.group(1)}, not a {name} kernel")
            return match.group(1)
    raise Unavailable(f"no package {META[name]} (apt-get update, or another Debian release?)")


def _run(command, cwd=None, check=True):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if check and done.returncode != 0:
        raise Unavailable(f"{' '.join(str(word) for word in command)}: {done.stderr.strip()}")
    return done.stdout
