"""Whole runs into a store on disk and on a real S3 server: requests and seconds.

    python -m benchmarks.store                     # examples/small_run.py, in 4 and in 24 fragments

Each size runs twice into each store: the second run has nothing to do. It takes one to four minutes,
and `--tiny` changes nothing. Everything runs in this process, without Spark, and the models are loaded
before the first run. The server is SeaweedFS on loopback, behind a proxy that counts requests and costs
about a millisecond for each. Real networks cost more: multiply the requests by your round trip.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from benchmarks.command import folder_or_temporary, parse, parser_of
from benchmarks.machine import conditions
from benchmarks.object_store.proxy import Proxy, proxying
from benchmarks.object_store.server import UnavailableError, address, credentials, serving
from benchmarks.object_store.shapes import write_shapes
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan, run_fingerprint
from curation.recipe import Recipe, parse_recipe
from curation.runner.step import run_step
from curation.store.run_log import recorded_run
from curation.store.store import Store

FRAGMENT_ROWS = (14, 2)
"""Rows of a fragment of `shapes`: they give 4 and 24 fragments."""
METHODS = ("GET", "HEAD", "LIST", "PUT", "POST", "DELETE")


class Measured(NamedTuple):
    """What a run took.

    Attributes:
        seconds: wall time.
        requests: by method; none on disk.
        computed: number of fragments that were computed.
    """

    seconds: float
    requests: Counter[str]
    computed: int


def run(recipe: Recipe, store: Store) -> int:
    """Run a recipe; return how many fragments were computed."""
    with recorded_run(store, recipe.name, run_fingerprint(recipe)) as going_on:
        return sum(run_step(s, store, InProcess(), going_on).computed for s in plan(recipe))


def measure(recipe: Recipe, store: Store, proxy: Proxy) -> Measured:
    """Run a recipe and measure it."""
    proxy.reset()
    start = time.perf_counter()
    computed = run(recipe, store)
    return Measured(time.perf_counter() - start, proxy.counts(), computed)


def compare(name: str, recipe: Recipe, folder: Path, proxy: Proxy) -> dict[str, Measured]:
    """Run a recipe into both stores, and print what it took; return what was measured on S3."""
    run(recipe, Store(folder / f"{name}-models"))
    stores = {
        "disk": Store(folder / f"{name}-disk"),
        "S3": Store(address(proxy.port, f"{name}-store")),
    }
    on_s3 = {}
    for place, store in stores.items():
        for which in ("first", "rerun"):
            measured = measure(recipe, store, proxy)
            by_method = "".join(f"{measured.requests[method]:>7}" for method in METHODS)
            total = sum(measured.requests.values())
            print(f"{name:<14}{place:<6}{which:<7}{measured.seconds:>8.1f}{total:>9}{by_method}")
            if which == "rerun" and measured.computed:
                raise SystemExit(f"{name} on {place}: the second run computed fragments again")
            if place == "S3":
                on_s3[which] = measured
    sizes = [open_table(store, "dataset").rows for store in stores.values()]
    fragments = len(open_table(stores["S3"], "pairs").fragments)
    print(
        f"{name:<14}{fragments} fragments, {sizes[0]} rows of the dataset on disk, {sizes[1]} on S3"
    )
    return on_s3


def compare_sizes(folder: Path, proxy: Proxy) -> None:
    """Compare the stores on both numbers of fragments."""
    sizes = {}
    for rows in FRAGMENT_ROWS:
        sizes[rows] = compare(
            f"shapes-{rows}", parse_recipe(write_shapes(folder / "sources", rows)), folder, proxy
        )
    few, many = (sizes[rows] for rows in FRAGMENT_ROWS)
    for which in ("first", "rerun"):
        more = sum(many[which].requests.values()) - sum(few[which].requests.values())
        print(f"{which:<7} {more / 20:+.2f} requests for each further fragment")


def main() -> None:
    """Start the server, and compare."""
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="where stores are kept; by default temporary")
    options = parse(parser)
    print(conditions())
    header = "".join(f"{method:>7}" for method in METHODS)
    print(f"{'flow':<14}{'store':<6}{'run':<7}{'seconds':>8}{'requests':>9}{header}")
    try:
        with (
            folder_or_temporary(options.folder) as folder,
            serving() as port,
            credentials(),
            proxying(port) as proxy,
        ):
            compare_sizes(folder.resolve(), proxy)
    except UnavailableError as error:
        print(f"skipped: {error}")


if __name__ == "__main__":
    main()
