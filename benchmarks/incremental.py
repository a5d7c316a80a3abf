"""What a run costs after a file was appended: rows, units of work and seconds of every stage.

    python -m benchmarks.incremental --folder DIR

A pool of small pictures with planted copies, inline in Parquet, runs through the whole recipe. Then a
file with 1 % more rows is appended, and one with 10 % more. After each, the recipe runs again on the
same store, and at the end on a fresh one. A table lists every stage with the rows of its tables, the
units that workers computed, and the seconds, each beside those of a run that computed everything.
Tables with other rows than in the fresh store are named. All runs are in this process.
"""

from __future__ import annotations

import copy
import io
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageEnhance

from benchmarks.command import folder_or_temporary, parse, parser_of
from benchmarks.machine import conditions
from curation.engine.parallel import InProcess, ShuffleJob
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.store.store import Store

T = TypeVar("T")
R = TypeVar("R")
Rng = np.random.Generator

SIDE = 96
FAMILIES = 12
COPIES = 0.1
"""Share of the pictures of a file that copy another one, of the same file or of the first."""
SEEDS, HELD_OUT = 24, 8
SHARES = (0.01, 0.1)
"""Rows of the appended files, as shares of the pool."""
VOLATILE = ("run", "tables")
"""Columns of the dataset that name the run."""


def picture(family: int, rng: Rng) -> Image.Image:
    """Return a soft field of a family's colours with some shapes."""
    colours = np.random.default_rng(family).integers(0, 255, (3, 3, 3))
    field = np.clip(colours + rng.normal(0, 45, colours.shape), 0, 255).astype(np.uint8)
    image = Image.fromarray(field).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = (int(value) for value in rng.integers(0, SIDE, 2))
        size = int(rng.integers(6, 30))
        shape = draw.ellipse if family % 2 else draw.rectangle
        shape([x, y, x + size, y + size], fill=tuple(int(c) for c in rng.integers(0, 255, 3)))
    return image


