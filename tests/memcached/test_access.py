# SPDX-License-Identifier: Apache-2.0
"""How a server is reached, and what it wants to see."""

import os
import socket
import subprocess

from harness import case

PASSWORD = "bob:secret\n"


def certificate(env, name, subject, signer=None):
    """A key and a certificate for 127.0.0.1 and ::1, signed by itself or by `signer`."""
    key, cert = env.path(f"{name}.key"), env.path(f"{name}.pem")
    by = ["-CA", env.path(f"{signer}.pem"), "-CAkey", env.path(f"{signer}.key")] if signer else []
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", f"/CN={subject}", "-addext", "subjectAltName=IP:127.0.0.1,IP:::1",
                    *by, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return key, cert


def works(env, pair, *options):
    for server in pair:
        server.fill(100)
    listed = env.run("keys", "--json", *options, pair[0])
    assert listed.code == 0 and len(listed.lines()) == 100, listed
    result = env.run("verify", "--all", "--json", *options, *pair)
    assert result.code == 0 and result.json()["equal"] == 100, result


def fails(env, server, text, *options):
    """Both commands say so, in time."""
    for words in (("keys", server), ("verify", server, server)):
        result = env.run(*words, *options)
        assert result.code == 1 and text in result.stderr and result.seconds < 60, result


@case(address=("unix", "127.0.0.1", "::1"))
def each_kind_of_address(env, address):
    works(env, [env.memcached(address=None if address == "unix" else address) for _ in range(2)])


@case()
def a_name(env):
    server = env.memcached(address="127.0.0.1")
    server.fill(100)
    result = env.run("keys", "--json", f"localhost:{server.target[1]}")
    assert result.code == 0 and len(result.lines()) == 100, result


@case(address=("127.0.0.1", "::1"))
def tls(env, address):
    key, cert = certificate(env, "server", "a server")
    _, other = certificate(env, "other", "another")
    pair = [env.memcached("-Z", "-o", f"ssl_chain_cert={cert},ssl_key={key}", address=address, tls=cert)
            for _ in range(2)]
    server = pair[0]
    works(env, pair, "--tls", "--ca", cert)
    fails(env, server, "its certificate is not trusted", "--tls")
    fails(env, server, "its certificate is not trusted", "--tls", "--ca", other)
    fails(env, server, "does it want TLS (--tls)?")
    wrong = env.run("keys", "--tls", "--ca", cert, f"localhost:{server.target[1]}")
    assert wrong.code == 1, wrong


@case()
def tls_only_for_the_name_that_was_asked_for(env):
    key, cert = certificate(env, "server", "a server")
    server = env.memcached("-Z", "-o", f"ssl_chain_cert={cert},ssl_key={key}", address="127.0.0.1", tls=cert)
    result = env.run("keys", "--tls", "--ca", cert, f"localhost:{server.target[1]}")
    assert result.code == 1 and "its certificate is not trusted: hostname mismatch" in result.stderr.lower(), result


@case()
def tls_to_a_server_without(env):
    _, cert = certificate(env, "server", "a server")
    fails(env, env.memcached(address="127.0.0.1"), "TLS", "--tls", "--ca", cert)


@case()
def a_certificate_of_the_client(env):
    key, cert = certificate(env, "server", "a server")
    client_key, client_cert = certificate(env, "client", "a client", signer="server")
    server = env.memcached("-Z", "-o", f"ssl_chain_cert={cert},ssl_key={key},ssl_verify_mode=2,ssl_ca_cert={cert}",
                           address="127.0.0.1")
    trust = ("--tls", "--ca", cert)
    result = env.run("keys", *trust, "--cert", client_cert, "--key", client_key, server)
    assert result.code == 0, result
    both = env.path("both.pem")
    with open(both, "wb") as out:
        for path in (client_cert, client_key):
            with open(path, "rb") as part:
                out.write(part.read())
    assert env.run("keys", *trust, "--cert", both, server).code == 0
    fails(env, server, "does it want a certificate of ours (--cert)?", *trust)
    fails(env, server, "no key in PEM", *trust, "--cert", client_cert, "--key", key)
    fails(env, server, "no certificate in PEM", *trust, "--cert", client_key)
    fails(env, server, "no certificates of authorities in PEM", "--tls", "--ca", client_key)


@case()
def a_password(env):
    right = env.file("right", PASSWORD)
    pair = [env.memcached("-Y", right, auth="bob secret") for _ in range(2)]
    server = pair[0]
    works(env, pair, "--auth-file", right)
    fails(env, server, "wants a user and a password")
    fails(env, server, "refuses this user and password", "--auth-file", env.file("wrong", "bob:guess\n"))
    fails(env, server, "cannot be read: No such file", "--auth-file", env.path("absent"))
    result = env.run("keys", "--auth-file", env.file("bad", "no colon\n"), server)
    assert result.code == 2 and "is not one line USER:PASSWORD" in result.stderr, result


@case()
def a_password_is_not_told_to_who_does_not_ask(env):
    pair = env.pair()
    result = env.run("verify", "--all", "--auth-file", env.file("right", PASSWORD), *pair)
    assert result.code == 0, result
    for server in pair:
        assert server.stats()["cmd_set"] == "0" and server.stats()["curr_items"] == "0"


def sasl_server(env):
    """One that knows bob and his secret, as Debian's does it: by the database of the SASL library."""
    users = env.path("sasldb2")
    subprocess.run(["saslpasswd2", "-p", "-c", "-f", users, "-u", socket.gethostname(), "bob"], input=b"secret", check=True)
    env.file("memcached.conf", f"mech_list: plain\npwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {users}\n")
    return env.memcached("-S", environment={"SASL_CONF_PATH": os.path.dirname(users)})


@case()
def sasl(env):
    """It speaks binary alone, in which no key can be listed: that is said, and whether the user gets in."""
    server = sasl_server(env)
    fails(env, server, "and wants a user and a password (SASL)")
    fails(env, server, "also to who is authenticated (SASL)", "--auth-file", env.file("right", PASSWORD))
    fails(env, server, "refuses this user and password (SASL PLAIN)", "--auth-file", env.file("wrong", "bob:guess\n"))
