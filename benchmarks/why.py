"""Asks `curation why` about rows of a store of a million rows: seconds, and bytes read.

    python -m benchmarks.why                  # a million rows: some minutes, most of them to write it
    python -m benchmarks.why --folder DIR     # keeps the store, and uses it the next time

A list of URLs and a seed set go through the real ingest. The tables of all other stages are written
with values from a seeded generator and without pixels, so that nothing is fetched. Each question is
asked by a new process, as the command line does, and again by one that has imported everything.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import curation
from benchmarks.command import folder_or_temporary, parse, parser_of
from benchmarks.machine import conditions
from curation.algorithms.arrays.vectors import vector_array
from curation.engine.contract import contract
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.engine.table_name import TableName
from curation.flow import Step, plan, run_fingerprint
from curation.recipe import Recipe, parse_recipe
from curation.runner.step import run_step
from curation.runner.work import WrittenTable, new_manifest
from curation.store.fragment import Fragment
from curation.store.manifest import Committed, sum_counts
from curation.store.run_log import Run, StageSummary, recorded_run
from curation.store.store import Store

DIM, CLUSTERS, K = 192, 1_000, 4
SEEDS = 100
"""One row of so many is that of a seed."""
COPIES = 10
"""One row of so many is a copy of the row before it."""
Columns = Mapping[str, Any]


def write_lists(folder: Path, rows: int) -> None:
    """Write the list of the pool, and that of the seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("pool", rows), ("seeds", rows // SEEDS)):
        numbers = range(count)
        columns = {
            "url": [f"https://h{n % 997}.example/{name}/{n}.jpg" for n in numbers],
            "caption": [f"a picture with the number {n}, of some length" for n in numbers],
            "uid": [f"{name}-{n}" for n in numbers],
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=10_000)


def recipe_of(folder: Path) -> Recipe:
    """Return the recipe."""
    columns = {"url": "url", "caption": "caption", "key": "uid"}

    def source(name: str, role: str) -> dict[str, Any]:
        path = str(folder / f"{name}.parquet")
        return {"name": name, "role": role, "format": "parquet", "path": path, "columns": columns}

    return parse_recipe(
        {
            "name": "why",
            "sources": [source("pool", "pool"), source("seeds", "seed")],
            "embed": {"encoders": {"semantic": {"model": "vit_micro"}}},
            "dedup": {"near": {"encoder": "semantic", "at_least": 0.9}},
            "select": {"min_side": {"at_least": 200}},
            "cluster": {"levels": [CLUSTERS]},
            "retrieve": [
                {"name": "near", "seeds": "seeds", "strategy": "sample", "k": K},
                {"name": "cells", "seeds": "seeds", "strategy": "cluster", "more_than": 3},
            ],
        }
    )


class Rows:
    """The columns of one fragment: those of `pairs`, and drawn values.

    Args:
        pairs: the fragment of `pairs`.
        number: seeds the values.
    """

    def __init__(self, pairs: Fragment, number: int) -> None:
        table = pairs.read()
        self.count, self.pairs = len(table), table.to_pydict()
        self._draw = np.random.default_rng(number)
        self.sha256 = [hashlib.sha256(p.encode()).hexdigest() for p in self.pairs["pair_id"]]
        self.image_ids = [digest[:32] for digest in self.sha256]
        self.is_pool = self.pairs["role"][0] == "pool" if self.count else True
        self.is_copy = (np.arange(self.count) % COPIES == 1) & self.is_pool
        self.sides = self._draw.integers(100, 2_000, self.count).astype(np.int32)
        self.clusters = self._draw.integers(0, CLUSTERS, self.count).astype(np.int32)
        self.similarity = self._draw.uniform(0.5, 1, self.count).astype(np.float32)
        self.first = np.where(self.is_copy, np.arange(self.count) - 1, np.arange(self.count))

    @property
    def reasons(self) -> list[str | None]:
        """Why each row is not eligible."""
        small = (self.sides < 200) & self.is_pool
        return [
            "min_side" if is_small else "copy_near" if is_copy else None
            for is_small, is_copy in zip(small, self.is_copy, strict=True)
        ]

    def of_images(self, rows: np.ndarray) -> list[str]:
        """Return the image ids of some rows."""
        return [self.image_ids[row] for row in rows.tolist()]


def images(rows: Rows) -> Columns:
    """Return columns of `images`, without pixels."""
    names = ("pair_id", "role", "source", "source_key", "url", "caption", "metadata")
    sizes = ("original_width", "original_height", "width", "height")
    return {
        **{name: rows.pairs[name] for name in names},
        **dict.fromkeys(sizes, rows.sides),
        "image_id": rows.image_ids,
        "sha256": rows.sha256,
        "status": ["ok"] * rows.count,
        "format": ["jpeg"] * rows.count,
        "bytes": rows.sides.astype(np.int64) * 100,
    }


def scores(rows: Rows) -> Columns:
    """Return columns of `scores`."""
    return {"pair_id": rows.pairs["pair_id"], "pixel_id": rows.image_ids, "min_side": rows.sides}


def embeddings(rows: Rows) -> Columns:
    """Return columns of `embeddings`."""
    vectors = np.random.default_rng(rows.count).normal(size=(rows.count, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vector = vector_array(vectors.astype(np.float16))
    return {"pair_id": rows.pairs["pair_id"], "image_id": rows.image_ids, "vector": vector}


def copies(rows: Rows) -> Columns:
    """Return columns of `copies`: pairs of rows."""
    first = rows.of_images(rows.first)
    others = np.where(np.roll(rows.is_copy, -1), np.arange(rows.count) + 1, rows.first)
    has_copy = others != np.arange(rows.count)
    return {
        **{name: rows.pairs[name] for name in ("pair_id", "role", "source")},
        "image_id": rows.image_ids,
        "component_id": first,
        "representative_id": first,
        "representative_pair_id": [rows.pairs["pair_id"][n] for n in rows.first.tolist()],
        "method": ["near" if is_copy else "representative" for is_copy in rows.is_copy],
        "similarity": pa.array(rows.similarity, mask=~has_copy),
        "evidence_id": pa.array(rows.of_images(others), mask=~has_copy),
    }


def tallies(rows: Rows) -> Columns:
    """Return columns of `tallies`."""
    false = np.zeros(rows.count, bool)
    return {"pair_id": rows.pairs["pair_id"], "contaminated": false, "copy_of_seed": false}


def eligible(rows: Rows) -> Columns:
    """Return columns of `eligible`."""
    return {
        **{name: rows.pairs[name] for name in ("pair_id", "role", "source")},
        "image_id": rows.image_ids,
        "status": ["dropped" if reason else "eligible" for reason in rows.reasons],
        "reason": rows.reasons,
    }


def assignments(rows: Rows) -> Columns:
    """Return columns of `assignments`."""
    return {
        "pair_id": rows.pairs["pair_id"],
        "image_id": rows.image_ids,
        "cluster_id": rows.clusters,
        "similarity": rows.similarity,
    }


def claims(rows: Rows) -> Columns:
    """Return columns of `claims`: a tenth of the pool."""
    chosen = [n for n in range(0, rows.count, 10) if rows.is_pool and not rows.reasons[n]]
    return {
        "arm": ["cells"] * len(chosen),
        "seed_set": ["seeds"] * len(chosen),
        "strategy": ["cluster"] * len(chosen),
        "image_id": [rows.image_ids[n] for n in chosen],
        "pair_id": [rows.pairs["pair_id"][n] for n in chosen],
        "similarity": rows.similarity[chosen],
        "cluster_id": rows.clusters[chosen],
    }


ALIGNED: dict[str, Callable[[Rows], Columns]] = {
    "images": images,
    "scores": scores,
    "embeddings.semantic": embeddings,
    "copies": copies,
    "tallies": tallies,
    "eligible": eligible,
    "assignments": assignments,
    "claims": claims,
}


def matches(by_fragment: Mapping[str, Rows]) -> Columns:
    """Return columns of `matches`: K drawn pool images of each seed."""
    pool = [i for rows in by_fragment.values() if rows.is_pool for i in rows.image_ids]
    seeds = [i for rows in by_fragment.values() if not rows.is_pool for i in rows.image_ids]
    chosen = np.random.default_rng(0).integers(0, len(pool), (len(seeds), K))
    return {
        "seed_set": ["seeds"] * chosen.size,
        "seed_image_id": np.repeat(seeds, K).tolist(),
        "image_id": [pool[n] for n in chosen.ravel().tolist()],
        "similarity": np.tile(np.linspace(0.9, 0.6, K, dtype=np.float32), len(seeds)),
        "rank": np.tile(np.arange(1, K + 1, dtype=np.int32), len(seeds)),
    }


def centroids(_: Mapping[str, Rows]) -> Columns:
    """Return columns of `centroids`, of one level."""
    return {
        "level": np.zeros(CLUSTERS, np.int32),
        "cluster_id": np.arange(CLUSTERS, dtype=np.int32),
        "vector": vector_array(np.ones((CLUSTERS, DIM), np.float32)),
        "training_count": np.ones(CLUSTERS, np.int64),
    }


WHOLE: dict[str, Callable[[Mapping[str, Rows]], Columns]] = {
    "matches": matches,
    "centroids": centroids,
}


def batch_of(table: str, columns: Columns) -> pa.RecordBatch:
    """Return a batch of a table; columns that are not given are null."""
    count = len(next(iter(columns.values())))
    fields = [f for f in contract(table).arrow_schema() if f.name != "image"]
    given = {name: values for name, values in columns.items() if name not in contract(table).names}
    arrays = {f.name: _array(columns.get(f.name), f.type, count) for f in fields}
    if table == "images":
        arrays["image"] = pa.nulls(count, pa.binary())
    return pa.RecordBatch.from_pydict(arrays | {name: pa.array(v) for name, v in given.items()})


def _array(values: Any, kind: pa.DataType, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def write_table(
    store: Store,
    run: Run,
    step: Step,
    table: TableName,
    batches: Iterator[tuple[str, pa.RecordBatch]],
) -> None:
    """Write a table as its stage would."""
    records = []
    for name, batch in batches:
        writer = FragmentWriter(store, f"tables/{table}/data", name, contract(table), None)
        writer.write(batch)
        records.append(writer.close(f"tables/{table}", f"{table}-{name}", {}))
    manifest = new_manifest(step, table, WrittenTable(tuple(records), {}), {})
    store.put_version(manifest)
    committed = {str(table): Committed(manifest.version, "")}
    run.add(step.name, StageSummary(manifest.rows), committed, step.fingerprint)
    assert sum_counts(r.counts for r in records) == manifest.counts


def write_store(folder: Path, rows: int) -> None:
    """Write the lists and the store, unless they are there."""
    if (folder / "ready").exists():
        return
    write_lists(folder / "lists", rows)
    recipe, store = recipe_of(folder / "lists"), Store(folder / "store")
    steps = plan(recipe)
    with recorded_run(store, recipe.name, run_fingerprint(recipe)) as run:
        run_step(steps[0], store, InProcess(), run)
        pairs = open_table(store, "pairs", run.record.tables["pairs"]).fragments
        by_fragment = {name: Rows(f, number) for number, (name, f) in enumerate(pairs.items())}
        for step in steps[1:]:
            for table in step.tables:
                if table in ALIGNED:
                    make = ALIGNED[table]
                    parts = ((n, batch_of(table, make(r))) for n, r in by_fragment.items())
                    write_table(store, run, step, table, parts)
                elif table in WHOLE:
                    batch = batch_of(table, WHOLE[table](by_fragment))
                    write_table(store, run, step, table, iter([("all", batch)]))
    (folder / "ready").touch()


def questions(store: Path) -> dict[str, str]:
    """Return what is asked: every kind of name, of rows with every kind of answer."""
    with curation.open(store) as opened:
        claimed, key = opened.sql(
            "SELECT claims.image_id, source_key FROM claims JOIN pairs USING (pair_id) LIMIT 1"
        ).fetchall()[0]
        url, copy = opened.sql(
            "SELECT url, pair_id FROM pairs JOIN copies USING (pair_id) WHERE method = 'near' LIMIT 1"
        ).fetchall()[0]
        digest = opened.sql("SELECT sha256 FROM images WHERE role = 'seed' LIMIT 1").fetchall()[0][
            0
        ]
    return {
        "image_id, in the dataset": claimed,
        "key, in the dataset": key,
        "URL of a copy": url,
        "pair_id of a copy": copy,
        "SHA-256 of a seed": digest,
        "URL that is not listed": "https://nowhere.example/1.jpg",
    }


def as_command(store: Path, what: str) -> tuple[float, float]:
    """Return the seconds, and the seconds of processors, of the command."""
    command = [sys.executable, "-m", "curation.cli", "why", what, "--store", str(store), "--json"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    json.loads(done.stdout)
    return seconds, sum((after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime))


def in_process(store: Path, what: str) -> tuple[float, int]:
    """Return the seconds of processors of the method, and the bytes that it read."""
    with curation.open(store) as opened:
        before, started = _bytes_read(), time.process_time()
        opened.why(what)
        return time.process_time() - started, _bytes_read() - before


def _bytes_read() -> int:
    """Return the bytes that this process asked the system for; 0 where it does not tell."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def main() -> None:
    """Run the benchmark."""
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="folder for the lists and the store")
    arguments = parse(parser)
    rows = 2_000 if arguments.tiny else 1_000_000
    with folder_or_temporary(arguments.folder) as folder:
        write_store(folder, rows)
        store = folder / "store"
        size = sum(p.stat().st_size for p in (store / "tables").rglob("*") if p.is_file())
        print(conditions())
        print(f"{rows:,} rows and {rows // SEEDS:,} seeds, {size / 1e6:,.0f} MB of tables\n")
        print("| asked | command s | its processor s | why alone, processor s | MB read |")
        print("|---|---|---|---|---|")
        for kind, what in questions(store).items():
            seconds, processor = as_command(store, what)
            alone, read = in_process(store, what)
            print(f"| {kind} | {seconds:.2f} | {processor:.2f} | {alone:.2f} | {read / 1e6:.1f} |")


if __name__ == "__main__":
    main()
