# SPDX-License-Identifier: Apache-2.0
"""What goes into the guest's root: tools of this machine, the suites, and what was built."""

import pathlib
import subprocess

import rootfs

HERE = pathlib.Path(__file__).resolve().parent
TREE = HERE.parent.parent
GUEST = HERE / "guest"

# Where the kernel has them as modules; their dependencies come along.
MODULES = """
    veth bridge dummy 8021q tcp_diag
    sch_ingress cls_bpf act_bpf cls_u32 cls_matchall act_mirred act_gact sch_netem sch_fq sch_prio
    nf_tables nft_numgen nft_limit nft_reject_ipv4
""".split()

# busybox has applets of some of these names, which lack options that the lab uses.
LAB_TOOLS = "memcached ethtool nft setpriv hostname mount sleep".split()

# The interpreter of the system, not one that its user put before it: its library is in one place.
PYTHON = pathlib.Path("/usr/bin/python3")
PYTHON_UNUSED = {
    "__phello__", "asyncio", "dist-packages", "distutils", "ensurepip", "idlelib", "lib2to3",
    "pydoc_data", "test", "tkinter", "turtledemo", "venv", "wsgiref", "xmlrpc",
}


class Contents:
    """Collects the root for one kind of run; save() writes the archive for one kernel."""

    def __init__(self, work):
        self.work = work
        self.root = rootfs.RootFs()
        self.root.program("busybox", "usr/bin/busybox")
        self.root.symlink("usr/bin/sh", "busybox")
        for tool in "ip tc bpftool nsenter unshare".split():
            self.root.program(tool)
        self.root.program(self._compiled("prog-load", ["-lbpf"]), "km/prog-load")
        self.root.copy(GUEST / "init", "init")
        self.root.copy(GUEST / "lib.sh", "km/lib.sh")
        self.root.directory("km/objects")
        for suite in sorted((GUEST / "suites").iterdir()):
            if suite.is_file():
                self.root.copy(suite, f"km/suites/{suite.name}")

    def add_object(self, file):
        self.root.copy(file, f"km/objects/{file.name}")

    def add_doppel(self, binary):
        self.root.program(binary, "km/doppel")

    def add_bpf_tests(self, binary):
        self.root.program(binary, "km/bpf-tests")

    def add_lab(self):
        """tests/net/lab, and what it needs: Python and the tools that it calls."""
        for tool in LAB_TOOLS:
            self.root.program(tool)
        # memcached -u root looks it up
        self.root.write("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        self.root.write("etc/group", b"root:x:0:\n")
        for file in sorted((TREE / "tests/net/lab").glob("*.py")):
            self.root.copy(file, f"km/lab/{file.name}")
        self.root.copy(GUEST / "report.py", "km/report.py")
        self._add_python()

    def save(self, kernel, suites, shell):
        chain = kernel.module_chain(MODULES)
        for name, image in chain:
            self.root.write(f"km/modules/{name}.ko", image)
        self.root.write("km/modules/order", "".join(f"{name}\n" for name, _ in chain).encode())
        config = f"KM_KERNEL={kernel.name}\nKM_SUITES='{' '.join(suites)}'\nKM_SHELL={int(shell)}\n"
        self.root.write("km/config", config.encode())
        archive = self.work / f"{kernel.name}.cpio"
        self.root.save(archive)
        return archive

    def _compiled(self, name, flags):
        """A program of the guest's own, compiled anew only when something of it changed."""
        source = GUEST / f"{name}.cpp"
        binary = self.work / name
        parts = [source, *(TREE / "include/doppel").iterdir()]
        if not binary.exists() or binary.stat().st_mtime < max(p.stat().st_mtime for p in parts):
            command = ["c++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror"]
            command += [f"-I{TREE / 'include'}", "-o", binary, source, *flags]
            subprocess.run([str(word) for word in command], check=True)
        return binary

    def _add_python(self):
        real = PYTHON.resolve()
        if not real.exists():
            raise rootfs.Missing(f"{PYTHON} is not installed")
        self.root.program(real)
        self.root.symlink("usr/bin/python3", real.name)
        library = pathlib.Path("/usr/lib") / real.name
        for file in library.rglob("*"):
            part = file.relative_to(library).parts[0]
            if not file.is_file() or part in PYTHON_UNUSED or part.startswith("config-"):
                continue
            if file.suffix == ".so":
                self.root.linked(file, str(file))
            else:
                self.root.copy(file)
