"""Connected components of more edges than one machine holds: exact, by exchanges between workers.

This is the alternating algorithm of Kiveris et al. (2014, Connected Components in MapReduce and
Beyond). It repeats two steps. *Large star*: each node links its larger neighbours to the smallest node
among itself and its neighbours. *Small star*: each node links itself and its smaller neighbours to the
smallest of them. It ends when only stars are left: every node except the smallest of its component has
that smallest node as its only neighbour.

Each worker first joins the edges that it holds with a union-find. This leaves at most one edge per node
and keeps the number of rounds small. When few enough edges are left for one worker, one worker joins
them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.components.union_find import UnionFind
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.sorted_arrays import run_starts
from curation.engine.units import StageOutput, empty_batch
from curation.errors import CurationError
from curation.store.fragment import Fragment

Nodes: TypeAlias = npt.NDArray[np.uint64]
EDGES = pa.schema([("left", pa.uint64()), ("right", pa.uint64())])
"""Columns of edges. `left` is the larger node and is linked to `right`."""
LABELS = pa.schema([("node", pa.uint64()), ("label", pa.uint64())])
"""Columns of labels. `label` is the smallest node of the component of `node`."""
EDGES_ON_ONE_WORKER = 20_000_000
"""Edges up to which one worker joins all of them, faster than two workers by exchanges. Half as many
needed 0.95 GiB."""
EDGE_ENDS_PER_PART = 4_000_000
"""Ends of edges that a worker joins at once, at about 400 bytes each."""
ROWS_PER_BATCH = 2**20
MAX_ROUNDS = 64
"""Far more than any graph has needed: a path of a million nodes needs a handful."""


def local_stars(left: Nodes, right: Nodes) -> pa.Table:
    """Return stars with the same connected components as some edges.

    Args:
        left: one end of each edge, shape (m,).
        right: the other end, shape (m,).

    Returns:
        EDGES, at most one for each node: every node except the smallest of its component is linked to
        that smallest node.
    """
    nodes, positions = np.unique(np.concatenate([left, right]), return_inverse=True)
    components = UnionFind(len(nodes))
    components.union(positions[: len(left)], positions[len(left) :])
    smallest = components.labels()
    linked = np.flatnonzero(smallest != np.arange(len(nodes)))
    return pa.table([nodes[linked], nodes[smallest[linked]]], schema=EDGES)


def connected_components(edges: Sequence[Fragment], context: Context) -> list[list[Fragment]]:
    """Return the connected components of edges as stars, computed on workers.

    Up to EDGES_ON_ONE_WORKER edges, one worker joins all of them. Above that, rounds of large and small
    stars run until one worker can join the rest, or until only stars are left.

    Args:
        edges: work tables of EDGES. Nodes are any uint64 numbers, as hashes are.
        context: where workers run, and where they keep finished rounds.

    Returns:
        The work tables of each round. Those of the last round are the result: EDGES in which every node
        except the smallest of its component is linked to that smallest node.

    Raises:
        CurationError: edges are left to join after MAX_ROUNDS rounds.
    """
    rounds: list[list[Fragment]] = []
    for number in range(1, MAX_ROUNDS + 1):
        if sum(fragment.rows for fragment in edges) <= EDGES_ON_ONE_WORKER:
            name = f"joined-{number:02d}"
            joined = context.compute(
                "components", join_on_one_worker, {name: {"edges": list(edges)}}
            )
            return [*rounds, list(joined.values())]
        rounds.append(_exchange_edges(f"components {number}", large_star, edges, context))
        if not sum(table.stats["unfinished_nodes"] for table in rounds[-1]):
            return rounds
        rounds.append(
            _exchange_edges(f"components {number}, small", small_star, rounds[-1], context)
        )
        edges = rounds[-1]
    raise CurationError(
        f"The components of copies are not joined after {MAX_ROUNDS} rounds; no graph should need so "
        "many",
        fix=(
            "Report it. If a machine has enough memory, set dedup.rows_at_once above the number of "
            "rows in the pool, so that dedup runs there without exchanges"
        ),
    )


def join_on_one_worker(edges: Sequence[Fragment]) -> StageOutput:
    """Join all edges in one process.

    Args:
        edges: work tables of EDGES.

    Yields:
        EDGES of stars, as `connected_components` returns them.
    """
    distinct_ends = [np.empty(0, np.uint64)]
    for fragment in edges:
        distinct_ends.append(np.unique(np.concatenate(_read_ends(fragment))))
    nodes = np.unique(np.concatenate(distinct_ends))
    distinct_ends.clear()
    components = UnionFind(len(nodes))
    for fragment in edges:
        left, right = _read_ends(fragment)
        components.union(np.searchsorted(nodes, left), np.searchsorted(nodes, right))
    smallest = components.labels()
    yield empty_batch(EDGES)
    for start in range(0, len(nodes), ROWS_PER_BATCH):
        part = slice(start, start + ROWS_PER_BATCH)
        linked = np.flatnonzero(smallest[part] != np.arange(start, start + len(nodes[part])))
        columns = [nodes[part][linked], nodes[smallest[part][linked]]]
        yield pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=EDGES)
    return None


def _read_ends(edges: Fragment) -> tuple[Nodes, Nodes]:
    table = edges.read(EDGES.names)
    left, right = (np.asarray(table.column(name), np.uint64) for name in EDGES.names)
    return left, right


def _exchange_edges(
    what: str,
    function: Callable[..., StageOutput],
    edges: Sequence[Fragment],
    context: Context,
) -> list[Fragment]:
    """Run a star step on workers."""
    # A large star needs all neighbours of a node, so an edge goes to the parts of both of its ends.
    both_ends = function is large_star
    parts = max(1, -(-2 * sum(fragment.rows for fragment in edges) // EDGE_ENDS_PER_PART))
    readings = [
        MapTask(read_edges_by_node, {"edges": fragment, "both_ends": both_ends})
        for fragment in edges
    ]
    return exchange_tables(
        Exchange(what, {"edges": ExchangeInput(EDGES, readings)}, function, parts), context
    )


def read_edges_by_node(edges: Fragment, both_ends: bool) -> Iterator[pa.Table]:
    """Yield edges, keyed by `left`.

    Args:
        edges: a work table of EDGES.
        both_ends: whether to yield each edge a second time with its ends swapped.
    """
    left, right = _read_ends(edges)
    if both_ends:
        left, right = np.concatenate([left, right]), np.concatenate([right, left])
    yield pa.table({KEY: left, "left": left, "right": right})


def large_star(edges: pa.Table) -> StageOutput:
    """Link the larger neighbours of each node to the smallest node among it and its neighbours.

    This is the operation Large-Star of Kiveris et al. (2014).

    Args:
        edges: all edges of some nodes. The node is `left`, its neighbour is `right`.

    Yields:
        EDGES of stars.

    Returns:
        `unfinished_nodes`: nodes around which the graph is not a star yet. At 0 all rounds are done.
    """
    left, right, smallest_neighbour = _distinct_edges(edges)
    is_larger = right > left
    smallest = np.minimum(left, smallest_neighbour)
    # In a star, a node has either only larger neighbours, or exactly one neighbour, which is smaller.
    unfinished = np.unique(left[(smallest_neighbour < left) & (right != smallest_neighbour)])
    yield _one_batch(local_stars(right[is_larger], smallest[is_larger]))
    return {"unfinished_nodes": len(unfinished)}


def small_star(edges: pa.Table) -> StageOutput:
    """Link each node and its smaller neighbours to the smallest of these neighbours.

    This is the operation Small-Star of Kiveris et al. (2014).

    Args:
        edges: edges from some nodes to smaller ones. The node is `left`, its neighbour is `right`.

    Yields:
        EDGES of stars.
    """
    left, right, smallest_neighbour = _distinct_edges(edges)
    nodes = np.concatenate([left, right])
    smallest = np.concatenate([smallest_neighbour, smallest_neighbour])
    moved = nodes != smallest
    yield _one_batch(local_stars(nodes[moved], smallest[moved]))
    return None


def _distinct_edges(edges: pa.Table) -> tuple[Nodes, Nodes, Nodes]:
    """Return the distinct edges, sorted, and for each edge the smallest neighbour of its left end."""
    left, right = (np.asarray(edges.column(name), np.uint64) for name in EDGES.names)
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    first = run_starts(left, right)
    left, right = left[first], right[first]
    _, start, node_number = np.unique(left, return_index=True, return_inverse=True)
    return left, right, right[start[node_number]] if len(left) else right


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else empty_batch(table.schema)


def read_labels(stars: Fragment) -> Iterator[pa.Table]:
    """Yield LABELS of all nodes of stars, keyed by node. The smallest node of a component is included.

    Args:
        stars: a work table of the last round of `connected_components`.
    """
    node, label = _read_ends(stars)
    smallest = np.unique(label)
    node, label = np.concatenate([node, smallest]), np.concatenate([label, smallest])
    yield pa.table({KEY: node, "node": node, "label": label})
