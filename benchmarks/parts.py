"""dedup in parts on Spark's workers compared with the same decision on one machine.

    python -m benchmarks.parts edges --folder /tmp/edges --edges 10000000
    python -m benchmarks.parts rows --folder /tmp/rows --rows 2000000

`edges`: connected components (`curation/algorithms/components`) by one worker that reads all edges, as
dedup does up to 20 million edges, and by exchanges between workers, compared with the union-find of one
process. There are as many edges as nodes, drawn as in `benchmarks.components`, and nodes are hashed.
The union-find gets numbers instead of hashes; the time for numbering is not included there.

`rows`: the stage dedup on planted tables. Every tenth image copies another one; the pair is a near
neighbour whose pixels agree. Of every twenty rows, one repeats an image and one has equal pixels. Rows
have URLs and captions of 60 letters.

Each side runs in its own process, in parts on a local Spark with one worker per core. Peak memory is
that of the driver's Python process and of the largest worker; Java's heap (1 GiB) is not included. The
results are compared: the same smallest node for every node; the same bytes of `copies` and the same
counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.components import all_edges
from benchmarks.components import edges as edge_chunks
from benchmarks.machine import conditions
from benchmarks.measure import measured, workers
from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.components import distributed_components
from curation.algorithms.components.distributed_components import (
    connected_components,
    local_stars,
    read_labels,
)
from curation.algorithms.components.union_find import UnionFind
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.fragment import Fragment
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.manifest import Manifest, Record, add_books
from curation.engine.parallel import InProcess
from curation.engine.store import Store
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner import run_step

ROWS_PER_FRAGMENT = 10_000
CAPTION = "a photo of a dog on a green lawn in front of an old house, no. "


# -- edges ------------------------------------------------------------------------------------------


def hashes(nodes: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a different hash of each node, shape (n,). Hashes are not in the order of nodes."""
    mixed = nodes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(29))


