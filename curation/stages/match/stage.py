"""match: the nearest pool images of every eligible seed image, as many as any arm needs."""

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
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.match.params import MatchStep
from curation.store.fragment import Fragment


def match(
    eligible: Table,
    embeddings: dict[str, Table],
    codebooks: Table,
    lists: Table,
    *,
    params: MatchStep,
    context: Context,
) -> StageOutput:
    """Search the eligible pool for the k nearest images of every eligible seed image.

    Yields:
        ("all", batch of `matches`), one seed set after another by name.

    Returns:
        `index`, the kind of search; `queries` and `shards`, the number of different seed images and of
        pool fragments; `recall`, the share of the true k nearest (`recall_at`) that an index finds for
        a sample of `recall_queries` queries, null if nothing was searched; and `search_seconds`.
    """
    yield "all", empty_batch(contract("matches").arrow_schema())
    vectors = embeddings[params.encoder]
    sets, ids, queries = _read_seeds(eligible, vectors)
    if not len(ids) or params.k == 0:
        return {"index": "exact", "queries": 0, "recall": None}
    shards = {
        name: Shard(vectors.fragments[name], fragment, lists.fragments[name])
        for name, fragment in eligible.fragments.items()
        if "pool" in fragment.record.counts
    }
    unique, first = np.unique(ids, return_index=True)
    queries = queries[first]
    loaded = read_codebooks(codebooks)
    index = None if loaded is None else codebooks
    query_table = _write_queries(unique, queries, "queries", context)
    started = time.monotonic()
    matches = broadcast_join(shards, query_table, index, params.search, params.k, context)
    stats: dict[str, Any] = {
        "index": "exact" if loaded is None else loaded.index,
        "queries": len(unique),
        "shards": len(shards),
        "recall": 1.0 if len(matches.query) else None,
        "search_seconds": round(time.monotonic() - started, 3),
    }
    if index is not None:
        order = seeded_order(unique, params.seed, "recall")
        sample = np.sort(order[: params.search.recall_queries])
        sample_table = _write_queries(unique[sample], queries[sample], "recall", context)
        exact = broadcast_join(shards, sample_table, None, params.search, params.k, context)
        stats |= {"recall": recall(matches, exact, sample), "recall_queries": len(sample)}
        stats["recall_at"] = params.k
    for seed_set in sorted(set(sets)):
        yield "all", _matches_batch(matches, unique, str(seed_set), ids[sets == seed_set])
    return stats


def _read_seeds(eligible: Table, embeddings: Table) -> tuple[npt.NDArray[Any], Ids, Vectors]:
    """Return the seed set, id and vector of each eligible seed image, (n,), (n,), (n, dim).

    An image may be in several sets.
    """
    sets, ids, vectors = [], [], []
    for name, fragment in eligible.fragments.items():
        if "seed" not in fragment.record.counts:
            continue
        fragment_ids, fragment_vectors = read_vectors(embeddings.fragments[name], fragment)
        if len(fragment_ids):
            source = fragment.read(["source"]).column("source")[0].as_py()
            sets.append(np.full(len(fragment_ids), source))
            ids.append(fragment_ids)
            vectors.append(fragment_vectors)
    if not ids:
        return np.empty(0, "U1"), np.empty(0, "S32"), np.empty((0, 0), np.float16)
    return np.concatenate(sets), np.concatenate(ids), np.concatenate(vectors)


def _write_queries(ids: Ids, vectors: Vectors, name: str, context: Context) -> Fragment:
    """Write queries as a work table that every worker can read."""
    items = {name: {"ids": ids, "vectors": vectors}}
    return Fragment(context.store, context.compute("queries", write_queries, items)[name])


def recall(matches: Candidates, exact: Candidates, sample: npt.NDArray[np.int64]) -> float | None:
    """Return the share of the exact neighbours of some queries that an approximate search found.

    None if there are no such neighbours.

    Args:
        matches: neighbours of all queries, by the approximate search.
        exact: exact neighbours of the sampled queries, which are numbered by their place in the sample.
        sample: the numbers of the sampled queries among all, (queries,).
    """
    truth = set(zip(sample[exact.query].tolist(), exact.ids.tolist(), strict=True))
    found = set(zip(matches.query.tolist(), matches.ids.tolist(), strict=True))
    return round(len(truth & found) / len(truth), 6) if truth else None


def _matches_batch(matches: Candidates, unique: Ids, seed_set: str, members: Ids) -> pa.RecordBatch:
    """Return the rows of `matches` of one seed set.

    Args:
        matches: neighbours of all queries.
        unique: the id of each query, ascending.
        seed_set: name of the set.
        members: ids of the images of the set.
    """
    keep = np.isin(unique[matches.query], members)
    rows = int(keep.sum())
    return pa.RecordBatch.from_arrays(
        [
            pa.array([seed_set] * rows, pa.string()),
            from_ids(unique[matches.query[keep]]),
            from_ids(matches.ids[keep]),
            pa.array(matches.similarity[keep]),
            pa.array(matches.rank()[keep]),
        ],
        names=["seed_set", "seed_image_id", "image_id", "similarity", "rank"],
    )
