"""Connected components of edges that come a chunk at a time: exact, in memory that nodes decide.

Every node has a parent of a smaller number, or is itself a root. An edge hangs the larger of two roots
under the smaller one, so that a root is the smallest member of its component, whatever the order of
edges. Within a chunk all roots are hung at once, each under the smallest that it meets, and pointers
are doubled until all lead to a root; an edge whose root went to a smaller one is looked at again. This
is algorithm S of Liu and Tarjan (2022, Simple Concurrent Connected Components Algorithms): O(log² m)
steps for m edges, a handful for most.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

CHUNK = 2**17
"""Edges that are joined at once: enough for numpy, and few enough that their parents stay in cache."""

Nodes: TypeAlias = npt.NDArray[np.signedinteger[Any]]


class Forest:
    """Components of `n` nodes, numbered 0 to n - 1, under edges that are joined bit by bit.

    Holds one array (n,), int32 below 2^31 nodes: 0.4 GB for 100 million. A join takes 10 MB more,
    however many edges it is given.

    Raises:
        ValueError: n is negative.
    """

    def __init__(self, n: int) -> None:
        if n < 0:
            raise ValueError(f"a forest has 0 nodes or more, not {n}")
        self._parent: Nodes = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)

    def join(self, left: npt.NDArray[Any], right: npt.NDArray[Any]) -> None:
        """Join the ends of edges, in any order; edges may be repeated and join a node to itself.

        Args:
            left: one end of each edge (m,), integers; some thousands or more at a time, since a call
                takes a twentieth of a millisecond by itself.
            right: the other end (m,).

        Raises:
            ValueError: the ends are not integers of one length, or no nodes; nothing is joined then.
        """
        left, right = np.asarray(left), np.asarray(right)
        if left.ndim != 1 or left.shape != right.shape:
            raise ValueError(
                f"edges are two arrays of one length, not {left.shape} and {right.shape}"
            )
        self._check(left)
        self._check(right)
        kind = self._parent.dtype
        for start in range(0, len(left), CHUNK):
            part = slice(start, start + CHUNK)
            self._join(left[part].astype(kind, copy=False), right[part].astype(kind, copy=False))

    def labels(self) -> Nodes:
        """Return the smallest member of each node's component, (n,).

        It is a view that cannot be written to, and changes with the next join: no second array of n.
        """
        parent = self._parent
        for start in range(0, len(parent), CHUNK):
            # Parents are smaller: all before this block hang under their roots already.
            own = parent[start : start + CHUNK]
            above = parent.take(own)
            deep = np.flatnonzero((own >= start) & (above != own)) + start
            own[:] = above
            self._flatten(deep, parent.take(deep))
        labels = parent.view()
        labels.flags.writeable = False
        return labels

    def _check(self, ends: npt.NDArray[Any]) -> None:
        if ends.dtype.kind not in "iu":
            raise ValueError(f"nodes are numbered by integers, not {ends.dtype}")
        if not len(ends):
            return
        for found in (ends.min(), ends.max()):
            if not 0 <= found < len(self._parent):
                raise ValueError(f"no node {found}: there are {len(self._parent)}, from 0 on")

    def _join(self, left: Nodes, right: Nodes) -> None:
        parent = self._parent
        one, other = parent.take(left), parent.take(right)
        apart = np.flatnonzero(one != other)
        one = self._climb(left[apart], one[apart])
        other = self._climb(right[apart], other[apart])
        while len(apart := np.flatnonzero(one != other)):
            one, other = one[apart], other[apart]
            high, low = np.maximum(one, other), np.minimum(one, other)
            # Not by assignment: the largest root of a star would then meet its others one by one.
            np.minimum.at(parent, high, low)
            hung = parent.take(high)
            lost = np.flatnonzero(hung != low)
            self._flatten(high, hung)
            one, other = parent.take(high[lost]), parent.take(low[lost])

    def _climb(self, nodes: Nodes, parents: Nodes) -> Nodes:
        """Return the roots of nodes, written into `parents`, and hang the nodes under them."""
        parent = self._parent
        rows = np.flatnonzero(parents != nodes)
        place = parents[rows]
        above = parent.take(place)
        deep = np.flatnonzero(above != place)
        rows, place, above = rows[deep], place[deep], above[deep]
        moved = rows
        while len(rows):
            # Each place on the way goes to its grandparent: a long way is halved for the next.
            higher = parent.take(above)
            parent[place] = parents[rows] = higher
            above = parent.take(higher)
            deep = np.flatnonzero(above != higher)
            rows, place, above = rows[deep], higher[deep], above[deep]
        parent[nodes[moved]] = parents[moved]
        return parents

    def _flatten(self, nodes: Nodes, parents: Nodes) -> None:
        """Hang nodes under their roots, by doubling; all between them and a root are among them."""
        parent = self._parent
        while len(nodes):
            above = parent.take(parents)
            deep = np.flatnonzero(above != parents)
            nodes, parents = nodes[deep], above[deep]
            parent[nodes] = parents
