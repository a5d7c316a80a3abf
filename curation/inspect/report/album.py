"""Thumbnails of the images that a page shows, read from as few fragments as possible."""

from __future__ import annotations

import base64
import io
import unicodedata
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curation.engine.table import Table
from curation.secrets import conceal
from curation.store.fragment import Fragment
from curation.terminal import MAX_READ

THUMBNAIL_SIDE = 96
THUMBNAIL_QUALITY = 80
CAPTION_LENGTH = 140
COLUMNS = ["pair_id", "image_id", "role", "source", "source_key", "url", "caption"]
SIZE_COLUMNS = ["width", "height"]


@dataclass(frozen=True)
class ImageRef:
    """A row of table `images`, by its number in the fragment; −1 means the fetched row of the pair."""

    fragment: str
    pair_id: str
    row: int = -1


@dataclass(frozen=True)
class AlbumImage:
    """What a page shows of one row; `thumbnail` is a data URI, empty where there are no pixels."""

    image_id: str
    role: str
    source: str
    key: str
    url: str
    caption: str
    size: str
    thumbnail: str

    @property
    def alt_text(self) -> str:
        """Text in place of the image: its caption, or else its key, URL or id."""
        return self.caption or self.key or self.url or self.image_id or "no caption"


class Album:
    """Collects the rows that the sections of a page show, then loads them fragment by fragment."""

    def __init__(self, images: Table) -> None:
        self._fragments = images.fragments
        self._refs: dict[str, set[ImageRef]] = {}
        self._images: dict[ImageRef, AlbumImage] = {}

    def add(self, fragment: str, pair_id: str, row: int = -1) -> ImageRef:
        """Add a row to load, and return the key to it."""
        ref = ImageRef(fragment, pair_id, row)
        self._refs.setdefault(fragment, set()).add(ref)
        return ref

    def add_row(self, row: Mapping[Hashable, Any]) -> ImageRef:
        """Add the fetched row of a pair, given a row with its `fragment` and `pair_id`."""
        return self.add(str(row["fragment"]), str(row["pair_id"]))

    def load(self) -> None:
        """Read every row that was added."""
        for name, refs in sorted(self._refs.items()):
            self._images |= _load(self._fragments[name], refs)

    def __getitem__(self, ref: ImageRef) -> AlbumImage:
        return self._images[ref]

    def __len__(self) -> int:
        return len(self._images)


def _load(fragment: Fragment, refs: set[ImageRef]) -> dict[ImageRef, AlbumImage]:
    """Return the images of rows of a fragment; a row that does not exist gives an empty image."""
    ids = fragment.read(["pair_id", "image_id"])
    rows = _rows_of(ids, refs)
    numbers = sorted(set(rows.values()))
    table = fragment.read([*COLUMNS, *SIZE_COLUMNS]).take(pa.array(numbers, pa.int64()))
    thumbnails = {row: thumbnail(image) for row, image in read_stored(fragment, numbers)}
    images = {
        number: _album_image(row, thumbnails.get(number, ""))
        for number, row in zip(numbers, table.to_pylist(), strict=True)
    }
    missing = AlbumImage("", "", "", "", "", "not found", "", "")
    return {ref: images[rows[ref]] if ref in rows else missing for ref in refs}


def _rows_of(ids: pa.Table, refs: set[ImageRef]) -> dict[ImageRef, int]:
    rows = {ref: ref.row for ref in refs if ref.row >= 0}
    by_pair = {ref.pair_id: ref for ref in refs if ref.row < 0}
    if by_pair:
        pairs = ids.column("pair_id").to_numpy()
        has_pixels = ids.column("image_id").is_valid().to_numpy()
        for number in np.flatnonzero(np.isin(pairs, list(by_pair)) & has_pixels):
            rows.setdefault(by_pair[pairs[number]], int(number))
    return rows


def read_stored(fragment: Fragment, rows: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Yield rows, in rising order, with their stored images, reading no further than the last one.

    Rows without pixels are left out.
    """
    waiting, start = deque(rows), 0
    for batch in fragment.batches(["image"], rows=256):
        while waiting and waiting[0] < start + batch.num_rows:
            row = waiting.popleft()
            image = batch.column("image")[row - start].as_py()
            if image is not None:
                yield row, image
        start += batch.num_rows
        if not waiting:
            return


def thumbnail(image: bytes) -> str:
    """Return a stored image as a small JPEG in a data URI; empty where it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            opened.draft("RGB", (2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE))
            small = opened.convert("RGB")
            small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            out = io.BytesIO()
            small.save(out, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _album_image(row: dict[str, str | int | None], thumbnail_uri: str) -> AlbumImage:
    size = f"{row['width']} × {row['height']}" if row["width"] and row["height"] else ""
    return AlbumImage(
        image_id=str(row["image_id"] or ""),
        role=str(row["role"]),
        source=str(row["source"]),
        key=shorten(str(row["source_key"] or "")),
        url=shorten(str(row["url"] or "")),
        caption=shorten(str(row["caption"] or "")),
        size=size,
        thumbnail=thumbnail_uri,
    )


def optional_float(value: Any) -> float | None:
    """Return a value of a table as a float; None for null and NaN."""
    return None if value is None or np.isnan(value) else float(value)


def shorten(text: str, limit: int = CAPTION_LENGTH) -> str:
    """Return text as one line of at most `limit` characters, without control characters and secrets."""
    text = conceal(text[:MAX_READ])
    plain = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: 4 * limit])
    plain = " ".join(plain.split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"
