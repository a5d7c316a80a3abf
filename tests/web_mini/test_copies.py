"""Copies and look-alikes of a small real web, by the default recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks.copies import Truth, measured, spec_of
from curation.engine.spark_workers import SparkWorkers
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.store.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def facts(
    shared: Path, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What dedup does with the planted copies and the natural pairs, and nothing else of the pool."""
    folder = tmp_path_factory.mktemp("copies")
    truth = Truth(shared)
    spec = spec_of(shared, folder, {})
    planted, pairs = truth.planted, truth.alike
    wanted = {*planted["dup_id"], *planted["orig_id"], *pairs["id_a"], *pairs["id_b"]}
    path = folder / "pool.parquet"
    pool = pq.read_table(path)
    pq.write_table(pool.filter(pc.is_in(pool.column("id"), pa.array(sorted(wanted)))), path)
    store = Store(folder / "store")
    for step in plan(parse_recipe(spec), until="dedup"):
        run_step(step, store, SparkWorkers(lambda: spark.sparkContext))
    return measured(store, truth)


@pytest.mark.nightly
def test_planted_copies_are_found(facts: dict[str, Any]) -> None:
    recall = facts["recall"]
    assert recall["exact"] == 1
    assert recall["easy"] >= 0.98, facts["by_edit"]
    assert recall["medium"] >= 0.9, facts["by_edit"]
    assert recall["hard"] >= 0.6, facts["by_edit"]


@pytest.mark.nightly
def test_look_alikes_stay_apart(facts: dict[str, Any]) -> None:
    """Three of the pairs are crops of one photograph of a texture, whatever their verdict says."""
    merged = facts["alike"]
    assert (merged["source_a"] == "dtd").sum() <= 3, merged
    assert (merged["source_a"] != "dtd").sum() <= 1, merged
    assert len(facts["others"]) <= 5, facts["others"]
