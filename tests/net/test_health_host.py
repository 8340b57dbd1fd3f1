# SPDX-License-Identifier: Apache-2.0
"""What `doppel status` says where the host was changed around a mirror, and where somebody ends it."""

import subprocess

from harness import MODES, case
from lab import doppel, wait
from lab.bpf import Neighbour
from lab.keeper import File
from patient import HOW, STOPPED, TARGET, Patient
from test_clock import say


def assert_first(p, words):
    code, said = p.scene.doppel.health()
    assert code == STOPPED and words in said["problems"][0]["what"], said


@case(how=HOW, by=("del", "replace"))
def clock_gone(env, how, by):
    """With `attach` alone that is told; a keeper puts it back."""
    p = Patient(env, how, load=None)
    source = p.scene.lab.source
    if p.keeper:
        p.keeper.come_to_rest()
    source.run(["tc", "qdisc", by, "dev", "doppel1", "root", *(["pfifo"] if by == "replace" else [])])
    if p.keeper:
        p.until(lambda: "htb" in source.run(["tc", "qdisc", "show", "dev", "doppel1"]).stdout, "it to be back")
        assert p.lines("warning: ", "the qdisc of doppel1 was gone") or \
            p.lines("", "the qdisc of doppel1 was gone"), p.keeper.said()
        p.well()
        return
    p.falls_ill({"link"}, STOPPED)
    assert_first(p, "the qdisc htb of device doppel1 is gone")


@case(tcx=True, how=HOW)
def program_before_ours(env, how):
    """On the mirror's own device, where it keeps all copies: it is named, before the target that gets nothing."""
    p = Patient(env, how, load=None)
    client = p.client()
    other = Neighbour(p.scene.lab.source, "tcx-first", device="doppel0", hook="egress", verdict=0)
    say(client, b"kept")
    p.falls_ill({"silent"}, TARGET, others=(STOPPED,))
    assert_first(p, "neighbour on doppel0 egress")
    other.close()
    p.client().close()  # whose SYN is answered: all the others are tried again, before their time
    p.well()
    client.close()


@case(how=HOW, program=("doppel_command", "doppel_return"))
def pin_gone(env, how, program):
    """All that runs goes on; a process cannot drain it any more, or a device that comes gets no program. Whoever
    reviews the mirror next loads the program again: a keeper may, before anybody is told."""
    p = Patient(env, how, load=None)
    source = p.scene.lab.source
    pin = f"/sys/fs/bpf/doppel/v{doppel.abi()}/progs/{program}"
    source.run(["rm", pin])
    if p.keeper:
        p.keeper.reload()
    else:
        p.falls_ill({"program"}, STOPPED)
        assert_first(p, f"{pin} was removed")
        p.scene.doppel.run("reload")
    source.run(["ls", pin])
    p.recovers({"program"})
    p.client().close()
    p.scene.doppel.detach(check=False)
    assert p.scene.doppel.health()[0] == 3, "detached"


@case(mode=("tcx", "clsact"), program=("doppel_ingress", "doppel_return"))
def pin_comes_back(env, mode, program):
    """The program that is loaded again takes the place of the one that ran: no packet is taken twice."""
    scene = env.scene()
    file = File(scene, ("data", 11211))
    scene.doppel.attach("--config", file.path)

    def hooks():
        return sorted((h["device"], h["hook"], h["program"]) for h in scene.doppel.status()["hooks"])
    before = hooks()
    scene.lab.source.run(["rm", f"/sys/fs/bpf/doppel/v{doppel.abi()}/progs/{program}"])
    scene.doppel.run("reload")
    assert hooks() == before, (hooks(), before)
    status = scene.doppel.status()
    assert status["whole"] and not status["warnings"], status


@case(how=HOW)
def own_ports_moved(env, how):
    """Onto those of shadows: what answers a connection of this host from such a port is consumed."""
    p = Patient(env, how, load=None)
    source = p.scene.lab.source
    source.sysctl("net/ipv4/ip_local_port_range", "16384 16400")
    problem = p.falls_ill({"host"}, STOPPED)
    assert_first(p, "overlaps net.ipv4.ip_local_port_range (16384-16400)")
    assert "shadow_ports" in problem["do"], problem
    source.sysctl("net/ipv4/ip_local_reserved_ports", "16384-32767")
    if not p.keeper:  # which looks each half a minute, and may have seen it or not
        p.recovers({"host"})


@case(change=("prohibit", "unreachable", "gateway", "local", "gone"))
def route_changed(env, change):
    """With `attach` alone copies go on as they did, and `status` tells that they should not."""
    p = Patient(env, "attach", load=None)
    source, target = p.scene.lab.source, p.scene.lab.target.address4
    there, back = {
        "prohibit": (["rule", "add", "to", target, "prohibit"], ["rule", "del", "to", target, "prohibit"]),
        "unreachable": (["route", "add", "unreachable", f"{target}/32"], ["route", "del", "unreachable", f"{target}/32"]),
        "gateway": (["route", "add", f"{target}/32", "via", p.scene.lab.client.address4], ["route", "del", f"{target}/32"]),
        "local": (["addr", "add", f"{target}/32", "dev", "lo"], ["addr", "del", f"{target}/32", "dev", "lo"]),
        "gone": (["route", "flush", "dev", "eth0"], ["route", "add", f"{target}/24", "dev", "eth0"]),
    }[change]
    if change == "gone":
        back[2] = target.rsplit(".", 1)[0] + ".0/24"
    source.run(["ip", *there])
    p.falls_ill({"host"}, STOPPED)
    assert_first(p, f"target {target}: ")
    source.run(["ip", *back])
    p.recovers({"host"})


@case(mode=MODES)
def detach_under_way(env, mode):
    """An ordinary drain is no interrupted detach."""
    p = Patient(env, "attach", load=None)
    client = p.client()
    p.scene.lab.lose("source", "target", 1000, "tcp dport 11211")
    say(client, b"waits")
    detach = p.scene.lab.source.popen([doppel.binary(), "detach", "--drain", "8s"], stdout=subprocess.DEVNULL)
    wait.until(lambda: p.scene.doppel.status()["paused"], "it to begin")
    while detach.poll() is None:
        code, said = p.scene.doppel.health()
        text = str(said["problems"])
        if not said["paused"]:
            break
        assert "interrupted" not in text and "doppel detach" not in text and not said["missing"], said
        first = said["problems"][0]
        assert code == STOPPED and "a detach is under way" in first["what"], said
    detach.wait(wait.patience(20))
    client.close()
