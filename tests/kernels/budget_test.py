# SPDX-License-Identifier: Apache-2.0
"""The verifier's budget: what a guest reports of it, what is kept, and what is judged."""

import contextlib
import io
import pathlib
import tempfile
import unittest

from budget import Budget, instructions
from tally import Tally

RECORD = "program         6.1    7.2\ndoppel_return  1000   2000\n"


def row(count, where="doppel.bpf.o"):
    """As prog-load reports a program: object, program, instructions, states, stack, time."""
    return (where, "doppel_return", count, "10", "64+8", "100")


class Instructions(unittest.TestCase):
    def test_a_number(self):
        self.assertEqual(instructions("44108"), 44108)

    def test_a_sum_over_functions(self):
        self.assertEqual(instructions("4366+1299+58"), 5723)

    def test_anything_else_is_told(self):
        for wrong in ("many", "12+", "1 2"):
            with self.assertRaises(ValueError):
                instructions(wrong)


class Judged(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.file = pathlib.Path(scratch.name) / "budget"
        self.file.write_text(RECORD)

    def judge(self, kernel, *rows):
        """(passed, failed) of a kernel that reported these rows."""
        budget, tally = Budget(self.file), Tally()
        budget.saw(kernel, rows)
        with contextlib.redirect_stdout(io.StringIO()):
            budget.judge(tally)
        return tally.passed, tally.failed

    def test_fifteen_per_cent_more_is_allowed(self):
        self.assertEqual(self.judge("6.1", row("1150")), (1, 0))
        self.assertEqual(self.judge("6.1", row("1151")), (0, 1))

    def test_a_sum_is_judged_as_its_total(self):
        self.assertEqual(self.judge("7.2", row("2000+300")), (1, 0))
        self.assertEqual(self.judge("7.2", row("2000+301")), (0, 1))

    def test_what_is_attached_is_left_out(self):
        self.assertEqual(self.judge("6.1", row("9999", where="attached (tcx)")), (0, 0))

    def test_a_sum_is_kept_as_its_total(self):
        budget = Budget(self.file)
        budget.saw("7.2", [row("1500+100+1")])
        budget.save()
        self.assertEqual(Budget(self.file).record, {("doppel_return", "6.1"): 1000, ("doppel_return", "7.2"): 1601})


if __name__ == "__main__":
    unittest.main()
