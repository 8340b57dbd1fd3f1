# SPDX-License-Identifier: Apache-2.0
"""What load clients send: batches of memcached commands, with values that follow from their keys."""

import hashlib
import random
from typing import NamedTuple


class Batch(NamedTuple):
    pieces: tuple     # each goes out by a send() of its own
    responses: int    # how many final lines of a response it is answered with
    commands: int


def value(seed, size):
    """Printable, without line ends or capitals, and the same for the same seed."""
    return hashlib.shake_128(seed).hexdigest(size // 2 + 1)[:size].encode()


def set_command(key, size, version=b""):
    return b"set %s 0 0 %d\r\n%s\r\n" % (key, size, value(key + version, size))


def size_of(key, smallest, largest):
    """A size that follows from the key, so that the load is the same each time."""
    return smallest + int.from_bytes(hashlib.md5(key).digest()[:4], "big") % (largest - smallest + 1)


def keys(prefix, first, count):
    return [b"%s%07d" % (prefix, n) for n in range(first, first + count)]


def sets(prefix, first, count, smallest, largest, batch):
    """count sets of distinct keys, `batch` of them to a segment as far as they fit."""
    names = keys(prefix, first, count)
    for at in range(0, count, batch):
        chosen = names[at:at + batch]
        data = b"".join(set_command(k, size_of(k, smallest, largest)) for k in chosen)
        yield Batch((data,), len(chosen), len(chosen))


def gets(prefix, first, count, batch):
    names = keys(prefix, first, count)
    for at in range(0, count, batch):
        chosen = names[at:at + batch]
        yield Batch((b"".join(b"get %s\r\n" % k for k in chosen),), len(chosen), len(chosen))


def chopped(prefix, first, count, smallest, largest, batch):
    """Turn by turn: `batch` commands in one piece; one command in many pieces; ends that lie across
    the borders of commands."""
    names = keys(prefix, first, count)
    dice = random.Random(prefix + b"%d" % first)
    for turn, at in enumerate(range(0, count, batch)):
        chosen = names[at:at + batch]
        data = b"".join(set_command(k, size_of(k, smallest, largest)) for k in chosen)
        if turn % 3 == 0:
            cuts = []
        elif turn % 3 == 1:
            cuts = range(1, len(data), max(7, len(data) // 40))
        else:
            cuts = sorted(dice.sample(range(1, len(data)), min(9, len(data) - 1)))
        ends = [0, *cuts, len(data)]
        pieces = tuple(data[a:b] for a, b in zip(ends, ends[1:]))
        yield Batch(pieces, len(chosen), len(chosen))


def mixed(prefix, dice, smallest, largest, batch, variants=40, own_keys=200):
    """Endless: gets, sets and some deletes on keys that no other connection uses."""
    pool = []
    for version in range(variants):
        commands = []
        for _ in range(batch):
            key = b"%s%05d" % (prefix, dice.randrange(own_keys))
            what = dice.random()
            if what < 0.5:
                commands.append(b"get %s\r\n" % key)
            elif what < 0.95:
                commands.append(set_command(key, dice.randint(smallest, largest), b"%d" % version))
            else:
                commands.append(b"delete %s\r\n" % key)
        pool.append(Batch((b"".join(commands),), batch, batch))
    while True:
        yield pool[dice.randrange(variants)]
