"""The progress of units of work: finished fragments, and their rows by outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from curation.activity import Counts
from curation.engine.units import Unit
from curation.store.manifest import FragmentRecord

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


class FinishedUnit(NamedTuple):
    """A unit that has ended.

    Attributes:
        name: name of the unit.
        outcomes: rows of all its fragments by `ok` or reason.
    """

    name: str
    outcomes: Counter[str]


class FragmentProgress:
    """Counts finished units. A `Note` without a line: progress bars count the tasks themselves.

    Args:
        units: those that are computed.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._unfinished = {unit.name for unit in units}
        self._total = len(self._unfinished)
        self._outcomes: Counter[str] = Counter()

    @staticmethod
    def summarise(
        result: Sequence[Sequence[Mapping[str, FragmentRecord]]],
    ) -> list[FinishedUnit]:
        """Return what is counted of the result of some chains."""
        return [
            FinishedUnit(next(iter(records.values())).name, outcomes_of(records.values()))
            for chain in result
            for records in chain
        ]

    def add(self, summary: list[FinishedUnit]) -> None:
        """Count finished units, each once: a task may end twice."""
        for unit in summary:
            if unit.name in self._unfinished:
                self._unfinished.discard(unit.name)
                self._outcomes.update(unit.outcomes)

    def counts(self) -> Counts:
        """Return how many units have ended."""
        done = self._total - len(self._unfinished)
        return Counts(done, self._total, "fragments", dict(self._outcomes))

    def describe(self, counts: Counts) -> str:
        """Return no line."""
        return ""


def outcomes_of(records: Iterable[FragmentRecord]) -> Counter[str]:
    """Return the rows of fragments by `ok` or reason, of all roles."""
    outcomes: Counter[str] = Counter()
    for record in records:
        for of_role in record.counts.values():
            outcomes.update(of_role)
    return outcomes
