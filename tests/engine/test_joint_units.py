"""Units that one call computes: each has its own fragment, and only what is missing is computed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.engine.compute import compute
from curation.engine.fragment_progress import FragmentProgress
from curation.engine.parallel import InProcess
from curation.engine.units import WORK, JointCall, Output, StageOutput, Unit
from curation.errors import StoreError
from curation.store.fragment import Fragment
from curation.store.store import Store

calls: list[list[str]] = []
"""The names of the units of each call."""


def squares(number: Mapping[str, int], factor: int) -> StageOutput:
    calls.append(list(number))
    for name, value in number.items():
        yield name, pa.RecordBatch.from_pydict({"value": [factor * value * value]})
    return None


def unit(number: int, size: int, at_most: int, name: str | None = None) -> Unit:
    name = name or f"unit-{number}"
    output = Output("", "work/t", "work/t/data", f"memo-{number}")
    joint_call = JointCall(size, at_most, ("number",))
    return Unit(
        name, squares, {"number": number, "factor": 3}, {WORK: output}, joint_call=joint_call
    )


def values(store: Store, units: list[Unit], workers: InProcess) -> dict[str, int]:
    calls.clear()
    result = compute(store, workers, "test", units)
    assert result.computed == sum(map(len, calls))
    return {
        name: Fragment(store, outputs[WORK]).read().column("value")[0].as_py()
        for name, outputs in result.records.items()
        if outputs[WORK].name == name
    }


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    at_most=st.integers(1, 20),
    finished=st.sets(st.integers(0, 11)),
    slots=st.sampled_from([None, 1, 3]),
)
def test_each_unit_has_its_fragment_and_nothing_is_computed_twice(
    sizes: list[int], at_most: int, finished: set[int], slots: int | None
) -> None:
    workers = InProcess()
    workers.slots = slots
    units = [unit(number, size, at_most) for number, size in enumerate(sizes)]
    expected = {f"unit-{number}": 3 * number * number for number in range(len(sizes))}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        before = [u for number, u in enumerate(units) if number in finished]
        values(store, before, workers)
        assert values(store, units, workers) == expected
    missing = [u.name for number, u in enumerate(units) if number not in finished]
    assert [name for call in calls for name in call] == missing
    for call in calls:
        size = sum(sizes[int(name.partition("-")[2])] for name in call)
        assert size <= at_most or sum(sizes[int(n.partition("-")[2])] > 0 for n in call) == 1
    of_missing = {sizes[int(name.partition("-")[2])] for name in missing}
    if len(of_missing) == 1 and of_missing != {0}:
        assert len(calls) >= min(len(missing), 2 * (slots or 1))


def test_the_same_rows_under_another_name_are_found(tmp_path: Path) -> None:
    store, workers = Store(tmp_path), InProcess()
    values(store, [unit(4, 1, 10), unit(5, 1, 10)], workers)
    renamed = [unit(4, 1, 10, "other"), unit(5, 1, 10), unit(6, 1, 10)]
    assert values(store, renamed, workers) == {"other": 48, "unit-5": 75, "unit-6": 108}
    assert calls == [["unit-6"]]


def test_progress_counts_each_unit(tmp_path: Path) -> None:
    units = [unit(number, 1, 10) for number in range(8)]
    progress = FragmentProgress(units)

    class Watched(InProcess):
        def map(self, *args, **options):  # type: ignore[no-untyped-def]
            results = super().map(*args, **options)
            for result in results:
                progress.add(progress.summarise(result))
            return results

    compute(Store(tmp_path), Watched(), "test", units)
    counts = progress.counts()
    assert (counts.done, counts.total) == (8, 8)


def test_a_call_that_fails_keeps_what_others_finished(tmp_path: Path) -> None:
    def fails_at_five(number: Mapping[str, int], factor: int) -> StageOutput:
        if 5 in number.values():
            raise StoreError("five")
        yield from squares(number, factor)
        return None

    store, workers = Store(tmp_path), InProcess()
    output = [Output("", "work/t", "work/t/data", f"memo-{n}") for n in range(8)]
    units = [
        Unit(
            f"unit-{n}",
            fails_at_five,
            {"number": n, "factor": 3},
            {WORK: output[n]},
            joint_call=JointCall(1, 2, ("number",)),
        )
        for n in range(8)
    ]
    with pytest.raises(StoreError, match="five"):
        compute(store, workers, "test", units)
    repaired = [unit(number, 1, 2) for number in range(8)]
    assert values(store, repaired, workers) == {f"unit-{n}": 3 * n * n for n in range(8)}
    assert calls == [["unit-4", "unit-5"], ["unit-6", "unit-7"]]
