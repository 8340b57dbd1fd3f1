# SPDX-License-Identifier: Apache-2.0
"""What the guests report, counted and printed as it comes."""

import sys


def say(text):
    """A line at a time, as several guests have something to say at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Tally:
    def __init__(self, where=""):
        """`where`: stands before each line."""
        self.where = f"{where:<5} " if where else ""
        self.passed = self.failed = self.skipped = 0
        self.programs = []
        self.ended = False

    def line(self, text):
        """One line of a guest's report: a word, then fields, separated by tabs."""
        kind, *fields = text.split("\t")
        if kind == "pass":
            self.passed += 1
            self.say(f"PASS  {fields[0]}")
        elif kind == "fail":
            self.fail(*fields)
        elif kind == "skip":
            self.skip(*fields)
        elif kind == "prog":
            self.programs.append(fields)
        elif kind == "end":
            self.ended = True
        elif text:
            self.say(f"      {fields[0] if kind == 'note' else text}")

    def say(self, text):
        say(self.where + text)

    def fail(self, name, detail=""):
        self.failed += 1
        self.say(f"FAIL  {name}" + (f": {detail}" if detail else ""))

    def skip(self, name, reason):
        self.skipped += 1
        self.say(f"SKIP  {name}: {reason}")

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def summary(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def print_programs(self):
        columns = ("object", "program", "insns", "states", "stack", "verifier us")
        rows = [columns, *(fields for fields in self.programs if len(fields) == len(columns))]
        if len(rows) == 1:
            return
        widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
        for row in rows:
            left = "  ".join(cell.ljust(width) for cell, width in zip(row[:2], widths))
            right = "  ".join(cell.rjust(width) for cell, width in zip(row[2:], widths[2:]))
            self.say(f"      {left}  {right}")
