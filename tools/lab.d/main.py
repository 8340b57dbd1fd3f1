# SPDX-License-Identifier: Apache-2.0
"""A lab that stays, for trying things out by hand.

    tools/lab up [--offload MODE] [--static-arp] [--memcached]
    tools/lab exec source doppel status        any command on client, source, target or switch
    tools/lab shell source                     an interactive shell there
    tools/lab status
    tools/lab down

Several labs can be up at the same time: give each a --name.
"""

import argparse
import json
import os
import sys

from lab import doppel, memcached
from lab.host import start_ticks
from lab.network import OFFLOADS, Lab

STATE = "/run/doppel-lab"


def state_path(name):
    return os.path.join(STATE, f"{name}.json")


def load_state(name):
    """The lab of that name, or None if there is none; what a reboot left is forgotten."""
    try:
        with open(state_path(name), encoding="ascii") as f:
            holders = json.load(f)
    except FileNotFoundError:
        return None
    pids = {}
    for host, (pid, ticks) in holders.items():
        try:
            if start_ticks(pid) == ticks:
                pids[host] = pid
        except FileNotFoundError:
            pass
    if not pids:
        os.unlink(state_path(name))
        return None
    return pids


def existing(name):
    pids = load_state(name)
    if pids is None:
        sys.exit(f"there is no lab {name}; make one: tools/lab up")
    return pids


def up(args):
    if load_state(args.name):
        sys.exit(f"lab {args.name} is up already; remove it: tools/lab down")
    lab = Lab(offload=args.offload, static_arp=args.static_arp, persistent=True)
    try:
        os.makedirs(STATE, mode=0o700, exist_ok=True)
        with open(state_path(args.name), "w", encoding="ascii") as f:
            json.dump({name: (host.pid, start_ticks(host.pid)) for name, host in lab.hosts.items()}, f)
        if args.memcached:
            for name in ("source", "target"):
                memcached.Server(lab[name])
    except BaseException:
        lab.close()
        raise
    status(args)


def status(args):
    pids = existing(args.name)
    lab = Lab.adopt(pids)
    for name, host in lab.hosts.items():
        print(f"{name:<8} {host.address or '':<12} {host.address6 or '':<10} "
              f"processes: {len(host.inhabitants()) - 1}")


def enter(args, command):
    pids = existing(args.name)
    if args.host not in pids:
        sys.exit(f"no host {args.host}; there are: {' '.join(pids)}")
    if not command:
        sys.exit("no command given")
    os.environ["PATH"] = os.path.dirname(doppel.binary()) + os.pathsep + os.environ["PATH"]
    os.execvp("nsenter", ["nsenter", "--target", str(pids[args.host]), "--net", "--mount", "--uts",
                          f"--wd={os.getcwd()}", "--", *command])


def down(args):
    Lab.adopt(existing(args.name)).close()
    os.unlink(state_path(args.name))


def main():
    p = argparse.ArgumentParser(prog="tools/lab", description=__doc__,
                                formatter_class=argparse.RawTextHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    for name in ("up", "status", "down", "exec", "shell"):
        sub = commands.add_parser(name)
        sub.add_argument("--name", default="default", help="of the lab")
        if name == "up":
            sub.add_argument("--offload", choices=sorted(OFFLOADS), default="default")
            sub.add_argument("--static-arp", action="store_true")
            sub.add_argument("--memcached", action="store_true",
                             help="start a server on port 11211 of source and target")
        if name in ("exec", "shell"):
            sub.add_argument("host", choices=("client", "source", "target", "switch"))
        if name == "exec":
            sub.add_argument("argv", nargs=argparse.REMAINDER)
    args = p.parse_args()
    if os.geteuid() != 0:
        sys.exit("tools/lab: needs root")
    if args.command in ("exec", "shell"):
        shell = [os.environ.get("SHELL", "/bin/bash"), "-i"]
        enter(args, args.argv if args.command == "exec" else shell)
    {"up": up, "status": status, "down": down}[args.command](args)


if __name__ == "__main__":
    main()
