"""Takes down 1 % of the rows of a store: seconds, and bytes that are written again and removed.

    python -m benchmarks.forget                    # 100,000 rows: about half an hour on two cores
    python -m benchmarks.forget --until screen     # with more tables

A Parquet list holds pictures of 96 pixels, each with its bytes and a URL. `together`: the rows of one
host, which stand one after another in the list, as in lists of crawls. `spread`: every hundredth row,
by its URL. For both, the store of the first run is copied; then come `forget`, the same run again, `gc`
and `--prove`. Everything runs in this process, without Spark. Bytes are those of new data files.
"""

from __future__ import annotations

import io
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.command import folder_or_temporary, parse, parser_of
from benchmarks.machine import conditions
from curation.engine.parallel import InProcess
from curation.flow import plan, run_fingerprint
from curation.recipe import Recipe, parse_recipe
from curation.runner.gc.collect import collect
from curation.runner.gc.forget import Request, forget
from curation.runner.gc.kept_runs import Retention
from curation.runner.step import run_step
from curation.runner.takedown.prove import prove
from curation.runner.takedown.search import parquet_files, table_of
from curation.store.run_log import recorded_run
from curation.store.store import Store

SIDE, PICTURES = 96, 500
SHARE = 100
"""One row of so many is taken down."""


def write_list(path: Path, rows: int) -> None:
    """Write a list of pictures. A few bytes after the end of each make its checksum another one."""
    rng = np.random.default_rng(1)
    bodies = []
    for _ in range(PICTURES):
        out = io.BytesIO()
        small = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(out, "JPEG")
        bodies.append(out.getvalue())
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "url": [url_of(row, rows) for row in range(rows)],
        "caption": [f"a picture with the number {row}" for row in range(rows)],
        "image": [bodies[row % PICTURES] + str(row).encode() for row in range(rows)],
    }
    pq.write_table(pa.table(columns), path, row_group_size=1000)


def host_of_row(row: int, rows: int) -> str:
    """Return the host of a row: neighbours share one."""
    return f"h{row * SHARE // rows}.example"


def url_of(row: int, rows: int) -> str:
    """Return the URL of a row."""
    return f"https://{host_of_row(row, rows)}/{row}.jpg"


def recipe_of(path: Path, rows: int) -> Recipe:
    """Return the recipe, with ten fragments."""
    columns = {"url": "url", "caption": "caption", "image": "image"}
    source = {"name": "web", "role": "pool", "format": "parquet", "path": str(path)}
    ingest = {"rows_per_fragment": rows // 10}
    return parse_recipe(
        {"name": "forget", "sources": [source | {"columns": columns}], "ingest": ingest}
    )


def run(recipe: Recipe, store: Store, until: str) -> tuple[int, int]:
    """Run a recipe; return how many fragments were computed and reused."""
    with recorded_run(store, recipe.name, run_fingerprint(recipe)) as going_on:
        results = [run_step(s, store, InProcess(), going_on) for s in plan(recipe, until=until)]
    return sum(r.computed for r in results), sum(r.reused for r in results)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note the seconds of the body of a `with` statement."""
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started


def take_down(store: Store, recipe: Recipe, request: Request, until: str) -> dict[str, Any]:
    """Take rows down from a store; return the seconds, and the bytes written and removed by table."""
    seconds: dict[str, float] = {}
    before = parquet_files(store)
    with timed(seconds, "forget"):
        done = forget(store, request)
    with timed(seconds, "run"):
        fragments = run(recipe, store, until)
    after = parquet_files(store)
    written: Counter[str] = Counter()
    for path in after.keys() - before.keys():
        written[table_of(path)] += after[path].size
    with timed(seconds, "gc"):
        collected = collect(store, Retention())
    with timed(seconds, "prove"):
        proof = prove(store)
    if not proof.holds or collected.left:
        raise SystemExit(f"something is left: {proof.left} {collected.left}")
    removed = {name: tally.removed_bytes for name, tally in collected.tallies.items()}
    return {
        "seconds": seconds,
        "fragments": fragments,
        "written": written,
        "removed": removed,
        "rows": done.hits.rows.get("images", 0),
    }


def print_result(name: str, measured: dict[str, Any]) -> None:
    """Print what one takedown took, as a row of a table."""
    seconds = " | ".join(
        f"{measured['seconds'][part]:.1f}" for part in ("forget", "run", "gc", "prove")
    )
    computed, reused = measured["fragments"]
    tables = ("work/ingest", "pairs", "images", "scores")
    written = " | ".join(f"{measured['written'].get(table, 0) / 1e6:.1f}" for table in tables)
    removed = sum(measured["removed"].values()) / 1e6
    print(
        f"| {name} | {measured['rows']:,} | {seconds} | {computed} / {computed + reused} | {written} "
        f"| {removed:.1f} |"
    )


def main() -> None:
    """Run the benchmark."""
    parser = parser_of(__doc__)
    parser.add_argument("--until", default="fetch", help="last stage of the runs")
    parser.add_argument("--folder", type=Path, help="folder for the list and the stores")
    arguments = parse(parser)
    rows = 2_000 if arguments.tiny else 100_000
    with folder_or_temporary(arguments.folder) as folder:
        path = folder / "list" / "a.parquet"
        write_list(path, rows)
        recipe = recipe_of(path.parent, rows)
        seconds: dict[str, float] = {}
        with timed(seconds, "first run"):
            run(recipe, Store(folder / "store"), arguments.until)
        sizes = sum(s.size for s in parquet_files(Store(folder / "store")).values())
        print(conditions())
        first = f"{seconds['first run']:.1f} s, {sizes / 1e6:.1f} MB"
        print(f"{rows:,} rows until {arguments.until}: {first}\n")
        columns = "| pairs | images | scores | MB removed |"
        steps = "forget s | run s | gc s | prove s"
        print(f"| rows | images | {steps} | fragments | MB written: staged {columns}")
        print("|---|---|---|---|---|---|---|---|---|---|---|---|")
        requests: dict[str, Callable[[], Request]] = {
            "together": lambda: Request(hosts=[host_of_row(0, rows)], by="x", reason="a benchmark"),
            "spread": lambda: Request(
                urls=[url_of(row, rows) for row in range(0, rows, SHARE)],
                by="x",
                reason="a benchmark",
            ),
        }
        for name, request in requests.items():
            copy = folder / f"store-{name}"
            shutil.copytree(folder / "store", copy)
            measured = take_down(Store(copy), recipe, request(), arguments.until)
            print_result(name, measured)


if __name__ == "__main__":
    main()
