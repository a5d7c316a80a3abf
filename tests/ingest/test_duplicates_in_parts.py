"""Repeated rows that meet in parts give the fragments of one part, also after a stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.errors import CurationError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.stages.ingest import duplicates
from curation.store.manifest import Manifest
from curation.store.store import Store

from ..workers import Recording, StopsWithin
from .helpers import source, write


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
    whole = ingest(tmp_path, "whole", InProcess())
    monkeypatch.setattr(duplicates, "ROWS_PER_PART", rows_per_part)
    recording = Recording()
    parts = ingest(tmp_path, "parts", recording)
    assert recording.exchanged == ["repeated rows", "duplicates"]
    assert (parts.content, parts.counts) == (whole.content, whole.counts)
    assert parts.counts["pool"]["duplicate_url"] > 100
    again = Recording()
    assert ingest(tmp_path, "parts", again).version == parts.version
    assert not again.exchanged


@pytest.mark.parametrize("label", ["repeated rows", "duplicates"])
def test_a_run_that_was_stopped_continues(
    label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lists(tmp_path / "lists", 0)
    whole = ingest(tmp_path, "whole", InProcess())
    monkeypatch.setattr(duplicates, "ROWS_PER_PART", 20)
    with pytest.raises(CurationError, match="stopped"):
        ingest(tmp_path, "parts", StopsWithin(label))
    resumed = Recording()
    assert ingest(tmp_path, "parts", resumed).content == whole.content
    assert resumed.exchanged[0] == label
    assert 0 < resumed.parts[0] < 14
