"""Inverted files: vectors in lists around trained centroids, of which a query probes the nearest.

`ivf_flat` scores the vectors of the probed lists (Sivic and Zisserman 2003; FAISS calls it so);
`ivf_pq` scores product codes of their residuals (Jégou et al. 2011), as LVD-142M searched its pool, and
scores the best candidates again with the stored vectors. Codebooks are trained once; each shard fills
lists of its own, so that shards are added without touching others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import ClusterIds, Floats
from curation.algorithms.kmeans.lloyd import TrainingState, lloyd, make_centroids
from curation.algorithms.kmeans.points import ArrayPoints
from curation.algorithms.knn.exact import SLACK, Base, Candidates, joined, merge, rescore
from curation.algorithms.knn.params import SearchParams
from curation.engine.device import CPU, local_devices
from curation.errors import RecipeError

Codes = npt.NDArray[np.uint8]

TRAIN_PER_LIST = 64
"""Training vectors a list; FAISS warns below 39."""
ITERATIONS = 10
QUERIES = 65_536
"""Queries that meet the lists at once."""
PQ_BITS = 8
WORDS = 2**PQ_BITS


@dataclass(frozen=True)
class Codebooks:
    """What lists are around, (lists, dim) float32 of unit length, and how residuals are coded.

    `products` (subquantizers, 256, dim / subquantizers) float32; None keeps no codes.
    """

    coarse: Floats
    products: Floats | None = None

    @property
    def index(self) -> Literal["ivf_flat", "ivf_pq"]:
        """Name of the index, as in a recipe."""
        return "ivf_flat" if self.products is None else "ivf_pq"


@dataclass(frozen=True)
class Lists:
    """The list of each vector of a base (n,), and its code (n, subquantizers)."""

    own: ClusterIds
    codes: Codes | None = None


def sample_size(nlist: int) -> int:
    """Return how many vectors training takes."""
    return int(max(TRAIN_PER_LIST * nlist, 256 * WORDS))


def train(
    sample: Vectors,
    index: Literal["ivf_flat", "ivf_pq"],
    nlist: int,
    subquantizers: int,
    seed: int,
) -> Codebooks:
    """Return trained codebooks.

    Args:
        sample: unit vectors (n, dim), in an order that does not depend on shards.
        index: which kind.
        nlist: how many lists.
        subquantizers: codes a vector of `ivf_pq`.
        seed: of the random choices.

    Raises:
        RecipeError: the sample is too small for nlist, or the dimension is no multiple of
            subquantizers.
    """
    count, dim = sample.shape
    if index == "ivf_pq" and dim % subquantizers:
        valid = [m for m in range(1, dim + 1) if dim % m == 0 and dim // m <= 32]
        raise RecipeError(
            f"match.subquantizers {subquantizers} does not divide the dimension {dim} of "
            f"the vectors. Valid: {valid}"
        )
    least = max(nlist, WORDS) if index == "ivf_pq" else nlist
    if count < least:
        raise RecipeError(
            f"match.index {index} with nlist {nlist} needs at least {least} eligible pool "
            f"images to train on; there are {count}. Lower nlist, or use index: exact."
        )
    coarse = train_coarse(sample, nlist, seed)
    if index == "ivf_flat":
        return Codebooks(coarse)
    own = _nearest(sample, coarse, *local_devices())
    quantizer = faiss.ProductQuantizer(dim, subquantizers, PQ_BITS)
    quantizer.cp.seed = seed + 1
    quantizer.cp.min_points_per_centroid = 1
    quantizer.train(np.ascontiguousarray(sample.astype(np.float32) - coarse[own]))
    words = faiss.vector_to_array(quantizer.centroids)
    shape = (subquantizers, WORDS, dim // subquantizers)
    return Codebooks(coarse, words.reshape(shape))


def train_coarse(sample: Vectors, nlist: int, seed: int) -> Floats:
    """Return the centroids of `nlist` lists, (nlist, dim) float32 of unit length, by k-means."""
    rng = np.random.Generator(np.random.PCG64(seed))
    take = min(len(sample), TRAIN_PER_LIST * nlist)
    points = sample[np.sort(rng.permutation(len(sample))[:take])]
    start = points[np.sort(rng.permutation(take)[:nlist])].astype(np.float32)
    trained = lloyd(
        ArrayPoints(points, load_backend("torch", *local_devices())),
        TrainingState(start),
        ITERATIONS,
    )
    return trained.centroids.vectors


def fill(vectors: Vectors, books: Codebooks, device: str = CPU) -> Lists:
    """Return the list of each vector (n, dim), exactly its nearest, and its code."""
    own = _nearest(vectors, books.coarse, device)
    if books.products is None:
        return Lists(own)
    residuals = np.ascontiguousarray(vectors.astype(np.float32) - books.coarse[own])
    codes: Codes = _quantizer(books.products).compute_codes(residuals)
    return Lists(own, codes)


@dataclass(frozen=True)
class Opened:
    """The lists of a base as FAISS searches them, with what their members are."""

    base: Base
    books: Codebooks
    index: Any


def opened(base: Base, lists: Lists, books: Codebooks) -> Opened:
    """Return the lists of a base, ready to be searched."""
    return Opened(base, books, _filled(base, lists, books))


def search(queries: Vectors, lists: Opened, params: SearchParams, k: int) -> Candidates:
    """Return the k nearest of each query within the lists that it probes.

    With `ivf_flat` those are the best in these lists; with `ivf_pq` the best of the `refine` · k with
    the best codes. FAISS proposes in float32, and what it proposes is scored again in float64.
    """
    base, books, index = lists.base, lists.books, lists.index
    if not len(queries) or not len(base.vectors):
        return merge([], k)
    index.nprobe = min(params.nprobe, len(books.coarse))
    wanted = k + SLACK if books.products is None else k * params.refine
    found = []
    for start in range(0, len(queries), QUERIES):
        some = np.ascontiguousarray(queries[start : start + QUERIES], np.float32)
        # Every shard has the same codebooks and queries, so all probe the same lists.
        similarity, probed = index.quantizer.search(some, index.nprobe)
        scores, rows = index.search_preassigned(some, min(wanted, index.ntotal), probed, similarity)
        scores = scores if books.products is None else None
        best = rescore(queries[start : start + QUERIES], base, rows, k, scores=scores)
        found.append(Candidates(best.query + start, best.ids, best.similarity))
    return joined(found)


def _nearest(vectors: Vectors, coarse: Floats, *devices: str) -> ClusterIds:
    return load_backend("torch", *devices)(vectors).assign(make_centroids(coarse, "spherical"))


def _quantizer(products: Floats) -> faiss.ProductQuantizer:
    count, _, width = products.shape
    quantizer = faiss.ProductQuantizer(count * width, count, PQ_BITS)
    faiss.copy_array_to_vector(products.ravel(), quantizer.centroids)
    return quantizer


def _filled(base: Base, lists: Lists, books: Codebooks) -> Any:
    """Return FAISS's index over the rows of a base."""
    count, dim = books.coarse.shape
    coarse = faiss.IndexFlatIP(dim)
    coarse.add(books.coarse)
    index: Any
    if books.products is None:
        index = faiss.IndexIVFFlat(coarse, dim, count, faiss.METRIC_INNER_PRODUCT)
        codes = np.ascontiguousarray(base.vectors, np.float32).view(np.uint8)
    else:
        assert lists.codes is not None
        parts = len(books.products)
        index = faiss.IndexIVFPQ(coarse, dim, count, parts, PQ_BITS, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(books.products.ravel(), index.pq.centroids)
        codes = lists.codes
    index.is_trained = True

    order = np.argsort(lists.own, kind="stable")
    present, start, size = np.unique(lists.own[order], return_index=True, return_counts=True)
    for number, first, many in zip(present.tolist(), start, size, strict=True):
        rows = np.ascontiguousarray(order[first : first + many])
        own = np.ascontiguousarray(codes[rows])
        index.invlists.add_entries(number, int(many), faiss.swig_ptr(rows), faiss.swig_ptr(own))
    index.ntotal = len(order)
    return index
