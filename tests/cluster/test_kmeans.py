"""Spherical k-means against invariants and scikit-learn, and the sample it is trained on."""

from __future__ import annotations

import faiss
import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from curation.cluster.stage import train


def planted(rng, clusters=12, each=60, dim=24, spread=0.35):
    centres = rng.normal(size=(clusters, dim))
    points = np.repeat(centres, each, axis=0) + spread * rng.normal(size=(clusters * each, dim))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float16), np.repeat(np.arange(clusters), each)


def test_finds_planted_clusters_as_well_as_scikit_learn():
    points, truth = planted(np.random.default_rng(0))
    centroids, objective, count = train(points, 12, 25, seed=0)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
    nearest = (points.astype(np.float64) @ centroids.T.astype(np.float64)).argmax(1)
    assert count.tolist() == np.bincount(nearest, minlength=12).tolist()
    assert (np.diff(objective) > -1e-6).all()
    reference = KMeans(12, init="random", n_init=1, random_state=0).fit(points.astype(np.float32))
    ours = adjusted_rand_score(truth, nearest)
    assert ours >= adjusted_rand_score(truth, reference.labels_) - 0.1
    assert ours > 0.7


def test_same_seed_same_bits_whatever_the_threads():
    points, _ = planted(np.random.default_rng(1))
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        one = train(points, 12, 10, seed=5)[0]
        faiss.omp_set_num_threads(2)
        two = train(points, 12, 10, seed=5)[0]
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, train(points, 12, 10, seed=6)[0])


def test_as_many_clusters_as_points():
    points, _ = planted(np.random.default_rng(2), clusters=3, each=2)
    centroids, _, count = train(points, 6, 5, seed=0)
    assert len(centroids) == 6
    assert count.sum() == 6
