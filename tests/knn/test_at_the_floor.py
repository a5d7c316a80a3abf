"""A similarity that is exactly a floor or a threshold reaches it, wherever it is compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.knn.blocks import search_blocks
from curation.algorithms.knn.exact import build_base, search
from curation.algorithms.knn.recall import JoinRecall
from curation.engine.context import Context
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.stages.dedup.edges import filter_similar
from curation.stages.verify.pairs import similar_pairs
from curation.stages.verify.params import VerifyStep
from curation.store.store import Store

from ..tables import commit, commit_vectors

IDS = np.array([f"{n:032x}" for n in range(2)], "S32")
SCALES = (1.0, 2.0**-10, 2.0**-10)
COSINES = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97]


def vectors_with(cosine: float) -> Vectors:
    """Two unit vectors in float16 whose product is the float32 number next to a cosine."""
    wanted = float(np.float32(cosine))
    parts: list[np.float16] = []
    for scale in SCALES:
        parts.append(np.float16((wanted - sum_of(parts)) / scale))
    rest = np.sqrt(1 - float(parts[0]) ** 2)
    vectors = np.array([[*SCALES, 0], [*parts, rest]], np.float16)
    assert np.float32(vectors[0].astype(float) @ vectors[1].astype(float)) == np.float32(cosine)
    return vectors


def sum_of(values: list[np.float16]) -> float:
    """What the first values of the second vector add to the product."""
    products = [float(value) * scale for value, scale in zip(values, SCALES, strict=False)]
    return float(np.sum(products))


@pytest.mark.parametrize("cosine", COSINES)
def test_a_similarity_that_is_the_floor_reaches_it(cosine: float, tmp_path: Path) -> None:
    vectors, store = vectors_with(cosine), Store(tmp_path)
    near = search(vectors[:1], build_base(vectors[1:], IDS[1:]), 1, cosine)
    assert near.similarity.tolist() == [np.float32(cosine)]
    row = {"role_a": "pool", "image_a": IDS[0].decode(), "role_b": "pool", "method": "near"}
    row |= {"image_b": IDS[1].decode(), "similarity": float(near.similarity[0]), "rank": 1}
    commit(store, "neighbours", {"all": [row]})
    (fragment,) = open_table(store, "neighbours").fragments.values()
    (compared,) = similar_pairs(fragment, VerifyStep(floor=cosine, k=8))
    (linked,) = filter_similar(fragment.read(), {"near": cosine})
    assert (len(compared), len(linked)) == (1, 1)


@pytest.mark.parametrize("cosine", COSINES)
def test_a_pair_at_the_floor_counts_in_the_recall(cosine: float, tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_vectors(store, {"web-0": (IDS, vectors_with(cosine))})
    pool = dict(open_table(store, "embeddings.semantic").fragments)
    context, options = Context(store, InProcess(), "join", None), {"k": 4, "floor": cosine}
    recall = JoinRecall("pool", pool, context)
    recall.sample_queries(10, seed=0)
    (joined,) = search_blocks({"pool": pool}, [("pool", "pool")], options, context, "join")
    measured = recall.measure(options, [joined.read().drop_columns(["role_pair"])])
    assert (measured["recall_queries"], measured["recall"]) == (2, 1.0)
