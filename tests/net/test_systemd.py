# SPDX-License-Identifier: Apache-2.0
"""The unit under a real systemd: its limits, its signals, and what systemd makes of how the keeper ends."""

import os
import signal

from harness import Skip, case
from lab import snapshot, systemd, wait
from lab.keeper import File
from lab.load import checked
from lab.wait import amount


def boot(env, *mappings, **scene):
    """(scene, the host's state before, systemd), with a service that is not started yet."""
    if not systemd.installed():
        raise Skip("systemd is not installed (tools/install-deps installs it)")
    scene = env.scene(**scene)
    before = snapshot.take(scene.lab.source)
    service = systemd.Systemd(scene, File(scene, *(mappings or [("data", 11211)])))
    env.guests.append(service)
    return scene, before, service


def assert_nothing_left(scene, before):
    changes = snapshot.changes(before, snapshot.take(scene.lab.source))
    assert not changes, "\n".join(changes)


@case(slow=True)
def restarts_lose_nothing(env):
    """Three times `systemctl restart`, and once a keeper that is killed, under 1,000 sets a second."""
    scene, before, service = boot(env)
    service.systemctl("start", "doppel")
    load = scene.start("sets", connections=20, count=1_000_000, rate=amount(1000))

    def more_arrives():
        before = scene.target[0].stats()["cmd_set"]
        wait.until(lambda: scene.target[0].stats()["cmd_set"] > before + amount(1000), "more of the load to arrive", 20)
    for times in range(1, 4):
        more_arrives()
        service.systemctl("restart", "doppel")
        service.wait_for_log("adopted", times)
    more_arrives()
    os.kill(service.main_pid(), signal.SIGKILL)
    service.wait_for_log("adopted", 4)
    more_arrives()
    assert load.running(), "the load is over"
    result = checked(load.end())
    scene.assert_all_delivered(result["sent"])
    scene.assert_same(keys=result["commands"])
    assert scene.doppel.ledger()["flows"]["joined"] == 0
    assert service.property("NRestarts") == "1" and service.state() == "active", service.said_by_systemd()
    service.systemctl("stop", "doppel")
    assert service.state() == "inactive", service.log()
    assert_nothing_left(scene, before)


@case()
def a_detach_is_not_undone(env):
    """An operator's `detach` ends the service without a failure, which would start it anew."""
    scene, before, service = boot(env)
    service.systemctl("start", "doppel")
    scene.assert_all_delivered(scene.load("sets", connections=4, count=100)["sent"])
    scene.doppel.detach()
    wait.until(lambda: service.state() == "inactive", "the service to end", 20)
    assert service.property("Result") == "success" and service.property("NRestarts") == "0", service.log()
    assert_nothing_left(scene, before)


@case()
def reload_answers(env):
    """With the file's errors and the old state, or with the new state."""
    scene, _, service = boot(env, ports=(11211, 11212))
    service.systemctl("start", "doppel")
    service.file.write(("data", 11211), unknown=1)
    service.configure()
    refused = service.systemctl("reload", "doppel", check=False)
    assert refused.returncode == 1 and "unknown" in service.log(), service.log()
    service.file.write(("data", 11211), ("more", 11212))
    service.configure()
    service.systemctl("reload", "doppel")
    assert "added more" in service.log(), service.log()
    scene.assert_all_delivered(scene.load("sets", port=11212, connections=4, count=100)["sent"])


@case()
def an_error_of_the_file_is_final(env):
    """No restart helps: the unit fails, and says why."""
    _, _, service = boot(env)
    service.file.text("{")
    service.configure()
    refused = service.systemctl("start", "doppel", check=False)
    assert refused.returncode == 1 and service.state() == "failed", refused
    assert service.property("ExecMainStatus") == "2" and service.property("NRestarts") == "0", service.log()


@case()
def starts_before_its_network(env):
    """The start is over at once, the status tells what is missing, and mirroring begins when it comes."""
    scene, before, service = boot(env)
    source = scene.lab.source
    service.file.write({**service.file.mapping("data", 11211), "device": "late0"})
    service.configure()
    service.systemctl("start", "doppel")
    assert "late0" in service.property("StatusText"), service.property("StatusText")
    source.run(["ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1"])
    wait.until(lambda: service.property("StatusText").startswith("Mirroring 1 mapping"), "the mirror", 20)
    service.systemctl("stop", "doppel")
    source.run(["ip", "link", "del", "late0"])
    assert_nothing_left(scene, before)
