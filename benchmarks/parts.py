"""dedup in parts on Spark's workers beside dedup on one machine.

    python -m benchmarks.parts edges               # 10 million edges
    python -m benchmarks.parts rows                # 2 million rows

`edges`: connected components (`curation/algorithms/components`) by one worker that reads all edges
(the default up to 20 million), and by exchanges between workers, beside a union-find in one process.
There are as many edges as nodes, drawn as in `benchmarks.components`. Nodes are hashes; the union-find
gets numbers instead, and the time to number nodes is not counted. `rows`: the stage dedup on planted
tables. Every tenth picture is a copy of another; near vectors found the pair, and verify accepted it.
Of every twenty rows, one has the picture of another row, and one has its pixels. URLs and captions have
60 letters. Each side runs in a separate process; in parts, on a local Spark with one worker per core.
Peak memory is that of the driver's Python process and that of the largest worker; Java's heap (1 GiB)
is not included. The results are compared: the same components, the same bytes of `copies` and the same
statistics.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.command import folder_or_temporary, parse, parser_of
from benchmarks.components import all_edges, edge_chunks
from benchmarks.machine import conditions
from benchmarks.measure import measured, workers
from benchmarks.tables import commit_manifest, hand_made, has_table, run_step
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
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.store.fragment import Fragment
from curation.store.manifest import FragmentRecord, sum_counts
from curation.store.store import Store

FRAGMENT_ROWS = 10_000
KINDS = ("random", "power law")
CAPTION = "a photo of a dog on a green lawn in front of an old house, no. "


# -- edges ------------------------------------------------------------------------------------------


def hashes(nodes: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a distinct hash for each node; their order differs from that of the nodes."""
    mixed = nodes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(29))


def write_edges(
    left: npt.NDArray[Any], right: npt.NDArray[Any]
) -> Generator[pa.RecordBatch, None, None]:
    """Yield a chunk of the edges in the form in which dedup's tasks write them."""
    yield from local_stars(hashes(left), hashes(right)).to_batches()
    return None


def by_workers(kind: str, size: int, max_edges: int, folder: Path) -> dict[str, Any]:
    """Find components on workers, and save the labels.

    Args:
        kind: one of KINDS.
        size: the number of edges, and of nodes.
        max_edges: one worker joins all edges if there are not more than this.
        folder: the store.
    """
    distributed_components.EDGES_ON_ONE_WORKER = max_edges
    measurements: dict[str, Any] = {}
    context = Context(Store(folder), workers(), "joining", ["benchmark"])
    # This process makes the edges, and the time is not counted.
    local = Context(context.store, InProcess(), "joining", ["benchmark"])
    fragments: list[Fragment] = []
    for number, (left, right) in enumerate(edge_chunks(kind, size, size)):
        chunk = {f"edges-{number}": {"left": left, "right": right}}
        fragments += local.compute("draw", write_edges, chunk).values()
    with measured(measurements):
        rounds = connected_components(fragments, context)
    measurements["rounds"] = len(rounds)
    # Large and small stars take turns. An exchange for large stars sends an edge to both of its ends.
    total = sum(fragment.rows for fragment in fragments)
    edge_counts = [total, *(sum(table.rows for table in tables) for tables in rounds[:-1])]
    sent = sum(count * (1 if number % 2 else 2) for number, count in enumerate(edge_counts))
    measurements["sent"] = 0 if max_edges else sent
    np.save(folder / "exchanges.npy", _node_labels(rounds[-1], size))
    return measurements


def _node_labels(stars: Iterable[Fragment], nodes: int) -> npt.NDArray[np.int64]:
    """Return the label of each node as a number of a node; stars have hashes."""
    node_hashes = hashes(np.arange(nodes))
    order, labels = np.argsort(node_hashes), np.arange(nodes)
    sorted_hashes = node_hashes[order]
    for part in stars:
        for table in read_labels(part):
            node, label = (table.column(name).to_numpy() for name in ("node", "label"))
            rows = order[np.searchsorted(sorted_hashes, node)]
            labels[rows] = order[np.searchsorted(sorted_hashes, label)]
    return labels


def by_union_find(kind: str, size: int, folder: Path) -> dict[str, Any]:
    """Find components of `size` edges in this process, and save the labels."""
    measurements: dict[str, Any] = {}
    left, right = all_edges(kind, size, size)
    with measured(measurements):
        union_find = UnionFind(size)
        union_find.union(left, right)
        labels = union_find.labels()
    np.save(folder / "union_find.npy", labels)
    return measurements


