# SPDX-License-Identifier: Apache-2.0
"""Figures of several runs, and tables of them."""

import statistics
import textwrap


class Figures:
    """Rows of a table: each has a name and, per column, one value for each round.

    `keep`: of more rounds than that, those are dropped in which others took the most CPU time."""

    def __init__(self, title, columns, note="", keep=None):
        self.title, self.note, self.keep = title, note, keep
        self.columns = {**columns, "others": ".2f"}  # {name: format}
        self.rounds = {}  # row: [(CPU share of others, {column: value})]

    def add(self, row, outcomes, **values):
        """Values of one round, and the runs that they come from."""
        others = max((o.others for o in outcomes), default=float("nan"))
        values["others"] = others
        unknown = values.keys() - self.columns.keys()
        if unknown:
            raise KeyError(", ".join(unknown))
        self.rounds.setdefault(row, []).append(
            (others, {c: v for c, v in values.items() if v is not None and v == v}))

    @property
    def rows(self):
        """{row: {column: [values]}}"""
        found = {}
        for row, rounds in self.rounds.items():
            cells = found.setdefault(row, {})
            for _, values in sorted(rounds, key=lambda r: r[0])[:self.keep]:
                for column, value in values.items():
                    cells.setdefault(column, []).append(value)
        return found

    def _cell(self, cells, column):
        values = cells.get(column)
        if not values:
            return "-"
        texts = [format(v, self.columns[column]) for v in (statistics.median(values), min(values),
                                                           max(values))]
        if len(set(texts)) == 1:
            return texts[0]
        return f"{texts[0]} ({texts[1]}..{texts[2]})"

    def text(self):
        """The table: median (min..max)."""
        rows = self.rows
        columns = [c for c in self.columns if any(c in cells for cells in rows.values())]
        head = ["", *(c.replace("_", " ") for c in columns)]
        lines = [head, *([row, *(self._cell(cells, c) for c in columns)] for row, cells in rows.items())]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        said = [self.title, "  ".join(h.ljust(w) if not i else h.rjust(w)
                                      for i, (h, w) in enumerate(zip(head, widths)))]
        said += ["  ".join(c.ljust(w) if not i else c.rjust(w)
                           for i, (c, w) in enumerate(zip(line, widths))) for line in lines[1:]]
        return "\n".join(said + textwrap.wrap(self.note, 110))

    def json(self):
        return {"title": self.title, "note": self.note, "rows": {
            row: {column: {"median": statistics.median(v), "min": min(v), "max": max(v), "runs": v}
                  for column, v in cells.items()}
            for row, cells in self.rows.items()}}


def size(n):
    """Bytes as people write them."""
    if n >= 1_000_000:
        return f"{n // 1_000_000} MB"
    return f"{n // 1000} KB" if n >= 10_000 else f"{n:,} B"