def write_edges(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Iterator[pa.RecordBatch]:
    """Write a chunk of the edges, as a task of dedup writes them."""
    yield from local_stars(hashes(left), hashes(right)).to_batches()
    return None


def by_workers(kind: str, size: int, edges_on_one: int, folder: Path) -> dict[str, Any]:
    """Find components on workers: on one worker if there are at most `edges_on_one` edges."""
    distributed_components.EDGES_ON_ONE_WORKER = edges_on_one
    measures: dict[str, Any] = {}
    context = Context(Store(folder), workers(), "joining", ["benchmark"])
    # Edges are drawn in this process; the time for that is not included.
    in_process, edges = Context(context.store, InProcess(), "joining", ["benchmark"]), []
    for number, (left, right) in enumerate(edge_chunks(kind, size, size)):
        items = {f"edges-{number}": {"left": left, "right": right}}
        records = in_process.compute("draw", write_edges, items)
        edges += [Fragment(context.store, record) for record in records.values()]
    with measured(measures):
        rounds = connected_components(edges, context)
    measures["rounds"] = len(rounds)
    # Every other exchange is a large star, which sends an edge to the parts of both of its ends.
    sizes = [sum(e.rows for e in edges), *(sum(r.rows for r in records) for records in rounds[:-1])]
    sent = sum(n * (1 if i % 2 else 2) for i, n in enumerate(sizes))
    measures["sent"] = 0 if edges_on_one else sent
    names = hashes(np.arange(size))
    order, label = np.argsort(names), np.arange(size)
    names = names[order]
    for record in rounds[-1]:
        for table in read_labels(Fragment(context.store, record)):
            node, smallest = (table.column(name).to_numpy() for name in ("node", "label"))
            label[order[np.searchsorted(names, node)]] = order[np.searchsorted(names, smallest)]
    np.save(folder / "exchanges.npy", label)
    return measures


def by_union_find(kind: str, size: int, folder: Path) -> dict[str, Any]:
    """Find components in this process."""
    measures: dict[str, Any] = {}
    left, right = all_edges(kind, size, size)
    with measured(measures):
        components = UnionFind(size)
        components.union(left, right)
        label = components.labels()
    np.save(folder / "union_find.npy", label)
    return measures


def same_components(folder: Path) -> bool:
    """Whether both sides found the same components: their labels correspond one to one."""
    left, right = (np.load(folder / f"{side}.npy") for side in ("exchanges", "union_find"))
    pairs = len(np.unique(left.astype(np.int64) * len(left) + right))
    return pairs == len(np.unique(left)) == len(np.unique(right))


def compare_edges(folder: Path, size: int) -> None:
    """Print a table of all sides."""
    print(
        "| edges | | by | rounds | edges sent | s | ratio | driver, GiB | worker, GiB | same |\n"
        + "|---" * 10
        + "|"
    )
    for kind in ("random", "power law"):
        graph_folder = folder / kind.replace(" ", "-")
        graph_folder.mkdir(parents=True, exist_ok=True)
        one = run_side("union_find", str(graph_folder), kind, str(size))
        print(
            f"| {size:,} | {kind} | one process | – | – | {one['seconds']:.1f} | 1 "
            f"| {one['driver']:.2f} | – | – |",
            flush=True,
        )
        for name, edges_on_one in (("one worker", size), ("exchanges", 0)):
            ours = run_side("exchanges", str(graph_folder), kind, str(size), str(edges_on_one))
            print(
                f"| {size:,} | {kind} | {name} | {ours['rounds']} | {ours['sent']:,} "
                f"| {ours['seconds']:.1f} | {ours['seconds'] / one['seconds']:.1f} "
                f"| {ours['driver']:.2f} | {ours['worker']:.2f} "
                f"| {'yes' if same_components(graph_folder) else 'NO'} |",
                flush=True,
            )


# -- rows -------------------------------------------------------------------------------------------


def fill(store: Store, rows: int) -> None:
    """Commit the tables that dedup reads."""
    records: dict[str, list[Record]] = {}

    def put(table: str, name: str, columns: dict[str, Any], count: int) -> None:
        terms = contract(table)
        schema = terms.arrow_schema()
        arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
        rows_table = pa.table(arrays, schema=schema)
        writer = FragmentWriter(store, f"tables/{table}/data", name, terms, 1_000_000)
        for batch in rows_table.to_batches(ROWS_PER_FRAGMENT):
            writer.write(batch)
        records.setdefault(table, []).append(writer.close(f"tables/{table}", name, {}))

    for start in range(0, rows, ROWS_PER_FRAGMENT):
        row = np.arange(start, min(start + ROWS_PER_FRAGMENT, rows))
        image = np.where(row % 20 == 7, row - 3, row)
        name, count = f"web-{start:010d}", len(row)
        images = {
            "pair_id": _ids(row),
            "image_id": _ids(image),
            "role": pa.repeat("pool", count),
            "source": pa.repeat("web", count),
            "status": pa.repeat("ok", count),
            "url": pa.array(
                [f"https://pictures.example/some/folder/of/them/{n}.jpg" for n in image]
            ),
            "caption": pa.array([f"{CAPTION}{n}" for n in row]),
            "original_width": pa.array(100 + image % 900, pa.int32()),
            "original_height": pa.array(100 + image % 700, pa.int32()),
            "bytes": pa.array(image * 7 % 90_000),
        }
        put("images", name, images, count)
        pixels = np.where(image % 20 == 9, image - 1, image)
        put("scores", name, {"pair_id": _ids(row), "pixel_id": _ids(pixels)}, count)
    copies = np.arange(0, rows, 10)
    # Some copies copy an image that is a copy itself, in another fragment, so that chains occur.
    ends = _ids((copies * 31 + 1) % rows // 20 * 20), _ids(copies)
    size = len(copies)
    near = {
        "method": pa.repeat("near", size),
        "role_a": pa.repeat("pool", size),
        "image_a": ends[1],
        "role_b": pa.repeat("pool", size),
        "image_b": ends[0],
        "similarity": pa.array((900 + copies % 99) / 1000, pa.float32()),
        "rank": pa.array(np.ones(size), pa.int32()),
    }
    put("neighbours", "all", near, size)
    full, none = pa.array(np.ones(size), pa.float32()), pa.array(np.zeros(size), pa.float32())
    verified = dict.fromkeys(("agreement", "worst", "steady", "inside"), full)
    verified |= dict.fromkeys(("hue", "flat"), none)
    verified |= {
        "blocks": pa.array(np.full(size, 64), pa.int32()),
        "mirrored": pa.array(np.zeros(size, bool)),
    }
    pairs = np.sort(np.column_stack([ids.to_numpy(False).astype("S32") for ids in ends]), axis=1)
    verified |= {
        f"image_{end}": from_ids(np.ascontiguousarray(ids))
        for end, ids in zip("ab", pairs.T, strict=True)
    }
    put("verified", "all", verified, size)
    for table, table_records in records.items():
        counts = add_books(record.books for record in table_records)
        fragments = tuple(table_records)
        store.commit(
            Manifest(table, "v", "planted", 1, 1, {}, {}, {}, "now", fragments, counts, {})
        )


def _ids(numbers: npt.NDArray[Any]) -> pa.Array:
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return pa.array([f"{number:016x}{number:016x}" for number in mixed.tolist()])


def run_dedup(rows_at_once: int, folder: Path) -> dict[str, Any]:
    """Run dedup on a filled store; return seconds, memory and results."""
    location = {"format": "parquet", "path": "unused", "columns": {"image": "i"}}
    spec = {
        "name": "parts",
        "sources": [{"name": "web", "role": "pool", **location}],
        "retrieve": [{"name": "even", "strategy": "hierarchical", "target": 10}],
        "dedup": {"rows_at_once": rows_at_once},
    }
    step = next(step for step in plan(parse_recipe(spec)) if step.name == "dedup")
    store, measures = Store(folder), dict[str, Any]()
    rows = open_table(store, "images").rows
    parallel = InProcess() if rows <= rows_at_once else workers()
    with measured(measures):
        run_step(step, store, parallel)
    manifest = open_table(store, "copies").manifest
    store.delete_folder("tables/copies")
    return measures | {"content": manifest.content, "stats": manifest.stats, "rows": manifest.rows}


def compare_rows(folder: Path, rows: int) -> None:
    """Print a table of both sides."""
    store = Store(folder)
    if store.manifest("images") is None:
        fill(store, rows)
    parts, whole = (run_side(f"{rows_at_once}", str(folder)) for rows_at_once in (1, 10**9))
    same = all(parts[name] == whole[name] for name in ("content", "stats", "rows"))
    print("| rows | | s | ratio | driver, GiB | worker, GiB | same bytes and counts |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {rows:,} | one machine | {whole['seconds']:.1f} | 1 | {whole['driver']:.2f} | – | – |"
    )
    print(
        f"| {rows:,} | in parts | {parts['seconds']:.1f} | {parts['seconds'] / whole['seconds']:.2f} "
        f"| {parts['driver']:.2f} | {parts['worker']:.2f} | {'yes' if same else 'NO'} |"
    )
    print(
        f"\nkept {whole['stats']['kept']:,}, copies {whole['stats']['copies']}, "
        f"largest component {whole['stats']['largest_components'][0]['images']:,}"
    )


# -- both -------------------------------------------------------------------------------------------


def run_side(*arguments: str) -> dict[str, Any]:
    """Run one side in its own process."""
    command = [sys.executable, "-m", "benchmarks.parts", "side", *arguments]
    process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return measures


def measure_side(name: str, folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Measure the side that `run_side` names."""
    if name == "union_find":
        return by_union_find(arguments[0], int(arguments[1]), folder)
    if name == "exchanges":
        return by_workers(arguments[0], int(arguments[1]), int(arguments[2]), folder)
    return run_dedup(int(name), folder)


def main() -> None:
    if sys.argv[1:2] == ["side"]:
        print(json.dumps(measure_side(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("edges", "rows"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--rows", type=int, default=2_000_000)
    options = parser.parse_args()
    print(f"{conditions()}\n")
    if options.what == "edges":
        compare_edges(options.folder, options.edges)
    else:
        compare_rows(options.folder, options.rows)


if __name__ == "__main__":
    main()
