"""Connected components of edges that come in chunks, beside scipy's and networkx's of all at once.

    python -m benchmarks.components                # 100 million edges: 5 GiB of memory for scipy

`random` draws both ends of an edge evenly; `power law` draws them with a chance of rank^-0.5, which
gives a few nodes very many edges, and ranks go to nodes in no order. Edges are made in chunks of
4 million from a seed, the same for every side, and that is not counted. Each side runs in a process of
its own, whose peak resident memory counts: ours joins each chunk as it comes; scipy and networkx need
all edges at once, which count with them. Time is `join` and `labels` for ours, making the graph and
finding its components for the others: seconds on the clock, and in brackets on the processor, where
other work runs beside. Partitions are the same when every node has the same smallest member.
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

ROWS = 2**22
"""Edges made at once."""
MULTIPLIER = 2_654_435_761
"""A prime: times it, modulo a number of nodes that it does not divide, gives each node another name."""
GRAPHS = (
    ("random", 100_000_000, 100_000_000),
    ("random", 50_000_000, 100_000_000),
    ("power law", 100_000_000, 100_000_000),
    ("random", 1_000_000, 1_000_000),
)
NETWORKX = 1_000_000
"""Edges up to which networkx fits: about half a kilobyte each."""


class Clock:
    """Seconds on the clock and on the processor that calls took."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def time(self, call: Callable[[], T]) -> T:
        """Call, add up what it took, and return what it gave."""
        wall, processor = time.perf_counter(), time.process_time()
        result = call()
        self.wall += time.perf_counter() - wall
        self.processor += time.process_time() - processor
        return result


def edges(kind: str, nodes: int, many: int) -> Iterator[tuple[Nodes, Nodes]]:
    """Yield the ends of edges, in chunks."""
    for start in range(0, many, ROWS):
        rng = np.random.default_rng([0, start])
        rows = min(ROWS, many - start)
        yield _ends(kind, nodes, rows, rng), _ends(kind, nodes, rows, rng)


def _ends(kind: str, nodes: int, rows: int, rng: np.random.Generator) -> Nodes:
    if kind == "random":
        return rng.integers(0, nodes, rows, dtype=np.int32)
    rank = (rng.random(rows) ** 2 * nodes).astype(np.int64)
    return (rank * MULTIPLIER % nodes).astype(np.int32)


def all_edges(kind: str, nodes: int, many: int) -> tuple[Nodes, Nodes]:
    """Return all of them at once."""
    left, right = np.empty(many, np.int32), np.empty(many, np.int32)
    for number, (own, other) in enumerate(edges(kind, nodes, many)):
        part = slice(number * ROWS, number * ROWS + len(own))
        left[part], right[part] = own, other
    return left, right


def by_ours(clock: Clock, kind: str, nodes: int, many: int) -> Nodes:
    """Return labels, from chunks."""
    union_find: UnionFind = clock.time(lambda: UnionFind(nodes))
    for left, right in edges(kind, nodes, many):
        clock.time(partial(union_find.union, left, right))
    return clock.time(union_find.labels)


def by_scipy(clock: Clock, kind: str, nodes: int, many: int) -> Nodes:
    """Return numbers of components, by scipy."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = all_edges(kind, nodes, many)

    def run() -> Nodes:
        ones = np.ones(many, dtype=np.int8)
        graph = coo_array((ones, (left, right)), shape=(nodes, nodes))
        labels: Nodes = connected_components(graph, directed=False)[1]
        return labels

    return clock.time(run)


def by_networkx(clock: Clock, kind: str, nodes: int, many: int) -> Nodes:
    """Return numbers of components, by networkx."""
    import networkx

    left, right = all_edges(kind, nodes, many)

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


def measure(side: str, kind: str, nodes: int, many: int) -> dict[str, Any]:
    """Return seconds, peak memory in GiB, and what tells one partition from another."""
    clock = Clock()
    label = SIDES[side](clock, kind, nodes, many)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if side != "ours":
        label = _smallest(label)
    return {
        "wall": clock.wall,
        "processor": clock.processor,
        "peak": peak,
        "components": int(np.count_nonzero(label == np.arange(nodes, dtype=np.int32))),
        "digest": hashlib.sha256(label.astype("<i4").tobytes()).hexdigest(),
    }


def _smallest(label: Nodes) -> Nodes:
    """Return the smallest member of each node's component."""
    first = np.full(int(label.max()) + 1, len(label), np.int32)
    np.minimum.at(first, label, np.arange(len(label), dtype=np.int32))
    return first[label]


def apart(side: str, graph: tuple[str, int, int]) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.components", "--measure"]
    done = subprocess.run(
        [*command, json.dumps([side, *graph])],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the nodes and edges")
    parser.add_argument("--measure", help=SUPPRESS)
    options = parse(parser, {"share": 0.001})
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return
    has_networkx = find_spec("networkx") is not None
    beside = f" · networkx {version('networkx')}" if has_networkx else ""
    print(f"{conditions()} · scipy {version('scipy')}{beside}")
    print(f"load before: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    if not has_networkx:
        print("networkx is not installed, and left out")
    print(
        "\n| edges | nodes | | components | beside | its s | our s | faster by | its GiB ", end=""
    )
    print("| our GiB | smaller by | same |")
    print("|" + "---|" * 12)
    for kind, nodes, many in GRAPHS:
        graph = (kind, int(nodes * options.share), int(many * options.share))
        ours = apart("ours", graph)
        _tell(graph, "scipy", ours)
        if has_networkx and graph[2] <= NETWORKX:
            _tell(graph, "networkx", ours)
    print(f"\nload after: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


def _tell(graph: tuple[str, int, int], side: str, ours: dict[str, Any]) -> None:
    kind, nodes, many = graph
    theirs = apart(side, graph)
    print(
        f"| {many:,} | {nodes:,} | {kind} | {ours['components']:,} | {side} "
        f"| {_seconds(theirs)} | {_seconds(ours)} | {theirs['wall'] / ours['wall']:.1f} "
        f"| {theirs['peak']:.2f} | {ours['peak']:.2f} | {theirs['peak'] / ours['peak']:.1f} "
        f"| {'yes' if theirs['digest'] == ours['digest'] else 'NO'} |",
        flush=True,
    )


def _seconds(found: dict[str, Any]) -> str:
    return f"{found['wall']:.2f} ({found['processor']:.2f})"


if __name__ == "__main__":
    main()
