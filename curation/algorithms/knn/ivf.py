"""Inverted files: each vector is in the list of its nearest centroid, and queries search few lists.

`ivf_flat` compares a query with the vectors of the lists that it probes (Sivic and Zisserman 2003; the
name is FAISS's). `ivf_pq` compares it with product codes of their residuals (Jégou et al. 2011, section
4), as LVD-142M searched its pool, and scores the best candidates again with the stored vectors.
Codebooks are trained once. Each shard has lists of its own, so that new shards leave old ones
unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.crowded import nearest_rows
from curation.algorithms.arrays.large_arrays import take_rows
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import ClusterIds, Floats
from curation.algorithms.kmeans.lloyd import TrainingState, lloyd, make_centroids
from curation.algorithms.kmeans.points import ArrayPoints
from curation.algorithms.knn.exact import (
    EXTRA_CANDIDATES,
    Base,
    Candidates,
    Pairs,
    concat_candidates,
    crowded_queries,
    merge,
    possible_candidates,
    rescore_pairs,
)
from curation.algorithms.knn.params import SearchParams
from curation.engine.device import CPU, local_devices
from curation.engine.sorted_arrays import stable_order
from curation.errors import Detail, RecipeError

Codes = npt.NDArray[np.uint8]

TRAIN_PER_LIST = 64
"""Training vectors per list. FAISS warns below 39."""
ITERATIONS = 10
QUERIES_AT_ONCE = 65_536
"""Queries that FAISS searches in one call."""
PQ_BITS = 8
CODEWORDS = 2**PQ_BITS
"""Codewords of each subquantizer."""
TRAIN_PER_CODEWORD = 256
"""Training vectors per codeword: FAISS takes no more of those that it gets."""


@dataclass(frozen=True)
class Codebooks:
    """What training gives: the centroids of the lists, and the codewords of residuals.

    Attributes:
        coarse: centroid of each list, unit length, float32 of shape (nlist, dim).
        products: codewords, float32 of shape (subquantizers, 256, dim / subquantizers); None for
            `ivf_flat`.
    """

    coarse: Floats
    products: Floats | None = None

    @property
    def index(self) -> Literal["ivf_flat", "ivf_pq"]:
        """Name of the index, as in a recipe."""
        return "ivf_flat" if self.products is None else "ivf_pq"


@dataclass(frozen=True)
class Lists:
    """Which list each vector is in, and its code.

    Attributes:
        list_ids: number of the list of each vector, shape (n,).
        codes: product code of each residual, shape (n, subquantizers); None for `ivf_flat`.
    """

    list_ids: ClusterIds
    codes: Codes | None = None


def sample_size(nlist: int) -> int:
    """Return how many vectors training needs."""
    return int(max(TRAIN_PER_LIST * nlist, TRAIN_PER_CODEWORD * CODEWORDS))


def train(
    sample: Vectors,
    index: Literal["ivf_flat", "ivf_pq"],
    nlist: int,
    subquantizers: int,
    seed: int,
) -> Codebooks:
    """Train the codebooks of an index.

    Args:
        sample: unit vectors, shape (n, dim), in an order that does not depend on shards.
        index: kind of the index.
        nlist: number of lists.
        subquantizers: codes of each vector, for `ivf_pq`.
        seed: seed of the random choices.

    Raises:
        RecipeError: the sample is too small for nlist, or the dimension is not a multiple of
            subquantizers.
    """
    count, dim = sample.shape
    if index == "ivf_pq" and dim % subquantizers:
        valid = [m for m in range(1, dim + 1) if dim % m == 0 and dim // m <= 32]
        message = f"{subquantizers} does not divide the dimension {dim} of the vectors"
        raise RecipeError(
            Detail(message, "match.subquantizers", subquantizers, tuple(map(str, valid)))
        )
    minimum = max(nlist, CODEWORDS) if index == "ivf_pq" else nlist
    if count < minimum:
        is_nlist = minimum == nlist
        needs = f"{index} with nlist {nlist}" if is_nlist else index
        raise RecipeError(
            f"match.index {needs} needs at least {minimum} eligible pool images for training, but "
            f"there are {count}",
            fix="Lower nlist, or use index: exact" if is_nlist else "Use index: exact",
        )
    coarse = train_coarse(sample, nlist, seed)
    if index == "ivf_flat":
        return Codebooks(coarse)
    rng = np.random.Generator(np.random.PCG64(seed + 1))
    points = _training_rows(sample, TRAIN_PER_CODEWORD * CODEWORDS, rng)
    list_ids = _nearest_lists(points, coarse, *local_devices())
    quantizer = faiss.ProductQuantizer(dim, subquantizers, PQ_BITS)
    # FAISS takes an int of C.
    quantizer.cp.seed = (seed + 1) % 2**31
    quantizer.cp.min_points_per_centroid = 1
    quantizer.train(np.ascontiguousarray(points.astype(np.float32) - coarse[list_ids]))
    codewords = faiss.vector_to_array(quantizer.centroids)
    shape = (subquantizers, CODEWORDS, dim // subquantizers)
    return Codebooks(coarse, codewords.reshape(shape))


def train_coarse(sample: Vectors, nlist: int, seed: int) -> Floats:
    """Train the centroids of lists by spherical k-means.

    Args:
        sample: unit vectors, shape (n, dim).
        nlist: number of lists.
        seed: seed of the training vectors and of the first centroids.

    Returns:
        Float32 vectors of unit length, shape (nlist, dim).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    points = _training_rows(sample, TRAIN_PER_LIST * nlist, rng)
    start = points[np.sort(rng.permutation(len(points))[:nlist])].astype(np.float32)
    devices = local_devices()
    trained = lloyd(
        ArrayPoints(points, load_backend("torch", *devices), devices[0]),
        TrainingState(start),
        ITERATIONS,
    )
    return trained.centroids.vectors


