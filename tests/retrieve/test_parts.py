"""Claims are those of a brute force, and the files the same, however the rows are cut into parts."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyspark import cloudpickle

from curation.engine import shared_arrays
from curation.engine.exchange_runner import MemoryTable
from curation.engine.parallel import InProcess, Parallel, ShuffleJob
from curation.engine.spark_workers import SparkWorkers
from curation.engine.table import Table, open_table
from curation.errors import CurationError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.retrieve import stage
from curation.stages.retrieve.claims import CLAIMS, Arms
from curation.stages.retrieve.limits import ClaimedParts
from curation.stages.retrieve.write_claims import write_exchange
from curation.store.store import Store

from ..tables import has_table, run_step
from ..workers import Recording, StopsBefore
from .brute_force import BruteForce
from .random_world import World

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SEEDS = (198, 126)


def step_of(spec: dict[str, Any], **changes: Any) -> Any:
    (step,) = (step for step in plan(parse_recipe(spec)) if step.name == "retrieve")
    return replace(step, params=step.params.model_copy(update=changes))


def run(
    folder: Path, world: World, spec: dict[str, Any], workers: Parallel, **changes: Any
) -> Table:
    store = Store(folder)
    if not has_table(store, "eligible"):
        world.commit(store)
    run_step(step_of(spec, **changes), store, workers)
    return open_table(store, "claims")


def files(claims: Table) -> dict[str, list[str]]:
    return {r.name: [file.sha256 for file in r.files] for r in claims.manifest.fragments}


def check_claims(claims: Table, world: World, spec: dict[str, Any]) -> None:
    params = step_of(spec).params
    expected = BruteForce(world, params)
    rows = [
        row | {"fragment": name}
        for name, fragment in claims.fragments.items()
        for row in fragment.read().to_pylist()
    ]
    assert rows == expected.claims()
    for counts in claims.manifest.stats["composition"]:
        wanted = expected.stats[counts["arm"]]
        assert {name: counts[name] for name in wanted} == wanted
        assert counts["capped"] == wanted["retrieved"] - wanted["final"]


def check(folder: Path, seed: int, parts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare claims that the driver decides with a brute force, and with claims decided in parts."""
    world = World(seed)
    spec = world.spec()
    on_driver = run(folder / "driver", world, spec, InProcess())
    check_claims(on_driver, world, spec)
    rows = sum(map(len, world.fragments.values())) + len(world.matches)
    # Arrays by cluster are stored, as if there were millions.
    monkeypatch.setattr(shared_arrays, "SENT_BYTES", 0)
    for number in parts:
        monkeypatch.setattr(stage, "ROWS_PER_PART", -(-rows // number))
        claims = run(folder / str(number), world, spec, InProcess(), rows_at_once=1)
        assert files(claims) == files(on_driver)
        assert claims.manifest.stats == on_driver.manifest.stats


# Together these worlds have every strategy and every limit; the nightly ones every option.
@pytest.mark.parametrize("seed", SEEDS)
def test_claims_in_parts_are_those_of_the_driver_and_of_a_brute_force(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(tmp_path, seed, (2, 7), monkeypatch)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", (112, 123, 124, 143, *range(200, 220)))
def test_claims_of_many_worlds(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tmp_path, seed, (1, 2, 7), monkeypatch)


def test_a_task_that_sends_claims_to_fragments_does_not_grow_with_these() -> None:
    """There may be a hundred thousand fragments, and thousands of tasks."""
    part = MemoryTable(CLAIMS.empty_table(), {})
    parts = ClaimedParts([part], [part], Arms((), (), ()))
    sizes = []
    for fragments in (1_000, 100_000):
        groups = np.split(np.arange(fragments), 10)
        job = write_exchange(parts, [f"web-{n}" for n in range(fragments)], groups)
        (task,) = job.inputs["rows"].tasks
        sizes.append(len(pickle.dumps(task.arguments)))
    assert sizes[0] == sizes[1]


class LargestTask(InProcess):
    """Workers that keep the size of the largest thing that they are sent."""

    largest = 0

    def exchange(self, job: ShuffleJob) -> list[Any]:
        for sent in (job.receive, *job.items):
            pickled: bytes = cloudpickle.dumps(sent)  # type: ignore[no-untyped-call]
            self.largest = max(self.largest, len(pickled))
        return super().exchange(job)


def test_what_tasks_are_sent_does_not_grow_with_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_arrays, "SENT_BYTES", 4_096)
    sizes = []
    for clusters in (9, 60_000):
        world = World(126)
        world.parents = ((world.parents[0] * clusters)[:clusters],)
        spec = world.spec() | {"balance": {"per_cluster": 6, "level": 1}}
        workers = LargestTask()
        run(tmp_path / str(clusters), world, spec, workers, rows_at_once=1)
        sizes.append(workers.largest)
    # A number for each cluster would take 4 bytes.
    assert sizes[1] < sizes[0] + 30_000


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> tuple[World, dict[str, Any]]:
    """A world that has every kind of exchange, cut into several parts."""
    monkeypatch.setattr(stage, "ROWS_PER_PART", 90)
    monkeypatch.setattr(shared_arrays, "SENT_BYTES", 0)
    world = World(126)
    return world, world.spec() | {"balance": {"per_cluster": 6, "target": 30}}


def test_a_stopped_run_resumes_on_spark_where_it_stopped(
    tmp_path: Path,
    spark: SparkSession,
    limited: tuple[World, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_driver = run(tmp_path / "driver", *limited, InProcess())
    stopped = StopsBefore("target")
    with pytest.raises(CurationError, match="stopped"):
        run(tmp_path / "parts", *limited, stopped, rows_at_once=1)
    on_spark, done = SparkWorkers(lambda: spark.sparkContext), []

    def counted(job: ShuffleJob) -> list[Any]:
        done.append(job.label)
        return SparkWorkers.exchange(on_spark, job)

    monkeypatch.setattr(on_spark, "exchange", counted)
    resumed = run(tmp_path / "parts", *limited, on_spark, rows_at_once=1)
    assert done == ["target", "write claims"]
    assert files(resumed) == files(on_driver)
    assert resumed.manifest.stats == on_driver.manifest.stats
    assert not Store(tmp_path / "parts").storage.files("work/retrieve/data")


@pytest.mark.nightly
def test_a_run_resumes_wherever_it_was_stopped(
    tmp_path: Path, spark: SparkSession, limited: tuple[World, dict[str, Any]]
) -> None:
    whole = Recording()
    expected = files(run(tmp_path / "whole", *limited, whole, rows_at_once=1))
    for number, before in enumerate(whole.exchanged):
        stopped, resumed = StopsBefore(before), Recording()
        with pytest.raises(CurationError, match="stopped"):
            run(tmp_path / str(number), *limited, stopped, rows_at_once=1)
        claims = run(tmp_path / str(number), *limited, resumed, rows_at_once=1)
        assert files(claims) == expected
        assert stopped.exchanged + resumed.exchanged == whole.exchanged
    on_spark = SparkWorkers(lambda: spark.sparkContext)
    assert files(run(tmp_path / "spark", *limited, on_spark, rows_at_once=1)) == expected
