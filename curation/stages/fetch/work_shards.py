"""The work shards of one fragment: what of it is fetched already, and reading it in row order."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from curation.stages.fetch.progress_notes import NOTE

logger = logging.getLogger(__name__)

_NOWHERE = -1
_WINDOW_BYTES = 64 * 2**20


class WorkShards:
    """Parquet shards, in order of completion, that hold some of the rows 0 … `rows` - 1.

    The place of every row is kept in memory: 20 bytes a row.
    """

    def __init__(self, workdir: str, rows: int) -> None:
        if "://" in workdir:
            self._fs, self._root = fs.FileSystem.from_uri(workdir)
        else:
            self._fs, self._root = fs.LocalFileSystem(), workdir
        self._fs.create_dir(self._root, recursive=True)
        self._shard = np.full(rows, _NOWHERE, np.int32)
        self._group = np.zeros(rows, np.int32)
        self._offset = np.zeros(rows, np.int32)
        self._size = np.zeros(rows, np.int64)
        self._paths: list[str] = []
        self.next_shard = 0

    @contextmanager
    def folder(self) -> Iterator[str]:
        """Give the local folder in which shards are to be written: the work folder where it is one.

        img2dataset would need a package of its own for each kind of object store.
        """
        if isinstance(self._fs, fs.LocalFileSystem):
            yield self._root
            return
        with TemporaryDirectory(prefix="curation-fetch-") as folder:
            yield folder

    def keep(self, path: str) -> None:
        """Put a finished shard into the work folder, if it is not there."""
        name = PurePosixPath(path).name
        if path != f"{self._root}/{name}":
            fs.copy_files(
                path,
                f"{self._root}/{name}",
                source_filesystem=fs.LocalFileSystem(),
                destination_filesystem=self._fs,
            )
            Path(path).unlink()

    def note(self, content: bytes) -> None:
        """Leave word of how the work goes."""
        with self._fs.open_output_stream(f"{self._root}/{NOTE}") as stream:
            stream.write(content)

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Which rows are in a finished shard (bool of shape (rows,))."""
        return np.asarray(self._shard != _NOWHERE)

    def scan(self) -> None:
        """Find the rows of every finished shard; delete shards that a crash has torn."""
        self._shard[:] = _NOWHERE
        self._paths = []
        files = self._fs.get_file_info(fs.FileSelector(self._root))
        for path in sorted(f.path for f in files if f.path.endswith(".parquet")):
            self.next_shard = max(self.next_shard, int(PurePosixPath(path).stem) + 1)
            try:
                self._index(path)
            except (pa.ArrowInvalid, OSError) as error:
                logger.info("%s is unfinished (%s): its rows are fetched again", path, error)
                self._fs.delete_file(path)

    def _index(self, path: str) -> None:
        with pq.ParquetFile(path, filesystem=self._fs) as file:
            for group in range(file.num_row_groups):
                found = file.read_row_group(group, ["key", "stored_bytes"])
                rows = np.array(found.column("key").to_pylist(), np.int64)
                self._shard[rows] = len(self._paths)
                self._group[rows] = group
                self._offset[rows] = np.arange(len(rows))
                self._size[rows] = found.column("stored_bytes").fill_null(0).to_numpy()
        self._paths.append(path)

    def windows(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield parts of the rows `start` … `end` - 1 whose pictures fit in memory together."""
        while start < end:
            total = np.cumsum(self._size[start:end])
            stop = start + max(1, int(np.searchsorted(total, _WINDOW_BYTES, side="right")))
            yield start, stop
            start = stop

    def read(self, start: int, end: int) -> tuple[pa.Table | None, npt.NDArray[np.int64]]:
        """Return samples, and which of them each of the rows `start` … `end` - 1 is (-1: none)."""
        at = np.full(end - start, _NOWHERE, np.int64)
        parts, taken = [], 0
        for shard in np.unique(self._shard[start:end]):
            if shard == _NOWHERE:
                continue
            with pq.ParquetFile(self._paths[shard], filesystem=self._fs) as file:
                here = self._shard[start:end] == shard
                for group in np.unique(self._group[start:end][here]):
                    mine = np.flatnonzero(here & (self._group[start:end] == group))
                    found = file.read_row_group(int(group))
                    parts.append(found.take(self._offset[start:end][mine]))
                    at[mine] = taken + np.arange(len(mine))
                    taken += len(mine)
        return (pa.concat_tables(parts) if parts else None), at
