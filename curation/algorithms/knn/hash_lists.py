"""Hashes in lists by the value of one of their parts, which FAISS scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import RowNumbers
from curation.algorithms.knn.hash_parts import (
    BITS,
    Hashes,
    HashParts,
    Piece,
    flips,
    take_hashes,
    take_words,
)
from curation.engine.sorted_arrays import stable_order

QUERIES_AT_FIRST, QUERIES_AT_ONCE = 256, 65_536
PAIRS_AT_ONCE = 2**20
"""Pairs within the distance that are in memory at once, about: many hashes of plain pictures are near
each other."""

HashPairs = tuple[RowNumbers, RowNumbers, npt.NDArray[np.int64]]
"""Row of the query, row of the base, and Hamming distance in bits of pairs, shape (n,) each."""


class HashLists:
    """Hashes of one cell in lists by the other bits of their part.

    Args:
        base: shape (b, 32).
        parts: how hashes are cut.
        piece: the piece that names the cell.
    """

    def __init__(self, base: Hashes, parts: HashParts, piece: Piece) -> None:
        self._parts, self._piece, self._base = parts, piece, base
        self._bits = parts.list_bits(piece.part)
        index: Any = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(BITS), BITS, 1 << self._bits)
        # The lists of hashes and of queries are given, so that nothing is trained.
        index.is_trained = True
        lists = parts.lists_of(base, piece)
        rows = stable_order(lists)
        ordered, numbers = take_hashes(base, rows), np.ascontiguousarray(lists[rows])
        pointers = [faiss.swig_ptr(array) for array in (ordered, rows, numbers)]
        index.add_core(len(rows), *pointers)
        self._index = index

    def near(self, queries: Hashes) -> Iterator[HashPairs]:
        """Yield the pairs within the distance that meet in no earlier piece.

        All pairs of a query are yielded at once.

        Args:
            queries: hashes of the same cell, shape (q, 32).
        """
        masks = flips(self._bits, self._piece.radius)
        lists = self._parts.lists_of(queries, self._piece)
        self._index.nprobe = len(masks)
        # In the order of lists, a query scans lists of the query before it, which are in the cache.
        order = stable_order(lists)

        def search(start: int, stop: int) -> HashPairs:
            rows = order[start:stop]
            probes = lists[rows, None] ^ masks
            near = self._index.range_search_preassigned(
                take_hashes(queries, rows), self._parts.distance + 1, probes, None
            )
            query, row, bits = pairs_of(*near)
            return rows[query], row, bits

        for query, row, bits in in_batches(len(order), search):
            differing = take_words(queries, query) ^ take_words(self._base, row)
            first = self._parts.is_first_meeting(differing, self._piece)
            yield query[first], row[first], bits[first]


def in_batches(count: int, search: Callable[[int, int], HashPairs]) -> Iterator[HashPairs]:
    """Yield what a search gives for queries, as many at once as give about PAIRS_AT_ONCE pairs.

    Args:
        count: number of queries.
        search: returns the pairs of the queries from a start to a stop.
    """
    start, step = 0, QUERIES_AT_FIRST
    while start < count:
        pairs = search(start, min(start + step, count))
        yield pairs
        start += step
        step = int(np.clip(PAIRS_AT_ONCE * step // max(len(pairs[0]), 1), 1, QUERIES_AT_ONCE))


def pairs_of(limits: npt.NDArray[Any], bits: npt.NDArray[Any], rows: npt.NDArray[Any]) -> HashPairs:
    """Return pairs from what FAISS's range search returns.

    Args:
        limits: where the pairs of each query begin and end, shape (queries + 1,).
        bits: distance of each pair, shape (n,).
        rows: row of the base of each pair, shape (n,).
    """
    count = np.asarray(np.diff(limits.astype(np.int64)), np.int64)
    return np.repeat(np.arange(len(count)), count), rows.astype(np.int64), bits.astype(np.int64)
