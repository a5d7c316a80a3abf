"""dedup in parts on Spark's workers beside the same decision on one machine.

    python -m benchmarks.parts edges               # 10 million edges
    python -m benchmarks.parts rows                # 2 million rows

`edges`: connected components (`curation/algorithms/components`) by one worker that reads all edges,
as it is up to 20 million, and by exchanges between workers, beside the union-find of one process;
as many edges as nodes, drawn as `benchmarks.components` draws them, nodes hashed. The union-find
gets numbers, not hashes; numbering is not counted there. `rows`: the stage dedup on planted tables:
each tenth picture copies another, found by near vectors and looked at; of every twenty rows one
repeats a picture, one its pixels; URLs and captions of 60 letters. Each side runs in a process of
its own, on a local Spark with a worker a core where it is in parts.
Peak memory:
of the driver's Python process, and of the largest worker; Java's heap (1 GiB) comes on top. The results
are compared: the same smallest node for every node, the same bytes of `copies` and the same books.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.command import folder_or_temporary, parse, parser_of
from benchmarks.components import all_edges
from benchmarks.components import edges as pieces
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
from curation.engine.manifest import FragmentRecord, Manifest, sum_counts
from curation.engine.parallel import InProcess
from curation.engine.store import Store
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner import run_step

FRAGMENT = 10_000
KINDS = ("random", "power law")
WORDS = "a photo of a dog on a green lawn in front of an old house, no. "


# -- edges ------------------------------------------------------------------------------------------


def hashes(nodes: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a hash a node, one to one; the order of nodes is not that of hashes."""
    mixed = nodes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(29))


