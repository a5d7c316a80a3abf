"""neighbours: near pairs of images, by vectors and by perceptual hashes. No cut-off but the floors."""

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
from curation.algorithms.knn import codebooks
from curation.algorithms.knn.blocks import PAIRS, block_join
from curation.algorithms.knn.cells import find_in_cells, merging, nearest_found
from curation.algorithms.knn.choice import choose_join
from curation.algorithms.knn.hamming import hash_join
from curation.algorithms.knn.ivf import Codebooks, sample_size, train_coarse
from curation.algorithms.knn.read import dimension
from curation.algorithms.knn.recall import Recall
from curation.algorithms.knn.sample import read_sample, sampled_rows
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.exchange import exchange
from curation.engine.fragment import Fragment
from curation.engine.manifest import FragmentRecord
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.neighbours.params import JoinSpec, NeighboursStep

# (role of the query, role of the base): where copies are sought.
SOUGHT = (("pool", "pool"), ("held_out", "pool"), ("held_out", "seed"), ("seed", "pool"))
BATCH = 65_536
T = TypeVar("T")


def neighbours(
    images: Table,
    scores: Table,
    embeddings: dict[str, Table],
    *,
    params: NeighboursStep,
    context: Context,
) -> StageOutput:
    """Find the k nearest of each image, role by role, for each level that the recipe asks for.

    Args:
        images: gives the role of each fragment.
        scores: gives the perceptual hashes.
        embeddings: the tables of the encoders of the levels near and semantic.
        params: the levels.

    Yields:
        ("all", batch of `neighbours`), and records of fragments that workers wrote.

    Returns:
        For each level how it was searched, with its recall.
    """
    yield "all", empty_batch(contract("neighbours").arrow_schema())
    said: dict[str, Any] = {}
    if params.perceptual is not None:
        pairs = {name: (own, scores.fragments[name]) for name, own in images.fragments.items()}
        found = hash_join(_by_role(images, pairs), SOUGHT, params.perceptual, context)
        yield from _here("perceptual", found)
        said["perceptual"] = {"search": "exact", "recall": 1.0}
    for method, spec in params.joins.items():
        vectors = embeddings[spec.encoder]
        said[method] = yield from _near(method, images, vectors, spec, context)
    return said


def _near(
    method: str, images: Table, embeddings: Table, spec: JoinSpec, context: Context
) -> Generator[Any, None, dict[str, Any]]:
    """Yield the pairs of one level; return how they were found."""
    by_role = _by_role(images, embeddings.fragments)
    pool = by_role.get("pool", {})
    rows = sum(fragment.rows for own in by_role.values() for fragment in own.values())
    choice = choose_join(spec, rows, dimension(embeddings))
    options = {"k": spec.k, "floor": spec.floor, "spread": spec.spread}
    said: dict[str, Any] = {
        "search": choice.join,
        "multiplications": {"exact": choice.exact, "cells": choice.by_cells},
    }
    if choice.join == "exact":
        yield from _here(method, block_join(by_role, SOUGHT, options, context, method))
        return said | {"recall": 1.0}
    books = _quantiser(embeddings, pool, choice.cells, context)
    recall = Recall("pool", pool, context)
    recall.choose(spec.recall_queries, seed=0)
    found = find_in_cells(by_role, SOUGHT, options, books, context)
    job = merging(found, near_rows, {"k": spec.k, "method": method})
    written = [
        record
        for own in exchange(replace(job, outputs=partial(_named, method)), context)
        for record in own.values()
    ]
    yield from written
    seen = _seen(written, recall.ids, context)
    return said | {"cells": choice.cells} | recall.told(options, seen)


def _named(method: str, part: int) -> dict[str, str]:
    return {f"{method}-{part:06d}": "neighbours"}


