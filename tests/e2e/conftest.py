"""Whole runs on a small pool, with workers on a real local Spark or in this process."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from curation.activity import Activity
from curation.engine.driver_first import DriverFirst
from curation.engine.parallel import InProcess, Parallel
from curation.engine.spark_workers import SparkWorkers
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import StepResult, run_step
from curation.store.store import Store

from ..fetch.conftest import web  # noqa: F401
from .small import build_small

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Any]:
    """The recipe of a fresh small pool."""
    return build_small(tmp_path / "web")


Run = Callable[[dict[str, Any], Path], dict[str, StepResult]]


@pytest.fixture
def run(spark: SparkSession) -> Run:
    """Run a recipe into a store, with workers on Spark; returns what each stage did."""
    return lambda spec, store: _run_all(spec, store, SparkWorkers(lambda: spark.sparkContext))


@pytest.fixture
def run_here() -> Run:
    """Run a recipe into a store, in this process alone; returns what each stage did."""
    return lambda spec, store: _run_all(spec, store, InProcess())


@pytest.fixture
def run_without_spark() -> Run:
    """Run a recipe as a small run on this machine does, and fail where it starts Spark."""

    def start() -> Any:
        raise AssertionError("Spark was started")

    workers = DriverFirst(SparkWorkers(start), 600.0, Activity(), slots=2)
    return lambda spec, store: _run_all(spec, store, workers)


def _run_all(spec: dict[str, Any], store: Path, parallel: Parallel) -> dict[str, StepResult]:
    steps = plan(parse_recipe(copy.deepcopy(spec)))
    return {s.name: run_step(s, Store(store), parallel) for s in steps}


def dataset_rows(store: Path) -> list[dict[str, Any]]:
    """The rows of the committed dataset, by image_id."""
    table: pa.Table = open_table(Store(store), "dataset").read()
    return sorted(table.to_pylist(), key=lambda row: row["image_id"])