def drawn(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Generator[pa.RecordBatch, None, None]:
    """Give a piece of the edges, as a task that has read ties gives them."""
    yield from local_stars(hashes(left), hashes(right)).to_batches()
    return None


def by_workers(kind: str, many: int, at_once: int, folder: Path) -> dict[str, Any]:
    """Join on workers: on one, where there are no more edges than `at_once`."""
    distributed_components.EDGES_ON_ONE_WORKER = at_once
    told: dict[str, Any] = {}
    context = Context(Store(folder), workers(), "joining", ["benchmark"])
    # Drawn here, one after the other: that is not counted.
    here, edges = Context(context.store, InProcess(), "joining", ["benchmark"]), []
    for number, (left, right) in enumerate(pieces(kind, many, many)):
        made = here.compute("draw", drawn, {f"edges-{number}": {"left": left, "right": right}})
        edges += [Fragment(context.store, record) for record in made.values()]
    with measured(told):
        rounds = connected_components(edges, context)
    told["rounds"] = len(rounds)
    # Of large stars, every other exchange, an edge goes to both of its ends.
    sizes = [sum(e.rows for e in edges), *(sum(r.rows for r in own) for own in rounds[:-1])]
    told["sent"] = 0 if at_once else sum(n * (1 if i % 2 else 2) for i, n in enumerate(sizes))
    names = hashes(np.arange(many))
    order, label = np.argsort(names), np.arange(many)
    names = names[order]
    for record in rounds[-1]:
        for table in read_labels(Fragment(context.store, record)):
            node, least = (table.column(name).to_numpy() for name in ("node", "label"))
            label[order[np.searchsorted(names, node)]] = order[np.searchsorted(names, least)]
    np.save(folder / "exchanges.npy", label)
    return told


def by_union_find(kind: str, many: int, folder: Path) -> dict[str, Any]:
    """Join here."""
    told: dict[str, Any] = {}
    left, right = all_edges(kind, many, many)
    with measured(told):
        union_find = UnionFind(many)
        union_find.union(left, right)
        label = union_find.labels()
    np.save(folder / "union_find.npy", label)
    return told


def same_partition(folder: Path) -> bool:
    """Whether both gave the same components: one label of either for one of the other."""
    one, other = (np.load(folder / f"{side}.npy") for side in ("exchanges", "union_find"))
    pairs = len(np.unique(one.astype(np.int64) * len(one) + other))
    return pairs == len(np.unique(one)) == len(np.unique(other))


def compare_edges(folder: Path, many: int, kinds: tuple[str, ...]) -> None:
    """Print all sides."""
    print(
        "| edges | | by | rounds | edges sent | s | ratio | driver, GiB | worker, GiB | same |\n"
        + "|---" * 10
        + "|"
    )
    for kind in kinds:
        own = folder / kind.replace(" ", "-")
        own.mkdir(parents=True, exist_ok=True)
        one = apart("union_find", str(own), kind, str(many))
        print(
            f"| {many:,} | {kind} | one process | – | – | {one['seconds']:.1f} | 1 "
            f"| {one['driver']:.2f} | – | – |",
            flush=True,
        )
        for name, at_once in (("one worker", many), ("exchanges", 0)):
            ours = apart("exchanges", str(own), kind, str(many), str(at_once))
            print(
                f"| {many:,} | {kind} | {name} | {ours['rounds']} | {ours['sent']:,} "
                f"| {ours['seconds']:.1f} | {ours['seconds'] / one['seconds']:.1f} "
                f"| {ours['driver']:.2f} | {ours['worker']:.2f} "
                f"| {'yes' if same_partition(own) else 'NO'} |",
                flush=True,
            )


# -- rows -------------------------------------------------------------------------------------------


def fill(store: Store, rows: int) -> None:
    """Commit the tables that dedup reads."""
    records: dict[str, list[FragmentRecord]] = {}

    def put(table: str, name: str, columns: dict[str, Any], many: int) -> None:
        terms = contract(table)
        schema = terms.arrow_schema()
        arrays = [columns.get(field.name, pa.nulls(many, field.type)) for field in schema]
        own = pa.table(arrays, schema=schema)
        writer = FragmentWriter(store, f"tables/{table}/data", name, terms, 1_000_000)
        for batch in own.to_batches(FRAGMENT):
            writer.write(batch)
        records.setdefault(table, []).append(writer.close(f"tables/{table}", name, {}))

    for start in range(0, rows, FRAGMENT):
        place = np.arange(start, min(start + FRAGMENT, rows))
        of = np.where(place % 20 == 7, place - 3, place)
        name, many = f"web-{start:010d}", len(place)
        images = {
            "pair_id": _ids(place),
            "image_id": _ids(of),
            "role": pa.repeat("pool", many),
            "source": pa.repeat("web", many),
            "status": pa.repeat("ok", many),
            "url": pa.array([f"https://pictures.example/some/folder/of/them/{n}.jpg" for n in of]),
            "caption": pa.array([f"{WORDS}{n}" for n in place]),
            "original_width": pa.array(100 + of % 900, pa.int32()),
            "original_height": pa.array(100 + of % 700, pa.int32()),
            "bytes": pa.array(of * 7 % 90_000),
        }
        put("images", name, images, many)
        pixels = np.where(of % 20 == 9, of - 1, of)
        put("scores", name, {"pair_id": _ids(place), "pixel_id": _ids(pixels)}, many)
    copies = np.arange(0, rows, 10)
    # Chains now and then: a copy of what is a copy itself, in another fragment.
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
    looked = dict.fromkeys(("agreement", "worst", "steady", "inside"), full)
    looked |= dict.fromkeys(("hue", "flat"), none)
    looked |= {
        "blocks": pa.array(np.full(size, 64), pa.int32()),
        "mirrored": pa.array(np.zeros(size, bool)),
    }
    pairs = np.sort(np.column_stack([own.to_numpy(False).astype("S32") for own in ends]), axis=1)
    looked |= {
        f"image_{end}": from_ids(np.ascontiguousarray(own))
        for end, own in zip("ab", pairs.T, strict=True)
    }
    put("verified", "all", looked, size)
    for table, own in records.items():
        counts = sum_counts(record.counts for record in own)
        version = Manifest(table, "v", "planted", 1, 1, {}, {}, {}, "now", tuple(own), counts, {})
        store.commit(version)


def _ids(numbers: npt.NDArray[Any]) -> pa.Array:
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return pa.array([f"{number:016x}{number:016x}" for number in mixed.tolist()])


def decided(rows_at_once: int, folder: Path) -> dict[str, Any]:
    """Run dedup on a filled store; return how that went and what it gave."""
    place = {"format": "parquet", "path": "unused", "columns": {"image": "i"}}
    spec = {
        "name": "parts",
        "sources": [{"name": "web", "role": "pool", **place}],
        "retrieve": [{"name": "even", "strategy": "hierarchical", "target": 10}],
        "dedup": {"rows_at_once": rows_at_once},
    }
    step = next(step for step in plan(parse_recipe(spec)) if step.name == "dedup")
    store, told = Store(folder), dict[str, Any]()
    rows = open_table(store, "images").rows
    parallel = InProcess() if rows <= rows_at_once else workers()
    with measured(told):
        run_step(step, store, parallel)
    manifest = open_table(store, "copies").manifest
    store.delete_folder("tables/copies")
    return told | {"content": manifest.content, "stats": manifest.stats, "rows": manifest.rows}


def compare_rows(folder: Path, rows: int) -> None:
    """Print both sides."""
    store = Store(folder)
    if store.manifest("images") is None:
        fill(store, rows)
    parts, whole = (apart(f"{at_once}", str(folder)) for at_once in (1, 10**9))
    same = all(parts[name] == whole[name] for name in ("content", "stats", "rows"))
    print("| rows | | s | ratio | driver, GiB | worker, GiB | same bytes and books |")
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


def apart(*given: str) -> dict[str, Any]:
    """Run one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.parts", "side", *given]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def side(name: str, folder: Path, given: list[str]) -> dict[str, Any]:
    """Do what `apart` asked for."""
    if name in ("exchanges", "union_find"):
        if name == "union_find":
            return by_union_find(given[0], int(given[1]), folder)
        return by_workers(given[0], int(given[1]), int(given[2]), folder)
    return decided(int(name), folder)


def main() -> None:
    if sys.argv[1:2] == ["side"]:
        print(json.dumps(side(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])))
        return
    parser = parser_of(__doc__)
    parser.add_argument("what", choices=("edges", "rows"), nargs="?", help="default: both")
    parser.add_argument("--folder", type=Path, help="where tables are written and kept")
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
