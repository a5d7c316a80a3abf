"""Counts keys that are too many for memory: sorted runs go to a file, which is read by range."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Self

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

RANGE_BITS = 8
"""Keys with the same first bits are counted together; they are pseudo-random, so ranges are as full."""
KEYS_IN_MEMORY = 2**20
"""Keys that are in memory before they are written as a run."""
KEY_BYTES = 8


class KeyCounts:
    """Counts how often each key comes, in memory that hardly grows with the number of keys.

    Use it as a context manager: its end deletes the file that many keys need.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._pending: list[Keys] = []
        self._pending_keys = 0
        self._runs: list[Counts] = []
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, keys: Keys) -> None:
        """Add keys, (n,), in any order."""
        self._pending.append(keys)
        self._pending_keys += len(keys)
        if self._pending_keys >= KEYS_IN_MEMORY:
            self._write_run()

    def _write_run(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__
        keys = self._sorted_pending()
        self._runs.append(self._written + _bounds(keys))
        self._written += len(keys)
        self._file.seek(0, 2)
        self._file.write(keys.tobytes())
        self._pending.clear()
        self._pending_keys = 0

    def _sorted_pending(self) -> Keys:
        return np.sort(np.concatenate([np.empty(0, np.uint64), *self._pending]))

    def counts(self) -> Iterator[tuple[Keys, Counts]]:
        """Yield all different keys, ascending, with their counts: arrays of one range at a time."""
        pending = self._sorted_pending()
        bounds = _bounds(pending)
        for number in range(2**RANGE_BITS):
            parts = [pending[bounds[number] : bounds[number + 1]]]
            parts += [self._read(int(r[number]), int(r[number + 1])) for r in self._runs]
            keys, counts = np.unique(np.concatenate(parts), return_counts=True)
            yield keys, counts.astype(np.int64)

    def _read(self, start: int, stop: int) -> Keys:
        assert self._file is not None
        self._file.seek(start * KEY_BYTES)
        return np.frombuffer(self._file.read((stop - start) * KEY_BYTES), np.uint64)


def _bounds(keys: Keys) -> Counts:
    """Return where ranges begin in sorted keys, and their number, (ranges + 1,)."""
    first = np.arange(1, 2**RANGE_BITS, dtype=np.uint64) << np.uint64(64 - RANGE_BITS)
    return np.concatenate([[0], np.searchsorted(keys, first), [len(keys)]]).astype(np.int64)
