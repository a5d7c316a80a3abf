"""Finished rows of units that run are counted, wherever on this machine they run."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.engine import row_counts
from curation.engine.fragment_progress import FragmentProgress
from curation.engine.row_counts import count_finished, kept_counts, read_count
from curation.engine.units import WORK, Output, Unit, run_unit
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import StepResult
from curation.store.manifest import FileEntry, FragmentRecord
from curation.store.store import Store

from ..tables import hand_made
from ..test_flow import SPEC


class Rows:
    """An argument with rows."""

    def __init__(self, rows: int) -> None:
        self.rows, self.content = rows, rows


def unit(name: str, rows: Any, function: Any) -> Unit:
    output = Output("", "work/test", "work/test/data", f"memo-{name}")
    return Unit(name, function, {"rows": rows}, {WORK: output})


def batch(rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": list(range(rows))})


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are written at once."""
    monkeypatch.setattr(row_counts, "INTERVAL_S", 0.0)


def test_rows_are_counted_while_a_unit_runs(tmp_path: Path) -> None:
    seen = []

    def yields(rows: Rows) -> Iterator[pa.RecordBatch]:
        for _ in range(3):
            yield batch(10)
            seen.append(progress.counts().done)

    def counts(rows: Rows) -> Iterator[pa.RecordBatch]:
        for _ in range(30):
            count_finished(1)
        seen.append(progress.counts().done)
        yield batch(5)
        seen.append(progress.counts().done)

    units = [unit("a/?", Rows(30), yields), unit("b", Rows(30), counts)]
    progress = FragmentProgress(units)
    with kept_counts():
        results = []
        for each in units:
            results.append(run_unit(Store(tmp_path), each))
            assert read_count(each.name) == 0
            progress.add(progress.summarise([[results[-1]]]))
    assert seen == [10, 20, 30, 60, 60]
    counts_at_end = progress.counts()
    assert (counts_at_end.done, counts_at_end.total, counts_at_end.unit) == (60, 60, "rows")


def test_a_row_counts_once_though_several_tables_have_it() -> None:
    outcomes = [{"pool": {"ok": 5}}, {"pool": {"ok": 2, "missing": 2}, "seed": {"ok": 1}}]
    records = {
        name: FragmentRecord(f"tables/{name}", "a", name, (FileEntry("p", 1, "", 5),), counts)
        for name, counts in zip(("embeddings.a", "embeddings.b"), outcomes, strict=True)
    }
    progress = FragmentProgress([unit("a", Rows(5), None)])
    progress.add(progress.summarise([[records]]))
    assert progress.counts().outcomes == {"ok": 5, "missing": 2}
    manifests = [hand_made(name, "", [r], r.counts) for name, r in records.items()]
    step = next(step for step in plan(parse_recipe(SPEC)) if step.name == "embed")
    result = StepResult(step, 1, 0, 0.0, manifests)
    assert (result.rows, result.outcomes) == (5, {"missing": 2, "ok": 5})


def _count_in_child(folder: str, ready: Any, go_on: Any) -> None:
    os.environ[row_counts.VARIABLE] = folder
    row_counts.INTERVAL_S = 0.0
    with row_counts.counting("unit"):
        count_finished(7)
        ready.set()
        go_on.wait(30)


def test_other_processes_are_counted_too() -> None:
    context = multiprocessing.get_context("spawn")
    ready, go_on = context.Event(), context.Event()
    with kept_counts():
        folder = os.environ[row_counts.VARIABLE]
        child = context.Process(target=_count_in_child, args=(folder, ready, go_on))
        child.start()
        assert ready.wait(30)
        assert read_count("unit") == 7
        go_on.set()
        child.join()
        assert read_count("unit") == 0
    assert not Path(folder).exists() and row_counts.VARIABLE not in os.environ


def test_units_are_counted_where_one_does_not_say_its_rows(tmp_path: Path) -> None:
    units = [unit("a", Rows(30), None), unit("b", "no rows", None)]
    counts = FragmentProgress(units).counts()
    assert (counts.done, counts.total, counts.unit) == (0, 2, "fragments")


def test_without_a_folder_nothing_is_counted() -> None:
    with row_counts.counting("unit"):
        count_finished(7)
    assert read_count("unit") == 0
