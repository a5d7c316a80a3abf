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
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.algorithms.knn.blocks import PAIRS, blocks_of, candidates_of_pairs, pairs_batch
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
QUERIES_AT_FIRST, QUERIES_AT_ONCE = 256, 65_536
PAIRS_AT_ONCE = 2**23
"""Pairs within the distance that are in memory at once, about, before the k nearest are kept."""

Hashes = npt.NDArray[np.uint8]
HASH_PAIRS = PAIRS.append(pa.field("first", pa.bool_()))
"""PAIRS; `first` says whether the image is the first of those in its block that have its hash."""


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
    return _search_index(_build_index(base, distance), queries, distance)


def _build_index(base: Hashes, distance: int) -> Any:
    """Return FAISS's index over base hashes (b, 32)."""
    index: Any
    if len(base) < TABLES_FROM_HASHES:
        index = faiss.IndexBinaryFlat(BITS)
    else:
        index = faiss.IndexBinaryMultiHash(BITS, TABLES, BITS // TABLES)
        index.nflip = distance // TABLES
    index.add(np.ascontiguousarray(base))
    return index


def _search_index(index: Any, queries: Hashes, distance: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Return what `range_search` returns."""
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
    """Find the k nearest distinct hashes within the distance of each query, in one block.

    A hash stands for all images that have it, so a picture that is in the pool ten thousand times
    pushes no other out. In a self-join only the first image of a hash is compared with other images,
    and the others are paired with it, which keeps the number of pairs small. Otherwise a query is also
    paired with up to k further images of the hashes that it finds.

    Args:
        queries: fragments of `images` and `scores` with the same rows.
        base: likewise.
        options: `k`, `distance` and, if queries and base are the same images, `self_join` 1.

    Yields:
        HASH_PAIRS, with 1 − distance / 256 as similarity.
    """
    ids, hashes = read_hashes(queries)
    base_ids, base_hashes = read_hashes(base)
    distinct_hashes, first, group = np.unique(
        base_hashes, axis=0, return_index=True, return_inverse=True
    )
    k = options["k"]
    for start, query, row, bits in _range_batches(hashes, distinct_hashes, options["distance"]):
        similarity = (1 - bits / BITS).astype(np.float32)
        candidates = Candidates(query + start, base_ids[first[row]], similarity)
        nearest = merge([candidates.without_self(ids)], k)
        yield _hash_pairs(ids, nearest, is_first=True)
        if not options.get("self_join", 0):
            found = merge([candidates], k)
            further = _further_images(found, base_ids, group.ravel(), k)
            yield _hash_pairs(ids, further.without_self(ids), is_first=False)
    return None


def _range_batches(
    queries: Hashes, base: Hashes, distance: int
) -> Iterator[tuple[int, RowNumbers, RowNumbers, RowNumbers]]:
    """Yield the first of some queries, and what `range_search` returns for them.

    There are fewer queries at once if many hashes are near each other, as those of plain pictures are.
    """
    index = _build_index(base, distance)
    start, step = 0, QUERIES_AT_FIRST
    while start < max(len(queries), 1):
        batch = queries[start : start + step]
        query, row, bits = _search_index(index, batch, distance)
        yield start, query, row, bits
        start += step
        step = int(np.clip(PAIRS_AT_ONCE * step // max(len(query), 1), 1, QUERIES_AT_ONCE))


def _hash_pairs(ids: Ids, pairs: Candidates, is_first: bool) -> pa.RecordBatch:
    columns = [from_ids(ids[pairs.query]), from_ids(pairs.ids), pa.array(pairs.similarity)]
    first = pa.array(np.full(len(pairs.query), is_first))
    return pa.RecordBatch.from_arrays([*columns, first], schema=HASH_PAIRS)


def _further_images(found: Candidates, base_ids: Ids, group: RowNumbers, k: int) -> Candidates:
    """Return up to k further images of the hashes that each query found, the nearest hash first.

    Args:
        found: the first image of each hash, at most k for a query.
        base_ids: sorted ids of the images, shape (b,).
        group: number of the hash of each image, shape (b,).
        k: images of each query.
    """
    by_group = np.argsort(group, kind="stable")
    start = np.searchsorted(group[by_group], np.arange(len(base_ids) + 1))
    number = group[np.searchsorted(base_ids, found.ids)]
    count = np.minimum(start[number + 1] - start[number] - 1, k)
    before = np.cumsum(count) - count
    _, first_of_query, hashes = np.unique(found.query, return_index=True, return_counts=True)
    before -= np.repeat(before[first_of_query], hashes)
    # Hashes after the k-th image are of no use, and could be of many images.
    count = np.where(before < k, np.minimum(count, k - before), 0)
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    rows = by_group[np.repeat(start[number] + 1, count) + offset]
    further = Candidates(
        np.repeat(found.query, count), base_ids[rows], np.repeat(found.similarity, count)
    )
    return merge([further], k)


def merge_hash_pairs(parts: Sequence[Fragment], k: int) -> StageOutput:
    """Keep for each query the k nearest hashes and k further images over all blocks of the base.

    Args:
        parts: what `search_hashes` found in each block of the base.
        k: of each kind.

    Yields:
        PAIRS.
    """
    table = pa.concat_tables([part.read() for part in parts])
    query_ids, pairs = candidates_of_pairs(table)
    first = table.column("first").to_numpy()
    kept = [
        merge([Candidates(pairs.query[kind], pairs.ids[kind], pairs.similarity[kind])], k)
        for kind in (first, ~first)
    ]
    yield pairs_batch(query_ids, merge(kept, 2 * k))
    return None


def hash_join(
    by_role: Mapping[str, Mapping[str, tuple[Fragment, Fragment]]],
    role_pairs: Sequence[tuple[str, str]],
    params: HammingParams,
    context: Context,
) -> Iterator[tuple[str, str, pa.Table]]:
    """Join hashes within a distance: at most k hashes for each query, and k further images of these.

    Args:
        by_role: fragments of `images` and `scores` with the same rows, by role and by name.
        role_pairs: role of the queries and role of the base, for each join.
        params: distance and k.
        context: where workers run.

    Yields:
        (role of the queries, role of the base, PAIRS).
    """
    blocks = {
        role: blocks_of(fragments, HASHES_PER_BLOCK, lambda pair: pair[0].rows)
        for role, fragments in by_role.items()
    }
    for query_role, base_role in role_pairs:
        left, right = blocks.get(query_role, {}), blocks.get(base_role, {})
        label = f"hashes {query_role}-{base_role}"
        options = {"k": params.k, "distance": params.max_distance}
        options["self_join"] = int(query_role == base_role)
        items = {
            f"{label}-{first}-{second}": {"queries": block, "base": other, "options": options}
            for first, block in left.items()
            for second, other in right.items()
        }
        records = context.compute(label, search_hashes, items)
        for first in left:
            parts = [Fragment(context.store, records[f"{label}-{first}-{s}"]) for s in right]
            for batch in merge_hash_pairs(parts, params.k) if parts else ():
                yield query_role, base_role, pa.Table.from_batches([batch])
