"""Counts the work of the search of the pool: of its index, and of `match`."""

from __future__ import annotations

from dataclasses import replace

from curation.algorithms.knn.ivf import ITERATIONS, TRAIN_PER_LIST, sample_size
from curation.algorithms.knn.search_plan import (
    SearchLimits,
    SearchSize,
    SearchWork,
    choose_layout,
    work_of,
)
from curation.inspect.cost.clusters import quantiser_bytes
from curation.inspect.cost.work import CostInputs, Work, read_vectors

MATCH_ROW = 120
"""Bytes of a row of `matches`."""
MERGED_CANDIDATE = 1500
"""Bytes of a table that take as long as to write, send and merge a candidate, by
benchmarks/results/growth.md."""
NAMED_FRAGMENT = 1500
"""Bytes of the driver for the record of a fragment that is named to a task."""


def quantise_work(inputs: CostInputs) -> Work:
    """Count the work of training the codebooks of the index."""
    choice, dim = inputs.search_choice, inputs.match_dim
    if choice.index == "exact":
        return Work("quantise", 0)
    sample = min(inputs.counts.eligible, sample_size(choice.nlist))
    points = min(sample, TRAIN_PER_LIST * choice.nlist)
    return Work(
        "quantise",
        choice.nlist,
        stored=4 * choice.nlist * dim,
        product_flop=2 * points * choice.nlist * dim * ITERATIONS,
        units_by_rate=read_vectors(inputs.counts.pool, dim),
        driver=quantiser_bytes(choice.nlist, sample, dim),
    )


def index_work(inputs: CostInputs) -> Work:
    """Count the work of finding the list of every vector."""
    choice, counts = inputs.search_choice, inputs.counts
    if choice.index == "exact":
        return Work("index", 0)
    code_bytes = inputs.recipe.match.subquantizers if choice.index == "ivf_pq" else 0
    return Work(
        "index",
        counts.images,
        stored=counts.images * (40 + code_bytes),
        # Tasks together read no more of codebooks than of vectors, but each at least once.
        moved=min(
            counts.fragments * 4 * choice.nlist * inputs.match_dim,
            counts.images * 2 * inputs.match_dim + 4 * choice.nlist * inputs.match_dim,
        ),
        product_flop=2 * counts.images * choice.nlist * inputs.match_dim,
    )


def match_work(inputs: CostInputs) -> Work:
    """Count the work of searching the pool for the neighbours of seeds, and of measuring its recall."""
    size, limits = search_size(inputs), search_limits(inputs)
    if not size.kept:
        return Work("match", 0)
    work = choose_layout(size, limits)
    flop, moved = 2 * work.multiplications, work.moved
    if size.nlist:
        sample = _recall_work(inputs, size, limits)
        flop, moved = flop + 2 * sample.multiplications, moved + sample.moved
    exact = not size.nlist
    return Work(
        "match",
        size.kept,
        stored=size.kept * MATCH_ROW + work.stored,
        # Seeds are sent to their blocks, and candidates to the tasks that merge them.
        moved=moved + 2 * size.vector_bytes * size.query_count + work.stored_candidates,
        product_flop=flop if exact else 0,
        cell_flop=0 if exact else flop,
        units_by_rate={"table_mb": (work.candidates + size.kept) * MERGED_CANDIDATE / 1e6},
        driver=NAMED_FRAGMENT * work.blocks * work.sources * (2 if exact else 1),
    )


def search_alternatives(inputs: CostInputs) -> dict[str, list[Work]]:
    """Return the works of `quantise`, `index` and `match` by exact search and by an index.

    The index is that of the recipe, or `ivf_flat` if the recipe searches exactly. Without queries there
    is nothing to compare.
    """
    if not search_size(inputs).kept:
        return {}
    chosen = inputs.search_choice.index
    works = {}
    for index in ("exact", "ivf_flat" if chosen == "exact" else chosen):
        match = inputs.recipe.match.model_copy(update={"index": index})
        other = replace(inputs, recipe=inputs.recipe.model_copy(update={"match": match}))
        works[index] = [quantise_work(other), index_work(other), match_work(other)]
    return works


def search_size(inputs: CostInputs) -> SearchSize:
    """Return what the work of the search follows from."""
    counts, recipe, choice = inputs.counts, inputs.recipe, inputs.search_choice
    indexed = choice.index != "exact"
    return SearchSize(
        queries=inputs.queries,
        pool=counts.pool,
        eligible=counts.eligible,
        fragments=max(1, round(counts.fragments * counts.pool / max(counts.images, 1))),
        dim=inputs.match_dim,
        nlist=choice.nlist if indexed else 0,
        nprobe=min(recipe.match.nprobe, choice.nlist) if indexed else 0,
    )


def search_limits(inputs: CostInputs) -> SearchLimits:
    """Return the bounds on the tasks of the search."""
    return SearchLimits.of_block(inputs.recipe.match.block_gib)


def _recall_work(inputs: CostInputs, size: SearchSize, limits: SearchLimits) -> SearchWork:
    """Count the exact search for the sample of queries that measures the recall of an index."""
    sample = min(inputs.recipe.match.recall_queries, size.query_count)
    share = sample / size.query_count
    queries = {k: count * share for k, count in size.queries.items()}
    exact = SearchSize(queries, size.pool, size.eligible, size.fragments, size.dim)
    return work_of(exact, limits, "stream")
