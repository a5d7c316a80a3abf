"""Makes the stored image of each row, and writes the rows as shards with img2dataset's writer."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from curation.masking import mask_address
from curation.media.pictures.decoder import Decoder, Outcome
from curation.media.pictures.decoder_messages import Message
from curation.media.web.fetch_error import FetchError
from curation.media.web.urls import host_of
from curation.stages.fetch.decoding_times import DecodingTimes
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.picture import (
    columns_of,
    detail_of,
    header_of,
    header_without_manifests,
    is_stored,
    store_picture,
)
from curation.stages.fetch.progress import TaskProgress
from curation.stages.fetch.request import LARGE_BYTES, FetchResult
from curation.stages.fetch.sample_schema import IMAGE_FORMAT, SCHEMA
from curation.stages.fetch.shard_writer import parquet_writer
from curation.stages.fetch.stored_image import most_bytes
from curation.store.storage.local import explained_write

KEY_DIGITS = 9
SHARD_DIGITS = 6
SHARD_ROWS = 256
_SHARD_BYTES = 128 * 2**20
_BUFFER_BYTES = 32 * 2**20
_NO_VALUES: dict[str, Any] = dict.fromkeys(SCHEMA.names)


class ShardStore(Protocol):
    """Stores finished shards, and the progress of the task."""

    next_shard: int

    def store(self, path: str) -> None:
        """Store a finished shard."""

    def write_progress(self, content: bytes) -> None:
        """Write the progress of the task, as JSON."""


class SampleWriter:
    """Has the stored image of each row made, and writes the rows as Parquet shards of img2dataset.

    Not thread-safe. Pictures are decoded in another process, within its limits; their rows are written
    as its answers come, the last ones on leaving.

    Args:
        folder: local folder for unfinished shards.
        params: how images are stored, and their limits.
        shards: gives the number of the first shard, and stores finished shards.
    """

    def __init__(self, folder: str, params: FetchParams, shards: ShardStore) -> None:
        self._folder, self._header, self._shards = folder, header_of(params), shards
        self._max_pixels = params.max_pixels
        self._shard = shards.next_shard
        self._progress = TaskProgress(shards.write_progress)
        self._decoder = Decoder(store_picture, most=most_bytes(params))
        self._times = DecodingTimes()
        self._writer: Any = None
        self._rows = self._bytes = self._buffered = 0

    def __enter__(self) -> SampleWriter:
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._decoder.__exit__(kind, error, trace)
        finally:
            self._progress.__exit__()
            self._close_shard()

    def write_result(self, result: FetchResult) -> None:
        """Write a fetched row: its stored image, or the reason why there is none."""
        request, content = result.request, result.content
        sample: dict[str, Any] = dict(_NO_VALUES)
        sample |= {"final_url": result.final_url, "opt_out": result.opt_out}
        sample["rsl_license"] = mask_address(result.license) if result.license else None
        if content is None:
            reason = result.reason or "connection_error"
            self._write_failed(request.row, sample, FetchError(reason, detail=result.detail))
            return
        sample |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        if request.sha256 and request.sha256 != sample["sha256"]:
            self._write_failed(request.row, sample, FetchError("sha256_mismatch"))
            return
        # Files of this machine have no host.
        host = host_of(result.final_url) if result.final_url else None
        if host is not None and not self._times.may_decode(host):
            self._write_failed(request.row, sample, FetchError("host_too_slow"))
            return
        header = self._header | {"faces": request.faces}
        simpler = header_without_manifests(header, content)
        self._decoder.ask(
            Message(header, content),
            partial(self._write_decoded, request.row, sample, host),
            None if simpler is None else Message(simpler, content),
        )
        if len(content) > LARGE_BYTES:
            # It is kept until its answer comes, beside what reading the next one takes.
            self._decoder.wait()

    def write_reused(self, row: int, stored: bytes | None, columns: dict[str, Any]) -> None:
        """Write a row that an earlier run has fetched.

        Args:
            row: its number in the fragment.
            stored: the stored image; None for a row that failed.
            columns: values of SHARED_COLUMNS.
        """
        sample: dict[str, Any] = dict(_NO_VALUES)
        sample |= columns | {"stored_bytes": len(stored) if stored is not None else None}
        self._write(row, stored, sample)

    def _write_decoded(
        self, row: int, sample: dict[str, Any], host: str | None, outcome: Outcome
    ) -> None:
        seconds = self._decoder.waited_s
        self._write_outcome(row, sample, outcome)
        if host is not None:
            self._times.note(host, seconds, sample["status"] == "ok")

    def _write_outcome(self, row: int, sample: dict[str, Any], outcome: Outcome) -> None:
        if isinstance(outcome, FetchError):
            self._write_failed(row, sample, outcome)
            return
        sample |= columns_of(outcome)
        if sample["reason"] is not None:
            error = FetchError(sample["reason"], detail=detail_of(outcome))
            self._write_failed(row, sample, error)
            return
        if not is_stored(outcome, sample, self._max_pixels):
            self._write_failed(row, sample, FetchError("decoder_died"))
            return
        sample |= {"status": "ok", "stored_bytes": len(outcome.content)}
        self._write(row, outcome.content, sample)

    def _write_failed(self, row: int, sample: dict[str, Any], error: FetchError) -> None:
        sample |= {"status": "failed", "reason": error.reason, "detail": error.detail}
        self._write(row, None, sample)

    def _write(self, row: int, stored: bytes | None, sample: dict[str, Any]) -> None:
        key = f"{row:0{KEY_DIGITS}d}"
        with explained_write(self._path):
            if self._writer is None:
                self._open_shard()
            self._writer.write(stored, key, None, sample | {"key": key})
        self._progress.count(sample["reason"] or "ok", sample["bytes"] or 0)
        size = len(stored or b"")
        self._rows, self._bytes = self._rows + 1, self._bytes + size
        self._buffered += size
        if self._rows >= SHARD_ROWS or self._bytes >= _SHARD_BYTES:
            self._close_shard()
        elif self._buffered >= _BUFFER_BYTES:
            # img2dataset's writer limits the rows in its buffer, but not their bytes.
            with explained_write(self._path):
                self._writer.buffered_parquet_writer.flush()
            self._buffered = 0

    @property
    def _path(self) -> Path:
        """The file of the shard."""
        return Path(self._folder, f"{self._shard:0{SHARD_DIGITS}d}.parquet")

    def _open_shard(self) -> None:
        self._writer = parquet_writer()(
            self._shard, self._folder, False, SHARD_DIGITS, SCHEMA, IMAGE_FORMAT
        )

    def _close_shard(self) -> None:
        if self._writer is not None:
            with explained_write(self._path):
                self._writer.close()
            self._shards.store(str(self._path))
            self._writer, self._shard = None, self._shard + 1
            self._rows = self._bytes = self._buffered = 0
