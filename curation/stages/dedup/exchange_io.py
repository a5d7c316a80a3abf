"""What tasks read when dedup runs in parts: rows, neighbours and pairs, keyed by the node of an image.

A node is the hash of an image id. Edges between nodes decide which rows are in one part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.components.distributed_components import EDGES, local_stars
from curation.engine.exchange import KEY
from curation.engine.sorted_arrays import run_starts
from curation.engine.units import StageOutput, empty_batch
from curation.stages.dedup.copy_lists import LIST_FIELDS
from curation.stages.dedup.edges import NEIGHBOUR_COLUMNS, agreeing_pairs, filter_similar
from curation.stages.dedup.fetched_rows import (
    COLUMNS,
    FetchedRows,
    TextsInMemory,
    narrow_columns,
    role_and_source,
)
from curation.stages.dedup.params import Verify
from curation.store.fragment import Fragment

READ_AT_ONCE = 500_000
ROW_POSITION = [("fragment", pa.int32()), ("row", pa.int32())]
IMAGE_ROWS = pa.schema(
    [
        *ROW_POSITION,
        ("role", pa.string()),
        ("source", pa.string()),
        ("pixel_id", pa.string()),
        ("pixels", pa.int32()),
        ("caption_length", pa.int32()),
        ("file_size", pa.int64()),
        *((name, pa.string()) for name in LIST_FIELDS),
    ]
)
"""Columns from which `FetchedRows` are built. `fragment` numbers all fragments of `images`."""
NEIGHBOURS = pa.schema(
    [(n, pa.float32() if n == "similarity" else pa.string()) for n in NEIGHBOUR_COLUMNS]
)
AGREEING_PAIRS = pa.schema([("image_a", pa.string()), ("image_b", pa.string())])
PIXEL_NODES = pa.schema([("pixel", pa.uint64()), ("node", pa.uint64())])
"""Hash of the pixel_id, and node of the image."""


def image_nodes(ids: Ids) -> npt.NDArray[np.uint64]:
    """Return the node of each image id: a hash, shape (n,).

    If two images have one hash, they are decided in one part, which does not change the result.
    """
    return seeded_keys(ids, "dedup")


def read_image_rows(
    images: Sequence[Fragment], scores: Sequence[Fragment] | None, first: int
) -> Iterator[pa.Table]:
    """Yield IMAGE_ROWS, keyed by image.

    Args:
        images: some fragments of `images`.
        scores: the fragments of `scores` with the same rows; None if equal pixels do not make copies.
        first: number of the first of these fragments.
    """
    for position, fragment in enumerate(images):
        table = fragment.read(list(dict.fromkeys([*COLUMNS, *LIST_FIELDS])))
        arrays = narrow_columns(first + position, table, scores[position] if scores else None)
        table = table.take(pa.array(arrays["row"]))
        role, source = (pa.repeat(text, len(table)) for text in role_and_source(fragment))
        narrow = ("fragment", "row", "pixels", "caption_length", "file_size")
        columns = {name: arrays[name] for name in narrow} | {"role": role, "source": source}
        pixel_ids = arrays["pixel_ids"]
        columns |= {"pixel_id": from_ids(pixel_ids, known=pixel_ids != b"")}
        columns |= {name: table.column(name) for name in LIST_FIELDS}
        yield _keyed(image_nodes(arrays["image_ids"]), columns, IMAGE_ROWS)


def build_fetched_rows(
    rows: pa.Table, held_out_sets: list[str]
) -> tuple[FetchedRows, npt.NDArray[np.int32]]:
    """Build `FetchedRows` from IMAGE_ROWS, in the order of fragments.

    Args:
        rows: IMAGE_ROWS in any order.
        held_out_sets: names of all held-out sets.

    Returns:
        The rows, whose fragments are numbered from 0, and the number of each of these fragments among
        all fragments of `images`.
    """
    rows = rows.sort_by([("fragment", "ascending"), ("row", "ascending")]).combine_chunks()
    fragment = np.asarray(rows.column("fragment"), np.int32)
    numbers, first, position = np.unique(fragment, return_index=True, return_inverse=True)
    roles, sources = (
        rows.column(name).take(pa.array(first)).to_numpy().astype(str)
        for name in ("role", "source")
    )
    fetched = FetchedRows(
        roles,
        sources,
        held_out_sets,
        TextsInMemory(rows),
        fragment=position.astype(np.int32),
        row=np.asarray(rows.column("row"), np.int32),
        image_ids=to_ids(rows.column("image_id")),
        pixel_ids=to_ids(pc.fill_null(rows.column("pixel_id"), "")),
        pixels=np.asarray(rows.column("pixels"), np.int32),
        caption_length=np.asarray(rows.column("caption_length"), np.int32),
        file_size=np.asarray(rows.column("file_size"), np.int64),
    )
    return fetched, numbers


def read_neighbours(neighbours: Fragment, thresholds: Mapping[str, float]) -> Iterator[pa.Table]:
    """Yield NEIGHBOURS that are similar enough for their method, keyed by the query image.

    Args:
        neighbours: a fragment of `neighbours`.
        thresholds: smallest similarity by method.
    """
    for batch in neighbours.batches(NEIGHBOUR_COLUMNS, rows=READ_AT_ONCE):
        for table in filter_similar(pa.Table.from_batches([batch]), thresholds):
            columns = {name: table.column(name) for name in NEIGHBOUR_COLUMNS}
            yield _keyed(image_nodes(to_ids(table.column("image_a"))), columns, NEIGHBOURS)


def read_agreeing_pairs(verified: Fragment, bounds: Verify) -> Iterator[pa.Table]:
    """Yield AGREEING_PAIRS, keyed by the first image.

    Args:
        verified: a fragment of `verified`.
        bounds: within which pixels agree.
    """
    ends = agreeing_pairs([verified], bounds).view("S32").reshape(-1, 2)
    for start in range(0, len(ends), READ_AT_ONCE):
        a, b = (np.ascontiguousarray(ids) for ids in ends[start : start + READ_AT_ONCE].T)
        yield _keyed(
            image_nodes(a), {"image_a": from_ids(a), "image_b": from_ids(b)}, AGREEING_PAIRS
        )


def read_pixel_nodes(images: Sequence[Fragment], scores: Sequence[Fragment]) -> Iterator[pa.Table]:
    """Yield PIXEL_NODES of fetched rows, keyed by pixels.

    Args:
        images: fragments of `images`.
        scores: the fragments of `scores` with the same rows.
    """
    for image_fragment, score_fragment in zip(images, scores, strict=True):
        table = image_fragment.read(["status", "image_id"])
        pixel_id = score_fragment.read(["pixel_id"]).column("pixel_id")
        known = pc.and_(pc.equal(table.column("status"), "ok"), pc.is_valid(pixel_id))
        pixel = image_nodes(to_ids(pixel_id.filter(known)))
        node = image_nodes(to_ids(table.column("image_id").filter(known)))
        yield _keyed(pixel, {"pixel": pixel, "node": node}, PIXEL_NODES)


def _keyed(keys: npt.NDArray[np.uint64], columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    return pa.table(columns, schema=schema).append_column(KEY, pa.array(keys))


# -- edges between nodes ----------------------------------------------------------------------------


def write_neighbour_edges(neighbours: Fragment, thresholds: Mapping[str, float]) -> StageOutput:
    """Write edges between neighbours that are similar enough for their method.

    Args:
        neighbours: a fragment of `neighbours`.
        thresholds: smallest similarity by method.

    Yields:
        EDGES.
    """
    yield from _node_edges(read_neighbours(neighbours, thresholds))
    return None


def write_agreeing_edges(verified: Fragment, bounds: Verify) -> StageOutput:
    """Write edges between images whose pixels agree.

    Args:
        verified: a fragment of `verified`.
        bounds: within which pixels agree.

    Yields:
        EDGES.
    """
    yield from _node_edges(read_agreeing_pairs(verified, bounds))
    return None


def _node_edges(pairs: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    """Yield edges between the nodes of `image_a`, by which pairs are keyed, and of `image_b`."""
    yield empty_batch(EDGES)
    for table in pairs:
        ends = np.asarray(table.column(KEY)), image_nodes(to_ids(table.column("image_b")))
        yield from local_stars(*ends).to_batches()


def write_pixel_edges(rows: pa.Table) -> StageOutput:
    """Write edges between images whose stored pixels are equal.

    Args:
        rows: all PIXEL_NODES of some pixels.

    Yields:
        EDGES.
    """
    yield empty_batch(EDGES)
    pixel, node = (np.asarray(rows.column(name), np.uint64) for name in PIXEL_NODES.names)
    order = np.argsort(pixel, kind="stable")
    pixel, node = pixel[order], node[order]
    repeats = np.flatnonzero(~run_starts(pixel))
    yield from local_stars(node[repeats - 1], node[repeats]).to_batches()
    return None
