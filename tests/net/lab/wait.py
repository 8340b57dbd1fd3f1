# SPDX-License-Identifier: Apache-2.0
"""Waiting for conditions, always with a deadline."""

import time


class Timeout(AssertionError):
    """A condition did not become true in time."""


def until(condition, what, timeout=10.0, interval=0.02):
    """Returns the first true value of condition(); raises Timeout, naming `what`, after `timeout` s."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise Timeout(f"waited {timeout:g} s for {what}; last seen: {value!r}")
        time.sleep(interval)


def settled(sample, what, quiet=0.3, timeout=10.0, interval=0.05):
    """Waits until sample() has returned the same value for `quiet` seconds, and returns it."""
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
