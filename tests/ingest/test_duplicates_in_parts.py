"""Repeated rows that meet in parts give the fragments of one part, also after a stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.engine.parallel import InProcess, ShuffleJob
from curation.engine.table import open_table
from curation.errors import CurationError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.stages.ingest import duplicates
from curation.store.manifest import Manifest
from curation.store.store import Store

from .helpers import source, write


class Noting(InProcess):
    """Notes each exchange, and may replace what its parts do."""

    def __init__(self, replaced: Callable[[ShuffleJob], ShuffleJob] = lambda job: job) -> None:
        self.labels: list[str] = []
        self._replaced = replaced

    def exchange(self, job: ShuffleJob) -> list[Any]:
        self.labels.append(job.label)
        return super().exchange(self._replaced(job))


def write_lists(folder: Path, seed: int) -> None:
    """Write three lists with many repeated URLs, within and across them."""
    rng = np.random.default_rng(seed)
    for name in "abc":
        urls = [f"http://h{n % 7}.example/{n}" for n in rng.integers(0, 90, 70).tolist()]
        write(folder / f"{name}.parquet", [{"url": url, "caption": name} for url in urls])


def ingest(folder: Path, store: str, parallel: InProcess) -> Manifest:
    (step,) = plan(
        parse_recipe(
            {
                "name": "test",
                "sources": [
                    source(folder / "lists"),
                    source(folder / "lists" / "a.parquet", name="more"),
                ],
                "ingest": {"rows_per_fragment": 20},
            }
        ),
        until="ingest",
    )
    run_step(step, Store(folder / store), parallel)
    return open_table(Store(folder / store), "pairs").manifest


@pytest.mark.parametrize("rows_per_part", [140, 40, 9])
def test_rows_do_not_depend_on_the_number_of_parts(
    rows_per_part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lists(tmp_path / "lists", rows_per_part)
    whole = ingest(tmp_path, "whole", Noting())
    monkeypatch.setattr(duplicates, "ROWS_PER_PART", rows_per_part)
    noting = Noting()
    parts = ingest(tmp_path, "parts", noting)
    assert noting.labels == ["repeated rows", "duplicates"]
    assert (parts.content, parts.counts) == (whole.content, whole.counts)
    assert parts.counts["pool"]["duplicate_url"] > 100
    again = Noting()
    assert ingest(tmp_path, "parts", again).version == parts.version
    assert not again.labels


@pytest.mark.parametrize("label", ["repeated rows", "duplicates"])
def test_a_run_that_was_stopped_continues(
    label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lists(tmp_path / "lists", 0)
    whole = ingest(tmp_path, "whole", Noting())
    monkeypatch.setattr(duplicates, "ROWS_PER_PART", 20)
    received: list[int] = []

    def stopping(job: ShuffleJob) -> ShuffleJob:
        def receive(part: int, messages: list[Any]) -> Any:
            if job.label == label and part >= job.parts[len(job.parts) // 2]:
                raise CurationError("stopped")
            return job.receive(part, messages)

        return job._replace(receive=receive)

    def counting(job: ShuffleJob) -> ShuffleJob:
        received.append(len(job.parts))
        return job

    with pytest.raises(CurationError, match="stopped"):
        ingest(tmp_path, "parts", Noting(stopping))
    resumed = Noting(counting)
    assert ingest(tmp_path, "parts", resumed).content == whole.content
    assert resumed.labels[0] == label
    assert 0 < received[0] < 14
