"""Ranges of sorted keys."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.algorithms.arrays.key_ranges import key_ranges

keys = st.sets(st.text("05af", min_size=6, max_size=6), max_size=60)


def ranges(of: set[str], limit: int) -> list[tuple[bytes, ...]]:
    array = np.array(sorted(of), "S6")
    return [tuple(array[part].tolist()) for part in key_ranges(array, limit)]


@settings(max_examples=60, deadline=None)
@given(first=keys, added=keys, limit=st.integers(1, 9))
def test_added_keys_change_only_the_ranges_that_they_fall_into(
    first: set[str], added: set[str], limit: int
) -> None:
    before, after = ranges(first, limit), ranges(first | added, limit)
    assert [key.decode() for part in after for key in part] == sorted(first | added)
    assert all(len(part) <= limit for part in after)
    for part in set(before) - set(after):
        low, high = part[0].decode(), part[-1].decode()
        around = [p for p in after if p[0].decode() <= high and p[-1].decode() >= low]
        assert any(key.decode() not in first for changed in around for key in changed)
