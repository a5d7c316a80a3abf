"""Hashes in lists by the value of one of their parts, which FAISS scans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import RowNumbers
from curation.algorithms.knn.hash_parts import BITS, Hashes, HashParts, Piece, flips

QUERIES_AT_FIRST, QUERIES_AT_ONCE = 256, 65_536
PAIRS_AT_ONCE = 2**22
"""Pairs within the distance that are in memory at once, about."""

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
        rows = np.argsort(lists, kind="stable")
        ordered, numbers = np.ascontiguousarray(base[rows]), np.ascontiguousarray(lists[rows])
        pointers = [faiss.swig_ptr(array) for array in (ordered, rows, numbers)]
        index.add_core(len(rows), *pointers)
        self._index = index

    def near(self, queries: Hashes) -> Iterator[HashPairs]:
        """Yield the pairs within the distance that meet in no earlier piece.

        All pairs of a query are yielded at once. There are fewer queries at once if many hashes are
        near each other, as those of plain pictures are.

        Args:
            queries: hashes of the same cell, shape (q, 32).
        """
        masks = flips(self._bits, self._piece.radius)
        lists = self._parts.lists_of(queries, self._piece)
        self._index.nprobe = len(masks)
        # In the order of lists, a query scans lists of the query before it, which are in the cache.
        order = np.argsort(lists, kind="stable")
        start, step = 0, QUERIES_AT_FIRST
        while start < len(order):
            rows = order[start : start + step]
            limits, bits, row = self._index.range_search_preassigned(
                np.ascontiguousarray(queries[rows]),
                self._parts.distance + 1,
                lists[rows, None] ^ masks,
                None,
            )
            query = np.repeat(rows, np.asarray(np.diff(limits.astype(np.int64)), np.int64))
            first = self._parts.is_first_meeting(queries[query] ^ self._base[row], self._piece)
            yield query[first], row[first], bits[first].astype(np.int64)
            start += step
            step = int(np.clip(PAIRS_AT_ONCE * step // max(len(query), 1), 1, QUERIES_AT_ONCE))
