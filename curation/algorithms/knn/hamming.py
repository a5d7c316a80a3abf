"""The join of perceptual hashes: all pairs within a Hamming distance, found by tables of their parts.

Two hashes of 256 bits that differ in at most d bits agree in one of m equal parts to within d // m bits
(the pigeonhole principle; Norouzi et al. 2012), so FAISS's IndexBinaryMultiHash with m tables finds
every such pair and looks at few others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.knn.blocks import PAIRS, blocks_of, merge_blocks
from curation.algorithms.knn.exact import Candidates, merge
from curation.algorithms.knn.params import HammingParams
from curation.engine.context import Context
from curation.engine.fragment import Fragment
from curation.engine.units import StageOutput

BITS = 256
TABLES = 16
"""Parts of a hash; each of 16 bits, so that a table has 65,536 entries."""
TABLES_FROM = 1_000_000
"""Hashes from which tables are faster than comparing all: a query looks into 272 entries, which takes
about as long as 900,000 comparisons."""
BLOCK = 2_000_000
"""Hashes in the tables of one task: they take about 250 MB."""
QUERIES = 65_536

Hashes = npt.NDArray[np.uint8]


def within(queries: Hashes, base: Hashes, distance: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Return (query, base row, Hamming distance) of all pairs within a distance, (n,) each.

    Args:
        queries: (q, 32) uint8.
        base: (b, 32) uint8; tables are made of many, few are all compared.
        distance: bits, inclusive; of many hashes below TABLES · 3 = 48 lest a table's entries be too
            many.
    """
    index: Any
    if len(base) < TABLES_FROM:
        index = faiss.IndexBinaryFlat(BITS)
    else:
        index = faiss.IndexBinaryMultiHash(BITS, TABLES, BITS // TABLES)
        index.nflip = distance // TABLES
    index.add(np.ascontiguousarray(base))
    # FAISS returns what is strictly nearer than the radius.
    limits, found, rows = index.range_search(np.ascontiguousarray(queries), distance + 1)
    count: npt.NDArray[np.int64] = limits[1:].astype(np.int64) - limits[:-1].astype(np.int64)
    return np.repeat(np.arange(len(queries)), count), rows, found.astype(np.int64)


def read_hashes(block: Sequence[tuple[Fragment, Fragment]]) -> tuple[Ids, Hashes]:
    """Return the distinct images with a hash of aligned fragments (images, scores), by id."""
    ids, hashes = [np.empty(0, "S32")], [np.empty((0, BITS // 8), np.uint8)]
    for images, scores in block:
        own = images.read(["image_id"]).append_column(
            "phash", scores.read(["phash"]).column("phash")
        )
        own = own.drop_null()
        ids.append(to_ids(own.column("image_id")))
        raw = b"".join(own.column("phash").to_pylist())
        hashes.append(np.frombuffer(raw, np.uint8).reshape(-1, BITS // 8))
    unique, first = np.unique(np.concatenate(ids), return_index=True)
    return unique, np.concatenate(hashes)[first]


def search_hashes(
    queries: Sequence[tuple[Fragment, Fragment]],
    base: Sequence[tuple[Fragment, Fragment]],
    options: Mapping[str, int],
) -> StageOutput:
    """Find the k nearest within the distance of each query among the hashes of a block.

    Of images with one hash, all are tied to the first of them and it alone to others: so ties stay few
    where a picture stands in the pool ten thousand times.
    """
    ids, hashes = read_hashes(queries)
    base_ids, base_hashes = read_hashes(base)
    shown, first = np.unique(base_hashes, axis=0, return_index=True)
    found = [merge([], options["k"])]
    for start in range(0, len(ids), QUERIES):
        own = slice(start, start + QUERIES)
        query, row, bits = within(hashes[own], shown, options["distance"])
        similarity = (1 - bits / BITS).astype(np.float32)
        near = Candidates(query + start, base_ids[first[row]], similarity)
        other = ids[near.query] != near.ids
        near = Candidates(near.query[other], near.ids[other], near.similarity[other])
        found.append(merge([near], options["k"]))
    for near in found:
        columns = [from_ids(ids[near.query]), from_ids(near.ids), pa.array(near.similarity)]
        yield pa.RecordBatch.from_arrays(columns, schema=PAIRS)
    return None


def hash_join(
    by_role: Mapping[str, Mapping[str, tuple[Fragment, Fragment]]],
    sought: Sequence[tuple[str, str]],
    params: HammingParams,
    context: Context,
) -> Iterator[tuple[str, str, pa.Table]]:
    """Yield (role of queries, role of base, pairs) of all hashes within a distance, k a query.

    Args:
        by_role: aligned fragments (images, scores) by name, by role.
        sought: which roles meet.
        params: distance and k.
        context: where workers are.
    """
    options = {"k": params.k, "distance": params.max_distance}
    blocks = {
        role: blocks_of(own, BLOCK, lambda pair: pair[0].rows) for role, own in by_role.items()
    }
    for query_role, base_role in sought:
        left, right = blocks.get(query_role, {}), blocks.get(base_role, {})
        label = f"hashes {query_role}-{base_role}"
        items = {
            f"{label}-{first}-{second}": {"queries": block, "base": other, "options": options}
            for first, block in left.items()
            for second, other in right.items()
        }
        records = context.compute(label, search_hashes, items)
        for first in left:
            parts = [Fragment(context.store, records[f"{label}-{first}-{s}"]) for s in right]
            for batch in merge_blocks(parts, params.k) if parts else ():
                yield query_role, base_role, pa.Table.from_batches([batch])
