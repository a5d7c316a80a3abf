"""screen: filters score each fetched pair, one column per filter. Thresholds stand under `select`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curation.engine.units import StageOutput
from curation.media.pictures.hashes import decode_grey, perceptual_hash, pixel_id
from curation.stages.screen.filters import FILTERS
from curation.stages.screen.filters.base import Filter, Pair
from curation.stages.screen.params import ScreenParams, words_score
from curation.stages.screen.words import load_words
from curation.store.fragment import Fragment

COLUMNS = ["pair_id", "status", "original_width", "original_height", "bytes", "caption", "image"]
_TYPES = {"float": pa.float32(), "int32": pa.int32(), "string": pa.string()}


def screen(images: Fragment, *, params: ScreenParams) -> StageOutput:
    """Score each pair with the filters of the recipe. Each image is decoded once.

    Args:
        images: a fragment of the table `images`.
        params: filters, lists of words, and whether the perceptual hash is computed.

    Yields:
        Batches of `scores`, aligned with `images`.
    """
    filters = {name: load_filter(name) for name in params.filters}
    filters |= {words_score(name): load_words(words.file) for name, words in params.words.items()}
    of_captions = {n: f for n, f in filters.items() if n not in FILTERS or FILTERS[n].caption}
    schema = _schema(filters)
    for batch in images.batches(COLUMNS, rows=256):
        rows = [
            _score(row, filters, params.perceptual_hash)
            if row["image"] is not None
            else _score_caption(row, of_captions)
            for row in batch.to_pylist()
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=schema)
    return None


def load_filter(name: str) -> Filter:
    """Return a filter by its name in the registry."""
    loaded: Filter = FILTERS.load(name).FILTER
    return loaded


def _schema(filters: dict[str, Filter]) -> pa.Schema:
    fields = [pa.field("pair_id", pa.string()), pa.field("phash", pa.binary())]
    fields.append(pa.field("pixel_id", pa.string()))
    for name, each in filters.items():
        metadata = {"doc": each.doc, "unit": each.unit}
        fields.append(pa.field(name, _TYPES[each.type], metadata=metadata))
    return pa.schema(fields)


def _score_caption(row: dict[str, Any], filters: dict[str, Filter]) -> dict[str, Any]:
    """Return the scores of a row without pixels: those of its caption, unless it failed."""
    scores: dict[str, Any] = {"pair_id": row["pair_id"], "phash": None, "pixel_id": None}
    if row["status"] != "ok":
        return scores
    pair = Pair(0, 0, 0, row["caption"], b"", np.zeros((0, 0), np.uint8))
    return scores | {name: each.value(name, pair) for name, each in filters.items()}


def _score(row: dict[str, Any], filters: dict[str, Filter], with_hash: bool) -> dict[str, Any]:
    scores: dict[str, Any] = {"pair_id": row["pair_id"], "phash": None, "pixel_id": None}
    scores["pixel_id"] = pixel_id(row["image"])
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
    scores |= {name: each.value(name, pair) for name, each in filters.items()}
    if with_hash:
        scores["phash"] = perceptual_hash(grey)
    return scores
