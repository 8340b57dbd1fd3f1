# SPDX-License-Identifier: Apache-2.0
"""How many instructions the verifier processes for each program, per kernel: kept, and compared.

It gives up at a million. A change that brings a program much nearer to that should be noticed when
it is made, and not when a later kernel's verifier counts a little more.
"""

ALLOWED = 1.15  # of what is on record
HEAD = """\
# Instructions that the verifier processes for each program, for the configuration in prog-load.cpp.
# More than 15 % above fails. `tools/kernel-matrix --record` writes this file.
"""


def instructions(told):
    """The number in "processed N insns". Linux 7.2 gives a sum, "4366+1299+58", of a program's functions."""
    return sum(int(part) for part in told.split("+"))


class Budget:
    def __init__(self, file):
        self.file = file
        self.seen = {}  # (program, kernel) -> instructions
        self.kernels = []
        self.record = self._read() if file.exists() else {}

    def _read(self):
        lines = [line.split() for line in self.file.read_text().splitlines()
                 if line and not line.startswith("#")]
        names = lines[0][1:] if lines else []
        return {(row[0], kernel): int(count) for row in lines[1:] for kernel, count in zip(names, row[1:])
                if count != "-"}

    def saw(self, kernel, programs):
        """`programs`: rows as prog-load reports them; those that are attached were loaded otherwise."""
        self.kernels.append(kernel)
        for where, program, count, *_ in programs:
            if where.endswith(".o") and count:
                self.seen[program, kernel] = max(instructions(count), self.seen.get((program, kernel), 0))

    def judge(self, tally):
        """One test for each kernel that programs were loaded on."""
        recorded = {kernel for _, kernel in self.record}
        for kernel in dict.fromkeys(kernel for _, kernel in self.seen):
            name = f"verifier budget {kernel}"
            if kernel not in recorded:
                print(f"      {name}: this kernel is not on record")
                continue
            wrong = list(self._excesses(kernel))
            if wrong:
                tally.fail(name, "; ".join(wrong) + " (if that is meant: tools/kernel-matrix --record)")
            else:
                tally.passed += 1
                print(f"PASS  {name}")

    def _excesses(self, kernel):
        for (program, where), count in self.seen.items():
            if where != kernel:
                continue
            had = self.record.get((program, kernel))
            if had is None:
                yield f"{program} is not on record"
            elif count > had * ALLOWED:
                yield f"{program} takes {count} instructions, {count / had - 1:.0%} more than {had}"

    def save(self):
        # What is on record of other kernels stays, as somebody else's machine runs them.
        seen = {cell: n for cell, n in self.record.items() if cell[1] not in self.kernels} | self.seen
        kernels = sorted({kernel for _, kernel in seen}, key=_number)
        programs = dict.fromkeys(program for program, _ in self.seen)
        rows = [("program", *kernels)]
        rows += [(p, *(str(seen.get((p, k), "-")) for k in kernels)) for p in programs]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [row[0].ljust(widths[0]) + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:]))
                 for row in rows]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(HEAD + "\n".join(lines) + "\n")


def _number(release):
    return tuple(int(part) for part in release.split("."))
