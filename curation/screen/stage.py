"""screen: a score a filter for every fetched pair, in one pass over the pixels. No thresholds here."""

from __future__ import annotations

from hashlib import sha256
from importlib import import_module
from typing import Any

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from curation.fragment import Fragment
from curation.screen.filter import Filter, Pair
from curation.screen.filters import FILTERS
from curation.screen.params import ScreenParams
from curation.screen.words import load_words
from curation.units import Rows

COLUMNS = ["pair_id", "status", "original_width", "original_height", "bytes", "caption", "image"]
HASH_SIDE = 16
# A picture flatter than this has no structure to hash: all such pictures would seem copies.
FLAT = 4.0
_TYPES = {"float": pa.float32(), "int32": pa.int32(), "string": pa.string()}


def screen(images: Fragment, *, params: ScreenParams) -> Rows:
    """Score each pair with the filters of the recipe.

    Args:
        images: a fragment of the table `images`.
        params: names of filters, lists of words, and whether the perceptual hash is wanted.

    Yields:
        Batches of `scores`, aligned with `images`.
    """
    filters = {name: load_filter(name) for name in params.filters}
    filters |= {f"words_{name}": load_words(given.file) for name, given in params.words.items()}
    schema = _schema(filters)
    for batch in images.batches(COLUMNS, rows=256):
        rows = [_score(row, filters, params.perceptual_hash) for row in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(rows, schema=schema)
    return None


def load_filter(name: str) -> Filter:
    """Return a filter by its name in the registry."""
    found: Filter = import_module(FILTERS[name]).FILTER
    return found


def _schema(filters: dict[str, Filter]) -> pa.Schema:
    fields = [pa.field("pair_id", pa.string()), pa.field("phash", pa.binary())]
    fields.append(pa.field("pixel_id", pa.string()))
    for name, found in filters.items():
        notes = {"doc": found.doc, "unit": found.unit}
        fields.append(pa.field(name, _TYPES[found.type], metadata=notes))
    return pa.schema(fields)


def _score(row: dict[str, Any], filters: dict[str, Filter], hashed: bool) -> dict[str, Any]:
    scores: dict[str, Any] = {"pair_id": row["pair_id"], "phash": None, "pixel_id": None}
    if row["status"] != "ok":
        return scores
    scores["pixel_id"] = sha256(row["image"]).hexdigest()[:32]
    grey = decode_grey(row["image"])
    if grey is None:
        return scores
    pair = Pair(
        row["original_width"],
        row["original_height"],
        row["bytes"],
        row["caption"],
        row["image"],
        grey,
    )
    scores |= {name: found.score(pair) for name, found in filters.items()}
    if hashed:
        scores["phash"] = perceptual_hash(grey)
    return scores


def decode_grey(image: bytes) -> npt.NDArray[np.uint8] | None:
    """Return the picture in grey, uint8 (height, width), or None where it cannot be decoded."""
    found = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
    return None if found is None else np.asarray(found, np.uint8)


def perceptual_hash(grey: npt.NDArray[np.uint8]) -> bytes | None:
    """Return the 256-bit DCT hash of a grey picture as 32 bytes; None for a flat one."""
    if grey.std() < FLAT:
        return None
    # Area averaging to a fixed side first: the hash's own resize of a large picture is slow.
    small = cv2.resize(grey, (8 * HASH_SIDE, 8 * HASH_SIDE), interpolation=cv2.INTER_AREA)
    found = imagehash.phash(Image.fromarray(small), hash_size=HASH_SIDE)
    return np.packbits(found.hash.ravel()).tobytes()
