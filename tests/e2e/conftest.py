"""Whole runs on a small pool, with workers on a real local Spark."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

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


Run = Callable[..., dict[str, StepResult]]


@pytest.fixture
def run(spark: SparkSession) -> Run:
    """Run a recipe into a store; returns what each stage did."""

    def run_all(spec: dict[str, Any], store: Path) -> dict[str, StepResult]:
        steps = plan(parse_recipe(copy.deepcopy(spec)))
        return {s.name: run_step(s, Store(store), SparkWorkers(lambda: spark)) for s in steps}

    return run_all


def dataset_rows(store: Path) -> list[dict[str, Any]]:
    """The rows of the committed dataset, by image_id."""
    table: pa.Table = open_table(Store(store), "dataset").read()
    return sorted(table.to_pylist(), key=lambda row: row["image_id"])
