"""verify in parts on workers writes the same files as verify on the driver, and compares no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.algorithms.arrays.vectors import Ids
from curation.engine.parallel import InProcess, Parallel
from curation.engine.spark_workers import SparkWorkers
from curation.engine.table import Table, open_table
from curation.errors import CurationError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.verify import (
    partitioned,
    partitioned_pairs,
    reduced_tables,
    stage,
    write_verified,
)
from curation.stages.verify.partitioned_pairs import range_of
from curation.store.store import Store

from ..tables import commit, run_step
from ..workers import Recording, StopsWithin
from .test_kept_pairs import (
    PICTURES,
    SPEC,
    Comparisons,
    World,
    compared_pictures,
    comparisons,
    folders,
    image_id,
    pairs_of,
    taken,
    verify,
    worlds,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["comparisons", "folders"]


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts everything into many parts, and units of two pairs."""
    monkeypatch.setattr(partitioned, "ROWS_PER_PART", 3)
    monkeypatch.setattr(partitioned_pairs, "PAIRS_PER_UNIT", 2)
    monkeypatch.setattr(partitioned_pairs, "ROWS_PER_BATCH", 2)


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=st.lists(st.tuples(worlds, st.booleans(), st.booleans()), min_size=2, max_size=4))
def test_any_history_gives_the_files_of_the_driver_and_compares_only_new_pairs(
    history: list[tuple[World, bool, bool]],
    comparisons: Comparisons,
    folders: Any,
    small_limits: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs on the driver and in parts take turns on one store."""
    store, before = folders(), set[tuple[int, ...]]()
    for world, in_parts, described in history:
        monkeypatch.setattr(reduced_tables, "DESCRIBED_IMAGES", 100 if described else 0)
        monkeypatch.setattr(stage, "ROWS_ON_DRIVER", -1 if in_parts else 10_000)
        comparisons.calls = 0
        verified = verify(store, world)
        now = compared_pictures(world)
        assert comparisons.calls <= len(now - before)
        before = now
        monkeypatch.setattr(stage, "ROWS_ON_DRIVER", 10_000)
        fresh = verify(folders(), world)
        assert verified.rows == len(now)
        assert verified.manifest.content == fresh.manifest.content
        assert verified.manifest.version == fresh.manifest.version
        assert verified.manifest.stats == fresh.manifest.stats


def large_world(seed: int) -> dict[str, list[tuple[int, int]]]:
    """Images in some fragments, some in several, with one that is near all others."""
    rng = np.random.default_rng(seed)
    return {
        f"web-{n}": list(
            zip(rng.integers(0, 40, 15).tolist(), rng.integers(0, 5, 15).tolist(), strict=True)
        )
        for n in range(4)
    }


def run(
    folder: Path, world: World, parallel: Parallel, pairs: list[tuple[int, int]] | None = None
) -> Table:
    """Run the stage on a world whose neighbours lie in several fragments, in any order."""
    store = Store(folder)
    rows = {
        name: [
            {"pair_id": f"{name}-{n}", "image_id": image_id(image), "image": PICTURES[shown]}
            | {"role": "pool", "source": "web", "status": "ok"}
            for n, (image, shown) in enumerate(world[name])
        ]
        for name in sorted(world)
    }
    commit(store, "images", rows)
    near = {"method": "near", "role_a": "pool", "role_b": "pool", "similarity": 1.0, "rank": 1}
    ends = [[image_id(i) for i in pair] for pair in pairs or hub_pairs(world)]
    neighbours: list[dict[str, Any]] = [
        near | dict(zip(("image_a", "image_b"), pair[::step], strict=True))
        for step in (1, -1)
        for pair in ends
    ]
    neighbours += [row | {"similarity": 0.1} for row in neighbours[:3]]
    parts = {f"part-{n}": neighbours[n::3] for n in range(3)}
    commit(store, "neighbours", parts, rows_per_file=10)
    steps = {step.name: step for step in plan(parse_recipe(SPEC))}
    run_step(steps["verify"], store, parallel)
    return open_table(store, "verified")


def hub_pairs(world: World) -> list[tuple[int, int]]:
    """Pairs of near numbers, and of one image with all others."""
    images = sorted(taken(world))
    hub = images[len(images) // 2]
    return pairs_of(world) + [(hub, other) for other in images if abs(other - hub) > 3]


def on_driver(folder: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Table:
    with monkeypatch.context() as patch:
        patch.setattr(stage, "ROWS_ON_DRIVER", 10_000)
        return run(folder, world, InProcess())


@pytest.fixture
def in_parts(small_limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "ROWS_ON_DRIVER", 0)


@pytest.mark.parametrize("rows_per_part", [3, 17, 1000])
def test_an_image_near_all_others_is_compared_in_units_of_bounded_size(
    rows_per_part: int,
    tmp_path: Path,
    in_parts: None,
    comparisons: Comparisons,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partitioned, "ROWS_PER_PART", rows_per_part)
    monkeypatch.setattr(write_verified, "ROWS_PER_FRAGMENT", 20)
    monkeypatch.setattr(write_verified, "ROWS_PER_BATCH", 7)
    largest: list[int] = []
    compare_unit = partitioned_pairs.compare_unit

    def noted(pairs: Any, pictures: Any) -> Any:
        largest.append(len(pairs))
        # Each picture comes to a unit once.
        images = pictures.column("image").to_pylist()
        ends = set(pairs.column("left").to_pylist() + pairs.column("right").to_pylist())
        assert sorted(images) == sorted(ends)
        return (yield from compare_unit(pairs, pictures))

    noted.__qualname__ = "compare_unit"
    monkeypatch.setattr(partitioned, "compare_unit", noted)
    world = large_world(1)
    parts = run(tmp_path / "parts", world, InProcess())
    assert max(largest) == partitioned_pairs.PAIRS_PER_UNIT
    driver = on_driver(tmp_path / "driver", world, monkeypatch)
    assert len(driver.fragments) > 3
    assert [(r.name, r.content) for r in parts.manifest.fragments] == [
        (r.name, r.content) for r in driver.manifest.fragments
    ]
    assert parts.manifest.stats == driver.manifest.stats
    assert parts.manifest.stats["unreadable"] > 0
    # Only what the next run may use stays.
    kept = tmp_path / "parts" / "work" / "verify" / "data"
    labels = {file.name.split(".")[0].split("-")[0] for file in kept.iterdir()}
    assert labels == {"web", "measured", "tables measured", "tables described"}


LABELS = [
    "pairs",
    "images of pairs",
    "images by fragment",
    "new pairs",
    "needed pictures",
    "compare",
    "write pairs",
]


@pytest.mark.parametrize("label", LABELS)
def test_a_run_that_was_stopped_continues(
    label: str,
    tmp_path: Path,
    in_parts: None,
    comparisons: Comparisons,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is stopped in the middle of one exchange, and compares no pair twice afterwards."""
    monkeypatch.setattr(partitioned, "ROWS_PER_PART", 30)
    monkeypatch.setattr(partitioned_pairs, "PAIRS_PER_UNIT", 20)

    world = large_world(2)
    with pytest.raises(CurationError, match="stopped"):
        run(tmp_path / "parts", world, StopsWithin(label))
    recording = Recording()
    resumed = run(tmp_path / "parts", world, recording)
    assert recording.exchanged == LABELS[LABELS.index(label) :]
    assert comparisons.calls == resumed.rows
    driver = on_driver(tmp_path / "driver", world, monkeypatch)
    assert resumed.manifest.content == driver.manifest.content


def test_ranges_are_in_the_order_of_ids() -> None:
    rng = np.random.default_rng(0)
    ids: Ids = np.sort(np.array([rng.bytes(16).hex() for _ in range(5000)], "S32"))
    for ranges in (1, 2, 7, 1000):
        numbers = range_of(ids, ranges)
        assert (np.diff(numbers.astype(np.int64)) >= 0).all()
        assert numbers.max() < ranges
        assert np.bincount(numbers.astype(np.int64), minlength=ranges).min() >= (ranges < 100)
    ends: Mapping[str, int] = {"0" * 32: 0, "f" * 32: 6}
    assert range_of(np.array(list(ends), "S32"), 7).tolist() == list(ends.values())


@pytest.mark.nightly
@pytest.mark.parametrize("rows_per_part", [1000, 100, 29])
def test_on_spark_with_real_comparisons(
    rows_per_part: int, tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark's workers have the limits of the source, so only the driver's are small."""
    monkeypatch.setattr(stage, "ROWS_ON_DRIVER", 0)
    monkeypatch.setattr(partitioned, "ROWS_PER_PART", rows_per_part)
    world = large_world(3)
    parts = run(tmp_path / "parts", world, SparkWorkers(lambda: spark.sparkContext))
    driver = on_driver(tmp_path / "driver", world, monkeypatch)
    assert parts.rows > 40
    assert parts.manifest.content == driver.manifest.content
