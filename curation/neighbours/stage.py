"""neighbours: near pairs of images, by vectors and by perceptual hashes. No cut-off but the floors."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.fragment import Fragment, Table
from curation.knn import codebooks
from curation.knn.blocks import block_join
from curation.knn.cells import cell_join
from curation.knn.choice import choose_join
from curation.knn.hamming import hash_join
from curation.knn.ivf import Codebooks, sample_size, train_coarse
from curation.knn.recall import Watch
from curation.knn.sample import read_sample, sampled_rows
from curation.quantise.stage import dimension
from curation.steps import JoinSpec, NeighboursStep
from curation.table import contract
from curation.units import Context, Rows, empty_batch

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
) -> Rows:
    """Find the k nearest of each image, role by role, for each level that the recipe asks for.

    Args:
        images: gives the role of each fragment.
        scores: gives the perceptual hashes.
        embeddings: the tables of the encoders of the levels near and semantic.
        params: the levels.

    Yields:
        ("all", batch of `neighbours`).

    Returns:
        For each level how it was searched, with its recall.
    """
    yield "all", empty_batch(contract("neighbours").arrow_schema())
    said: dict[str, Any] = {}
    if params.perceptual is not None:
        pairs = {name: (own, scores.fragments[name]) for name, own in images.fragments.items()}
        found = hash_join(_by_role(images, pairs), SOUGHT, params.perceptual, context)
        yield from _rows("perceptual", found)
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
        yield from _rows(method, block_join(by_role, SOUGHT, options, context, method))
        return said | {"recall": 1.0}
    books = _quantiser(embeddings, pool, choice.cells, context)
    watch = Watch("pool", pool, context)
    watch.choose(spec.recall_queries, seed=0)
    found = cell_join(by_role, SOUGHT, options, books, context)
    yield from _rows(method, watch.over(found))
    return said | {"cells": choice.cells} | watch.told(options)


def _quantiser(
    embeddings: Table, pool: Mapping[str, Fragment], cells: int, context: Context
) -> Fragment:
    """Return trained codebooks, those of an earlier run until the pool has grown fourfold."""
    key = {"encoder": embeddings.manifest.stats.get("encoder"), "cells": cells}
    kept = context.recall("cells", key)
    if kept is None:
        _, sample = read_sample(sampled_rows(pool, sample_size(cells), 0, context))
        trained = Codebooks(train_coarse(sample, min(cells, len(sample)), seed=0))
        context.remember("cells", key, codebooks.batch_of(trained))
        kept = context.recall("cells", key)
    assert kept is not None
    return kept


def _by_role(images: Table, fragments: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """Return fragments by role; a fragment comes from one source."""
    by_role: dict[str, dict[str, T]] = {}
    for name, fragment in images.fragments.items():
        for role in fragment.record.books:
            by_role.setdefault(role, {})[name] = fragments[name]
    return by_role


def _rows(method: str, pairs: Iterator[tuple[str, str, pa.Table]]) -> Iterator[Any]:
    """Yield pairs as rows of `neighbours`, with the rank of each among those of its query."""
    names = list(contract("neighbours").names)
    for query_role, base_role, table in pairs:
        count = len(table)
        columns = {
            "method": pa.array([method] * count, pa.string()),
            "role_a": pa.array([query_role] * count, pa.string()),
            "image_a": table.column("query_id"),
            "role_b": pa.array([base_role] * count, pa.string()),
            "image_b": table.column("image_id"),
            "similarity": table.column("similarity"),
            "rank": pa.array(_ranks(table)),
        }
        whole = pa.table([columns[name] for name in names], names=names)
        for batch in whole.to_batches(max_chunksize=BATCH):
            yield "all", batch


def _ranks(table: pa.Table) -> npt.NDArray[np.int32]:
    """Return the place of each row among those of its query, which stand together, from 1."""
    query = table.column("query_id").to_numpy(zero_copy_only=False).astype("S32")
    fresh = np.ones(len(query), dtype=bool)
    fresh[1:] = query[1:] != query[:-1]
    places = np.arange(len(query))
    first = np.maximum.accumulate(np.where(fresh, places, 0))
    return np.asarray(places - first + 1, dtype=np.int32)
