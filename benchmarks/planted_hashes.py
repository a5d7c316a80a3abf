"""Perceptual hashes whose bits depend on each other as those of real pictures do."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curation.algorithms.knn.hash_parts import BITS, Hashes
from curation.engine.table import open_table
from curation.store.store import Store


class HashStatistics(NamedTuple):
    """A Gaussian whose signs are hashes.

    Attributes:
        root: a root of its correlations, (256, 256).
        quantile: where each bit is cut, (256,).
    """

    root: npt.NDArray[np.float32]
    quantile: npt.NDArray[np.float32]

    @property
    def one_picture(self) -> npt.NDArray[np.uint8]:
        """The hash of one picture, (32,)."""
        picture: npt.NDArray[np.uint8] = draw(1, self, np.random.default_rng(7))[0]
        return picture


def hash_statistics(store: Path | None) -> HashStatistics:
    """Return the statistics of the hashes of a store; without a store, bits are independent."""
    if store is None:
        return HashStatistics(np.eye(BITS, dtype=np.float32), np.zeros(BITS, np.float32))
    from scipy.stats import norm

    column = open_table(Store(store), "scores").read(["phash"]).column("phash").drop_null()
    real = np.frombuffer(b"".join(column.unique().to_pylist()), np.uint8).reshape(-1, BITS // 8)
    bits = np.unpackbits(real, axis=1).astype(np.float64)
    signs = 2 * bits - 1
    # Of two Gaussians that correlate by r, the signs correlate by 2 asin(r) / pi.
    correlation = np.sin(np.pi / 2 * np.clip(signs.T @ signs / len(signs), -0.99, 0.99))
    values, vectors = np.linalg.eigh(correlation)
    correlation = vectors @ np.diag(np.maximum(values, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(correlation))
    root = np.linalg.cholesky(correlation / np.outer(scale, scale))
    shares = bits.mean(axis=0).clip(0.01, 0.99)
    return HashStatistics(root.astype(np.float32), norm.ppf(1 - shares).astype(np.float32))


def draw(count: int, statistics: HashStatistics, rng: np.random.Generator) -> Hashes:
    """Return hashes, (count, 32)."""
    normal = rng.standard_normal((count, BITS), np.float32) @ statistics.root.T
    return np.packbits(normal > statistics.quantile, axis=1)


def changed(hashes: Hashes, rng: np.random.Generator, at_most: int) -> Hashes:
    """Return hashes, each with 0 to `at_most` of its bits changed."""
    order = rng.random((len(hashes), BITS)).argsort(axis=1)
    number = rng.integers(0, at_most + 1, (len(hashes), 1))
    return hashes ^ np.packbits(order < number, axis=1)
