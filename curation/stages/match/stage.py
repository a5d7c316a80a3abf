"""match: the pool neighbours of every eligible seed image, k as large as any arm needs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.seeded_order import seeded_order
from curation.algorithms.arrays.vectors import Ids, Vectors
from curation.algorithms.knn.broadcast import Shard, broadcast_join, write_queries
from curation.algorithms.knn.codebooks import read_codebooks
from curation.algorithms.knn.exact import Candidates
from curation.algorithms.knn.read import read_vectors
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.fragment import Fragment
from curation.engine.table import Table
from curation.engine.units import Rows, empty_batch
from curation.stages.match.params import MatchStep


def match(
    eligible: Table,
    embeddings: dict[str, Table],
    codebooks: Table,
    lists: Table,
    *,
    params: MatchStep,
    context: Context,
) -> Rows:
    """Search the eligible pool for every eligible seed image.

    Yields:
        (part, batch of `matches`), seed sets in name order.

    Returns:
        Which index was searched, with its recall@k against exact search on a sample of queries.
    """
    yield "all", empty_batch(contract("matches").arrow_schema())
    vectors = embeddings[params.encoder]
    sets, ids, queries = _seeds(eligible, vectors)
    if not len(ids) or params.k == 0:
        return {"index": "exact", "queries": 0}
    shards = {
        name: Shard(vectors.fragments[name], fragment, lists.fragments[name])
        for name, fragment in eligible.fragments.items()
        if "pool" in fragment.record.books
    }
    unique, first = np.unique(ids, return_index=True)
    kept = _kept(unique, queries[first], "queries", context)
    books = read_codebooks(codebooks)
    index = None if books is None else codebooks
    started = time.monotonic()
    found = broadcast_join(shards, kept, index, params.search, params.k, context)
    seconds = time.monotonic() - started
    name = "exact" if books is None else books.index
    stats: dict[str, Any] = {"index": name, "queries": len(unique), "shards": len(shards)}
    if index is None:
        stats["recall"] = 1.0
    else:
        chosen = np.sort(
            seeded_order(unique, params.seed, "recall")[: params.search.recall_queries]
        )
        sample = _kept(unique[chosen], queries[first][chosen], "recall", context)
        exact = broadcast_join(shards, sample, None, params.search, params.k, context)
        stats |= {"recall": recall(found, exact, chosen), "recall_queries": len(chosen)}
        stats["recall_at"] = params.k
    for seed_set in sorted(set(sets)):
        yield "all", _rows(found, unique, str(seed_set), ids[sets == seed_set])
    return stats | {"search_seconds": round(seconds, 3)}


def _seeds(eligible: Table, embeddings: Table) -> tuple[npt.NDArray[Any], Ids, Vectors]:
    """Return set, id and vector of each eligible seed image; an image may stand in several sets."""
    sets, ids, vectors = [], [], []
    for name, fragment in eligible.fragments.items():
        if "seed" not in fragment.record.books:
            continue
        own_ids, own_vectors = read_vectors(embeddings.fragments[name], fragment)
        if len(own_ids):
            source = fragment.read(["source"]).column("source")[0].as_py()
            sets.append(np.full(len(own_ids), source))
            ids.append(own_ids)
            vectors.append(own_vectors)
    if not ids:
        return np.empty(0, "U1"), np.empty(0, "S32"), np.empty((0, 0), np.float16)
    return np.concatenate(sets), np.concatenate(ids), np.concatenate(vectors)


def _kept(ids: Ids, vectors: Vectors, name: str, context: Context) -> Fragment:
    items = {name: {"ids": ids, "vectors": vectors}}
    return Fragment(context.store, context.compute("queries", write_queries, items)[name])


def recall(found: Candidates, exact: Candidates, queries: npt.NDArray[np.int64]) -> float:
    """Return which share of the exact neighbours of some queries was found.

    Args:
        found: neighbours of all queries.
        exact: exact neighbours of the sampled queries, numbered by their place in the sample.
        queries: number of each sampled query among all.
    """
    truth = set(zip(queries[exact.query].tolist(), exact.ids.tolist(), strict=True))
    seen = set(zip(found.query.tolist(), found.ids.tolist(), strict=True))
    return round(len(truth & seen) / max(len(truth), 1), 6)


def _rows(found: Candidates, unique: Ids, seed_set: str, members: Ids) -> pa.RecordBatch:
    keep = np.isin(unique[found.query], members)
    rows = int(keep.sum())
    return pa.RecordBatch.from_arrays(
        [
            pa.array([seed_set] * rows, pa.string()),
            from_ids(unique[found.query[keep]]),
            from_ids(found.ids[keep]),
            pa.array(found.similarity[keep]),
            pa.array(found.rank()[keep]),
        ],
        names=["seed_set", "seed_image_id", "image_id", "similarity", "rank"],
    )
