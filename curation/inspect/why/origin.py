"""Where a row stands in its source: the file, and the number of the row in it."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from curation.errors import StoreError
from curation.inspect.why.tables import Place, numbers_of
from curation.inspect.why.values import text
from curation.store.fragment import Fragment, stem_of
from curation.store.manifest import FragmentRecord
from curation.store.store import Store
from curation.store.used_work import used_memos
from curation.store.withheld import Withheld, check_searched

INGEST = "ingest"
FILLED = "filled"
"""A measurement that only the work tables of source files have."""
MAX_PLACES = 5


class Origins:
    """The work tables of the source files of a step of `ingest`: their rows are in the order of a file.

    Args:
        store: where they are.
        step: fingerprint of the step.
    """

    def __init__(self, store: Store, step: str | None) -> None:
        self._store, self._step = store, step
        self._records: list[FragmentRecord] | None = None

    def of(self, place: Place, source: str) -> list[dict[str, Any]]:
        """Return the file and the row, counted from 1, where a pair is listed; several if it repeats.

        Empty if the work tables are gone, as after `curation gc`.

        Args:
            place: of the pair.
            source: its source.
        """
        records = [r for r in self._read_files() if r.name.startswith(f"{source}-")]
        same = [r for r in records if stem_of(r.name) == stem_of(place.fragment)]
        listed: list[dict[str, Any]] = []
        for record in same or records:
            try:
                numbers = _rows_of(Fragment(self._store, record, self._withheld()), place.pair_id)
            except StoreError:
                # A stage needs them no more, so they may be gone.
                continue
            first = _rows_before(record, same)
            name = record.stats.get("file")
            listed += [{"file": name, "row": first + number + 1} for number in numbers]
        return listed[:MAX_PLACES]

    def _read_files(self) -> list[FragmentRecord]:
        if self._records is None:
            memos = sorted(used_memos(self._store, INGEST, self._step)) if self._step else []
            records = self._store.finished_records(f"work/{INGEST}", memos).values()
            self._records = sorted((r for r in records if FILLED in r.stats), key=lambda r: r.name)
        return self._records

    def _withheld(self) -> Withheld | None:
        takedowns = check_searched(self._store, self._store.takedowns())
        return None if takedowns is None else Withheld(takedowns)


def _rows_of(fragment: Fragment, pair_id: str) -> list[int]:
    ids = fragment.read(["pair_id"]).column("pair_id")
    return numbers_of(pc.equal(ids, text(pair_id)))


def _rows_before(record: FragmentRecord, parts: list[FragmentRecord]) -> int:
    """Return the number of rows of the parts of the same folder before this one."""
    return sum(part.rows for part in parts if part.name < record.name)