def near_rows(found: pa.Table, k: int, method: str) -> StageOutput:
    """Give the k nearest of each query as rows of `neighbours`; `found` is FOUND of some queries."""
    yield empty_batch(contract("neighbours").arrow_schema())
    for number, pairs in nearest_found(found, k):
        yield from _rows(method, SOUGHT[number], pa.Table.from_batches([pairs]))
    return None


def _seen(written: list[FragmentRecord], ids: Ids, context: Context) -> list[pa.Table]:
    """Return what some pool images found in the pool."""
    items = {
        record.name: {"near": Fragment(context.store, record), "ids": ids} for record in written
    }
    records = context.compute("recall, what was found", pairs_seen, items)
    return [Fragment(context.store, record).read() for record in records.values()]


def pairs_seen(near: Fragment, ids: Ids) -> StageOutput:
    """Give what some pool images found in the pool, as PAIRS; `near` is of `neighbours`."""
    yield empty_batch(PAIRS)
    wanted, pool = from_ids(ids), pa.scalar("pool")
    for batch in near.batches(["role_a", "image_a", "role_b", "image_b", "similarity"], rows=BATCH):
        own = pc.and_(
            pc.equal(batch.column("role_a"), pool), pc.equal(batch.column("role_b"), pool)
        )
        found = batch.filter(pc.and_(own, pc.is_in(batch.column("image_a"), wanted)))
        columns = [found.column(name) for name in ("image_a", "image_b", "similarity")]
        yield pa.RecordBatch.from_arrays(columns, schema=PAIRS)
    return None


def _quantiser(
    embeddings: Table, pool: Mapping[str, Fragment], cells: int, context: Context
) -> Fragment:
    """Return trained codebooks, those of an earlier run until the pool has grown fourfold."""
    key = {"encoder": embeddings.manifest.stats.get("encoder"), "cells": cells}
    kept = context.load_state("cells", key)
    if kept is None:
        _, sample = read_sample(sampled_rows(pool, sample_size(cells), 0, context))
        trained = Codebooks(train_coarse(sample, min(cells, len(sample)), seed=0))
        context.save_state("cells", key, codebooks.batch_of(trained))
        kept = context.load_state("cells", key)
    assert kept is not None
    return kept


def _by_role(images: Table, fragments: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """Return fragments by role; a fragment comes from one source."""
    by_role: dict[str, dict[str, T]] = {}
    for name, fragment in images.fragments.items():
        for role in fragment.record.counts:
            by_role.setdefault(role, {})[name] = fragments[name]
    return by_role


def _here(method: str, pairs: Iterator[tuple[str, str, pa.Table]]) -> Iterator[Any]:
    """Yield pairs as rows of `neighbours` that are written here."""
    for query_role, base_role, table in pairs:
        for batch in _rows(method, (query_role, base_role), table):
            yield "all", batch


def _rows(method: str, roles: tuple[str, str], table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield pairs as rows of `neighbours`, with the rank of each among those of its query."""
    names = list(contract("neighbours").names)
    count = len(table)
    columns = {
        "method": pa.repeat(method, count),
        "role_a": pa.repeat(roles[0], count),
        "image_a": table.column("query_id"),
        "role_b": pa.repeat(roles[1], count),
        "image_b": table.column("image_id"),
        "similarity": table.column("similarity"),
        "rank": pa.array(_ranks(table)),
    }
    whole = pa.table([columns[name] for name in names], names=names)
    yield from whole.to_batches(max_chunksize=BATCH)


def _ranks(table: pa.Table) -> npt.NDArray[np.int32]:
    """Return the place of each row among those of its query, which stand together, from 1."""
    query = table.column("query_id").to_numpy(zero_copy_only=False).astype("S32")
    fresh = np.ones(len(query), dtype=bool)
    fresh[1:] = query[1:] != query[:-1]
    places = np.arange(len(query))
    first = np.maximum.accumulate(np.where(fresh, places, 0))
    return np.asarray(places - first + 1, dtype=np.int32)