def same_partition(folder: Path) -> bool:
    """Return whether both sides found the same components: their labels are one to one."""
    ours, expected = (np.load(folder / f"{side}.npy") for side in ("exchanges", "union_find"))
    pairs = len(np.unique(ours.astype(np.int64) * len(ours) + expected))
    return pairs == len(np.unique(ours)) == len(np.unique(expected))


def compare_edges(folder: Path, size: int, kinds: tuple[str, ...]) -> None:
    """Print a row for each kind of graph and each side."""
    print(
        "| edges | | by | rounds | edges sent | s | ratio | driver, GiB | worker, GiB | same |\n"
        + "|---" * 10
        + "|"
    )
    for kind in kinds:
        graph_folder = folder / kind.replace(" ", "-")
        graph_folder.mkdir(parents=True, exist_ok=True)
        reference = run_in_subprocess("union_find", str(graph_folder), kind, str(size))
        print(
            f"| {size:,} | {kind} | one process | – | – | {reference['seconds']:.1f} | 1 "
            f"| {reference['driver']:.2f} | – | – |",
            flush=True,
        )
        for name, max_edges in (("one worker", size), ("exchanges", 0)):
            result = run_in_subprocess(
                "exchanges", str(graph_folder), kind, str(size), str(max_edges)
            )
            print(
                f"| {size:,} | {kind} | {name} | {result['rounds']} | {result['sent']:,} "
                f"| {result['seconds']:.1f} | {result['seconds'] / reference['seconds']:.1f} "
                f"| {result['driver']:.2f} | {result['worker']:.2f} "
                f"| {'yes' if same_partition(graph_folder) else 'NO'} |",
                flush=True,
            )


# -- rows -------------------------------------------------------------------------------------------


def fill(store: Store, rows: int) -> None:
    """Commit the tables that dedup reads."""
    records: dict[str, list[FragmentRecord]] = {
        "images": [],
        "scores": [],
        "neighbours": [_write(store, "neighbours", "all", neighbours(rows))],
        "verified": [_write(store, "verified", "all", verified_pairs(rows))],
    }
    for start in range(0, rows, FRAGMENT_ROWS):
        numbers = np.arange(start, min(start + FRAGMENT_ROWS, rows))
        # One row of twenty has the picture of another row, and one has its pixels.
        pictures = np.where(numbers % 20 == 7, numbers - 3, numbers)
        pixels = np.where(pictures % 20 == 9, pictures - 1, pictures)
        name, scores = f"web-{start:010d}", {"pair_id": _ids(numbers), "pixel_id": _ids(pixels)}
        records["images"].append(_write(store, "images", name, images(numbers, pictures)))
        records["scores"].append(_write(store, "scores", name, scores))
    for table, fragments in records.items():
        counts, entries = sum_counts(r.counts for r in fragments), tuple(fragments)
        commit_manifest(store, hand_made(table, "v", entries, counts))


def _write(store: Store, table: str, name: str, columns: dict[str, pa.Array]) -> FragmentRecord:
    """Write a fragment; the columns that dedup does not read are null."""
    table_contract = contract(table)
    schema, count = table_contract.arrow_schema(), len(next(iter(columns.values())))
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
    writer = FragmentWriter(store, f"tables/{table}/data", name, table_contract, 1_000_000)
    for batch in pa.table(arrays, schema=schema).to_batches(FRAGMENT_ROWS):
        writer.write(batch)
    return writer.close(f"tables/{table}", name, {})


def images(numbers: npt.NDArray[Any], pictures: npt.NDArray[Any]) -> dict[str, pa.Array]:
    """Return the columns of `images`, from the numbers of the rows and of their pictures."""
    count = len(numbers)
    urls = [f"https://pictures.example/some/folder/of/them/{n}.jpg" for n in pictures]
    return {
        "pair_id": _ids(numbers),
        "image_id": _ids(pictures),
        "role": pa.repeat("pool", count),
        "source": pa.repeat("web", count),
        "status": pa.repeat("ok", count),
        "url": pa.array(urls),
        "caption": pa.array([f"{CAPTION}{n}" for n in numbers]),
        "original_width": pa.array(100 + pictures % 900, pa.int32()),
        "original_height": pa.array(100 + pictures % 700, pa.int32()),
        "bytes": pa.array(pictures * 7 % 90_000),
    }


