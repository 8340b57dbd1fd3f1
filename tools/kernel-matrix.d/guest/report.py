# SPDX-License-Identifier: Apache-2.0
"""The guest's side of the report, for suites in Python; lib.sh is the same for those in shell."""

import os
import sys
import traceback

FAILED = []


def _line(*fields):
    os.write(3, ("\t".join(" ".join(str(f).split()) for f in fields) + "\n").encode())


def passed(name):
    _line("pass", name)


def failed(name, detail):
    FAILED.append(name)
    _line("fail", name, detail)


def note(text):
    _line("note", text)


def raw(text):
    """Lines which are in the report's own form already."""
    os.write(3, text.encode())


class check:
    """with check(name): passes if its body does; an exception is told, and the next check goes on.

    `vital`: what follows makes no sense then, and the exception goes on.
    """

    def __init__(self, name, vital=False):
        self.name, self.vital = name, vital

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            passed(self.name)
            return False
        failed(self.name, str(error) or kind.__name__)
        if not isinstance(error, AssertionError):
            traceback.print_exception(kind, error, trace, file=sys.stderr)
        return isinstance(error, Exception) and not self.vital


def no(sentences):
    """Fails with what is said, if anything is."""
    sentences = list(sentences)
    if sentences:
        raise AssertionError("; ".join(sentences[:6]) + (f" and {len(sentences) - 6} more" if len(sentences) > 6 else ""))
