"""Connected components of edges that arrive in chunks: exact, with memory that depends on nodes only.

Every node stores a parent with a smaller number, or is a root. An edge makes the smaller of two roots
the parent of the larger one. A root is therefore the smallest node of its component, in whatever order
edges arrive. Within a chunk all roots are linked at once, each to the smallest root that it meets. Then
pointer doubling leads every node to its root, and edges whose larger root was linked to another root
are processed again. This is algorithm S of Liu and Tarjan (2022, Simple Concurrent Connected Components
Algorithms): O(log² m) steps for m edges, and a handful for most graphs.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

EDGES_PER_CHUNK = 2**17
"""Edges that are processed at once: enough for numpy, and few enough to keep parents in the cache."""

Nodes: TypeAlias = npt.NDArray[np.signedinteger[Any]]


class UnionFind:
    """Connected components of nodes 0 to n − 1, under edges that are added in chunks.

    Memory is one array of shape (n,): int32 below 2^31 nodes (0.4 GB for 100 million), int64 from there
    on. `union` needs about 10 MB more, for any number of edges.

    Args:
        n: number of nodes.

    Raises:
        ValueError: n is negative.

    Examples:
        >>> components = UnionFind(4)
        >>> components.union(np.array([3]), np.array([1]))
        >>> components.labels().tolist()
        [0, 1, 2, 1]
    """

    def __init__(self, n: int) -> None:
        if n < 0:
            raise ValueError(f"the number of nodes must be 0 or more, not {n}")
        self._parent: Nodes = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)

    def union(self, left: npt.NDArray[Any], right: npt.NDArray[Any]) -> None:
        """Join the components of the two ends of each edge.

        Edges may come in any order, may repeat, and may join a node to itself. A call costs a twentieth
        of a millisecond by itself, so pass thousands of edges or more at a time.

        Args:
            left: one end of each edge, integers of shape (m,).
            right: the other end, integers of shape (m,).

        Raises:
            ValueError: the arrays are not integers of one length, or hold numbers that are not nodes.
                No edge is added then.
        """
        left, right = np.asarray(left), np.asarray(right)
        if left.ndim != 1 or left.shape != right.shape:
            raise ValueError(
                "the ends of edges must be two arrays of one dimension and one length, "
                f"not {left.shape} and {right.shape}"
            )
        self._check(left)
        self._check(right)
        dtype = self._parent.dtype
        for start in range(0, len(left), EDGES_PER_CHUNK):
            chunk = slice(start, start + EDGES_PER_CHUNK)
            self._union(
                left[chunk].astype(dtype, copy=False), right[chunk].astype(dtype, copy=False)
            )

    def labels(self) -> Nodes:
        """Return the smallest node of each node's component, shape (n,).

        The result is a read-only view of the internal array, which the next `union` changes. This
        avoids a second array of n numbers.
        """
        parent = self._parent
        for start in range(0, len(parent), EDGES_PER_CHUNK):
            # Parents have smaller numbers, so all nodes before this chunk already point to their roots.
            chunk = parent[start : start + EDGES_PER_CHUNK]
            grandparents = parent.take(chunk)
            unfinished = np.flatnonzero((chunk >= start) & (grandparents != chunk)) + start
            chunk[:] = grandparents
            self._compress(unfinished, parent.take(unfinished))
        labels = parent.view()
        labels.flags.writeable = False
        return labels

    def _check(self, ends: npt.NDArray[Any]) -> None:
        if ends.dtype.kind not in "iu":
            raise ValueError(f"nodes must be integers, not {ends.dtype}")
        if not len(ends):
            return
        for node in (ends.min(), ends.max()):
            if not 0 <= node < len(self._parent):
                raise ValueError(f"no node {node}: there are {len(self._parent)}, numbered from 0")

    def _union(self, left: Nodes, right: Nodes) -> None:
        parent = self._parent
        left_root, right_root = parent.take(left), parent.take(right)
        differ = np.flatnonzero(left_root != right_root)
        left_root = self._find_roots(left[differ], left_root[differ])
        right_root = self._find_roots(right[differ], right_root[differ])
        while len(differ := np.flatnonzero(left_root != right_root)):
            left_root, right_root = left_root[differ], right_root[differ]
            larger = np.maximum(left_root, right_root)
            smaller = np.minimum(left_root, right_root)
            # An assignment would keep one edge for each larger root: a star around the largest node
            # would then need one round per edge.
            np.minimum.at(parent, larger, smaller)
            linked = parent.take(larger)
            unsettled = np.flatnonzero(linked != smaller)
            self._compress(larger, linked)
            left_root = parent.take(larger[unsettled])
            right_root = parent.take(smaller[unsettled])

    def _find_roots(self, nodes: Nodes, parents: Nodes) -> Nodes:
        """Return the roots of nodes, written into `parents`, and make them the nodes' parents."""
        parent = self._parent
        rows = np.flatnonzero(parents != nodes)
        ancestor = parents[rows]
        above = parent.take(ancestor)
        unfinished = np.flatnonzero(above != ancestor)
        rows, ancestor, above = rows[unfinished], ancestor[unfinished], above[unfinished]
        moved = rows
        while len(rows):
            # Path halving: each node on the path gets its grandparent as parent.
            higher = parent.take(above)
            parent[ancestor] = parents[rows] = higher
            above = parent.take(higher)
            unfinished = np.flatnonzero(above != higher)
            rows, ancestor, above = rows[unfinished], higher[unfinished], above[unfinished]
        parent[nodes[moved]] = parents[moved]
        return parents

    def _compress(self, nodes: Nodes, parents: Nodes) -> None:
        """Make roots the parents of nodes, by pointer doubling.

        All nodes between one of `nodes` and its root must be among `nodes` too.
        """
        parent = self._parent
        while len(nodes):
            grandparents = parent.take(parents)
            unfinished = np.flatnonzero(grandparents != parents)
            nodes, parents = nodes[unfinished], grandparents[unfinished]
            parent[nodes] = parents
