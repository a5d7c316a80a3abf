"""Where rows meet img2dataset: its resizer makes the stored picture, its writer keeps it."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from types import TracebackType
from typing import Any, Protocol

import pyarrow as pa

from curation.media.pictures.upright import Picture, upright
from curation.media.web.refusal import RefusedError
from curation.stages.fetch.faces import Box, blurred, boxes_of, find_faces
from curation.stages.fetch.outcome import Got, Wanted
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.progress_notes import Notes

logger = logging.getLogger(__name__)

ENCODED = "jpg"
KEY_DIGITS = 9
SHARD_DIGITS = 6
SHARD_ROWS = 256
_SHARD_BYTES = 128 * 2**20
_BUFFER_BYTES = 32 * 2**20

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("format", pa.string()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("faces_blurred", pa.int32()),
        ("stored_bytes", pa.int64()),
    ]
)
FACTS = tuple(name for name in SCHEMA.names if name not in ("key", "stored_bytes"))
"""What a shard and the table `images` both say of a row."""


def _blur(img: Any, bbox_list: list[Box]) -> Any:
    """Blur faces where img2dataset's resizer calls for it, with the names that it uses."""
    return blurred(img, bbox_list)


class Work(Protocol):
    """Where shards go."""

    next_shard: int

    def keep(self, path: str) -> None:
        """Take a finished shard."""

    def note(self, content: bytes) -> None:
        """Take word of how the work goes."""


class Samples:
    """Makes rows into stored pictures and writes them as img2dataset's Parquet shards.

    Not for several threads: img2dataset's resizer moves the process's standard streams away while
    it works.
    """

    def __init__(self, folder: str, params: FetchParams, work: Work) -> None:
        """Open for rows to come.

        Args:
            folder: local folder in which shards are written.
            params: how pictures are stored, and their bounds.
            work: numbers shards, and takes each that is finished.
        """
        self._folder, self._params, self._work = folder, params, work
        self._shard = work.next_shard
        self._notes = Notes(work.note)
        # albumentations asks the web for newer versions of itself when it is imported.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        self._resizers: dict[bool, Any] = {}
        self._writer: Any = None
        self._rows = self._bytes = self._buffered = 0

    def __enter__(self) -> Samples:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close_shard()

    def take(self, got: Got) -> None:
        """Write one row: its stored picture, or the reason why there is none."""
        sample: dict[str, Any] = dict.fromkeys(SCHEMA.names)
        stored = None
        try:
            if got.content is None:
                raise RefusedError(got.reason or "connection_error")
            stored = self._made(got, sample)
            sample |= {"status": "ok", "stored_bytes": len(stored)}
        except RefusedError as refused:
            sample |= {"status": "failed", "reason": refused.reason}
        self._write(f"{got.wanted.row:0{KEY_DIGITS}d}", stored, sample)

    def keep(self, row: int, stored: bytes | None, facts: dict[str, Any]) -> None:
        """Write a row whose picture, or failure, is known."""
        sample: dict[str, Any] = dict.fromkeys(SCHEMA.names)
        sample |= facts | {"stored_bytes": len(stored) if stored is not None else None}
        self._write(f"{row:0{KEY_DIGITS}d}", stored, sample)

    def _made(self, got: Got, sample: dict[str, Any]) -> bytes:
        """Return the stored picture, noting facts in `sample` as they become known."""
        content = got.content or b""
        sample |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        if got.wanted.sha256 and got.wanted.sha256 != sample["sha256"]:
            raise RefusedError("sha256_mismatch")
        picture = upright(content, self._params.max_pixels)
        sample |= {
            "format": picture.format,
            "original_width": picture.width,
            "original_height": picture.height,
        }
        self._check_side(picture)
        faces = self._faces(got.wanted, picture)
        stream = io.BytesIO(picture.encoded)
        made = self._resizer(True)(stream, faces) if faces else self._resizer(False)(stream)
        stored, width, height, *_, error = made
        if error is not None or stored is None:
            logger.debug("row %d: img2dataset: %s", got.wanted.row, error)
            raise RefusedError("undecodable")
        sample |= {"width": width, "height": height, "faces_blurred": len(faces)}
        return bytes(stored)

    def _resizer(self, blurs: bool) -> Any:
        if blurs not in self._resizers:
            # Its module imports torch: seconds that only a worker with rows to fetch should pay.
            from img2dataset.resizer import Resizer

            self._resizers[blurs] = Resizer(
                image_size=self._params.resize.size,
                resize_mode=self._params.resize.mode,
                resize_only_if_bigger=True,
                encode_quality=self._params.quality,
                encode_format=ENCODED,
                # With it the file is given back as it came where only faces were blurred.
                skip_reencode=not blurs,
                blurrer=_blur if blurs else None,
            )
        return self._resizers[blurs]

    def _faces(self, wanted: Wanted, picture: Picture) -> list[Box]:
        """Return the faces to blur: of the list, and of the detector."""
        params = self._params.faces
        listed = boxes_of(wanted.faces, picture.turn) if params.listed else []
        return listed + find_faces(picture.encoded, params)

    def _check_side(self, picture: Picture) -> None:
        """Refuse a line so thin that nothing of it would be left at the stored size."""
        if self._params.resize.mode != "keep_ratio_largest":
            return
        long, short = sorted((picture.width, picture.height), reverse=True)
        if short * min(1.0, self._params.resize.size / long) < 1:
            raise RefusedError("bad_dimensions")

    def _write(self, key: str, stored: bytes | None, sample: dict[str, Any]) -> None:
        if self._writer is None:
            self._open_shard()
        self._writer.write(stored, key, None, sample | {"key": key})
        self._notes.count(sample["reason"] or "ok", sample["bytes"] or 0)
        size = len(stored or b"")
        self._rows, self._bytes = self._rows + 1, self._bytes + size
        self._buffered += size
        if self._rows >= SHARD_ROWS or self._bytes >= _SHARD_BYTES:
            self._close_shard()
        elif self._buffered >= _BUFFER_BYTES:
            # Its writer counts rows, not bytes, before it lets go of them.
            self._writer.buffered_parquet_writer.flush()
            self._buffered = 0

    def _open_shard(self) -> None:
        from img2dataset.writer import ParquetSampleWriter

        self._writer = ParquetSampleWriter(
            self._shard, self._folder, False, SHARD_DIGITS, SCHEMA, ENCODED
        )

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._work.keep(f"{self._folder}/{self._shard:0{SHARD_DIGITS}d}.parquet")
            self._writer, self._shard = None, self._shard + 1
            self._rows = self._bytes = self._buffered = 0
