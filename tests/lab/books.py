# SPDX-License-Identifier: Apache-2.0
"""What several tests ask of a ledger."""

from . import mirror, wait


def named(ledger, reason):
    """Bytes of that reason, lost or excluded; 0 if this build knows no such reason."""
    return ledger["lost"].get(reason, 0) + ledger["excluded"].get(reason, 0)


def reasons(ledger):
    return {name: n for part in ("lost", "excluded") for name, n in ledger[part].items() if n}


def tell(scene, ledger):
    """For the reader of a failure: everything that is not zero."""
    return f"{ledger['bytes']}, {reasons(ledger)}, {ledger['flows']}, {mirror.events(scene)}"


def settled(scene, timeout=30.0):
    """The ledger, once nothing is in flight and nothing moves."""
    ledger = scene.doppel.wait_idle(timeout=timeout, stuck=timeout)
    wait.settled(lambda: scene.doppel.ledger()["bytes"], "the ledger", 0.3)
    return ledger
