"""Under how many different pictures a caption stands."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.engine.fragment import Fragment
from curation.engine.units import StageOutput

ROWS_A_PASS = 2**27
"""Counted rows that are sorted at once, at about 80 bytes each: 10 GB on the driver."""
CAPTION, PICTURE = "caption_key", "picture_key"
CAPTION_BYTES, PICTURE_BYTES = 16, 8
"""Pictures are told apart within one caption alone, so that half a key will do."""
SCHEMA = pa.schema([(CAPTION, pa.binary(CAPTION_BYTES)), (PICTURE, pa.binary(PICTURE_BYTES))])
BATCH = 4096


def same_caption(caption: str | None) -> str | None:
    """Return what captions that count as one have in common; None for a blank one."""
    if caption is None:
        return None
    return " ".join(unicodedata.normalize("NFKC", caption).casefold().split()) or None


def caption_keys(images: Fragment, copies: Fragment) -> StageOutput:
    """Yield keys of the caption and the picture of each row of `images`; null where it does not count.

    A picture is known by the one that stands for it and its copies. Rows of the pool with pixels and a
    caption count.
    """
    names = ["pair_id", "representative_id"]
    stands = dict(zip(*(copies.read(names).column(n).to_pylist() for n in names), strict=True))
    yield pa.RecordBatch.from_pylist([], schema=SCHEMA)
    for batch in images.batches(["pair_id", "role", "status", "caption"], rows=BATCH):
        keys = [_keys(row, stands) for row in batch.to_pylist()]
        columns = [
            pa.array(own, f.type) for own, f in zip(zip(*keys, strict=True), SCHEMA, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    return None


def _keys(row: Mapping[str, Any], stands: Mapping[str, str]) -> tuple[bytes | None, bytes | None]:
    caption = same_caption(row["caption"])
    if row["role"] != "pool" or row["status"] != "ok" or caption is None:
        return None, None
    picture = stands[row["pair_id"]]
    return _digest(caption)[:CAPTION_BYTES], _digest(picture)[:PICTURE_BYTES]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True)
class Repeats:
    """How often captions repeat. `counts` has shape (rows,), 0 where a row does not count."""

    counts: npt.NDArray[np.int32]
    captions: int
    most: int


def repeats(keys: Sequence[Fragment], rows_a_pass: int = ROWS_A_PASS) -> Repeats:
    """Return for each row of all fragments how many different pictures have its caption.

    Args:
        keys: what `caption_keys` gave, in order.
        rows_a_pass: beyond so many rows captions are counted in several passes, each over those of one
            residue, so that memory is bounded.
    """
    starts = np.cumsum([0, *(f.rows for f in keys)])
    counts = np.zeros(int(starts[-1]), np.int32)
    passes = max(1, -(-len(counts) // rows_a_pass))
    captions = 0
    for number in range(passes):
        captions += _count(keys, starts, (number, passes), counts)
    return Repeats(counts, captions, int(counts.max(initial=0)))


def _count(
    keys: Sequence[Fragment],
    starts: npt.NDArray[np.int64],
    residue: tuple[int, int],
    counts: npt.NDArray[np.int32],
) -> int:
    """Fill in the counts of the captions of one residue; return how many captions these are."""
    parts = [(np.empty(0, np.int64), np.empty((0, 3), np.uint64))]
    for fragment, start in zip(keys, starts, strict=False):
        parts += [(start + rows, own) for rows, own in _read(fragment, residue)]
    rows, every = (np.concatenate(own) for own in zip(*parts, strict=True))
    parts.clear()
    if not len(rows):
        return 0
    order = np.lexsort(every.T)
    every = every[order]
    # Sorted by the last key first: the caption, then the picture.
    other = every[1:] != every[:-1]
    begins = np.flatnonzero(np.concatenate([[True], other[:, 1:].any(axis=1)]))
    pictures = np.concatenate([[True], other.any(axis=1)])
    found = np.add.reduceat(pictures.astype(np.int32), begins)
    counts[rows[order]] = np.repeat(found, np.diff([*begins, len(rows)]))
    return len(begins)


def _read(
    fragment: Fragment, residue: tuple[int, int]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]]:
    """Yield places and keys (picture, two halves of the caption) of the rows that count."""
    start = 0
    for batch in fragment.batches([CAPTION, PICTURE], rows=65_536):
        valid = np.asarray(batch.column(0).is_valid())
        caption, picture = (_words(batch.column(n)) for n in range(2))
        mine = np.flatnonzero(valid & (caption[:, 0] % np.uint64(residue[1]) == residue[0]))
        yield start + mine, np.concatenate([picture, caption], axis=1)[mine]
        start += len(batch)


def _words(column: pa.Array) -> npt.NDArray[np.uint64]:
    words = column.type.byte_width // 8
    raw = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, words)
    return raw[column.offset : column.offset + len(column)]
