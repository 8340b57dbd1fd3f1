# SPDX-License-Identifier: Apache-2.0
"""Clients that do with shared keys whatever depends on what the server has, until they are told to end: several
connections write to one key, so that nothing but chance keeps a mirror's order.

    python3 -m lab.jumble --address 10.77.0.2 --keys 20000 --connections 4 --rate 500
"""

from .churn import Churn, Writer, main

KINDS = ("set", "set_ttl", "delete", "add", "replace", "incr", "decr", "append", "prepend", "touch", "gat", "cas",
         "meta_arithmetic", "meta_append", "meta_compare", "meta_touch", "expire")


class Jumbler(Writer):
    def store(self, verb, key, value, ttl=0, more=b""):
        return b"%s %s %d %d %d%s\r\n%s\r\n" % (verb, key, self.dice.randrange(9), ttl, len(value), more, value)

    def request(self, kind, key, token):
        fresh = b"%d" % self.dice.randrange(1_000_000)
        if kind == "cas":
            return self.store(b"cas", key, fresh, more=b" " + token)
        if kind == "meta_compare":
            return b"ms %s %d C%s\r\n%s\r\n" % (key, len(fresh), token, fresh)
        return {
            "set": lambda: self.store(b"set", key, fresh),
            "set_ttl": lambda: self.store(b"set", key, fresh, self.dice.randrange(1000, 100000)),
            "expire": lambda: self.store(b"set", key, fresh, self.dice.randrange(2, 6)),
            "delete": lambda: b"delete %s\r\n" % key,
            "add": lambda: self.store(b"add", key, fresh),
            "replace": lambda: self.store(b"replace", key, fresh),
            "incr": lambda: b"incr %s 3\r\n" % key,
            "decr": lambda: b"decr %s 1\r\n" % key,
            "append": lambda: self.store(b"append", key, b"7"),
            "prepend": lambda: self.store(b"prepend", key, b"1"),
            "touch": lambda: b"touch %s %d\r\n" % (key, self.dice.randrange(1000, 100000)),
            "gat": lambda: b"gat %d %s\r\n" % (self.dice.randrange(1000, 100000), key),
            "meta_arithmetic": lambda: b"ma %s D2\r\n" % key,
            "meta_append": lambda: b"ms %s 1 MA\r\n5\r\n" % key,
            "meta_touch": lambda: b"mg %s T%d\r\n" % (key, self.dice.randrange(1000, 100000)),
        }[kind]()

    def token(self, s, reader, key):
        """The item's CAS; 0 where there is none, and the command fails."""
        s.sendall(b"mg %s c\r\n" % key)
        line = reader.readline()
        return line.split()[1][1:] if line.startswith(b"HD ") else b"0"

    def turn(self, s, reader):
        key = b"%s%d" % (self.args.prefix.encode(), self.dice.randrange(self.args.keys))
        kind = self.dice.choice(KINDS)
        s.sendall(self.request(kind, key, self.token(s, reader, key) if kind in ("cas", "meta_compare") else None))
        line = reader.readline()
        if line.startswith(b"VALUE "):
            reader.read(int(line.split()[3]) + 2)
            line = reader.readline()
        # Of text that is no number, and of an item that has grown too large for one.
        if not line.endswith(b"\r\n") or (b"ERROR" in line and b"non-numeric" not in line):
            raise AssertionError(f"{kind} {key}: unexpected answer {line!r}")


class Jumble(Churn):
    """A jumble in the client host, as seen by a test."""
    module = "lab.jumble"


if __name__ == "__main__":
    main(Jumbler)
