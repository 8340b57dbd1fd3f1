# SPDX-License-Identifier: Apache-2.0
"""Waiting for conditions, always with a deadline.

DOPPEL_TEST_SLOWNESS=N is for a machine that is N times slower than those that the tests were written on,
such as an emulated one: they wait N times as long, and send an N-th where the amount is not the point.
"""

import os
import time

SLOWNESS = float(os.environ.get("DOPPEL_TEST_SLOWNESS", 1))


def patience(seconds):
    """How long that is on this machine."""
    return seconds * SLOWNESS


def amount(count, least=1):
    """How much of that this machine does in the same time, but so much at least."""
    return max(min(count, least), round(count / SLOWNESS))


class Timeout(AssertionError):
    """A condition did not become true in time."""


def pause(waited):
    """How long to sleep before the next look, after so many seconds."""
    return max(0.02, min(waited / 20, 0.25))


def until(condition, what, timeout=10.0, interval=None):
    """Returns the first true value of condition(); raises Timeout, naming `what`, after `timeout` s.

    It looks each `interval` s. Without one it looks less often the longer it lasts, as most conditions cost a process: it is
    late by a twentieth of the time waited, and by a quarter of a second at most.
    """
    timeout = patience(timeout)
    begin = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - begin
        if waited >= timeout:
            raise Timeout(f"waited {timeout:g} s for {what}; last seen: {value!r}")
        time.sleep(interval or pause(waited))


def settled(sample, what, quiet=0.3, timeout=10.0, interval=0.05):
    """Waits until sample() has returned the same value for `quiet` seconds, and returns it."""
    quiet, timeout = patience(quiet), patience(timeout)
    deadline = time.monotonic() + timeout
    value, since = sample(), time.monotonic()
    while time.monotonic() - since < quiet:
        if time.monotonic() >= deadline:
            raise Timeout(f"waited {timeout:g} s for {what} to settle; last seen: {value!r}")
        time.sleep(interval)
        now = sample()
        if now != value:
            value, since = now, time.monotonic()
    return value
