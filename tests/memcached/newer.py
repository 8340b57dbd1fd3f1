# SPDX-License-Identifier: Apache-2.0
"""The memcached of Debian's next release, unpacked with its libraries and never installed on this machine."""

import fcntl
import glob
import os
import pathlib
import shutil
import subprocess
import tempfile

SUITE = "trixie"  # memcached 1.6.38
PACKAGES = ("memcached", "libc6", "libevent-2.1-7t64", "libssl3t64", "libsasl2-2", "libzstd1", "zlib1g")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# It has its own loader and libraries: those of this release are too old for it.
WRAPPER = """#!/bin/sh
here=$(dirname "$0")
libraries=$here/usr/lib/$(uname -m)-linux-gnu
exec "$libraries"/ld-linux-*.so.* --argv0 memcached --library-path "$libraries" "$here/usr/bin/memcached" "$@"
"""


class Unavailable(Exception):
    """This machine's package mirror does not offer it."""


def get(cache):
    """A directory for $PATH, below the cache directory; fetched and unpacked if it is not there."""
    root = pathlib.Path(cache) / SUITE
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(root.parent / f".{SUITE}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several runs begin together: one fetches
        if not root.is_dir():
            fetch_into(root)
    return str(root)


def fetch_into(root):
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{SUITE}-", dir=root.parent))
    try:
        fetch(scratch)
        # It appears only when it is complete, so that an interrupted run leaves no trap.
        (scratch / "root").rename(root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def fetch(scratch):
    for directory in ("lists/partial", "cache/archives/partial", "packages"):
        (scratch / directory).mkdir(parents=True)
    (scratch / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {SUITE} main\n", encoding="ascii")
    settings = {"Dir::Etc::sourcelist": scratch / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
                "Dir::State::lists": scratch / "lists", "Dir::State::status": "/dev/null",
                "Dir::Cache": scratch / "cache",
                # The _apt user cannot write here, and apt would warn about that each time.
                "APT::Sandbox::User": "root", "Acquire::Retries": "3"}
    apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in settings.items())]
    run([*apt, "update"])
    run([*apt, "download", *PACKAGES], cwd=scratch / "packages")
    for package in sorted(glob.glob(str(scratch / "packages" / "*.deb"))):
        run(["dpkg-deb", "-x", package, scratch / "root"])
    shutil.rmtree(scratch / "root/usr/share", ignore_errors=True)
    wrapper = scratch / "root/memcached"
    wrapper.write_text(WRAPPER, encoding="ascii")
    wrapper.chmod(0o755)


def mirror():
    """Where this machine has Debian's packages from."""
    listed = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(COMPONENT)", "Created-By: Packages"])
    for line in listed.splitlines():
        uri, origin, component = (line + "  ").split(" ")[:3]
        if origin == "Debian" and component == "main" and "security" not in uri:
            return uri
    raise Unavailable("no package source of Debian is known here (apt-get update?)")


def run(command, cwd=None):
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False,
                          env={**os.environ, "LC_ALL": "C"})
    if done.returncode != 0:
        raise Unavailable(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
