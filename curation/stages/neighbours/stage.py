"""neighbours: near pairs of images, by vectors and by perceptual hashes. Thresholds are floors only."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.knn.blocks import search_blocks
from curation.algorithms.knn.cells import search_cells
from curation.algorithms.knn.choice import choose_join, rounded_size
from curation.algorithms.knn.codebooks import codebooks_batch
from curation.algorithms.knn.hamming import HASHES_COMPARED, hash_join
from curation.algorithms.knn.hash_groups import Images
from curation.algorithms.knn.hash_merge import hash_exchange, nearest_images, search_hashes
from curation.algorithms.knn.ivf import Codebooks, sample_size, train_coarse
from curation.algorithms.knn.kept_codebooks import (
    COMPARED_IMAGES,
    keep_codebooks,
    load_codebooks,
)
from curation.algorithms.knn.pair_merge import (
    merge_exchange,
    nearest_by_role_pair,
    pair_readings,
)
from curation.algorithms.knn.pairs import PAIRS
from curation.algorithms.knn.params import HammingParams
from curation.algorithms.knn.read import count_vectors, dimension
from curation.algorithms.knn.recall import JoinRecall
from curation.algorithms.knn.sample import read_sample, sample_fragments
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.exchange import exchange_records
from curation.engine.sorted_arrays import ranks_in_runs
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.neighbours.earlier_join import (
    EarlierJoin,
    earlier_join,
    earlier_readings,
    keep_hashes,
    known_hashes,
)
from curation.stages.neighbours.params import ROLE_PAIRS, JoinSpec, NeighboursStep
from curation.store.fragment import Fragment
from curation.store.manifest import FragmentRecord, count_outcomes

ROWS_PER_BATCH = 65_536
T = TypeVar("T")


def neighbours(
    images: Table,
    scores: Table,
    embeddings: dict[str, Table],
    *,
    params: NeighboursStep,
    context: Context,
) -> StageOutput:
    """Find the k nearest images of each image, for each pair of roles and each level of dedup.

    Args:
        images: gives the role of each fragment.
        scores: gives the perceptual hashes.
        embeddings: tables of the encoders of the levels near and semantic.
        params: the levels.
        context: where workers run.

    Yields:
        ("all", batch of `neighbours`), and records of fragments that workers wrote.

    Returns:
        For each level, how it was searched, and its recall: with cells that of the pool with itself;
        null if nothing was searched.
    """
    yield "all", empty_batch(contract("neighbours").arrow_schema())
    stats: dict[str, Any] = {}
    if params.perceptual is not None:
        pairs = {
            name: (fragment, scores.fragments[name]) for name, fragment in images.fragments.items()
        }
        yield from _join_hashes(_by_role(images, pairs), params.perceptual, context)
        stats["perceptual"] = {"search": "exact", "recall": _exact_recall(_by_role(images, pairs))}
    for method, spec in params.joins.items():
        vectors = embeddings[spec.encoder]
        stats[method] = yield from _join_vectors(method, images, vectors, spec, context)
    return stats


def _join_hashes(by_role: Images, params: HammingParams, context: Context) -> Iterator[Any]:
    """Yield the pairs of near hashes."""
    counts = [images.record.counts for named in by_role.values() for images, _ in named.values()]
    if count_outcomes(counts).get("ok", 0) <= HASHES_COMPARED:
        for query_role, base_role, pairs in hash_join(by_role, ROLE_PAIRS, params, context):
            for batch in _rows("perceptual", (query_role, base_role), pairs):
                yield "all", batch
        return
    known = known_hashes(by_role, context)
    search = search_hashes(by_role, ROLE_PAIRS, params, context, known)
    keep_hashes(by_role, search, known, context)
    job = hash_exchange(search, write_near_hashes)
    job = replace(job, outputs=partial(_fragment_name, "perceptual"))
    yield from exchange_records(job, context)


def write_near_hashes(
    near_hashes: pa.Table, members: pa.Table, options: Mapping[str, Any]
) -> StageOutput:
    """Write the images with the hashes nearest to that of each image.

    Args:
        near_hashes: near hashes of some queries.
        members: further images with these hashes.
        options: `k`, and the roles of each join.

    Yields:
        Batches of `neighbours`.
    """
    yield empty_batch(contract("neighbours").arrow_schema())
    for number, pairs in nearest_images(near_hashes, members, options):
        yield from _rows("perceptual", ROLE_PAIRS[number], pa.Table.from_batches([pairs]))
    return None


def _join_vectors(
    method: str, images: Table, embeddings: Table, spec: JoinSpec, context: Context
) -> Generator[Any, None, dict[str, Any]]:
    """Yield the pairs of one level; return how it was searched."""
    by_role = _by_role(images, embeddings.fragments)
    vectors = count_vectors(fragment for named in by_role.values() for fragment in named.values())
    choice = choose_join(spec, vectors, dimension(embeddings))
    options = {"k": spec.k, "floor": spec.floor, "spread": spec.spread}
    stats: dict[str, Any] = {
        "search": choice.join,
        "multiplications": {"exact": choice.exact, "cells": choice.by_cells},
    }
    pool = by_role.get("pool", {})
    codebooks = None
    if choice.join == "cells":
        codebooks = _quantiser(embeddings, pool, choice.cells, context)
    earlier = earlier_join(method, spec.encoder, by_role, codebooks, context)
    if codebooks is None:
        searched = search_blocks(by_role, ROLE_PAIRS, options, context, method, earlier.joined)
    else:
        searched = search_cells(by_role, ROLE_PAIRS, options, codebooks, context, earlier.joined)
    records = _merge_on_workers(method, searched, earlier, spec.k, context)
    yield from records
    stats["pairs"] = sum(record.rows for record in records)
    if codebooks is None:
        return stats | {"search": "exact", "recall": _exact_recall(by_role)}
    recall = JoinRecall("pool", pool, context)
    recall.sample_queries(spec.recall_queries, seed=0)
    pairs = _pairs_of_queries(records, recall.query_ids, context)
    stats |= {"cells": codebooks.rows, "codebooks": codebooks.content}
    return stats | recall.measure(options, pairs)


def _exact_recall(by_role: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the recall of an exact join: None if it has no two roles to join."""
    return 1.0 if any(a in by_role and b in by_role for a, b in ROLE_PAIRS) else None


