"""Exact search against brute force in float64, and against itself with the base cut into shards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.algorithms.knn.exact import Candidates, build_base, merge, search


def unit(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, dim))
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / length, np.float16)


def names(rng: np.random.Generator, rows: int) -> np.ndarray:
    return np.array([rng.bytes(16).hex() for _ in range(rows)], dtype="S32")


def brute_force(
    queries: np.ndarray, vectors: np.ndarray, ids: np.ndarray, k: int
) -> list[tuple[int, bytes, np.float32]]:
    """(query, id, similarity) of the k best by float64 cosine, then by id; an image counts once."""
    rows = []
    similarity = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    for query in range(len(queries)):
        best_of_image: dict[bytes, np.float32] = {}
        for name, value in zip(ids, similarity[query], strict=True):
            best_of_image[name] = max(value, best_of_image.get(name, np.float32(-2)))
        best = sorted(best_of_image.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
        rows += [(query, name, value) for name, value in best]
    return rows


def as_rows(candidates: Candidates) -> list[tuple[Any, ...]]:
    return list(
        zip(candidates.query.tolist(), candidates.ids.tolist(), candidates.similarity, strict=True)
    )


def assert_same(candidates: Candidates, expected: list[tuple[int, bytes, np.float32]]) -> None:
    assert [r[:2] for r in as_rows(candidates)] == [(q, bytes(i)) for q, i, _ in expected]
    np.testing.assert_array_equal(
        candidates.similarity, np.array([r[2] for r in expected], np.float32)
    )


@pytest.mark.parametrize("k", [1, 5, 64, 1000])
def test_equals_brute_force(k: int) -> None:
    rng = np.random.default_rng(0)
    base, queries = unit(rng, 400, 32), unit(rng, 50, 32)
    ids = names(rng, 400)
    assert_same(search(queries, build_base(base, ids), k), brute_force(queries, base, ids, k))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), shards=st.integers(1, 7), k=st.integers(1, 12))
def test_shards_change_nothing(seed: int, shards: int, k: int) -> None:
    """With repeated vectors, repeated images and equal similarities."""
    rng = np.random.default_rng(seed)
    distinct, name = unit(rng, 60, 8), names(rng, 150)
    # Many images share one vector, and some rows repeat an image.
    vector_of = rng.integers(0, 60, 150)
    rows = rng.integers(0, 150, 220)
    vectors, ids = distinct[vector_of[rows]], name[rows]
    queries = np.concatenate([distinct[:5], unit(rng, 5, 8)])
    at_once = search(queries, build_base(vectors, ids), k)
    parts = [
        search(queries, build_base(vectors[part], ids[part]), k)
        for part in np.array_split(np.arange(220), shards)
        if len(part)
    ]
    merged = merge(parts, k)
    assert as_rows(merged) == as_rows(at_once)
    assert_same(at_once, brute_force(queries, vectors, ids, k))


def test_many_equal_vectors_do_not_push_each_other_out() -> None:
    """A thousand images have the same largest similarity: those with the smallest ids win."""
    rng = np.random.default_rng(1)
    same = np.repeat(unit(rng, 1, 16), 1000, axis=0)
    ids = names(rng, 1000)
    candidates = search(same[:1], build_base(same, ids), 4)
    assert candidates.ids.tolist() == sorted(ids.tolist())[:4]
    assert candidates.rank().tolist() == [1, 2, 3, 4]


def test_at_least_and_empty() -> None:
    rng = np.random.default_rng(2)
    base, ids = unit(rng, 100, 16), names(rng, 100)
    candidates = search(base[:10], build_base(base, ids), 100, at_least=0.5)
    assert (candidates.similarity >= 0.5).all()
    expected = [r for r in brute_force(base[:10], base, ids, 100) if r[2] >= 0.5]
    assert_same(candidates, expected)
    none = search(base[:0], build_base(base, ids), 3)
    assert len(none.query) == 0