def _training_rows(sample: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """Return at most a number of rows of a sample, in their order."""
    return take_rows(sample, np.sort(rng.permutation(len(sample))[:count]))


def assign_lists(vectors: Vectors, codebooks: Codebooks, device: str = CPU) -> Lists:
    """Return the list of each vector, exactly the nearest one, and its code.

    Args:
        vectors: unit vectors, shape (n, dim).
        codebooks: of the index.
        device: `cpu` or `cuda[:n]`.
    """
    list_ids = _nearest_lists(vectors, codebooks.coarse, device)
    if codebooks.products is None:
        return Lists(list_ids)
    residuals = np.ascontiguousarray(vectors.astype(np.float32) - codebooks.coarse[list_ids])
    codes: Codes = _product_quantizer(codebooks.products).compute_codes(residuals)
    return Lists(list_ids, codes)


@dataclass(frozen=True)
class IvfIndex:
    """An index over a base that can be searched.

    Attributes:
        base: the images that are searched.
        codebooks: of the index.
        faiss_index: FAISS's index over the rows of the base.
    """

    base: Base
    codebooks: Codebooks
    faiss_index: Any


def build_index(base: Base, lists: Lists, codebooks: Codebooks) -> IvfIndex:
    """Build an index from lists.

    Args:
        base: images to search.
        lists: of the vectors of the base.
        codebooks: of the index.
    """
    return IvfIndex(base, codebooks, _faiss_index(base, lists, codebooks))


def search(queries: Vectors, index: IvfIndex, params: SearchParams, k: int) -> Candidates:
    """Return the k nearest images of each query within the lists that it probes.

    FAISS finds candidates in float32, and they are scored again in float64. With `ivf_flat` the result
    is exact within the probed lists. With `ivf_pq` it is the best of the `refine` · k candidates with
    the nearest codes.

    Args:
        queries: unit vectors, shape (n, dim).
        index: the index to search.
        params: how many lists a query probes, and `refine`.
        k: neighbours of each query.

    Returns:
        At most k pairs for each query.
    """
    base, codebooks, faiss_index = index.base, index.codebooks, index.faiss_index
    if not len(queries) or not len(base.vectors):
        return merge([], k)
    faiss_index.nprobe = min(params.nprobe, len(codebooks.coarse))
    candidate_count = k + EXTRA_CANDIDATES if codebooks.products is None else k * params.refine
    parts = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        batch = np.ascontiguousarray(queries[start : start + QUERIES_AT_ONCE], np.float32)
        # All shards have the same codebooks and queries, so that all probe the same lists.
        similarity, probed = faiss_index.quantizer.search(batch, faiss_index.nprobe)
        scores, rows = faiss_index.search_preassigned(
            batch, min(candidate_count, faiss_index.ntotal), probed, similarity
        )
        part = queries[start : start + QUERIES_AT_ONCE]
        if codebooks.products is None:
            pairs = _pairs_in_lists(part, index, (scores, rows), probed, k)
        else:
            pairs = possible_candidates(rows, None, k, part.shape[1])
        best = rescore_pairs(part, base, pairs, k)
        parts.append(Candidates(best.query + start, best.ids, best.similarity))
    return concat_candidates(parts)


def _pairs_in_lists(
    queries: Vectors,
    index: IvfIndex,
    candidates: tuple[Floats, RowNumbers],
    probed: RowNumbers,
    k: int,
) -> Pairs:
    """Return candidate pairs that contain the k best rows of the lists that each query probes.

    Args:
        queries: unit vectors, shape (n, dim).
        index: an index without product codes.
        candidates: float32 similarities of FAISS's candidates, falling, and their rows, (n, c) each.
        probed: the lists of each query, shape (n, nprobe).
        k: neighbours of each query.
    """
    (scores, rows), base, dim = candidates, index.base, queries.shape[1]
    crowded = crowded_queries(scores, k, dim) if scores.shape[1] > k else np.empty(0, np.int64)
    rows[crowded] = -1
    parts = [possible_candidates(rows, scores, k, dim)]
    place = np.empty(len(base.by_id), np.int64)
    place[base.by_id] = np.arange(len(place))
    for query in crowded.tolist():
        members = np.concatenate([_members(index.faiss_index, n) for n in probed[query].tolist()])
        order = members[np.argsort(place[members])]
        _, row = nearest_rows(queries[query : query + 1], base.vectors, order, k)
        parts.append((np.full(len(row), query), row))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _members(index: Any, number: int) -> RowNumbers:
    """Return the rows in one list of FAISS's index; none for the list −1."""
    size = index.invlists.list_size(number) if number >= 0 else 0
    if not size:
        return np.empty(0, np.int64)
    return np.array(faiss.rev_swig_ptr(index.invlists.get_ids(number), size), np.int64)


def _nearest_lists(vectors: Vectors, coarse: Floats, *devices: str) -> ClusterIds:
    return load_backend("torch", *devices)(vectors).assign(make_centroids(coarse, "spherical"))


def _product_quantizer(products: Floats) -> faiss.ProductQuantizer:
    count, _, width = products.shape
    quantizer = faiss.ProductQuantizer(count * width, count, PQ_BITS)
    faiss.copy_array_to_vector(products.ravel(), quantizer.centroids)
    return quantizer


def _faiss_index(base: Base, lists: Lists, codebooks: Codebooks) -> Any:
    """Return FAISS's index over the rows of a base."""
    nlist, dim = codebooks.coarse.shape
    coarse = faiss.IndexFlatIP(dim)
    coarse.add(codebooks.coarse)
    index: Any
    if codebooks.products is None:
        index = faiss.IndexIVFFlat(coarse, dim, nlist, faiss.METRIC_INNER_PRODUCT)
        codes = np.ascontiguousarray(base.vectors, np.float32).view(np.uint8)
    else:
        assert lists.codes is not None
        subquantizers = len(codebooks.products)
        index = faiss.IndexIVFPQ(
            coarse, dim, nlist, subquantizers, PQ_BITS, faiss.METRIC_INNER_PRODUCT
        )
        faiss.copy_array_to_vector(codebooks.products.ravel(), index.pq.centroids)
        codes = lists.codes
    index.is_trained = True
    _add_entries(index, lists.list_ids, codes)
    return index


def _add_entries(index: Any, list_ids: ClusterIds, codes: Codes) -> None:
    """Add the rows of a base and their codes to the inverted lists of FAISS's index."""
    order = stable_order(list_ids)
    present, start, size = np.unique(list_ids[order], return_index=True, return_counts=True)
    for number, first, count in zip(present.tolist(), start, size, strict=True):
        rows = np.ascontiguousarray(order[first : first + count])
        entries = np.ascontiguousarray(codes[rows])
        index.invlists.add_entries(
            number, int(count), faiss.swig_ptr(rows), faiss.swig_ptr(entries)
        )
    index.ntotal = len(order)