def edited(image: Image.Image, rng: Rng) -> Image.Image:
    """Return a copy that is smaller, paler or cropped."""
    kind = rng.integers(3)
    if kind == 0:
        return image.resize((SIDE * 3 // 4, SIDE * 3 // 4))
    if kind == 1:
        return ImageEnhance.Brightness(image).enhance(1.2)
    return image.crop((2, 2, SIDE - 3, SIDE - 3))


def encode(image: Image.Image, quality: int) -> bytes:
    """Return a picture as JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


class Web:
    """The files of the sources.

    Attributes:
        folder: where they are.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self._rng = np.random.default_rng(seed)
        self._originals: list[Image.Image] = []

    def write(self, path: str, rows: int, copies: float = 0.0) -> None:
        """Write a file with new pictures, and some copies of pictures that were written before."""
        rng, files = self._rng, []
        for _ in range(rows):
            if self._originals and rng.random() < copies:
                original = self._originals[int(rng.integers(len(self._originals)))]
                files.append(encode(edited(original, rng), 80))
                continue
            image = picture(int(rng.integers(FAMILIES)), rng)
            self._originals.append(image)
            files.append(encode(image, 92))
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        name = target.stem
        columns = {
            "key": [f"{name}-{number}" for number in range(rows)],
            "image": pa.array(files, pa.binary()),
            "caption": [f"picture {number} of the file {name}" for number in range(rows)],
        }
        pq.write_table(pa.table(columns), target)

    def recipe(self, options: Namespace) -> dict[str, Any]:
        """Return the recipe that curates the files."""
        columns = {"image": "image", "caption": "caption", "key": "key"}
        sources = [
            {"name": name, "role": role, "format": "parquet", "path": str(self.folder / path)}
            | {"columns": columns}
            for name, role, path in (
                ("web", "pool", "pool"),
                ("seeds", "seed", "seeds.parquet"),
                ("bench", "held_out", "held_out.parquet"),
            )
        ]
        return {
            "name": "incremental",
            "sources": sources,
            "ingest": {"rows_per_fragment": max(20, options.rows // 16)},
            "embed": {"batch_size": 32, "encoders": {"semantic": {"model": "vit_micro"}}},
            "dedup": {
                "near": {"encoder": "semantic", "k": 16, "floor": 0.9, "at_least": 0.99},
                "verify": {"floor": 0.95, "k": 4},
                "held_out": {"at_least": 0.99},
            },
            "cluster": {"levels": options.levels, "retrain": options.retrain},
            "match": {
                "index": "ivf_flat",
                "nlist": options.nlist,
                "nprobe": max(1, options.nlist // 4),
            },
            "retrieve": [
                {"name": "near", "seeds": "seeds", "strategy": "sample", "k": 8},
                {
                    "name": "cells",
                    "seeds": "seeds",
                    "strategy": "cluster",
                    "per_cluster": 20,
                    "more_than": 0,
                },
            ],
        }


class CountingWorkers(InProcess):
    """Workers in this process that count the units that they compute; joint ones count once."""

    def __init__(self) -> None:
        self.units = 0

    def map(
        self, label: str, function: Callable[[T], R], items: Sequence[T], *args: Any, **options: Any
    ) -> list[R]:
        self.units += len(items)
        return super().map(label, function, items, *args, **options)

    def exchange(self, job: ShuffleJob) -> list[Any]:
        self.units += len(job.parts)
        return super().exchange(job)


class Measured(NamedTuple):
    """What one stage of a run did: rows of its tables, units that were computed, and seconds."""

    rows: int
    units: int
    seconds: float


@dataclass(frozen=True)
class RunOf:
    """One run: what its stages did, and the content of each of its tables."""

    stages: Mapping[str, Measured]
    tables: Mapping[str, Any]


def run(spec: dict[str, Any], folder: Path) -> RunOf:
    """Run a recipe into a store."""
    store, stages, tables = Store(folder), {}, {}
    for step in plan(parse_recipe(copy.deepcopy(spec))):
        workers, started = CountingWorkers(), time.perf_counter()
        result = run_step(step, store, workers)
        seconds = time.perf_counter() - started
        stages[step.name] = Measured(result.rows, workers.units, seconds)
        for table in step.tables:
            tables[str(table)] = _content(store, str(table))
    return RunOf(stages, tables)


def _content(store: Store, table: str) -> list[str]:
    """Return the rows of a table in an order that does not depend on its fragments."""
    rows: pa.Table = open_table(store, table).read()
    names = [name for name in rows.column_names if name not in VOLATILE]
    return sorted(repr(row) for row in rows.select(names).to_pylist())


def print_table(title: str, run_of: RunOf, other: RunOf, name: str) -> None:
    """Print what the stages of a run did beside those of another run, which computed everything."""
    print(f"\n{title}\n")
    print(f"| stage | rows | units computed | units, {name} | seconds | seconds, {name} | share |")
    print("|---|---|---|---|---|---|---|")
    for stage, measured in run_of.stages.items():
        beside = other.stages[stage]
        print(
            f"| {stage} | {measured.rows:,} | {measured.units} | {beside.units} | "
            f"{measured.seconds:.2f} | {beside.seconds:.2f} | "
            f"{measured.seconds / max(beside.seconds, 1e-9):.0%} |"
        )
    total, all_of_it = (sum(m.seconds for m in r.stages.values()) for r in (run_of, other))
    print(f"| all | | | | {total:.1f} | {all_of_it:.1f} | {total / all_of_it:.0%} |", flush=True)


def print_different_tables(run_of: RunOf, fresh: RunOf) -> None:
    """Print which tables have other rows than in a fresh store."""
    different = [name for name, rows in fresh.tables.items() if rows != run_of.tables[name]]
    print(f"\nTables with other rows than in the fresh store: {', '.join(different) or 'none'}.")


def measure(folder: Path, options: Namespace) -> None:
    """Run the recipe on the pool, append the files one after another, and print the tables."""
    web = Web(folder / "web")
    web.write("seeds.parquet", SEEDS)
    web.write("held_out.parquet", HELD_OUT)
    web.write("pool/0.parquet", options.rows, COPIES)
    spec = web.recipe(options)
    first = appended = run(spec, folder / "store")
    for number, share in enumerate(SHARES, 1):
        rows = max(1, round(options.rows * share))
        web.write(f"pool/{number}.parquet", rows, COPIES)
        appended = run(spec, folder / "store")
        title = f"{options.rows:,} rows, then {rows:,} more ({share:.0%})"
        print_table(title, appended, first, "first run")
    fresh = run(spec, folder / "fresh")
    print_table("The last of these runs beside a fresh store", appended, fresh, "fresh store")
    print_different_tables(appended, fresh)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="files and stores are written and kept here")
    parser.add_argument("--rows", type=int, default=4_000, help="rows of the first file")
    parser.add_argument("--levels", type=int, nargs="+", default=[64, 8])
    parser.add_argument("--nlist", type=int, default=32)
    parser.add_argument("--retrain", choices=("always", "on_drift", "never"), default="always")
    options = parse(parser, {"rows": 60, "levels": [6], "nlist": 4})
    print(conditions())
    with folder_or_temporary(options.folder) as folder:
        measure(folder, options)


if __name__ == "__main__":
    main()
