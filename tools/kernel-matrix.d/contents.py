# SPDX-License-Identifier: Apache-2.0
"""What goes into the guest's root: tools of this machine, the suites, and what was built."""

import pathlib
import shlex
import shutil
import subprocess

import rootfs

HERE = pathlib.Path(__file__).resolve().parent
TREE = HERE.parent.parent
GUEST = HERE / "guest"

# Where the kernel has them as modules; their dependencies come along.
MODULES = """
    veth bridge dummy 8021q macvlan vxlan ip_gre bonding tcp_diag xfrm_user
    sch_ingress cls_bpf act_bpf cls_u32 cls_matchall act_mirred act_gact sch_netem sch_fq sch_prio sch_tbf
    sch_htb
    nf_tables nft_numgen nft_limit nft_quota nft_reject_ipv4 nft_fwd_netdev inet_diag
    nf_conntrack nf_conntrack_netlink nft_chain_nat nft_nat nft_redir nft_ct
""".split()

# busybox has applets of some of these names, which lack options that the tests use.
TOOLS = "ip tc ss nft ethtool bpftool nsenter unshare setpriv hostname mount sleep memcached".split()

# What tests/net/test_programs.py and test_interrupted.py run.
PROGRAMS = "nginx nghttpd h2load nutcracker strace".split()

# The interpreter of the system, not one that its user put before it: its library is in one place.
PYTHON = pathlib.Path("/usr/bin/python3")
PYTHON_UNUSED = {
    "__phello__", "dist-packages", "distutils", "ensurepip", "idlelib", "lib2to3",
    "pydoc_data", "test", "tkinter", "turtledemo", "venv", "wsgiref", "xmlrpc",
}


class Contents:
    """Collects the root for one kind of run; save() writes the archive for one kernel."""

    def __init__(self, work):
        self.work = work
        self.root = rootfs.RootFs()
        self.root.program("busybox", "usr/bin/busybox")
        # Not busybox's shell, which prefers its own applets to the programs of these names.
        self.root.program("dash")
        self.root.symlink("usr/bin/sh", "dash")
        for tool in TOOLS:
            self.root.program(tool)
        self.root.program(prog_load(work), "km/prog-load")
        self.root.copy(GUEST / "init", "init")
        self.root.copy(GUEST / "lib.sh", "km/lib.sh")
        self.root.directory("km/objects")
        for suite in sorted((GUEST / "suites").iterdir()):
            if suite.is_file():
                self.root.copy(suite, f"km/suites/{suite.name}")

    def add_object(self, file):
        self.root.copy(file, f"km/objects/{file.name}")

    def add_program(self, binary, name):
        """What was built here, without what only a debugger reads."""
        stripped = self.work / f"{binary.name}.stripped"
        subprocess.run(["strip", "--strip-debug", "-o", str(stripped), str(binary)], check=True)
        self.root.program(stripped, name)
        stripped.unlink()

    def add_lab(self):
        """The lab and tests/net as they lie in the tree, and Python."""
        # memcached -u root looks it up
        self.root.write("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        self.root.write("etc/group", b"root:x:0:\n")
        files = [TREE / "tools/doppel.service", TREE / "tests/net/run", TREE / "tests/lab/python"]
        for part in ("tests/lab", "tests/net"):
            files += (TREE / part).glob("*.py")
        for program in filter(shutil.which, PROGRAMS):
            self.root.program(program)
        for file in files:
            self.root.copy(file, f"km/tree/{file.relative_to(TREE)}")
        self.root.copy(GUEST / "report.py", "km/report.py")
        self._add_python()

    def save(self, kernel, config):
        """`config`: {name: value}, for the guest's shell."""
        chain = kernel.module_chain(MODULES)
        for name, image in chain:
            self.root.write(f"km/modules/{name}.ko", image)
        self.root.write("km/modules/order", "".join(f"{name}\n" for name, _ in chain).encode())
        config = {"KM_KERNEL": kernel.name, **config}
        lines = [f"{name}={shlex.quote(str(value))}\n" for name, value in config.items()]
        self.root.write("km/config", "".join(lines).encode())
        archive = self.work / f"{kernel.name}.cpio"
        self.root.save(archive)
        return archive

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


def prog_load(work):
    """The loader of single programs, compiled anew only when something of it changed."""
    source = GUEST / "prog-load.cpp"
    binary = work / "prog-load"
    parts = [source, *(TREE / "include/doppel").iterdir()]
    if not binary.exists() or binary.stat().st_mtime < max(p.stat().st_mtime for p in parts):
        work.mkdir(parents=True, exist_ok=True)
        command = ["c++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror"]
        command += [f"-I{TREE / 'include'}", "-o", binary, source, "-lbpf"]
        subprocess.run([str(word) for word in command], check=True)
    return binary
