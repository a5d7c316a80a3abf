"""Runs and positions against what plain Python finds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.engine.sorted_arrays import (
    positions_in,
    positions_of_ranges,
    ranks_in_runs,
    run_starts,
    runs,
)

numbers = st.lists(st.integers(0, 4), max_size=30)


@given(numbers, st.data())
def test_run_starts_mark_rows_that_differ_from_the_row_before(
    left: list[int], data: st.DataObject
) -> None:
    right = data.draw(st.lists(st.integers(0, 2), min_size=len(left), max_size=len(left)))
    rows = list(zip(left, right, strict=True))
    wanted = [n == 0 or rows[n] != rows[n - 1] for n in range(len(rows))]
    assert run_starts(np.array(left, int), np.array(right, int)).tolist() == wanted
    names = np.array([str(n) for n in left], dtype="S8")
    assert run_starts(names).tolist() == [
        n == 0 or left[n] != left[n - 1] for n in range(len(left))
    ]


@given(numbers)
def test_ranks_count_within_runs(values: list[int]) -> None:
    wanted: list[int] = []
    for n, value in enumerate(values):
        wanted.append(wanted[-1] + 1 if n and value == values[n - 1] else 0)
    assert ranks_in_runs(np.array(values, int)).tolist() == wanted


@given(numbers)
def test_runs_cover_all_values_and_differ_from_their_neighbours(values: list[int]) -> None:
    pieces = list(runs(np.array(values, int)))
    assert [value for value, start, stop in pieces for _ in range(start, stop)] == values
    assert [start for _, start, _ in pieces] == [0, *(stop for *_, stop in pieces)][: len(pieces)]
    assert all(left[0] != right[0] for left, right in pairwise(pieces))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=12))
def test_positions_of_ranges(ranges: list[tuple[int, int]]) -> None:
    starts, counts = np.array(ranges, int).reshape(-1, 2).T
    expected = [
        (n, p) for n, (start, count) in enumerate(ranges) for p in range(start, start + count)
    ]
    assert [
        *zip(*(a.tolist() for a in positions_of_ranges(starts, counts)), strict=True)
    ] == expected


def test_rows_of_several_numbers_are_compared_whole() -> None:
    rows = np.array([[1, 2], [1, 2], [1, 3], [0, 3]])
    assert run_starts(rows).tolist() == [True, False, True, True]


@given(numbers, numbers)
def test_positions_in(values: list[int], among: list[int]) -> None:
    among.sort()
    positions, known = positions_in(np.array(values, int), np.array(among, int))
    assert known.tolist() == [value in among for value in values]
    for value, position, is_there in zip(values, positions, known, strict=True):
        if is_there:
            assert position == among.index(value)
        else:
            assert 0 <= position < max(len(among), 1)


def test_nothing_is_found_in_nothing() -> None:
    positions, known = positions_in(np.array([b"a"]), np.empty(0, "S1"))
    assert positions.tolist() == [0] and known.tolist() == [False]
