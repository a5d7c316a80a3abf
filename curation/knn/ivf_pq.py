"""Inverted file with product quantisation (Jégou et al. 2011), as LVD-142M searched its pool.

One index is trained on a seeded sample; every shard of the base fills a copy of its own, so that an
appended shard needs no rebuild. Candidates are scored again with the stored vectors.
"""

from __future__ import annotations

import faiss
import numpy as np

from curation.errors import RecipeError
from curation.knn.exact import Base, Candidates, rescore
from curation.params import MatchStep
from curation.vectors import Vectors

# FAISS asks for at least this many training vectors a centroid before it warns.
TRAIN_PER_LIST = 39
PQ_BITS = 8


def train(sample: Vectors, params: MatchStep) -> bytes:
    """Return a trained, empty index as bytes.

    Args:
        sample: unit vectors (n, dim), in an order that does not depend on shards.
        params: nlist, subquantizers and seed.

    Raises:
        RecipeError: the sample is too small for nlist, or the dimension is no multiple of
            subquantizers.
    """
    count, dim = sample.shape
    if dim % params.subquantizers:
        valid = [m for m in range(1, dim + 1) if dim % m == 0 and dim // m <= 32]
        raise RecipeError(
            f"match.subquantizers {params.subquantizers} does not divide the dimension {dim} of "
            f"the encoder {params.encoder!r}. Valid: {valid}"
        )
    least = max(params.nlist, 2**PQ_BITS)
    if count < least:
        raise RecipeError(
            f"match.index ivf_pq with nlist {params.nlist} needs at least {least} eligible pool "
            f"images to train on; there are {count}. Lower nlist, or use index: exact."
        )
    index = faiss.index_factory(
        dim, f"IVF{params.nlist},PQ{params.subquantizers}x{PQ_BITS}", faiss.METRIC_INNER_PRODUCT
    )
    ivf = faiss.extract_index_ivf(index)
    ivf.cp.seed = params.seed + 1
    ivf.cp.min_points_per_centroid = 1
    index.train(np.ascontiguousarray(sample, np.float32))
    return bytes(faiss.serialize_index(index))


def sample_size(params: MatchStep) -> int:
    """Return how many vectors training takes."""
    return int(max(4 * TRAIN_PER_LIST * params.nlist, 256 * 2**PQ_BITS))


def search(queries: Vectors, base: Base, trained: bytes, params: MatchStep) -> Candidates:
    """Return the k nearest among the candidates that the compressed index gives."""
    index = faiss.deserialize_index(np.frombuffer(trained, np.uint8))
    index.add(np.ascontiguousarray(base.vectors, np.float32))
    faiss.extract_index_ivf(index).nprobe = min(params.nprobe, params.nlist)
    wanted = min(params.k * params.refine, len(base.vectors))
    _, rows = index.search(np.ascontiguousarray(queries, np.float32), max(wanted, 1))
    return rescore(queries, base, rows, params.k)
