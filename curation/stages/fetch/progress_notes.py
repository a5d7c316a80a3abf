"""How a fetch is going, told while it runs: rows, bytes, what became of them, speed, time left.

Tasks leave a note in their work folders every few seconds; the driver adds the notes up.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.filesize import decimal

from curation.engine.store import Store
from curation.engine.units import Unit, workdir_of

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

logger = logging.getLogger(__name__)

NOTE = "progress.json"
EVERY_S = 2.0
SHOWN = 4


class Notes:
    """What a task has done so far, given away now and then."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._outcomes: Counter[str] = Counter()
        self._bytes = 0
        self._next = time.monotonic() + EVERY_S

    def count(self, outcome: str, size: int) -> None:
        """Count a row: its reason, or `ok`, and the bytes that came."""
        self._outcomes[outcome] += 1
        self._bytes += size
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            self._put(json.dumps({"outcomes": self._outcomes, "bytes": self._bytes}).encode())


class FetchProgress:
    """Adds up what the tasks of some units have noted, and what is finished."""

    def __init__(self, store: Store, units: Sequence[Unit]) -> None:
        self._store = store
        self._open = {unit.name: unit for unit in units}
        self._rows = sum(unit.arguments["pairs"].rows for unit in units)
        self._notes: dict[str, Mapping[str, Any]] = {}
        self._finished: Counter[str] = Counter()
        self._bytes = 0
        self._started = time.monotonic()

    def __call__(self) -> str:
        """Return one line."""
        self._settle()
        outcomes, size = Counter(self._finished), self._bytes
        for unit in self._open.values():
            note = self._note(unit)
            outcomes.update(note.get("outcomes", {}))
            size += note.get("bytes", 0)
        return told(outcomes, size, self._rows, time.monotonic() - self._started)

    def _settle(self) -> None:
        memos = {unit.outputs["images"].memo: name for name, unit in self._open.items()}
        if not memos:
            return
        for memo, record in self._store.finished_records("tables/images", list(memos)).items():
            for outcomes in record.counts.values():
                self._finished.update(outcomes)
            self._bytes += int(record.stats.get("bytes", 0))
            del self._open[memos[memo]]

    def _note(self, unit: Unit) -> Mapping[str, Any]:
        content = self._store.get(f"{workdir_of(unit)}/{NOTE}")
        try:
            self._notes[unit.name] = json.loads(content or b"")
        except ValueError:
            # There is none yet, or it is just being written: the last one holds.
            logger.debug("no note of %s", unit.name)
        return self._notes.get(unit.name, {})


def told(outcomes: Mapping[str, int], size: int, rows: int, seconds: float) -> str:
    """Return one line of progress.

    Args:
        outcomes: rows by `ok` or reason.
        size: bytes that came.
        rows: to be fetched in all.
        seconds: since the beginning.
    """
    done = sum(outcomes.values())
    parts = [f"{done:,} of {rows:,} rows", decimal(size)]
    if seconds > 0 and done:
        left = max(rows - done, 0) * seconds / done
        parts.append(f"{outcomes.get('ok', 0) / seconds:,.0f} images/s")
        parts.append(f"{_span(left)} left")
    if done:
        common = sorted(outcomes.items(), key=lambda item: (-item[1], item[0]))
        parts += [f"{name} {100 * count / done:.0f} %" for name, count in common[:SHOWN]]
    return " · ".join(parts)


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
