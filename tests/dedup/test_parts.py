"""dedup in parts on workers gives the files and the counts of dedup on one machine."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curation.engine.parallel import InProcess
from curation.engine.spark_workers import SparkWorkers
from curation.engine.store import Store
from curation.engine.table import open_table
from curation.errors import CurationError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner import run_step

from ..counting import Counting
from ..tables import commit, commit_batches
from .test_stage import SPEC, image, looked

ROLES = {"web": "pool", "cats": "seed", "test": "held_out"}
SIZES = {"web-0": 400, "web-1": 0, "web-2": 350, "web-3": 7, "cats-0": 60, "test-0": 40}


class World:
    """Tables of random rows and ties: pictures under several rows and roles, equal pixels, chains."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.rows = {name: [self._row(name, n) for n in range(s)] for name, s in SIZES.items()}
        by_role = {
            role: sorted(
                {
                    r["image_id"]
                    for n, own in self.rows.items()
                    for r in own
                    if ROLES[n.split("-")[0]] == role and r["image_id"]
                }
            )
            for role in ROLES.values()
        }
        self.ties = [
            self._tie(method, left, right, by_role)
            for method, count in (("near", 500), ("perceptual", 60), ("semantic", 80))
            for left, right in (("pool", "pool"),) * 6
            + (("held_out", "pool"), ("held_out", "seed"), ("seed", "pool"))
            for _ in range(count // 9)
        ]
        pairs = sorted(
            {
                tuple(sorted((t["image_a"], t["image_b"])))
                for t in self.ties
                if t["method"] != "semantic" and t["image_a"] != t["image_b"]
            }
        )
        self.verified = [
            (a, b, *looked("a", "b", agreement=float(self.rng.choice([0.5, 1.0])))[2:])
            for a, b in pairs
        ]

    def _row(self, name: str, number: int) -> dict:
        source = name.split("-", maxsplit=1)[0]
        ok = self.rng.random() > 0.1
        # Of 500 pictures some stand under several rows, and in several roles.
        number_of = int(self.rng.integers(500))
        return {
            "pair_id": f"{name}-{number:05d}",
            "image_id": f"{number_of * 7919:032x}" if ok else None,
            "status": "ok" if ok else "failed",
            "role": ROLES[source],
            "source": source,
            "caption": self.rng.choice(["short", "a longer caption", "été", None]),
            "url": f"http://a.example/{number}",
            "original_width": 100 + number_of % 3,
            "original_height": 100,
            "bytes": number_of,
        }

    def _tie(self, method: str, left: str, right: str, by_role) -> dict:
        a, b = self.rng.choice(by_role[left]), self.rng.choice(by_role[right])
        bits = 1 - int(self.rng.integers(40)) / 256
        strength = bits if method == "perceptual" else float(np.float32(self.rng.uniform(0.8, 1)))
        return {
            "method": method,
            "role_a": left,
            "image_a": str(a),
            "role_b": right,
            "image_b": str(b),
            "similarity": strength,
            "rank": 1,
        }

    def commit(self, store: Store) -> None:
        commit(store, "images", self.rows)
        scores = {
            name: pa.RecordBatch.from_pydict(
                {
                    "pair_id": [r["pair_id"] for r in own],
                    "phash": pa.nulls(len(own), pa.binary()),
                    # A third of the pictures have the pixels of another.
                    "pixel_id": pa.array(
                        [
                            image("p")
                            if not r["image_id"]
                            else f"{int(r['image_id'], 16) // 7919 * 2 // 3:032x}"
                            for r in own
                        ],
                        pa.string(),
                    ),
                }
            )
            for name, own in self.rows.items()
        }
        commit_batches(store, "scores", scores)
        commit(store, "neighbours", {"all": self.ties}, rows_per_file=100)
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


def run(world, folder, parallel, rows_at_once=1, **dedup):
    store = Store(folder)
    if store.manifest("images") is None:
        world.commit(store)
    spec = SPEC | {"dedup": dedup | {"rows_at_once": rows_at_once}}
    run_step({s.name: s for s in plan(parse_recipe(spec))}["dedup"], store, parallel)
    return open_table(store, "copies").manifest


VARIANTS = [
    {},
    {"verify": None, "near": {"at_least": 0.99}, "chains": "cut", "representative": ["bytes"]},
    {"semantic": {"epsilon": 0.02}, "held_out": {"sets": {"test": {"whole_component": False}}}},
    {"pixels": False, "exact": False, "perceptual": None, "held_out": None},
]


@pytest.fixture
def small(monkeypatch):
    """Makes parts of few rows, and of few edges."""
    monkeypatch.setattr("curation.algorithms.components.distributed.AT_ONCE", 0)
    monkeypatch.setattr("curation.stages.dedup.partitioned.ROWS_A_PART", 100)
    monkeypatch.setattr("curation.algorithms.components.distributed.ENDS_A_PART", 300)


@pytest.mark.parametrize("dedup", VARIANTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_one_machine(tmp_path, small, dedup, seed):
    world = World(seed)
    whole = run(world, tmp_path / "whole", InProcess(), 10_000, **dedup)
    parts = run(world, tmp_path / "parts", InProcess(), **dedup)
    assert [(r.name, r.content) for r in parts.fragments] == [
        (r.name, r.content) for r in whole.fragments
    ]
    assert parts.stats == whole.stats
    assert list(parts.stats["sizes"]) == list(whole.stats["sizes"])
    assert parts.rows == sum(r["status"] == "ok" for own in world.rows.values() for r in own)
    assert not Store(tmp_path / "parts").sizes("work/dedup/data")
    # There was something to decide.
    assert whole.stats["copies"]
    assert whole.stats["largest_components"]


def test_on_spark_and_after_a_stop(tmp_path, small, spark, monkeypatch):
    """A run that is stopped in the last shuffle goes on there, with Spark's workers or without."""
    world = World(2)
    whole = run(world, tmp_path / "whole", InProcess(), 10_000)
    store = tmp_path / "parts"

    class Stopped(Counting):
        def exchange(self, job):
            if job.label == "write copies":
                raise CurationError("stopped")
            return super().exchange(job)

    with pytest.raises(CurationError, match="stopped"):
        run(world, store, Stopped())
    on_spark = SparkWorkers(lambda: spark)
    asked = []

    def counted(job):
        asked.append(job.label)
        return SparkWorkers.exchange(on_spark, job)

    monkeypatch.setattr(on_spark, "exchange", counted)
    found = run(world, store, on_spark)
    assert asked == ["write copies"]
    assert (found.content, found.stats) == (whole.content, whole.stats)
    everything = run(world, tmp_path / "spark", SparkWorkers(lambda: spark))
    assert (everything.content, everything.stats) == (whole.content, whole.stats)
