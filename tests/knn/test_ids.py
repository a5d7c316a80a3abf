"""Image ids between numpy and Arrow."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids


def names(count: int) -> np.ndarray:
    return np.char.mod("%032x", np.arange(count)).astype("S32")


def test_a_million_ids_are_one_array() -> None:
    ids = names(1_100_000)
    array = from_ids(ids)
    assert isinstance(array, pa.StringArray)
    array.validate(full=True)
    assert array[-1].as_py() == ids[-1].decode()
    np.testing.assert_array_equal(to_ids(pa.chunked_array([array])), ids)


def test_unknown_ids_are_null() -> None:
    ids, known = names(5), np.array([True, False, True, True, False])
    expected = [i.decode() if k else None for i, k in zip(ids, known, strict=True)]
    assert from_ids(ids, known).to_pylist() == expected
    assert from_ids(ids[::2], known[::2]).to_pylist() == expected[::2]
    assert from_ids(ids[:0]).to_pylist() == []
    ids[0] = b"short"
    assert from_ids(ids, known).to_pylist()[0] == "short"
    ids[0], known[0] = b"", False
    assert from_ids(ids, known).to_pylist() == [None, *expected[1:]]
