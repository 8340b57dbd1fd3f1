# SPDX-License-Identifier: Apache-2.0
"""Scenes with a mapping that converges, and what is told of it."""

from lab import tcp, wait
from lab.keeper import keep
from lab.network import endpoint

CONVERGE = {"application": "memcached", "converge": True}


def state(scene, name="p11211"):
    """What `counters` says of the mapping: {"waiting": …, "repaired": …, "missed": …, "working": …}"""
    rows = scene.doppel.counters()["mappings"]
    return next(m["converge"] for m in rows if m["name"] == name)


def at_rest(scene, name="p11211", timeout=60):
    """Until all that was noted is compared."""
    scene.doppel.wait_idle()

    def done():
        now = state(scene, name)
        return now["working"] and now["noted"] == events(scene, name)["key_noted"] and now["waiting"] == 0
    wait.until(done, "all keys to be compared", timeout)


def events(scene, name="p11211"):
    """What capture has counted of the mapping's keys, and all else."""
    rows = scene.doppel.counters()["mappings"]
    return next(m["targets"][0]["events"] for m in rows if m["name"] == name)


def tell(scene, *requests):
    """What a client says and hears: (request, the line that answers it)."""
    with tcp.connect(scene.lab.client, scene.lab.source.address) as s:
        reader = s.makefile("rb")
        for request, answer in requests:
            s.sendall(request)
            said = reader.readline()
            assert said == answer, f"{request!r}: {said!r} instead of {answer!r}"


def difference(scene):
    """What `verify --all` counts, which must be nothing."""
    done = scene.doppel.run("verify", "--all", "--json", endpoint(scene.lab.source.address, 11211),
                            endpoint(scene.lab.target.address, 11211), check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def converging(env):
    """A source whose hundred keys nobody has copied."""
    scene = env.scene()
    scene.source[0].preload(100, b"1000")
    keeper = keep(scene, CONVERGE)
    wait.until(lambda: state(scene)["working"], "the mapping to converge", 20)
    return scene, keeper


def children(pid):
    """Ids of the processes that this one has started."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def token_of(scene, key):
    """Its CAS on the source."""
    with scene.source[0].admin() as admin:
        admin.socket.sendall(b"mg %s c\r\n" % key)
        return admin.reader.readline().split()[1][1:]
