"""What tasks read when dedup is done in parts: rows, ties and pairs, each by the node of an image."""

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
from curation.algorithms.components.distributed import EDGES, edges_table
from curation.engine.exchange import KEY
from curation.engine.fragment import Fragment
from curation.engine.units import StageOutput, empty_batch
from curation.stages.dedup.members import TEXTS
from curation.stages.dedup.params import Verify
from curation.stages.dedup.rows import READ, Fetched, Held, narrow, told_of
from curation.stages.dedup.ties import NARROW, agreeing_pairs, near_enough

READ_AT_ONCE = 500_000
PLACE = [("fragment", pa.int32()), ("row", pa.int32())]
ROWS = pa.schema(
    [
        *PLACE,
        ("role", pa.string()),
        ("source", pa.string()),
        ("pixel_id", pa.string()),
        ("pixels", pa.int32()),
        ("length", pa.int32()),
        ("bytes", pa.int64()),
        *((name, pa.string()) for name in TEXTS),
    ]
)
"""What `Fetched` has of a row; `fragment` numbers all of `images`."""
TIES = pa.schema([(n, pa.float32() if n == "similarity" else pa.string()) for n in NARROW])
PAIRS = pa.schema([("image_a", pa.string()), ("image_b", pa.string())])
PIXELS = pa.schema([("pixel", pa.uint64()), ("node", pa.uint64())])


def nodes_of(ids: Ids) -> npt.NDArray[np.uint64]:
    """Return the node of each image, or stored picture: a hash of its id, (n,).

    Two of one hash would be decided in one part, which changes nothing.
    """
    return seeded_keys(ids, "dedup")


def read_rows(
    images: Sequence[Fragment], scores: Sequence[Fragment] | None, first: int
) -> Iterator[pa.Table]:
    """Yield ROWS of some fragments, the first of which has the number `first`, by image."""
    for place, fragment in enumerate(images):
        table = fragment.read(list(dict.fromkeys([*READ, *TEXTS])))
        own = narrow(first + place, table, scores[place] if scores else None)
        table = table.take(pa.array(own["row"]))
        role, source = (pa.repeat(text, len(table)) for text in told_of(fragment))
        columns = {name: own[name] for name in ("fragment", "row", "pixels", "bytes")}
        columns |= {"length": own["caption"], "role": role, "source": source}
        columns |= {"pixel_id": from_ids(own["stored"], known=own["stored"] != b"")}
        columns |= {name: table.column(name) for name in TEXTS}
        yield _keyed(nodes_of(own["images"]), columns, ROWS)


def fetched(rows: pa.Table, sets: list[str]) -> tuple[Fetched, npt.NDArray[np.int32]]:
    """Return what `read_rows` gave, in order, and the number among all of each of its fragments."""
    rows = rows.sort_by([("fragment", "ascending"), ("row", "ascending")]).combine_chunks()
    numbers = np.asarray(rows.column("fragment"), np.int32)
    found, first, place = np.unique(numbers, return_index=True, return_inverse=True)
    roles, sources = (
        rows.column(name).take(pa.array(first)).to_numpy().astype(str)
        for name in ("role", "source")
    )
    fetched = Fetched(
        roles,
        sources,
        sets,
        Held(rows),
        fragment=place.astype(np.int32),
        row=np.asarray(rows.column("row"), np.int32),
        images=to_ids(rows.column("image_id")),
        stored=to_ids(pc.fill_null(rows.column("pixel_id"), "")),
        pixels=np.asarray(rows.column("pixels"), np.int32),
        caption=np.asarray(rows.column("length"), np.int32),
        bytes=np.asarray(rows.column("bytes"), np.int64),
    )
    return fetched, found


def read_ties(neighbours: Fragment, least: Mapping[str, float]) -> Iterator[pa.Table]:
    """Yield TIES that are strong enough for their method, by the image at their left end."""
    for batch in neighbours.batches(NARROW, rows=READ_AT_ONCE):
        for table in near_enough(pa.Table.from_batches([batch]), least):
            columns = {name: table.column(name) for name in NARROW}
            yield _keyed(nodes_of(to_ids(table.column("image_a"))), columns, TIES)


def read_pairs(verified: Fragment, bounds: Verify) -> Iterator[pa.Table]:
    """Yield PAIRS whose pixels agree, by the first."""
    ends = agreeing_pairs([verified], bounds).view("S32").reshape(-1, 2)
    for start in range(0, len(ends), READ_AT_ONCE):
        a, b = (np.ascontiguousarray(own) for own in ends[start : start + READ_AT_ONCE].T)
        yield _keyed(nodes_of(a), {"image_a": from_ids(a), "image_b": from_ids(b)}, PAIRS)


def read_pixels(images: Sequence[Fragment], scores: Sequence[Fragment]) -> Iterator[pa.Table]:
    """Yield PIXELS of fetched rows, by the stored picture."""
    for own, scored in zip(images, scores, strict=True):
        table = own.read(["status", "image_id"])
        pixel_id = scored.read(["pixel_id"]).column("pixel_id")
        known = pc.and_(pc.equal(table.column("status"), "ok"), pc.is_valid(pixel_id))
        pixel = nodes_of(to_ids(pixel_id.filter(known)))
        node = nodes_of(to_ids(table.column("image_id").filter(known)))
        yield _keyed(pixel, {"pixel": pixel, "node": node}, PIXELS)


def _keyed(keys: npt.NDArray[np.uint64], columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    own = pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)
    return own.append_column(KEY, pa.array(keys))


# -- edges of what is read --------------------------------------------------------------------------


def tie_edges(neighbours: Fragment, least: Mapping[str, float]) -> StageOutput:
    """Give the edges of ties that are strong enough for their method."""
    yield from _edges(read_ties(neighbours, least))
    return None


def pair_edges(verified: Fragment, bounds: Verify) -> StageOutput:
    """Give the edges of pairs whose pixels agree."""
    yield from _edges(read_pairs(verified, bounds))
    return None


def _edges(ties: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    yield empty_batch(EDGES)
    for table in ties:
        ends = np.asarray(table.column(KEY)), nodes_of(to_ids(table.column("image_b")))
        yield from edges_table(*ends).to_batches()


def same_pixels(rows: pa.Table) -> StageOutput:
    """Give the edges of images whose stored pictures are the same.

    Args:
        rows: PIXELS, all of some stored pictures.
    """
    yield empty_batch(EDGES)
    pixel, node = (np.asarray(rows.column(name), np.uint64) for name in PIXELS.names)
    order = np.argsort(pixel, kind="stable")
    pixel, node = pixel[order], node[order]
    same = np.flatnonzero(pixel[1:] == pixel[:-1])
    yield from edges_table(node[same], node[same + 1]).to_batches()
    return None
