"""dedup in parts on workers writes the same files and counts as dedup on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from curation.algorithms.components import distributed_components
from curation.engine.parallel import InProcess, Parallel, ShuffleJob
from curation.engine.spark_workers import SparkWorkers
from curation.engine.table import open_table
from curation.errors import CurationError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.dedup import partitioned_inputs
from curation.store.manifest import Manifest
from curation.store.store import Store

from ..tables import commit, commit_batches, has_table, run_step
from ..workers import StopsBefore
from .test_stage import SPEC, compared, image

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROLES = {"web": "pool", "cats": "seed", "test": "held_out"}
SIZES = {"web-0": 400, "web-1": 0, "web-2": 350, "web-3": 7, "cats-0": 60, "test-0": 40}


class World:
    """Random rows and neighbours: images with several rows and roles, equal pixels, chains."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.rows = {name: [self._row(name, n) for n in range(s)] for name, s in SIZES.items()}
        by_role = {
            role: sorted(
                {
                    r["image_id"]
                    for n, rows in self.rows.items()
                    for r in rows
                    if ROLES[n.split("-")[0]] == role and r["image_id"]
                }
            )
            for role in ROLES.values()
        }
        self.neighbours = [
            self._neighbour(method, left, right, by_role)
            for method, count in (("near", 500), ("perceptual", 60), ("semantic", 80))
            for left, right in (("pool", "pool"),) * 6
            + (("held_out", "pool"), ("held_out", "seed"), ("seed", "pool"))
            for _ in range(count // 9)
        ]
        pairs = sorted(
            {
                tuple(sorted((n["image_a"], n["image_b"])))
                for n in self.neighbours
                if n["method"] != "semantic" and n["image_a"] != n["image_b"]
            }
        )
        self.verified = [
            (a, b, *compared("a", "b", agreement=float(self.rng.choice([0.5, 1.0])))[2:])
            for a, b in pairs
        ]

    def _row(self, name: str, number: int) -> dict[str, Any]:
        source = name.split("-", maxsplit=1)[0]
        ok = self.rng.random() > 0.1
        # Some of the 500 images have several rows, and several roles.
        image_number = int(self.rng.integers(500))
        return {
            "pair_id": f"{name}-{number:05d}",
            "image_id": f"{image_number * 7919:032x}" if ok else None,
            "status": "ok" if ok else "failed",
            "role": ROLES[source],
            "source": source,
            "caption": self.rng.choice(np.array(["short", "a longer caption", "été", None])),
            "url": f"http://a.example/{number}",
            "original_width": 100 + image_number % 3,
            "original_height": 100,
            "bytes": image_number,
        }

    def _neighbour(
        self, method: str, left: str, right: str, by_role: dict[str, list[str]]
    ) -> dict[str, Any]:
        a, b = self.rng.choice(by_role[left]), self.rng.choice(by_role[right])
        bits = 1 - int(self.rng.integers(40)) / 256
        similarity = bits if method == "perceptual" else float(np.float32(self.rng.uniform(0.8, 1)))
        return {
            "method": method,
            "role_a": left,
            "image_a": str(a),
            "role_b": right,
            "image_b": str(b),
            "similarity": similarity,
            "rank": 1,
        }

    def commit(self, store: Store) -> None:
        commit(store, "images", self.rows)
        scores = {
            name: pa.RecordBatch.from_pydict(
                {
                    "pair_id": [r["pair_id"] for r in rows],
                    "phash": pa.nulls(len(rows), pa.binary()),
                    # A third of the images have the same pixels as another one.
                    "pixel_id": pa.array(
                        [
                            image("p")
                            if not r["image_id"]
                            else f"{int(r['image_id'], 16) // 7919 * 2 // 3:032x}"
                            for r in rows
                        ],
                        pa.string(),
                    ),
                }
            )
            for name, rows in self.rows.items()
        }
        commit_batches(store, "scores", scores)
        commit(store, "neighbours", {"all": self.neighbours}, rows_per_file=100)
        names = (
            "image_a",
            "image_b",
            "agreement",
            "worst",
            "steady",
            "inside",
            "hue",
            "flat",
            "blocks",
            "mirrored",
        )
        commit(
            store, "verified", {"all": [dict(zip(names, r, strict=True)) for r in self.verified]}
        )


def run(
    world: World, folder: Path, parallel: Parallel, rows_at_once: int = 1, **dedup: Any
) -> Manifest:
    store = Store(folder)
    if not has_table(store, "images"):
        world.commit(store)
    spec = SPEC | {"dedup": dedup | {"rows_at_once": rows_at_once}}
    run_step({s.name: s for s in plan(parse_recipe(spec))}["dedup"], store, parallel)
    return open_table(store, "copies").manifest


VARIANTS = [
    {},
    {"verify": None, "near": {"at_least": 0.99}, "chains": "cut", "representative": ["bytes"]},
    {"semantic": {"epsilon": 0.02}, "held_out": {"sets": {"test": {"whole_component": False}}}},
    {"pixels": False, "exact": False, "perceptual": None, "held_out": None},
    # Held-out images may have a threshold above or below that of copies.
    {"near": {"at_least": 0.82}, "held_out": {"at_least": 0.97}},
    {"near": {"at_least": 0.97}, "held_out": {"sets": {"test": {"at_least": 0.82}}}},
    {"verify": None, "near": {"at_least": 0.9}, "held_out": {"at_least": 0.97}, "chains": "cut"},
]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes parts small: few rows, and few edges."""
    monkeypatch.setattr(distributed_components, "EDGES_ON_ONE_WORKER", 0)
    monkeypatch.setattr(partitioned_inputs, "ROWS_PER_PART", 100)
    monkeypatch.setattr(distributed_components, "EDGE_ENDS_PER_PART", 300)


@pytest.mark.parametrize("dedup", VARIANTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_one_machine(
    tmp_path: Path, small_parts: None, dedup: dict[str, Any], seed: int
) -> None:
    world = World(seed)
    on_driver = run(world, tmp_path / "driver", InProcess(), 10_000, **dedup)
    parts = run(world, tmp_path / "parts", InProcess(), **dedup)
    assert [(r.name, r.content) for r in parts.fragments] == [
        (r.name, r.content) for r in on_driver.fragments
    ]
    assert parts.stats == on_driver.stats
    assert list(parts.stats["sizes"]) == list(on_driver.stats["sizes"])
    assert parts.rows == sum(r["status"] == "ok" for rows in world.rows.values() for r in rows)
    assert not Store(tmp_path / "parts").storage.files("work/dedup/data")
    # The random rows have copies.
    assert on_driver.stats["copies"]
    assert on_driver.stats["largest_components"]


def test_on_spark_and_after_a_stop(
    tmp_path: Path, small_parts: None, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that stops in the last exchange resumes there, on Spark or in process."""
    world = World(2)
    on_driver = run(world, tmp_path / "driver", InProcess(), 10_000)
    store = tmp_path / "parts"

    with pytest.raises(CurationError, match="stopped"):
        run(world, store, StopsBefore("write copies"))
    on_spark = SparkWorkers(lambda: spark.sparkContext)
    exchanges = []

    def counted(job: ShuffleJob) -> list[Any]:
        exchanges.append(job.label)
        return SparkWorkers.exchange(on_spark, job)

    monkeypatch.setattr(on_spark, "exchange", counted)
    resumed = run(world, store, on_spark)
    assert exchanges == ["write copies"]
    assert (resumed.content, resumed.stats) == (on_driver.content, on_driver.stats)
    on_spark_only = run(world, tmp_path / "spark", SparkWorkers(lambda: spark.sparkContext))
    assert (on_spark_only.content, on_spark_only.stats) == (on_driver.content, on_driver.stats)
