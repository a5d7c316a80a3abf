"""Connected components of edges that arrive in chunks, compared with scipy and networkx.

    python -m benchmarks.components                # 100 million edges: 5 GiB of memory for scipy

`random` draws both ends of an edge uniformly. `power law` draws the rank of a node with a probability
of rank^-0.5, which gives a few nodes very many edges; ranks are assigned to nodes in no order. Edges
are drawn in chunks of 4 million from a seed, the same for every side; the time for that is not
included. Each side runs in its own process, and peak resident memory is that of the process. Ours adds
each chunk when it is drawn. scipy and networkx need all edges at once, which are part of their memory.
Time is that of `union` and `labels` for ours, and of building the graph and finding its components for
the
others: wall-clock seconds, and in brackets seconds of processor time, in case other work runs at the
same time. Components are the same if every node has the same smallest node.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.machine import conditions
from curation.algorithms.components.union_find import UnionFind

Nodes: TypeAlias = npt.NDArray[np.int32]

EDGES_PER_CHUNK = 2**22
"""Edges drawn at once."""
MULTIPLIER = 2_654_435_761
"""A prime. Multiplication by it, modulo a number of nodes that it does not divide, permutes them."""
GRAPHS = (
    ("random", 100_000_000, 100_000_000),
    ("random", 50_000_000, 100_000_000),
    ("power law", 100_000_000, 100_000_000),
    ("random", 1_000_000, 1_000_000),
)
NETWORKX_LIMIT = 1_000_000
"""Edges up to which networkx is run. It needs about half a kilobyte for each."""


class Clock:
    """Adds up wall-clock seconds and processor seconds of calls."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def time(self, call: Callable[[], Any]) -> Any:
        """Make a call, add its time, and return its result."""
        wall, processor = time.perf_counter(), time.process_time()
        result = call()
        self.wall += time.perf_counter() - wall
        self.processor += time.process_time() - processor
        return result


def edges(kind: str, nodes: int, edge_count: int) -> Iterator[tuple[Nodes, Nodes]]:
    """Yield the two ends of edges, in chunks."""
    for start in range(0, edge_count, EDGES_PER_CHUNK):
        rng = np.random.default_rng([0, start])
        rows = min(EDGES_PER_CHUNK, edge_count - start)
        yield _ends(kind, nodes, rows, rng), _ends(kind, nodes, rows, rng)


def _ends(kind: str, nodes: int, rows: int, rng: np.random.Generator) -> Nodes:
    if kind == "random":
        return rng.integers(0, nodes, rows, dtype=np.int32)
    rank = (rng.random(rows) ** 2 * nodes).astype(np.int64)
    return (rank * MULTIPLIER % nodes).astype(np.int32)


def all_edges(kind: str, nodes: int, edge_count: int) -> tuple[Nodes, Nodes]:
    """Return the two ends of all edges, shape (edges,) each."""
    left, right = np.empty(edge_count, np.int32), np.empty(edge_count, np.int32)
    for number, (left_chunk, right_chunk) in enumerate(edges(kind, nodes, edge_count)):
        start = number * EDGES_PER_CHUNK
        part = slice(start, start + len(left_chunk))
        left[part], right[part] = left_chunk, right_chunk
    return left, right


def by_ours(clock: Clock, kind: str, nodes: int, edge_count: int) -> Nodes:
    """Return labels by our union-find, from chunks."""
    components: UnionFind = clock.time(lambda: UnionFind(nodes))
    for left, right in edges(kind, nodes, edge_count):
        clock.time(lambda left=left, right=right: components.union(left, right))
    return clock.time(components.labels)


def by_scipy(clock: Clock, kind: str, nodes: int, edge_count: int) -> Nodes:
    """Return labels by scipy."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = all_edges(kind, nodes, edge_count)

    def run() -> Nodes:
        ones = np.ones(edge_count, dtype=np.int8)
        graph = coo_array((ones, (left, right)), shape=(nodes, nodes))
        return connected_components(graph, directed=False)[1]

    return clock.time(run)


def by_networkx(clock: Clock, kind: str, nodes: int, edge_count: int) -> Nodes:
    """Return labels by networkx."""
    import networkx

    left, right = all_edges(kind, nodes, edge_count)

    def run() -> list[set[int]]:
        graph = networkx.Graph()
        graph.add_nodes_from(range(nodes))
        graph.add_edges_from(zip(left.tolist(), right.tolist(), strict=True))
        return list(networkx.connected_components(graph))

    label = np.empty(nodes, np.int32)
    for number, members in enumerate(clock.time(run)):
        label[list(members)] = number
    return label


SIDES = {"ours": by_ours, "scipy": by_scipy, "networkx": by_networkx}


def measure(side: str, kind: str, nodes: int, edge_count: int) -> dict[str, Any]:
    """Return seconds, peak memory in GiB, number of components, and a digest of the labels."""
    clock = Clock()
    label = SIDES[side](clock, kind, nodes, edge_count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if side != "ours":
        label = _smallest(label)
    return {
        "wall": clock.wall,
        "processor": clock.processor,
        "peak": peak,
        "components": int(np.count_nonzero(label == np.arange(nodes, dtype=np.int32))),
        "digest": hashlib.sha256(np.ascontiguousarray(label, dtype="<i4")).hexdigest(),
    }


def _smallest(label: Nodes) -> Nodes:
    """Return the smallest node of each node's component."""
    first = np.full(int(label.max()) + 1, len(label), np.int32)
    np.minimum.at(first, label, np.arange(len(label), dtype=np.int32))
    return first[label]


def measure_in_process(side: str, graph: tuple[str, int, int]) -> dict[str, Any]:
    """Call `measure` in its own process."""
    command = [sys.executable, "-m", "benchmarks.components", "--measure"]
    process = subprocess.run(
        [*command, json.dumps([side, *graph])],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )
    return json.loads(process.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=1.0, help="share of the nodes and edges")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return
    has_networkx = find_spec("networkx") is not None
    networkx_version = f" · networkx {version('networkx')}" if has_networkx else ""
    print(f"{conditions()} · scipy {version('scipy')}{networkx_version}")
    print(f"load before: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    if not has_networkx:
        print("networkx is not installed and is left out")
    print("\n| edges | nodes | | components | other | its s | our s | faster by | its GiB ", end="")
    print("| our GiB | smaller by | same |")
    print("|" + "---|" * 12)
    for kind, nodes, edge_count in GRAPHS:
        graph = (kind, int(nodes * options.share), int(edge_count * options.share))
        ours = measure_in_process("ours", graph)
        _print_row(graph, "scipy", ours)
        if has_networkx and graph[2] <= NETWORKX_LIMIT:
            _print_row(graph, "networkx", ours)
    print(f"\nload after: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


def _print_row(graph: tuple[str, int, int], side: str, ours: dict[str, Any]) -> None:
    kind, nodes, edge_count = graph
    theirs = measure_in_process(side, graph)
    print(
        f"| {edge_count:,} | {nodes:,} | {kind} | {ours['components']:,} | {side} "
        f"| {_seconds(theirs)} | {_seconds(ours)} | {theirs['wall'] / ours['wall']:.1f} "
        f"| {theirs['peak']:.2f} | {ours['peak']:.2f} | {theirs['peak'] / ours['peak']:.1f} "
        f"| {'yes' if theirs['digest'] == ours['digest'] else 'NO'} |",
        flush=True,
    )


def _seconds(measures: dict[str, Any]) -> str:
    return f"{measures['wall']:.2f} ({measures['processor']:.2f})"


if __name__ == "__main__":
    main()