def _merge_on_workers(
    method: str, searched: list[Fragment], earlier: EarlierJoin, k: int, context: Context
) -> list[FragmentRecord]:
    """Write the k nearest of each query as fragments of `neighbours`, on workers."""
    readings = [*pair_readings(searched), *earlier_readings(earlier)]
    rows = sum(fragment.rows for fragment in (*searched, *earlier.neighbours))
    job = merge_exchange(readings, rows, write_nearest, {"k": k, "method": method})
    job = replace(job, outputs=partial(_fragment_name, method))
    return list(exchange_records(job, context))


def _fragment_name(method: str, part: int) -> dict[str, str]:
    return {f"{method}-{part:06d}": "neighbours"}


def write_nearest(pairs: pa.Table, k: int, method: str) -> StageOutput:
    """Write the k nearest images of each query.

    Args:
        pairs: all JOIN_PAIRS of some queries.
        k: neighbours of each query.
        method: the level.

    Yields:
        Batches of `neighbours`.
    """
    yield empty_batch(contract("neighbours").arrow_schema())
    for number, nearest in nearest_by_role_pair(pairs, k):
        yield from _rows(method, ROLE_PAIRS[number], pa.Table.from_batches([nearest]))
    return None


def _pairs_of_queries(
    records: list[FragmentRecord], query_ids: Ids, context: Context
) -> list[pa.Table]:
    """Return PAIRS of some pool images with pool images, from fragments of `neighbours`."""
    items = {
        record.name: {"neighbours": Fragment(context.store, record), "query_ids": query_ids}
        for record in records
    }
    pairs = context.compute("recall, pairs found", write_pool_pairs, items)
    return [table.read() for table in pairs.values()]


def write_pool_pairs(neighbours: Fragment, query_ids: Ids) -> StageOutput:
    """Write the pairs of some pool images with pool images.

    Args:
        neighbours: a fragment of `neighbours`.
        query_ids: ids of the images, shape (n,).

    Yields:
        PAIRS.
    """
    yield empty_batch(PAIRS)
    wanted, pool = from_ids(query_ids), pa.scalar("pool")
    names = ["role_a", "image_a", "role_b", "image_b", "similarity"]
    for batch in neighbours.batches(names, rows=ROWS_PER_BATCH):
        in_pool = pc.and_(
            pc.equal(batch.column("role_a"), pool), pc.equal(batch.column("role_b"), pool)
        )
        pairs = batch.filter(pc.and_(in_pool, pc.is_in(batch.column("image_a"), wanted)))
        columns = [pairs.column(name) for name in ("image_a", "image_b", "similarity")]
        yield pa.RecordBatch.from_arrays(columns, schema=PAIRS)
    return None


def _quantiser(
    embeddings: Table, pool: Mapping[str, Fragment], cells: int, context: Context
) -> Fragment | None:
    """Return trained codebooks. Those of an earlier run are reused while the pool only grows a little.

    See `load_codebooks`. None if no image of the pool has a vector.
    """
    scale = rounded_size(count_vectors(pool.values()))
    encoder = embeddings.manifest.stats.get("encoder")
    key = {"encoder": encoder, "cells": cells, "scale": scale}
    compared = sample_fragments(pool, COMPARED_IMAGES, 0, context, of=scale)
    codebooks = load_codebooks("cells", key, compared, context)
    if codebooks is not None:
        return codebooks
    _, sample = read_sample(sample_fragments(pool, sample_size(cells), 0, context))
    if not len(sample):
        return None
    trained = Codebooks(train_coarse(sample, min(cells, len(sample)), seed=0))
    return keep_codebooks("cells", key, codebooks_batch(trained), compared, context)


def _by_role(images: Table, fragments: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """Return fragments by role and name. All rows of a fragment have one source, and so one role."""
    by_role: dict[str, dict[str, T]] = {}
    for name, fragment in images.fragments.items():
        for role in fragment.record.counts:
            by_role.setdefault(role, {})[name] = fragments[name]
    return by_role


def _rows(method: str, roles: tuple[str, str], pairs: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield PAIRS, sorted by query, as rows of `neighbours`."""
    count = len(pairs)
    columns = {
        "method": pa.repeat(method, count),
        "role_a": pa.repeat(roles[0], count),
        "image_a": pairs.column("query_id"),
        "role_b": pa.repeat(roles[1], count),
        "image_b": pairs.column("image_id"),
        "similarity": pairs.column("similarity"),
        "rank": pa.array(_ranks(pairs)),
    }
    table = pa.table(columns, schema=contract("neighbours").arrow_schema())
    yield from table.to_batches(max_chunksize=ROWS_PER_BATCH)


def _ranks(pairs: pa.Table) -> npt.NDArray[np.int32]:
    """Return the rank of each pair among those of its query, from 1. Pairs are sorted by query."""
    query = pairs.column("query_id").to_numpy(zero_copy_only=False).astype("S32")
    return (ranks_in_runs(query) + 1).astype(np.int32)
