# SPDX-License-Identifier: Apache-2.0
"""Many mappings in one file, each with a row of its own in the ledger."""

import subprocess
import time

from harness import case
from lab import doppel, wait
from lab.keeper import File
from lab.traffic import set_command

INSTANCES = range(11211, 11281)
MANY = range(1000, 2024)


def instances(host):
    """One memcached that listens at all ports: what matters here is who is told apart."""
    host.popen(["memcached", "-u", "root", "-l", ",".join(f"0.0.0.0:{p}" for p in INSTANCES), "-t", "2", "-m", "64"],
               stdin=subprocess.DEVNULL)
    wait.until(lambda: host.listens(INSTANCES[0]) and host.listens(INSTANCES[-1]), f"memcached on {host.name}")


def file_of(scene, ports, **settings):
    file = File(scene)
    file.write(*((f"p{port}", port) for port in ports), **settings)
    return file


@case()
def seventy_instances(env):
    """70 mappings, six more than there is room for by default; each port gets another number of bytes."""
    scene = env.scene(ports=(), target_runs=False)
    for host in (scene.lab.source, scene.lab.target):
        instances(host)
    file = file_of(scene, INSTANCES)
    scene.doppel.attach("--config", file.path)
    sent, clients = {}, []
    for n, port in enumerate(INSTANCES):
        request = set_command(b"key%d" % port, 10 + n)
        client = scene.lab.client.connect(scene.lab.source.address, port)
        client.sendall(request)
        assert client.recv(100) == b"STORED\r\n"
        sent[f"p{port}"] = len(request)
        clients.append(client)
    scene.doppel.wait_idle(observed=sum(sent.values()))
    rows = {m["name"]: m["targets"][0]["bytes"] for m in scene.doppel.counters()["mappings"]}
    assert {name: b["observed"] for name, b in rows.items()} == sent, rows
    assert {name: b["delivered"] for name, b in rows.items()} == sent, rows
    file.write(*((f"p{port}", port) for port in range(11211, 11291)))
    refused = scene.doppel.run("reload", check=False)
    assert refused.returncode != 0 and "max_mappings" in refused.stderr, refused.stderr
    assert len(scene.doppel.counters()["mappings"]) == 70
    file.write(*((f"p{port}", port) for port in INSTANCES[:60]))
    scene.doppel.run("reload")
    rows = {m["name"]: m["targets"][0]["bytes"] for m in scene.doppel.counters()["mappings"]}
    assert {name: b["delivered"] for name, b in rows.items()} == {k: sent[k] for k in list(sent)[:60]}, rows
    scene.doppel.detach()


@case()
def a_thousand_and_twenty_four(env):
    """All that a file may have: attach, status, counters, reload and detach take seconds; one more is refused."""
    scene = env.scene(ports=())
    file = file_of(scene, MANY)
    took = {}

    def timed(what, *arguments, check=True):
        begin = time.monotonic()
        done = scene.doppel.run(*arguments, check=check, timeout=120)
        took[what] = time.monotonic() - begin
        return done

    timed("attach", "attach", "--config", file.path)
    timed("status", "status", check=False)
    timed("counters", "counters", "--json")
    counters = scene.doppel.counters()
    assert [m["name"] for m in counters["mappings"]] == [f"p{p}" for p in MANY]
    assert not doppel.violations(counters)
    timed("reload of the same", "reload")
    file.write(*((f"p{port}", port) for port in MANY[:512]))
    timed("reload to half", "reload", "--drain", "0ms")
    file.write(*((f"p{port}", port) for port in MANY))
    timed("reload to all", "reload", "--drain", "0ms")
    assert len(scene.doppel.counters()["mappings"]) == 1024
    file.write(*((f"p{port}", port) for port in range(1000, 2025)))
    refused = scene.doppel.run("reload", check=False)
    assert refused.returncode == 2 and "1025 mappings are more than the 1024 that fit" in refused.stderr, refused.stderr
    timed("detach", "detach", "--drain", "0ms")
    print("      " + ", ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items()))


@case()
def a_range_by_port(env):
    """One mapping of 70 ports, each with a row of its own; counters show them by their ports."""
    scene = env.scene(ports=(), target_runs=False)
    for host in (scene.lab.source, scene.lab.target):
        instances(host)
    target = {"address": scene.lab.target.address, "port": INSTANCES[0]}
    file = File(scene, {"name": "data", "device": "eth0", "ports": f"{INSTANCES[0]}-{INSTANCES[-1]}", "by_port": True,
                        "targets": [target]})
    scene.doppel.attach("--config", file.path)
    sent = {}
    for n, port in enumerate(INSTANCES[::7]):
        request = set_command(b"key%d" % port, 10 + n)
        with scene.lab.client.connect(scene.lab.source.address, port) as client:
            client.sendall(request)
            assert client.recv(100) == b"STORED\r\n"
        sent[f"data.{port}"] = len(request)
    scene.doppel.wait_idle(observed=sum(sent.values()))
    rows = {m["name"]: m for m in scene.doppel.counters()["mappings"]}
    assert len(rows) == len(INSTANCES)
    assert {name: m["targets"][0]["bytes"]["delivered"] for name, m in rows.items()} == \
        {f"data.{port}": sent.get(f"data.{port}", 0) for port in INSTANCES}
    assert rows["data.11218"]["ports"] == "11218"
    lines = scene.doppel.run("counters", "--by", "port").stdout.splitlines()
    ports = [line.split()[0] for line in lines if " data." in line]
    assert ports == [str(port) for port in INSTANCES], lines
    scene.doppel.detach()
