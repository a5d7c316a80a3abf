"""Connected components of more edges than one machine holds: exact, by exchanges between workers.

Kiveris et al. (2014, Connected Components in MapReduce and Beyond): each node hangs its larger
neighbours under the smallest node that it sees (large star), then itself and its smaller neighbours
under the smallest of them (small star), in turns, until what is left are stars: every node but the
smallest of a component has that one alone for a neighbour. What a worker holds it joins by itself first
(`forest.py`), which leaves at most an edge a node and makes rounds few; and as soon as what is left is
no more than one worker joins quickly, one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.components.union_find import Forest
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.fragment import Fragment
from curation.engine.manifest import FragmentRecord
from curation.engine.units import StageOutput, empty_batch
from curation.errors import CurationError

Nodes: TypeAlias = npt.NDArray[np.uint64]
EDGES = pa.schema([("left", pa.uint64()), ("right", pa.uint64())])
"""An edge hangs `left`, the larger node, under `right`."""
LABELS = pa.schema([("node", pa.uint64()), ("label", pa.uint64())])
AT_ONCE = 20_000_000
"""Edges up to which one worker joins all, sooner than two by exchanges: half as many took 0.95 GiB."""
ENDS_A_PART = 4_000_000
"""Ends of edges that a worker joins at once, at about 400 bytes each."""
BATCH = 2**20
ROUNDS = 64
"""Many times what any graph has taken; a path of a million nodes takes a handful."""


def edges_table(left: Nodes, right: Nodes) -> pa.Table:
    """Return edges as rows, joined to stars as far as these edges go."""
    nodes, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    forest = Forest(len(nodes))
    forest.join(places[: len(left)], places[len(left) :])
    smallest = forest.labels()
    hung = np.flatnonzero(smallest != np.arange(len(nodes)))
    return pa.table([nodes[hung], nodes[smallest[hung]]], schema=EDGES)


def components(edges: Sequence[Fragment], context: Context) -> list[list[FragmentRecord]]:
    """Return work tables of EDGES by round, the last of which are stars: each node of a component but
    the smallest hangs under that. Up to AT_ONCE edges one worker joins all.

    Args:
        edges: work tables of EDGES, of nodes in any order that hashes have.
        context: workers, and where they keep rounds that are done.

    Raises:
        CurationError: there is no end after ROUNDS rounds.
    """
    rounds: list[list[FragmentRecord]] = []
    for number in range(1, ROUNDS + 1):
        if sum(own.rows for own in edges) <= AT_ONCE:
            name = f"joined-{number:02d}"
            joined = context.compute("components", join_all, {name: {"edges": list(edges)}})
            return [*rounds, list(joined.values())]
        rounds.append(_round(f"components {number}", large_star, edges, context))
        if not sum(record.stats["apart"] for record in rounds[-1]):
            return rounds
        edges = [Fragment(context.store, record) for record in rounds[-1]]
        rounds.append(_round(f"components {number}, small", small_star, edges, context))
        edges = [Fragment(context.store, record) for record in rounds[-1]]
    raise CurationError(
        f"The components of copies are not joined after {ROUNDS} rounds, which no graph should take. "
        "Set dedup.rows_at_once above the rows of the pool if a machine has the memory, and report it."
    )


def join_all(edges: Sequence[Fragment]) -> StageOutput:
    """Join all edges here."""
    ends = [np.empty(0, np.uint64)]
    for own in edges:
        ends.append(np.unique(np.concatenate(_ends(own))))
    nodes = np.unique(np.concatenate(ends))
    ends.clear()
    forest = Forest(len(nodes))
    for own in edges:
        left, right = _ends(own)
        forest.join(np.searchsorted(nodes, left), np.searchsorted(nodes, right))
    smallest = forest.labels()
    yield empty_batch(EDGES)
    for start in range(0, len(nodes), BATCH):
        part = slice(start, start + BATCH)
        hung = np.flatnonzero(smallest[part] != np.arange(start, start + len(nodes[part])))
        columns = [nodes[part][hung], nodes[smallest[part][hung]]]
        yield pa.RecordBatch.from_arrays([pa.array(own) for own in columns], schema=EDGES)
    return None


def _ends(edges: Fragment) -> tuple[Nodes, Nodes]:
    table = edges.read(EDGES.names)
    left, right = (np.asarray(table.column(name), np.uint64) for name in EDGES.names)
    return left, right


def _round(
    what: str,
    function: Callable[..., StageOutput],
    edges: Sequence[Fragment],
    context: Context,
) -> list[FragmentRecord]:
    both = function is large_star
    parts = max(1, -(-2 * sum(own.rows for own in edges) // ENDS_A_PART))
    readings = [MapTask(read_ends, {"edges": own, "both": both}) for own in edges]
    return exchange_tables(
        Exchange(what, {"edges": ExchangeInput(EDGES, readings)}, function, parts), context
    )


def read_ends(edges: Fragment, both: bool) -> Iterator[pa.Table]:
    """Yield edges by their left end, and with `both` once more by the other, which is then `left`."""
    left, right = _ends(edges)
    if both:
        left, right = np.concatenate([left, right]), np.concatenate([right, left])
    yield pa.table({KEY: left, "left": left, "right": right})


def large_star(edges: pa.Table) -> StageOutput:
    """Hang the larger neighbours of each node under the smallest node that it sees.

    Args:
        edges: all edges of some nodes, which are `left`.

    Returns:
        In how many nodes (`apart`) the graph is no star yet.
    """
    left, right, smallest = _grouped(edges)
    above = right > left
    least = np.minimum(left, smallest)
    # In a star a node has larger neighbours alone, or one, which is smaller.
    apart = np.unique(left[(smallest < left) & (right != smallest)])
    yield _batch(edges_table(right[above], least[above]))
    return {"apart": len(apart)}


def small_star(edges: pa.Table) -> StageOutput:
    """Hang each node and its smaller neighbours under the smallest of these.

    Args:
        edges: edges of some nodes to smaller ones; the node is `left`.
    """
    left, right, smallest = _grouped(edges)
    nodes = np.concatenate([left, right])
    under = np.concatenate([smallest, smallest])
    moved = nodes != under
    yield _batch(edges_table(nodes[moved], under[moved]))
    return None


def _grouped(edges: pa.Table) -> tuple[Nodes, Nodes, Nodes]:
    """Return the different edges by their left end, and the smallest right end of each's node."""
    left, right = (np.asarray(edges.column(name), np.uint64) for name in EDGES.names)
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    fresh = np.ones(len(left), dtype=bool)
    fresh[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    left, right = left[fresh], right[fresh]
    _, start, place = np.unique(left, return_index=True, return_inverse=True)
    return left, right, right[start[place]] if len(left) else right


def _batch(table: pa.Table) -> pa.RecordBatch:
    found = table.combine_chunks().to_batches()
    return found[0] if found else empty_batch(table.schema)


def read_labels(stars: Fragment) -> Iterator[pa.Table]:
    """Yield LABELS of all nodes of stars, by node; the smallest of a component is its own."""
    node, label = _ends(stars)
    roots = np.unique(label)
    node, label = np.concatenate([node, roots]), np.concatenate([label, roots])
    yield pa.table({KEY: node, "node": node, "label": label})
