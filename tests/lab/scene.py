# SPDX-License-Identifier: Apache-2.0
"""What nearly every test starts from: a lab with memcached on source and target, watched."""

from . import doppel, health, load, memcached, wait
from .network import Lab, endpoint
from .watch import Watch


class Scene:
    def __init__(self, attach_mode=None, ports=(11211,), target_runs=True, memory_mb=512, **lab):
        self.ports = ports
        self.lab = Lab(**lab)
        self.doppel = doppel.Doppel(self.lab.source, attach_mode)
        try:
            self.source = [memcached.Server(self.lab.source, p, memory_mb) for p in ports]
            self.target = []
            if target_runs:
                self.start_target(memory_mb)
            self.watch = Watch(self.lab)
            self.health = health.Baseline(self.lab)
        except BaseException:
            self.lab.close()
            raise

    def start_target(self, memory_mb=512):
        self.target = [memcached.Server(self.lab.target, p, memory_mb) for p in self.ports]

    def mapping(self):
        """Options of `attach` that mirror all ports of this scene to the target."""
        options = ["--device", "eth0"]
        for port in self.ports:
            options += ["-x", f"{port}-{endpoint(self.lab.target.address, port)}"]
        return options

    def attach(self):
        return self.doppel.attach(*self.mapping())

    def load(self, kind, **options):
        """Runs a load to its end; an error that a client saw is a failure."""
        return load.run(self.lab, kind, **options)

    def start(self, kind, **options):
        return load.Load(self.lab, kind, **options)

    def assert_same(self, keys=None, minimum=1):
        """The target holds what the source holds: keys, flags and values."""
        for source, target in zip(self.source, self.target):
            want = source.contents()
            wrong = memcached.differences(want, target.contents())
            if wrong:
                raise AssertionError(f"port {source.port}: " + "; ".join(wrong))
            if keys is not None and len(want) != keys:
                raise AssertionError(f"port {source.port}: {len(want)} keys instead of {keys}")
            if len(want) < minimum:
                raise AssertionError(f"port {source.port}: nothing was stored")

    def assert_same_commands(self):
        """memcached counts the same commands on both sides."""
        names = ("cmd_set", "cmd_get", "get_hits", "delete_hits", "total_items")
        for source, target in zip(self.source, self.target):
            def equal(source=source, target=target):
                a, b = source.stats(), target.stats()
                return all(a[n] == b[n] for n in names)
            try:
                wait.until(equal, "equal command counters", 2)
            except wait.Timeout:
                a, b = source.stats(), target.stats()
                raise AssertionError(f"port {source.port}: source and target differ: " + ", ".join(
                    f"{n} {a[n]} and {b[n]}" for n in names if a[n] != b[n])) from None

    def assert_all_delivered(self, sent):
        """The ledger is exact, complete, and agrees with what the clients sent."""
        ledger = self.doppel.wait_idle(observed=sent)
        b = ledger["bytes"]
        if b != {"observed": sent, "delivered": sent, "in_flight": 0, "lost": 0, "excluded": 0}:
            raise AssertionError(f"the clients sent {sent} bytes, the ledger says {b}, "
                                 f"lost {ledger['lost']}, excluded {ledger['excluded']}")
        return ledger

    def assert_harmless(self, resets_to_target=False, resets_to_client=False,
                        hosts=("client", "source", "target")):
        """No frame left that must not, and nobody received anything corrupt."""
        found = self.watch.report()
        if resets_to_target:
            found.pop("rst-to-target", None)
        if resets_to_client:
            found.pop("rst-to-client", None)
        if found:
            raise AssertionError("frames left the source that must not: " + "; ".join(
                f"{what}: {len(frames)}, first {frames[0]}" for what, frames in found.items()))
        moved = self.health.moved(hosts=hosts)
        if moved:
            raise AssertionError("; ".join(moved))

    def diagnosis(self):
        """Text about the state of everything, for a test that failed."""
        said = []
        for what in ("status", "counters", "flows"):
            done = self.doppel.run(what, check=False, timeout=20)
            lines = (done.stdout + done.stderr).splitlines()
            said += [f"--- doppel {what} (exit code {done.returncode})", *lines[:60]]
            if len(lines) > 60:
                said.append(f"... {len(lines) - 60} more lines")
        for side, servers in (("source", self.source), ("target", self.target)):
            for server in servers:
                if server.process.poll() is not None:
                    said.append(f"--- memcached on {side}:{server.port} is not running")
                    continue
                stats = server.stats()
                said.append(f"--- memcached on {side}:{server.port}: " + ", ".join(
                    f"{n} {stats[n]}" for n in ("curr_connections", "curr_items", "cmd_set", "cmd_get",
                                                "bytes_read", "evictions")))
        said += ["--- error counters", *self.health.moved(health.CORRUPTION + health.DISTURBANCE + health.CLUES)]
        # Columns 1 and 2 are packets taken and dropped by each CPU, of the whole machine: veth has no
        # queue but this one of net.core.netdev_max_backlog packets.
        said += ["--- /proc/net/softnet_stat (machine)",
                 *(line[:26] for line in self.lab.source.proc_net("softnet_stat").splitlines())]
        # Of a shadow that is stuck: rcv_ooopack tells a hole in what the target got.
        said += ["--- ss -tin on target", *self.lab.target.run(
            ["ss", "-tinmH", "src", self.lab.target.address], check=False).stdout.splitlines()[:24]]
        for host in (self.lab.source, self.lab.target):
            said += [f"--- ip -s link on {host.name}",
                     *host.run(["ip", "-s", "link", "show"], check=False).stdout.splitlines()]
        return "\n".join(said)

    def close(self):
        self.watch.close()
        self.lab.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
