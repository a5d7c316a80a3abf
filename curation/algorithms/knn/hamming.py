"""The join of perceptual hashes: all pairs within a Hamming distance.

Few hashes are all compared with each other. Many meet in the lists of their parts (`hash_parts`,
`hash_merge`). Both find the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import faiss
import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.algorithms.knn.cell_shares import share_of
from curation.algorithms.knn.exact import Candidates, merge
from curation.algorithms.knn.hash_lists import HashLists, HashPairs, in_batches, pairs_of
from curation.algorithms.knn.hash_parts import BITS, Hashes, choose_parts
from curation.algorithms.knn.pairs import PAIRS, RolePairs, pairs_batch
from curation.algorithms.knn.params import HammingParams
from curation.engine.context import Context
from curation.engine.sorted_arrays import positions_of_ranges, stable_order
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment

HASHES_COMPARED = 50_000
"""Hashes up to which all pairs are compared. With more, lists are faster."""
QUERIES_PER_TASK = 16_384
"""Queries of one task."""


def range_search(queries: Hashes, base: Hashes, distance: int) -> HashPairs:
    """Return all pairs of a query and a base hash within a Hamming distance.

    Args:
        queries: shape (q, 32).
        base: shape (b, 32). Up to HASHES_COMPARED all pairs are compared; more are searched by lists.
        distance: largest number of differing bits.

    Returns:
        Row of the query, row of the base hash, and Hamming distance in bits of each pair, shape (n,)
        each, sorted by query.

    Examples:
        >>> hashes = np.zeros((2, 32), np.uint8)
        >>> hashes[1, 0] = 3
        >>> query, row, bits = range_search(hashes[:1], hashes, distance=2)
        >>> sorted(zip(row.tolist(), bits.tolist()))
        [(0, 0), (1, 2)]
    """
    if len(base) <= HASHES_COMPARED:
        return _compare_all(_flat_index(base), queries, distance)
    parts = choose_parts(distance, len(base), most_cell_bits=0)
    near = [(np.empty(0, np.int64),) * 3]
    for piece in parts.pieces:
        near += HashLists(base, parts, piece).near(queries)
    query, row, bits = (np.concatenate(column) for column in zip(*near, strict=True))
    order = stable_order(query)
    return query[order], row[order], bits[order]


def _flat_index(base: Hashes) -> faiss.IndexBinaryFlat:
    index = faiss.IndexBinaryFlat(BITS)
    index.add(np.ascontiguousarray(base))
    return index


def _compare_all(index: faiss.IndexBinaryFlat, queries: Hashes, distance: int) -> HashPairs:
    # FAISS returns pairs whose distance is strictly smaller than the radius.
    return pairs_of(*index.range_search(np.ascontiguousarray(queries), distance + 1))


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
    """Find the k nearest distinct hashes within the distance of each query of one share.

    A hash stands for all images that have it, so a picture that is in the pool ten thousand times
    pushes no other out. In a self-join only the first image of a hash is compared with other images,
    and the others are paired with it, which keeps the number of pairs small. Otherwise a query is also
    paired with up to k further images of the hashes that it finds.

    Args:
        queries: fragments of `images` and `scores` with the same rows.
        base: likewise.
        options: `k`, `distance`, `share`, the number of `shares`, and `self_join`: 1 if queries and
            base have the same role.

    Yields:
        PAIRS, with 1 − distance / 256 as similarity.
    """
    yield empty_batch(PAIRS)
    ids, hashes = read_hashes(queries)
    # An image may be in several fragments. It is a query once.
    in_share = share_of(ids, options["shares"]) == options["share"]
    ids, hashes = ids[in_share], hashes[in_share]
    base_ids, base_hashes = read_hashes(base)
    distinct_hashes, first, group = np.unique(
        base_hashes, axis=0, return_index=True, return_inverse=True
    )
    k, is_self_join = options["k"], options.get("self_join", 0)
    index = _flat_index(distinct_hashes)

    def search(start: int, stop: int) -> HashPairs:
        query, row, bits = _compare_all(index, hashes[start:stop], options["distance"])
        return query + start, row, bits

    for query, row, bits in in_batches(len(hashes), search):
        similarity = (1 - bits / BITS).astype(np.float32)
        candidates = Candidates(query, base_ids[first[row]], similarity)
        nearest = merge([candidates.without_self(ids)], k)
        if not is_self_join:
            further = _further_images(merge([candidates], k), base_ids, group.ravel(), k)
            nearest = merge([nearest, further.without_self(ids)], 2 * k)
        yield pairs_batch(ids, nearest)
    return None


def _further_images(firsts: Candidates, base_ids: Ids, group: RowNumbers, k: int) -> Candidates:
    """Return up to k further images of the hashes that each query found, the nearest hash first.

    Args:
        firsts: the first image of each hash, at most k for a query.
        base_ids: sorted ids of the images, shape (b,).
        group: number of the hash of each image, shape (b,).
        k: images of each query.
    """
    by_group = stable_order(group)
    start = np.searchsorted(group[by_group], np.arange(len(base_ids) + 1))
    number = group[np.searchsorted(base_ids, firsts.ids)]
    count = np.minimum(start[number + 1] - start[number] - 1, k)
    before = np.cumsum(count) - count
    _, first_of_query, hashes = np.unique(firsts.query, return_index=True, return_counts=True)
    before -= np.repeat(before[first_of_query], hashes)
    # Hashes after the k-th image are of no use, and could be of many images.
    count = np.where(before < k, np.minimum(count, k - before), 0)
    pair, position = positions_of_ranges(start[number] + 1, count)
    ids = base_ids[by_group[position]]
    return merge([Candidates(firsts.query[pair], ids, firsts.similarity[pair])], k)


def hash_join(
    by_role: Mapping[str, Mapping[str, tuple[Fragment, Fragment]]],
    role_pairs: RolePairs,
    params: HammingParams,
    context: Context,
) -> Iterator[tuple[str, str, pa.Table]]:
    """Join few hashes: at most k within the distance for each query, and k further images of these.

    Args:
        by_role: fragments of `images` and `scores` with the same rows, by role and by name.
        role_pairs: role of the queries and role of the base, for each join.
        params: distance and k.
        context: where workers run.

    Yields:
        (role of the queries, role of the base, PAIRS sorted by query).
    """
    for query_role, base_role in role_pairs:
        left, right = by_role.get(query_role, {}), by_role.get(base_role, {})
        shares = -(-sum(images.rows for images, _ in left.values()) // QUERIES_PER_TASK)
        label = f"hashes {query_role}-{base_role}"
        options = {"k": params.k, "distance": params.max_distance, "shares": shares}
        options["self_join"] = int(query_role == base_role)
        shared = {"queries": list(left.values()), "base": list(right.values())}
        items = {
            f"{label}-{share:04d}": shared | {"options": options | {"share": share}}
            for share in range(shares if right else 0)
        }
        for table in context.compute(label, search_hashes, items).values():
            yield query_role, base_role, table.read()
