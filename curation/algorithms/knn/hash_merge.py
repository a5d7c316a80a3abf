"""Merges what the cells of hashes give for each query, and for all images with its hash."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.fixed_bytes import bytes_of
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.algorithms.knn.exact import Candidates, merge
from curation.algorithms.knn.hash_cells import NEAR_HASHES, search_cells
from curation.algorithms.knn.hash_groups import (
    IMAGE,
    ROWS_AT_ONCE,
    Images,
    OldHashes,
    group_hashes,
)
from curation.algorithms.knn.hash_parts import BITS, choose_parts
from curation.algorithms.knn.pairs import RolePairs, pairs_batch
from curation.algorithms.knn.params import HammingParams
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask
from curation.engine.sorted_arrays import positions_of_ranges, ranks_in_runs
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment

PAIRS_PER_MERGE = 2_000_000
"""Pairs that one task merges, about, and pairs of images that it holds at once."""
MEMBERS = pa.schema([("role", pa.int8()), ("first", IMAGE), ("image", IMAGE)])
"""Images that are not the first with their hash."""
REPLACED = pa.schema([("image", IMAGE)])
"""Images that stood for a hash that has got another image."""


class HashSearch(NamedTuple):
    """Near hashes, and the images that have them.

    Attributes:
        grouped: work tables of GROUPED, with all images.
        near_hashes: work tables of NEAR_HASHES.
        options: `k`, and `role_pairs`, the numbers of the roles of each join.
    """

    grouped: list[Fragment]
    near_hashes: list[Fragment]
    options: Mapping[str, Any]


class KnownHashes(NamedTuple):
    """Images that were joined before, and work tables of NEAR_HASHES with their pairs."""

    images: OldHashes = ()
    near_hashes: Sequence[Fragment] = ()


def search_hashes(
    by_role: Images,
    role_pairs: RolePairs,
    params: HammingParams,
    context: Context,
    known: KnownHashes,
) -> HashSearch:
    """Find the near hashes of all images. Pairs that are known are not searched again.

    Args:
        by_role: the images.
        role_pairs: the joins.
        params: distance and k.
        context: where workers run.
        known: of a search with the same distance, k and joins.
    """
    roles = sorted(by_role)
    numbers = [(_place(roles, query), _place(roles, base)) for query, base in role_pairs]
    options = {"k": params.k, "role_pairs": numbers}
    grouped = group_hashes(by_role, params.k, context, known.images)
    rows = sum(fragment.rows for fragment in grouped)
    near_hashes = _valid_pairs(known.near_hashes, grouped, context)
    near_hashes += search_cells(grouped, choose_parts(params.max_distance, rows), options, context)
    return HashSearch(grouped, near_hashes, options)


def _valid_pairs(
    known: Sequence[Fragment], grouped: Sequence[Fragment], context: Context
) -> list[Fragment]:
    """Return NEAR_HASHES without the pairs of hashes that have got another image."""
    items = {fragment.name: {"grouped": fragment} for fragment in grouped if known}
    replaced = list(context.compute("hash firsts", write_replaced, items).values())
    tables = {
        f"known-{number:06d}": {"near_hashes": fragment, "replaced": replaced}
        for number, fragment in enumerate(known)
    }
    return list(context.compute("hash pairs", write_valid_pairs, tables).values())


def write_replaced(grouped: Fragment) -> StageOutput:
    """Write the images that stood for a hash that has got another image."""
    yield empty_batch(REPLACED)
    for batch in grouped.batches(["image", "replaced"], rows=ROWS_AT_ONCE):
        yield batch.filter(batch.column("replaced")).select(REPLACED.names)
    return None


def write_valid_pairs(near_hashes: Fragment, replaced: Sequence[Fragment]) -> StageOutput:
    """Write NEAR_HASHES without those of some images.

    Args:
        near_hashes: a work table of `search_hashes`.
        replaced: work tables with the images.
    """
    yield empty_batch(NEAR_HASHES)
    gone = pa.concat_tables([table.read() for table in replaced]).column("image").combine_chunks()
    for batch in near_hashes.batches(rows=ROWS_AT_ONCE):
        either = (pc.is_in(batch.column(name), gone) for name in ("query", "image"))
        yield batch.filter(pc.invert(pc.or_(*either)))
    return None


def hash_exchange(search: HashSearch, function: Callable[..., StageOutput]) -> Exchange:
    """Return the exchange that brings together all pairs of a query.

    Args:
        search: the near hashes.
        function: called with `near_hashes` (NEAR_HASHES of some queries), `members` (MEMBERS with
            their hashes) and `options`, the last two arguments of `nearest_images`.
    """
    near_hashes = [MapTask(read_near_hashes, {"near_hashes": f}) for f in search.near_hashes]
    members = [MapTask(read_members, {"grouped": fragment}) for fragment in search.grouped]
    inputs = {
        "near_hashes": ExchangeInput(NEAR_HASHES, near_hashes),
        "members": ExchangeInput(MEMBERS, members),
    }
    rows = sum(fragment.rows for fragment in (*search.near_hashes, *search.grouped))
    count = max(1, -(-rows // PAIRS_PER_MERGE))
    return Exchange("hash merge", inputs, function, count, {"options": search.options})


def _place(roles: Sequence[str], role: str) -> int:
    """Return the place of a role; one without images has a place that no row has."""
    return roles.index(role) if role in roles else len(roles)


def read_near_hashes(near_hashes: Fragment) -> Iterator[pa.Table]:
    """Yield NEAR_HASHES, keyed by query."""
    for batch in near_hashes.batches(rows=ROWS_AT_ONCE):
        keys = seeded_keys(bytes_of(batch, "query"), "query")
        yield pa.Table.from_batches([batch]).append_column(KEY, pa.array(keys))


def read_members(grouped: Fragment) -> Iterator[pa.Table]:
    """Yield the images that are not the first with their hash, keyed by the first."""
    for batch in grouped.batches(MEMBERS.names, rows=ROWS_AT_ONCE):
        rows = batch.filter(pc.not_equal(batch.column("image"), batch.column("first")))
        keys = seeded_keys(bytes_of(rows, "first"), "query")
        table = pa.Table.from_batches([rows]).select(MEMBERS.names)
        yield table.append_column(KEY, pa.array(keys))


def nearest_images(
    near_hashes: pa.Table, members: pa.Table, options: Mapping[str, Any]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the k nearest hashes of each image, and across roles up to k further images of these.

    Args:
        near_hashes: NEAR_HASHES of some queries.
        members: MEMBERS with the hashes of these queries, or of others.
        options: `k`, and `role_pairs`, the numbers of the roles of each join.

    Yields:
        Number of the join, and PAIRS sorted by query.
    """
    for number, (query_role, base_role) in enumerate(options["role_pairs"]):
        nearest = _Nearest(
            near_hashes.filter(pc.equal(near_hashes.column("role_pair"), number)),
            members.filter(pc.equal(members.column("role"), query_role)),
            options["k"],
            query_role == base_role,
        )
        for batch in nearest.batches():
            yield number, batch


