# SPDX-License-Identifier: Apache-2.0
"""Servers and proxies as people run them: each has habits of its own about connections."""

import os
import re
import shutil
import subprocess
import tempfile

from harness import Skip, case
from lab import memcached, mirror, wait
from lab.books import named, tell
from lab.keeper import keep
from lab.tcp import connect
from lab.wait import amount

PORT = 8080


def need(program):
    if not shutil.which(program):
        raise Skip(f"{program} is not installed (tools/install-deps tests)")


class Nginx:
    """Answers every request with "ok", and keeps what was asked. `settings` go into its server."""

    def __init__(self, scene, host, settings=""):
        self.directory = tempfile.TemporaryDirectory()
        self.log = os.path.join(self.directory.name, "log")
        where = self.directory.name
        with open(os.path.join(where, "conf"), "w", encoding="utf-8") as f:
            f.write(f"""
daemon off; user root; worker_processes 1; pid {where}/pid; error_log {where}/error;
events {{ worker_connections 512; }}
http {{
  log_format asked '$request_uri'; access_log {self.log} asked;
  client_body_temp_path {where}/a; proxy_temp_path {where}/b; fastcgi_temp_path {where}/c;
  uwsgi_temp_path {where}/d; scgi_temp_path {where}/e;
  server {{ listen {PORT}; {settings} location / {{ return 200 "ok\\n"; }} }}
}}
""")
        self.process = host.popen(["nginx", "-c", f"{where}/conf", "-e", f"{where}/error"], stdin=subprocess.DEVNULL)
        wait.until(lambda: host.listens(PORT), f"nginx on {host.name}")

    def asked(self):
        with open(self.log, encoding="utf-8") as f:
            return f.read().split()


@case(settings=("keepalive_requests 10;", "keepalive_timeout 1s;"))
def nginx(env, settings):
    """The target ends a connection after ten requests, or after a second without one; the source does not."""
    need("nginx")
    scene = env.scene(target_runs=False, ports=())
    source = Nginx(scene, scene.lab.source)
    target = Nginx(scene, scene.lab.target, settings)
    scene.ports = (PORT,)
    keep(scene)
    clients = [connect(scene.lab.client, scene.lab.source.address, PORT) for _ in range(8)]
    sent, wanted = 0, []

    def turn(number):
        nonlocal sent
        for n, client in enumerate(clients):
            wanted.append(f"/{number}-{n}")
            request = f"GET {wanted[-1]} HTTP/1.1\r\nHost: lab\r\n\r\n".encode()
            client.sendall(request)
            sent += len(request)
        for client in clients:
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += client.recv(4096)
        wait.until(lambda: len(target.asked()) >= len(wanted), f"{len(wanted)} requests at the target", 5)
    for number in range(45 if "requests" in settings else 3):
        turn(number)
        if "timeout" in settings:
            wait.until(lambda: not scene.doppel.ledger()["flows"]["open"], "the target to end all connections")
    ledger = scene.doppel.wait_idle(observed=sent)
    print(f"      {tell(scene, ledger)}")
    assert sorted(target.asked()) == sorted(source.asked()) == sorted(wanted)
    scene.assert_all_delivered(sent)
    for client in clients:
        client.close()
    mirror.assert_nothing_left(scene, timeout=75)


@case()
def http2(env):
    """Old connections of HTTP/2: what begins in their middle is refused by the target, each time. After a few tries
    that is over, by name, with one line in the log; new connections are mirrored whole."""
    need("nghttpd")
    need("h2load")
    scene = env.scene(target_runs=False, ports=())
    root = tempfile.TemporaryDirectory()
    with open(os.path.join(root.name, "index.html"), "w", encoding="utf-8") as f:
        f.write("ok\n")
    log = tempfile.TemporaryFile("w+")
    for host, out in ((scene.lab.source, subprocess.DEVNULL), (scene.lab.target, log)):
        host.popen(["nghttpd", "--no-tls", "-v", "-d", root.name, PORT], stdin=subprocess.DEVNULL, stdout=out)
        wait.until(lambda: host.listens(PORT), f"nghttpd on {host.name}")

    def load(*options):
        return scene.lab.client.popen(["h2load", "-c", 4, "-m", 1, *options, f"http://{scene.lab.source.address}:{PORT}/"],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    old = load("-n", 8000, "--rps", 250)
    scene.ports = (PORT,)
    wait.until(lambda: scene.lab.source.run(["ss", "-Htn", "state", "established", f"sport = :{PORT}"]).stdout.count("\n") >= 4,
               "the old connections")
    keeper = keep(scene, backoff_ms=10)
    out = old.communicate(timeout=wait.patience(60))[0]
    assert "8000 succeeded" in out, out
    ledger = scene.doppel.wait_idle()
    print(f"      {tell(scene, ledger)}")
    keeper.wait_for('"join": "never"')
    assert named(ledger, "unjoinable"), tell(scene, ledger)
    assert keeper.said().count('"join": "never"') == 1, keeper.said()
    out = load("-n", 400).communicate(timeout=wait.patience(60))[0]
    assert "400 succeeded" in out, out
    ledger = scene.doppel.wait_idle()
    assert ledger["flows"]["opened"] == 4 and not ledger["flows"]["broken"], tell(scene, ledger)

    def taken():
        log.seek(0)
        return len(re.findall(r"recv.*HEADERS frame", log.read()))
    wait.until(lambda: taken() == 400, "400 requests at the target")
    mirror.assert_nothing_left(scene, timeout=75)


@case()
def twemproxy(env):
    """A proxy asks the source for many clients over one connection, pipelined."""
    need("nutcracker")
    scene = env.scene()
    directory = tempfile.TemporaryDirectory()
    conf = os.path.join(directory.name, "conf")
    with open(conf, "w", encoding="utf-8") as f:
        f.write(f"""
lab:
  listen: 0.0.0.0:22121
  hash: fnv1a_64
  distribution: ketama
  server_connections: 1
  servers:
   - {scene.lab.source.address}:11211:1
""")
    scene.lab.client.popen(["nutcracker", "-c", conf, "-p", f"{directory.name}/pid", "-o", f"{directory.name}/log"],
                           stdin=subprocess.DEVNULL)
    wait.until(lambda: scene.lab.client.listens(22121), "the proxy")
    keep(scene)
    load = scene.start("sets", address=scene.lab.client.address, port=22121, connections=50, count=amount(50000), largest=2000)
    with mirror.Sampler(scene):
        result = load.result()
    assert not result["errors"], result
    ledger = scene.doppel.wait_idle()
    print(f"      {tell(scene, ledger)}")
    assert ledger["flows"]["opened"] == 1 and not ledger["flows"]["broken"], ledger["flows"]
    scene.assert_same(keys=amount(50000))
    assert ledger["bytes"]["lost"] == ledger["bytes"]["excluded"] == 0, tell(scene, ledger)
