"""The progress of units of work: finished rows, or units where their rows are not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from curation.activity import WorkCounts
from curation.engine.row_counts import read_count
from curation.engine.units import Unit
from curation.store.manifest import FragmentRecord, count_rows_of_members

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@runtime_checkable
class HasRows(Protocol):
    """An argument of a unit with a number of rows, as a fragment has."""

    @property
    def rows(self) -> int:
        """Number of its rows."""


class FinishedUnit(NamedTuple):
    """A unit that has ended.

    Attributes:
        name: name of the unit.
        outcomes: rows of all its fragments by `ok` or reason.
    """

    name: str
    outcomes: Mapping[str, int]


class FragmentProgress:
    """Counts the rows of units: a `ProgressCounter` without a line, as progress bars show the counts.

    The rows of a unit are those that it reads. Where a unit does not say how many, units are counted.

    Args:
        units: those that are computed.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        rows = {unit.name: rows_of(unit) for unit in units}
        self._unit = "rows" if None not in rows.values() else "fragments"
        self._unfinished = {
            name: 1 if self._unit == "fragments" else count or 0 for name, count in rows.items()
        }
        self._total, self._done = sum(self._unfinished.values()), 0
        self._outcomes: Counter[str] = Counter()

    @staticmethod
    def summarise(
        result: Sequence[Sequence[Mapping[str, FragmentRecord]]],
    ) -> list[FinishedUnit]:
        """Return what is counted of the result of some chains."""
        by_name: dict[str, list[FragmentRecord]] = {}
        for chain in result:
            for records in chain:
                # Those of several units, where one call computed them together.
                for record in records.values():
                    by_name.setdefault(record.name, []).append(record)
        return [
            FinishedUnit(name, count_rows_of_members(r.counts for r in records))
            for name, records in by_name.items()
        ]

    def add(self, summary: list[FinishedUnit]) -> None:
        """Count finished units, each once: a task may end twice."""
        for unit in summary:
            if unit.name in self._unfinished:
                self._done += self._unfinished.pop(unit.name)
                self._outcomes.update(unit.outcomes)

    def counts(self) -> WorkCounts:
        """Return how many rows are finished, with those of the units that run."""
        running = 0
        if self._unit == "rows":
            running = sum(min(read_count(n), rows) for n, rows in list(self._unfinished.items()))
        return WorkCounts(self._done + running, self._total, self._unit, dict(self._outcomes))

    def describe(self, counts: WorkCounts) -> str:
        """Return no line."""
        return ""


def rows_of(unit: Unit) -> int | None:
    """Return how many rows a unit reads: those of its first argument with a number of rows.

    Of the members of a family, which are aligned, it is those of the first.
    """
    for argument in unit.arguments.values():
        first = next(iter(argument.values()), None) if isinstance(argument, Mapping) else argument
        if isinstance(first, HasRows):
            return first.rows
    return None