class _Nearest:
    """What one join found for some hashes.

    Args:
        near_hashes: NEAR_HASHES of the join.
        members: MEMBERS of the role of the queries.
        k: hashes, and further images, of each query.
        self_join: queries and base have one role.
    """

    def __init__(self, near_hashes: pa.Table, members: pa.Table, k: int, self_join: bool) -> None:
        self._k, self._self_join = k, self_join
        queries, firsts = bytes_of(near_hashes, "query"), bytes_of(members, "first")
        # A picture whose hash is near to no other still has its equals.
        self._hashes = np.unique(np.concatenate([queries, firsts] if self_join else [queries]))
        bits = near_hashes.column("bits").to_numpy()
        query = np.searchsorted(self._hashes, queries)
        images = bytes_of(near_hashes, "image")
        order = np.lexsort((images, bits, query))
        order = order[ranks_in_runs(query[order]) <= k]
        self._query, self._images = query[order], images[order]
        self._similarity = (1 - bits[order] / BITS).astype(np.float32)
        self._further = near_hashes.column("further").combine_chunks().take(pa.array(order))
        known = np.isin(firsts, self._hashes)
        self._members, self._firsts = bytes_of(members, "image")[known], firsts[known]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield PAIRS sorted by query."""
        images = np.concatenate([self._hashes, self._members])
        hashes = np.searchsorted(self._hashes, np.concatenate([self._hashes, self._firsts]))
        order = np.argsort(images, kind="stable")
        step = max(1, PAIRS_PER_MERGE // (2 * self._k))
        for start in range(0, len(order), step):
            rows = order[start : start + step]
            yield pairs_batch(images[rows], self._of_images(images[rows], hashes[rows]))

    def _of_images(self, images: Ids, hashes: RowNumbers) -> Candidates:
        """Return the pairs of some images.

        Args:
            images: ids, shape (n,).
            hashes: number of the hash of each, shape (n,).
        """
        query, pair = _expand(hashes, self._query)
        near = Candidates(query, self._images[pair], self._similarity[pair])
        if self._self_join:
            return merge([near, self._equals(images, hashes)], self._k)
        nearest = merge([near.without_self(images)], self._k)
        return merge([nearest, self._further_images(query, pair).without_self(images)], 2 * self._k)

    def _equals(self, images: Ids, hashes: RowNumbers) -> Candidates:
        """Return the first image of the hash of each other image."""
        query = np.flatnonzero(images != self._hashes[hashes])
        similarity = np.ones(len(query), np.float32)
        return Candidates(query, self._hashes[hashes[query]], similarity)

    def _further_images(self, query: RowNumbers, pair: RowNumbers) -> Candidates:
        """Return up to k further images of the k nearest hashes of each query, nearest hash first."""
        is_near = ranks_in_runs(query) < self._k
        pair, query = pair[is_near], query[is_near]
        lists = self._further.take(pa.array(pair))
        count = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        query, pair = np.repeat(query, count), np.repeat(pair, count)
        images = bytes_of(pa.table({"image": lists.flatten()}), "image")
        kept = ranks_in_runs(query) < self._k
        return merge([Candidates(query[kept], images[kept], self._similarity[pair[kept]])], self._k)


def _expand(hashes: RowNumbers, pair_hashes: RowNumbers) -> tuple[RowNumbers, RowNumbers]:
    """Return for each image the pairs of its hash.

    Args:
        hashes: number of the hash of each image, shape (n,).
        pair_hashes: number of the hash of each pair, sorted, shape (m,).

    Returns:
        Number of the image, and of the pair, in their order.
    """
    start = np.searchsorted(pair_hashes, hashes, "left")
    count = np.searchsorted(pair_hashes, hashes, "right") - start
    return positions_of_ranges(start, count)