def copy_pairs(rows: int) -> tuple[pa.Array, pa.Array]:
    """Return the ids of the originals and of the copies; some originals are copies themselves."""
    copies = np.arange(0, rows, 10)
    return _ids((copies * 31 + 1) % rows // 20 * 20), _ids(copies)


def neighbours(rows: int) -> dict[str, pa.Array]:
    """Return the columns of `neighbours`."""
    originals, copies = copy_pairs(rows)
    count = len(copies)
    return {
        "method": pa.repeat("near", count),
        "role_a": pa.repeat("pool", count),
        "image_a": copies,
        "role_b": pa.repeat("pool", count),
        "image_b": originals,
        "similarity": pa.array((900 + np.arange(0, rows, 10) % 99) / 1000, pa.float32()),
        "rank": pa.array(np.ones(count), pa.int32()),
    }


def verified_pairs(rows: int) -> dict[str, pa.Array]:
    """Return the columns of `verified`."""
    pairs = np.column_stack([ids.to_numpy(False).astype("S32") for ids in copy_pairs(rows)])
    pairs = np.sort(pairs, axis=1)
    count = len(pairs)
    one, zero = pa.array(np.ones(count), pa.float32()), pa.array(np.zeros(count), pa.float32())
    return {
        **dict.fromkeys(("agreement", "worst", "steady", "inside", "detail_shape"), one),
        **dict.fromkeys(("hue", "flat", "colour", "drawn", "detail_colour"), zero),
        "blocks": pa.array(np.full(count, 64), pa.int32()),
        "mirrored": pa.array(np.zeros(count, bool)),
        "image_a": from_ids(np.ascontiguousarray(pairs[:, 0])),
        "image_b": from_ids(np.ascontiguousarray(pairs[:, 1])),
    }


def _ids(numbers: npt.NDArray[Any]) -> pa.Array:
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return pa.array([f"{number:016x}{number:016x}" for number in mixed.tolist()])


def run_dedup(rows_at_once: int, folder: Path) -> dict[str, Any]:
    """Run dedup on a filled store; return measurements and its manifest's content and statistics."""
    source = {"format": "parquet", "path": "unused", "columns": {"image": "i"}}
    spec = {
        "name": "parts",
        "sources": [{"name": "web", "role": "pool", **source}],
        "retrieve": [{"name": "even", "strategy": "hierarchical", "target": 10}],
        "dedup": {"rows_at_once": rows_at_once},
    }
    step = next(step for step in plan(parse_recipe(spec)) if step.name == "dedup")
    store, measurements = Store(folder), dict[str, Any]()
    rows = open_table(store, "images").rows
    parallel = InProcess() if rows <= rows_at_once else workers()
    with measured(measurements):
        run_step(step, store, parallel)
    manifest = open_table(store, "copies").manifest
    store.storage.delete_folder("tables/copies")
    result = {"content": manifest.content, "stats": manifest.stats, "rows": manifest.rows}
    return measurements | result


def compare_rows(folder: Path, rows: int) -> None:
    """Print a row for each side."""
    store = Store(folder)
    if not has_table(store, "images"):
        fill(store, rows)
    parts, whole = (run_in_subprocess(f"{limit}", str(folder)) for limit in (1, 10**9))
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


def run_in_subprocess(*arguments: str) -> dict[str, Any]:
    """Return what `run_side` returns in a separate process."""
    command = [sys.executable, "-m", "benchmarks.parts", "side", *arguments]
    process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def run_side(name: str, folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Run a side: `union_find`, `exchanges`, or dedup with a number of rows at once as its name."""
    if name == "union_find":
        return by_union_find(arguments[0], int(arguments[1]), folder)
    if name == "exchanges":
        return by_workers(arguments[0], int(arguments[1]), int(arguments[2]), folder)
    return run_dedup(int(name), folder)


def main() -> None:
    if sys.argv[1:2] == ["side"]:
        print(json.dumps(run_side(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])))
        return
    parser = parser_of(__doc__)
    parser.add_argument("what", choices=("edges", "rows"), nargs="?", help="default: both")
    parser.add_argument("--folder", type=Path, help="tables are written and kept here")
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--rows", type=int, default=2_000_000)
    options = parse(parser, {"edges": 20_000, "rows": 20_000})
    print(f"{conditions()}\n")
    with folder_or_temporary(options.folder) as folder:
        if options.what != "rows":
            compare_edges(folder, options.edges, KINDS[: 1 if options.tiny else None])
        if options.what != "edges":
            compare_rows(folder, options.rows)


if __name__ == "__main__":
    main()
