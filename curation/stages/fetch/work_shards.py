"""The shards of one fragment: which rows are fetched already, and reading them in row order."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.stages.fetch.progress import PROGRESS_FILE
from curation.store.manifest import FileEntry
from curation.store.small_files import open_source
from curation.store.storage.local import explained_write
from curation.store.work_folder import WorkFolder

logger = logging.getLogger(__name__)

_MISSING = -1
_WINDOW_BYTES = 64 * 2**20
_COPY_BYTES = 2**20
SHARD_SUFFIX = ".parquet"
DAMAGED = (pa.ArrowException, OSError, ValueError, LookupError, TypeError)
"""What reading a shard raises that is incomplete, or whose bytes changed."""


class WorkShards:
    """Parquet shards in order of completion, which hold some of the rows 0 … `rows` - 1.

    The place of each row is held in memory, at 20 bytes per row.

    Args:
        work: the folders of the unit.
        rows: number of rows of the fragment.
    """

    def __init__(self, work: WorkFolder, rows: int) -> None:
        self._work, self._storage = work, work.store.storage
        self._shard = np.full(rows, _MISSING, np.int32)
        self._group = np.zeros(rows, np.int32)
        self._offset = np.zeros(rows, np.int32)
        self._size = np.zeros(rows, np.int64)
        self._files: list[FileEntry] = []
        self.next_shard = 0

    @contextmanager
    def folder(self) -> Iterator[str]:
        """Yield the local folder that shards are written to: that of this attempt, if it is local.

        img2dataset would need another package for each kind of object store.
        """
        if self._storage.is_local:
            folder = f"{self._storage.root}/{self._work.attempt}"
            with explained_write(Path(folder)):
                Path(folder).mkdir(parents=True, exist_ok=True)
            yield folder
            return
        with TemporaryDirectory(prefix="curation-fetch-") as folder:
            yield folder

    def store(self, path: str) -> None:
        """Move a finished shard to the folder of this attempt, if it is not there."""
        if self._storage.is_local:
            return
        with (
            Path(path).open("rb") as shard,
            self._storage.open_output(f"{self._work.attempt}/{PurePosixPath(path).name}") as stream,
        ):
            shutil.copyfileobj(shard, stream, _COPY_BYTES)
        Path(path).unlink()

    def write_progress(self, content: bytes) -> None:
        """Write the progress of the task, for the driver."""
        self._storage.write(f"{self._work.path}/{PROGRESS_FILE}", content)

    def adopt(self) -> None:
        """Copy the shards that earlier attempts finished. An attempt that has ended deletes its own."""
        for folder in self._work.earlier():
            for path in sorted(self._storage.files(folder)):
                if path.endswith(SHARD_SUFFIX):
                    with suppress(FileNotFoundError):
                        name = f"{self.next_shard:05d}{SHARD_SUFFIX}"
                        self._storage.copy(path, f"{self._work.attempt}/{name}")
                        self.next_shard += 1

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Which rows are in a finished shard (bool of shape (rows,))."""
        return np.asarray(self._shard != _MISSING)

    def scan(self) -> None:
        """Find the rows of all finished shards of this attempt; a shard that is incomplete has none."""
        self._shard[:] = _MISSING
        self._files = []
        for path, status in sorted(self._storage.files(self._work.attempt).items()):
            self.next_shard = max(self.next_shard, int(PurePosixPath(path).stem) + 1)
            try:
                # No checksum: its time tells a shard from a later one with the same name.
                self._index(FileEntry(path, status.size, str(status.modified), 0))
            except DAMAGED as error:
                logger.info("%s is incomplete (%s): its rows are fetched again", path, error)

    def _index(self, shard: FileEntry) -> None:
        groups = []
        with self._open(shard) as file:
            for group in range(file.num_row_groups):
                samples = file.read_row_group(group, ["key", "stored_bytes"])
                rows = np.array(samples.column("key").to_pylist(), np.int64)
                if len(rows) and not 0 <= rows.min() <= rows.max() < len(self._shard):
                    raise ValueError("it has rows that the fragment has not")
                groups.append((rows, samples.column("stored_bytes").fill_null(0).to_numpy()))
        # Only now: a shard that cannot be read to its end must leave no row behind.
        for group, (rows, sizes) in enumerate(groups):
            self._shard[rows] = len(self._files)
            self._group[rows] = group
            self._offset[rows] = np.arange(len(rows))
            self._size[rows] = sizes
        self._files.append(shard)

    def _open(self, shard: FileEntry) -> pq.ParquetFile:
        return pq.ParquetFile(open_source(self._storage, shard))

    def windows(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield ranges (first, stop) of the rows `start` … `end` - 1 whose images fit in memory."""
        while start < end:
            total = np.cumsum(self._size[start:end])
            stop = start + max(1, int(np.searchsorted(total, _WINDOW_BYTES, side="right")))
            yield start, stop
            start = stop

    def read(self, start: int, end: int) -> tuple[pa.Table | None, npt.NDArray[np.int64]]:
        """Return the samples of the rows `start` … `end` - 1.

        Returns:
            The samples in any order (None if there are none), and the index of each row's sample
            (int64 of shape (end - start,); -1 for a row without one).
        """
        index = np.full(end - start, _MISSING, np.int64)
        tables, read = [], 0
        for shard in np.unique(self._shard[start:end]):
            if shard == _MISSING:
                continue
            with self._open(self._files[shard]) as file:
                in_shard = self._shard[start:end] == shard
                for group in np.unique(self._group[start:end][in_shard]):
                    rows = np.flatnonzero(in_shard & (self._group[start:end] == group))
                    samples = file.read_row_group(int(group))
                    tables.append(samples.take(self._offset[start:end][rows]))
                    index[rows] = read + np.arange(len(rows))
                    read += len(rows)
        return (pa.concat_tables(tables) if tables else None), index
