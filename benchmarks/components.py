"""Connected components of edges in chunks, beside scipy and networkx with all edges at once.

    python -m benchmarks.components                # 100 million edges: 5 GiB of memory for scipy

`random` draws both ends of an edge from a uniform distribution. `power law` draws a node with a
probability proportional to rank^-0.5, so a few nodes have very many edges; ranks are shuffled. Edges
are made from a seed in chunks of 4 million, the same for every side, and this time is not counted. Each
side runs in a separate process, and its peak resident memory is printed. Ours joins chunk by chunk;
scipy and networkx need all edges in memory. For ours, the time is that of the union-find; for the
others, that of making the graph and finding its components. Times are wall-clock seconds, with CPU
seconds in brackets. Partitions are the same if each node has the same smallest member in both.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from argparse import SUPPRESS
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions
from curation.algorithms.components.union_find import UnionFind

Nodes: TypeAlias = npt.NDArray[np.int32]
T = TypeVar("T")

CHUNK = 2**22
"""Edges of a chunk."""
MULTIPLIER = 2_654_435_761
"""A prime: multiplying by it, modulo a number of nodes that it does not divide, permutes the nodes."""
GRAPHS = (
    ("random", 100_000_000, 100_000_000),
    ("random", 50_000_000, 100_000_000),
    ("power law", 100_000_000, 100_000_000),
    ("random", 1_000_000, 1_000_000),
)
NETWORKX_MAX_EDGES = 1_000_000
"""networkx is compared up to this number of edges: it needs about half a kilobyte for each."""


class Clock:
    """Adds up the wall-clock seconds and the CPU seconds of calls."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def time(self, call: Callable[[], T]) -> T:
        """Call a function, add its seconds, and return its result."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        return result


def edge_chunks(kind: str, nodes: int, edges: int) -> Iterator[tuple[Nodes, Nodes]]:
    """Yield the edges in chunks, as the two ends of each edge."""
    for start in range(0, edges, CHUNK):
        rng = np.random.default_rng([0, start])
        count = min(CHUNK, edges - start)
        yield _draw_ends(kind, nodes, count, rng), _draw_ends(kind, nodes, count, rng)


def _draw_ends(kind: str, nodes: int, count: int, rng: np.random.Generator) -> Nodes:
    if kind == "random":
        return rng.integers(0, nodes, count, dtype=np.int32)
    rank = (rng.random(count) ** 2 * nodes).astype(np.int64)
    return (rank * MULTIPLIER % nodes).astype(np.int32)


def all_edges(kind: str, nodes: int, edges: int) -> tuple[Nodes, Nodes]:
    """Return the two ends of all edges."""
    left, right = np.empty(edges, np.int32), np.empty(edges, np.int32)
    for number, (chunk_left, chunk_right) in enumerate(edge_chunks(kind, nodes, edges)):
        part = slice(number * CHUNK, number * CHUNK + len(chunk_left))
        left[part], right[part] = chunk_left, chunk_right
    return left, right


def ours(clock: Clock, kind: str, nodes: int, edges: int) -> Nodes:
    """Return the component of each node, by the project's union-find, from chunks."""
    union_find: UnionFind = clock.time(lambda: UnionFind(nodes))
    for left, right in edge_chunks(kind, nodes, edges):
        clock.time(partial(union_find.union, left, right))
    return clock.time(union_find.labels)


def by_scipy(clock: Clock, kind: str, nodes: int, edges: int) -> Nodes:
    """Return the component of each node, by scipy."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = all_edges(kind, nodes, edges)

    def run() -> Nodes:
        ones = np.ones(edges, dtype=np.int8)
        graph = coo_array((ones, (left, right)), shape=(nodes, nodes))
        labels: Nodes = connected_components(graph, directed=False)[1]
        return labels

    return clock.time(run)


def by_networkx(clock: Clock, kind: str, nodes: int, edges: int) -> Nodes:
    """Return the component of each node, by networkx."""
    import networkx

    left, right = all_edges(kind, nodes, edges)

    def run() -> list[set[int]]:
        graph = networkx.Graph()
        graph.add_nodes_from(range(nodes))
        graph.add_edges_from(zip(left.tolist(), right.tolist(), strict=True))
        return list(networkx.connected_components(graph))

    labels = np.empty(nodes, np.int32)
    for component, members in enumerate(clock.time(run)):
        labels[list(members)] = component
    return labels


SIDES = {"ours": ours, "scipy": by_scipy, "networkx": by_networkx}


def measure(side: str, kind: str, nodes: int, edges: int) -> dict[str, Any]:
    """Return seconds, peak memory in GiB, the number of components and a digest of the partition."""
    clock = Clock()
    labels = SIDES[side](clock, kind, nodes, edges)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if side != "ours":
        labels = _smallest_members(labels)
    return {
        "wall": clock.wall,
        "cpu": clock.cpu,
        "peak": peak,
        "components": int(np.count_nonzero(labels == np.arange(nodes, dtype=np.int32))),
        "digest": hashlib.sha256(labels.astype("<i4").tobytes()).hexdigest(),
    }


def _smallest_members(labels: Nodes) -> Nodes:
    """Return the smallest member of each node's component."""
    smallest = np.full(int(labels.max()) + 1, len(labels), np.int32)
    np.minimum.at(smallest, labels, np.arange(len(labels), dtype=np.int32))
    return smallest[labels]


def measure_in_subprocess(side: str, graph: tuple[str, int, int]) -> dict[str, Any]:
    """Return what `measure` returns in a separate process."""
    command = [sys.executable, "-m", "benchmarks.components", "--measure"]
    process = subprocess.run(
        [*command, json.dumps([side, *graph])],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )
    measurements: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return measurements


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the nodes and edges")
    parser.add_argument("--measure", help=SUPPRESS)
    options = parse(parser, {"share": 0.001})
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return
    has_networkx = find_spec("networkx") is not None
    networkx_version = f" · networkx {version('networkx')}" if has_networkx else ""
    print(f"{conditions()} · scipy {version('scipy')}{networkx_version}")
    print(f"load before: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    if not has_networkx:
        print("networkx is not installed and is left out")
    print(
        "\n| edges | nodes | | components | beside | its s | our s | faster by | its GiB ", end=""
    )
    print("| our GiB | smaller by | same |")
    print("|" + "---|" * 12)
    for kind, nodes, edges in GRAPHS:
        graph = (kind, int(nodes * options.share), int(edges * options.share))
        our_result = measure_in_subprocess("ours", graph)
        _print_row(graph, "scipy", our_result)
        if has_networkx and graph[2] <= NETWORKX_MAX_EDGES:
            _print_row(graph, "networkx", our_result)
    print(f"\nload after: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


def _print_row(graph: tuple[str, int, int], peer: str, our_result: dict[str, Any]) -> None:
    kind, nodes, edges = graph
    result = measure_in_subprocess(peer, graph)
    print(
        f"| {edges:,} | {nodes:,} | {kind} | {our_result['components']:,} | {peer} "
        f"| {_seconds(result)} | {_seconds(our_result)} "
        f"| {result['wall'] / our_result['wall']:.1f} | {result['peak']:.2f} "
        f"| {our_result['peak']:.2f} | {result['peak'] / our_result['peak']:.1f} "
        f"| {'yes' if result['digest'] == our_result['digest'] else 'NO'} |",
        flush=True,
    )


def _seconds(result: dict[str, Any]) -> str:
    return f"{result['wall']:.2f} ({result['cpu']:.2f})"


if __name__ == "__main__":
    main()
