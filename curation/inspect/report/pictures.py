"""The pictures that a report shows: found by identity, read from as few fragments as hold them."""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curation.engine.fragment import Fragment
from curation.engine.table import Table

SIDE = 96
QUALITY = 80
CAPTION_LENGTH = 140
COLUMNS = ["pair_id", "image_id", "role", "source", "source_key", "url", "caption"]
SIZES = ["width", "height"]


@dataclass(frozen=True)
class Ref:
    """A row of `images`: by its number, or with row −1 the fetched row of a pair."""

    fragment: str
    pair_id: str
    row: int = -1


@dataclass(frozen=True)
class Picture:
    """What is shown of one row; `thumb` is a data URI, empty where there are no pixels."""

    image_id: str
    role: str
    source: str
    key: str
    url: str
    caption: str
    size: str
    thumb: str

    @property
    def words(self) -> str:
        """What stands for the picture where it cannot be seen."""
        return self.caption or self.key or self.url or self.image_id or "no caption"


class Album:
    """Collects what sections want to show, then loads it fragment by fragment."""

    def __init__(self, images: Table) -> None:
        self._fragments = images.fragments
        self._asked: dict[str, set[Ref]] = {}
        self._pictures: dict[Ref, Picture] = {}

    def ask(self, fragment: str, pair_id: str, row: int = -1) -> Ref:
        """Note that a row will be shown; return the key to it."""
        ref = Ref(fragment, pair_id, row)
        self._asked.setdefault(fragment, set()).add(ref)
        return ref

    def ask_row(self, row: Mapping[Hashable, Any]) -> Ref:
        """Note that the fetched row of a pair will be shown, given its `fragment` and `pair_id`."""
        return self.ask(str(row["fragment"]), str(row["pair_id"]))

    def load(self) -> None:
        """Read everything asked for."""
        for name, refs in sorted(self._asked.items()):
            self._pictures |= _load(self._fragments[name], refs)

    def __getitem__(self, ref: Ref) -> Picture:
        return self._pictures[ref]

    def __len__(self) -> int:
        return len(self._pictures)


def _load(fragment: Fragment, refs: set[Ref]) -> dict[Ref, Picture]:
    """Return the pictures of some rows of a fragment; a row that is not there is left empty."""
    identities = fragment.read(["pair_id", "image_id"])
    rows = _rows_of(identities, refs)
    numbers = sorted(set(rows.values()))
    table = fragment.read([*COLUMNS, *SIZES]).take(pa.array(numbers, pa.int64()))
    thumbs = _thumbs(fragment, numbers)
    shown = {
        number: _picture(row, thumbs.get(number, ""))
        for number, row in zip(numbers, table.to_pylist(), strict=True)
    }
    missing = Picture("", "", "", "", "", "not found", "", "")
    return {ref: shown[rows[ref]] if ref in rows else missing for ref in refs}


def _rows_of(identities: pa.Table, refs: set[Ref]) -> dict[Ref, int]:
    rows = {ref: ref.row for ref in refs if ref.row >= 0}
    wanted = {ref.pair_id: ref for ref in refs if ref.row < 0}
    if wanted:
        pairs = identities.column("pair_id").to_numpy()
        has_pixels = identities.column("image_id").is_valid().to_numpy()
        for number in np.flatnonzero(np.isin(pairs, list(wanted)) & has_pixels):
            rows.setdefault(wanted[pairs[number]], int(number))
    return rows


def _thumbs(fragment: Fragment, numbers: Sequence[int]) -> dict[int, str]:
    """Return a data URI for each row that has pixels, reading no further than the last row."""
    thumbs, start = {}, 0
    waiting = list(numbers)
    for batch in fragment.batches(["image"], rows=256):
        while waiting and waiting[0] < start + batch.num_rows:
            number = waiting.pop(0)
            image = batch.column("image")[number - start].as_py()
            if image is not None:
                thumbs[number] = thumbnail(image)
        start += batch.num_rows
        if not waiting:
            break
    return thumbs


def thumbnail(image: bytes) -> str:
    """Return a stored image as a small JPEG in a data URI; empty where it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(image)) as picture:
            picture.draft("RGB", (2 * SIDE, 2 * SIDE))
            small = picture.convert("RGB")
            small.thumbnail((SIDE, SIDE))
            out = io.BytesIO()
            small.save(out, "JPEG", quality=QUALITY, optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _picture(row: dict[str, str | int | None], thumb: str) -> Picture:
    size = f"{row['width']} × {row['height']}" if row["width"] and row["height"] else ""
    return Picture(
        image_id=str(row["image_id"] or ""),
        role=str(row["role"]),
        source=str(row["source"]),
        key=shorten(str(row["source_key"] or "")),
        url=shorten(str(row["url"] or "")),
        caption=shorten(str(row["caption"] or "")),
        size=size,
        thumb=thumb,
    )


def strength(value: Any) -> float | None:
    """Return a similarity as it is shown, None where there is none."""
    return None if value is None or np.isnan(value) else float(value)


def shorten(text: str, limit: int = CAPTION_LENGTH) -> str:
    """Return a stranger's text in one line, without characters that steer a terminal or a page."""
    plain = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: 4 * limit])
    plain = " ".join(plain.split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"
