"""The join of perceptual hashes: all pairs within a Hamming distance.

Two hashes of 256 bits that differ in at most d bits differ in at most d // m bits in one of m equal
parts (the pigeonhole principle; Norouzi et al. 2012). FAISS's IndexBinaryMultiHash with m
hash tables therefore finds every such pair, and compares few others.
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
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment

BITS = 256
TABLES = 16
"""Hash tables, one for each part of a hash. A part has 16 bits, so that a table has 65,536 entries."""
TABLES_FROM_HASHES = 1_000_000
"""Number of hashes from which tables are faster than comparing all pairs. A query looks up 272 entries,
which takes about as long as 900,000 comparisons."""
HASHES_PER_BLOCK = 2_000_000
"""Hashes in the tables of one task, which need about 250 MB."""
QUERIES_AT_ONCE = 65_536

Hashes = npt.NDArray[np.uint8]


def range_search(queries: Hashes, base: Hashes, distance: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Return all pairs of a query and a base hash within a Hamming distance.

    Args:
        queries: shape (q, 32).
        base: shape (b, 32). From TABLES_FROM_HASHES on it is searched with hash tables, below that all
            pairs are compared.
        distance: largest number of differing bits. With tables it must be below 3 · TABLES = 48,
            because a query would look up too many entries otherwise.

    Returns:
        Row of the query, row of the base hash, and Hamming distance in bits of each pair, shape (n,)
        each.

    Examples:
        >>> hashes = np.zeros((2, 32), np.uint8)
        >>> hashes[1, 0] = 3
        >>> query, row, bits = range_search(hashes[:1], hashes, distance=2)
        >>> sorted(zip(row.tolist(), bits.tolist()))
        [(0, 0), (1, 2)]
    """
    index: Any
    if len(base) < TABLES_FROM_HASHES:
        index = faiss.IndexBinaryFlat(BITS)
    else:
        index = faiss.IndexBinaryMultiHash(BITS, TABLES, BITS // TABLES)
        index.nflip = distance // TABLES
    index.add(np.ascontiguousarray(base))
    # FAISS returns pairs whose distance is strictly smaller than the radius.
    limits, bits, rows = index.range_search(np.ascontiguousarray(queries), distance + 1)
    count: npt.NDArray[np.int64] = np.diff(limits.astype(np.int64))
    return np.repeat(np.arange(len(queries)), count), rows, bits.astype(np.int64)


def read_hashes(block: Sequence[tuple[Fragment, Fragment]]) -> tuple[Ids, Hashes]:
    """Return the distinct images that have a hash, sorted by id, and their hashes.

    Args:
        block: fragments of `images` and `scores` with the same rows.

    Returns:
        Image ids of shape (n,), and hashes of shape (n, 32).
    """
    ids, hashes = [np.empty(0, "S32")], [np.empty((0, BITS // 8), np.uint8)]
    for images, scores in block:
        table = images.read(["image_id"]).append_column(
            "phash", scores.read(["phash"]).column("phash")
        )
        table = table.drop_null()
        ids.append(to_ids(table.column("image_id")))
        raw = b"".join(table.column("phash").to_pylist())
        hashes.append(np.frombuffer(raw, np.uint8).reshape(-1, BITS // 8))
    unique, first = np.unique(np.concatenate(ids), return_index=True)
    return unique, np.concatenate(hashes)[first]


def search_hashes(
    queries: Sequence[tuple[Fragment, Fragment]],
    base: Sequence[tuple[Fragment, Fragment]],
    options: Mapping[str, int],
) -> StageOutput:
    """Find the k nearest within the distance of each query, among the hashes of one block.

    Of images with equal hashes, only the first is compared with other images, and the others are paired
    with it. This keeps the number of pairs small when a picture is in the pool ten thousand times.

    Args:
        queries: fragments of `images` and `scores` with the same rows.
        base: likewise.
        options: `k` and `distance`.

    Yields:
        PAIRS, with 1 − distance / 256 as similarity.
    """
    ids, hashes = read_hashes(queries)
    base_ids, base_hashes = read_hashes(base)
    distinct_hashes, first = np.unique(base_hashes, axis=0, return_index=True)
    parts = [merge([], options["k"])]
    for start in range(0, len(ids), QUERIES_AT_ONCE):
        batch = hashes[start : start + QUERIES_AT_ONCE]
        query, row, bits = range_search(batch, distinct_hashes, options["distance"])
        similarity = (1 - bits / BITS).astype(np.float32)
        candidates = Candidates(query + start, base_ids[first[row]], similarity)
        parts.append(merge([candidates.without_self(ids)], options["k"]))
    for part in parts:
        columns = [from_ids(ids[part.query]), from_ids(part.ids), pa.array(part.similarity)]
        yield pa.RecordBatch.from_arrays(columns, schema=PAIRS)
    return None


def hash_join(
    by_role: Mapping[str, Mapping[str, tuple[Fragment, Fragment]]],
    role_pairs: Sequence[tuple[str, str]],
    params: HammingParams,
    context: Context,
) -> Iterator[tuple[str, str, pa.Table]]:
    """Join hashes within a distance, with at most k neighbours for each query.

    Args:
        by_role: fragments of `images` and `scores` with the same rows, by role and by name.
        role_pairs: role of the queries and role of the base, for each join.
        params: distance and k.
        context: where workers run.

    Yields:
        (role of the queries, role of the base, PAIRS).
    """
    options = {"k": params.k, "distance": params.max_distance}
    blocks = {
        role: blocks_of(fragments, HASHES_PER_BLOCK, lambda pair: pair[0].rows)
        for role, fragments in by_role.items()
    }
    for query_role, base_role in role_pairs:
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
