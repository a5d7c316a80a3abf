"""Counts how many different images have each caption."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.fixed_bytes import bytes_of
from curation.algorithms.arrays.vectors import RowNumbers
from curation.engine.sorted_arrays import run_starts
from curation.engine.units import StageOutput, empty_batch
from curation.media.compatible_text import compatible
from curation.store.fragment import Fragment

CAPTION_KEY, IMAGE_KEY = "caption_key", "picture_key"
CAPTION_KEY_BYTES, IMAGE_KEY_BYTES = 16, 8
"""Images are only compared within one caption, so that a shorter key is enough for them."""
SCHEMA = pa.schema(
    [(CAPTION_KEY, pa.binary(CAPTION_KEY_BYTES)), (IMAGE_KEY, pa.binary(IMAGE_KEY_BYTES))]
)
CAPTIONS_PER_BATCH = 4096
KEYS_PER_BATCH = 65_536

Keys = npt.NDArray[np.uint64]
"""Image key and the two halves of the caption key, shape (n, 3)."""


def normalize_caption(caption: str | None) -> str | None:
    """Return the form in which equal captions are equal, or None for a blank caption.

    Letter case, white space and compatible characters (NFKC) make no difference.

    Examples:
        >>> normalize_caption(" A\\tDOG")
        'a dog'
    """
    if caption is None:
        return None
    return " ".join(compatible(caption).casefold().split()) or None


def caption_keys(images: Fragment, copies: Fragment) -> StageOutput:
    """Write keys of the caption and the image of each row.

    All copies of an image have the key of their representative. Rows count if they are fetched rows of
    the pool with a caption; the keys of others are null.

    Args:
        images: a fragment of `images`.
        copies: the fragment of `copies` with the same rows.

    Yields:
        Batches of SCHEMA, aligned with `images`.
    """
    names = ["pair_id", "representative_id"]
    table = copies.read(names)
    representatives = dict(zip(*(table.column(name).to_pylist() for name in names), strict=True))
    yield empty_batch(SCHEMA)
    columns = ["pair_id", "role", "status", "caption"]
    for batch in images.batches(columns, rows=CAPTIONS_PER_BATCH):
        keys = zip(*(_row_keys(row, representatives) for row in batch.to_pylist()), strict=True)
        arrays = [pa.array(k, field.type) for k, field in zip(keys, SCHEMA, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
    return None


def _row_keys(
    row: Mapping[str, Any], representatives: Mapping[str, str]
) -> tuple[bytes | None, bytes | None]:
    caption = normalize_caption(row["caption"])
    if row["role"] != "pool" or row["status"] != "ok" or caption is None:
        return None, None
    image = representatives[row["pair_id"]]
    return _digest(caption)[:CAPTION_KEY_BYTES], _digest(image)[:IMAGE_KEY_BYTES]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True)
class CaptionRepeats:
    """How often captions repeat.

    Attributes:
        counts: different images with the caption of each row, 0 for a row that does not count, shape
            (rows,).
        captions: number of different captions.
        most_repeated: different images with the most repeated caption.
    """

    counts: npt.NDArray[np.int32]
    captions: int
    most_repeated: int


def count_repeats(keys: Sequence[Fragment]) -> CaptionRepeats:
    """Count for each row of all fragments how many different images have its caption.

    Args:
        keys: work tables of `caption_keys`, in order.
    """
    starts = np.cumsum([0, *(f.rows for f in keys)])
    counts = np.zeros(int(starts[-1]), np.int32)
    parts = [(np.empty(0, np.int64), np.empty((0, 3), np.uint64))]
    for fragment, start in zip(keys, starts, strict=False):
        parts += [(start + rows, batch_keys) for rows, batch_keys in _read_keys(fragment)]
    rows, row_keys = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    parts.clear()
    counts[rows], captions = count_images(row_keys)
    return CaptionRepeats(counts, captions, int(counts.max(initial=0)))


def count_images(keys: Keys) -> tuple[npt.NDArray[np.int32], int]:
    """Count the images of each caption.

    Args:
        keys: of all rows of some captions, (n, 3).

    Returns:
        The number of different images with the caption of each row, (n,), and the number of captions.
    """
    # lexsort sorts by the last key first: by the caption, then by the image.
    order = np.lexsort(keys.T)
    keys = keys[order]
    caption_starts = np.flatnonzero(run_starts(keys[:, 1:]))
    counts = np.zeros(len(order), np.int32)
    if len(order):
        images = np.add.reduceat(run_starts(keys).astype(np.int32), caption_starts)
        counts[order] = np.repeat(images, np.diff([*caption_starts, len(order)]))
    return counts, len(caption_starts)


def _read_keys(fragment: Fragment) -> Iterator[tuple[RowNumbers, Keys]]:
    """Yield row numbers and keys of the rows that count."""
    start = 0
    for batch in fragment.batches([CAPTION_KEY, IMAGE_KEY], rows=KEYS_PER_BATCH):
        rows = np.flatnonzero(np.asarray(batch.column(CAPTION_KEY).is_valid()))
        caption, image = (key_words(batch, name)[rows] for name in (CAPTION_KEY, IMAGE_KEY))
        yield start + rows, np.concatenate([image, caption], axis=1)
        start += len(batch)


def key_words(rows: pa.RecordBatch | pa.Table, column: str) -> npt.NDArray[np.uint64]:
    """Return a column of keys as 64-bit words, shape (n, bytes of a key / 8)."""
    keys = bytes_of(rows, column)
    return keys.view(np.uint64).reshape(-1, keys.itemsize // 8)
