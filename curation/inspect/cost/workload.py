"""What each stage has to do, as this version does it: rows, bytes, operations, memory of the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from curation.algorithms.knn.blocks import ROWS_PER_BLOCK
from curation.algorithms.knn.broadcast import MERGED_ON_DRIVER
from curation.algorithms.knn.choice import SearchChoice, choose_join, choose_search
from curation.algorithms.knn.hamming import HASHES_PER_BLOCK
from curation.algorithms.knn.ivf import ITERATIONS, TRAIN_PER_LIST, sample_size
from curation.flow import plan
from curation.inspect.cost.counts import Counts, counts_of
from curation.inspect.cost.rates import Assumptions
from curation.inspect.cost.shapes import Shape
from curation.recipe import Recipe
from curation.stages.verify.stage import IMAGES_PER_ROW_GROUP

KIB = 1024
PASSING = 5e7
"""Pairs that pass through the driver at once, at most."""
HASHED = 1_000_000
"""Hashes that the rate of queries was measured against."""
BOOKKEEPING = 120
"""Bytes of a narrow row: identities, a status, a number or two."""


@dataclass(frozen=True)
class Work:
    """What a stage does in all. `moved` are bytes that tasks read beyond their own fragments.

    `seconds_of` names rates by the number of things that each does: {"screen_images": 5e9}.
    """

    stage: str
    rows: float
    stored: float = 0
    moved: float = 0
    received: float = 0
    cpu_flop: float = 0
    model_flop: float = 0
    driver: float = 0
    seconds_of: Mapping[str, float] | None = None


def work_of(recipe: Recipe, shapes: Mapping[str, Shape], given: Assumptions) -> list[Work]:
    """Return the work of every stage that the recipe runs.

    Args:
        recipe: with `count` on every source.
        shapes: of each encoder by its name in the recipe.
        given: what only the data will show.
    """
    counts = counts_of(recipe, given)
    stages = {step.name for step in plan(recipe)}
    makers = {
        "ingest": _ingest,
        "fetch": _fetch,
        "screen": _screen,
        "embed": _embed,
        "score": _score,
        "neighbours": _neighbours,
        "verify": _verify,
        "dedup": _dedup,
        "tally": _tally,
        "select": _select,
        "cluster": _cluster,
        "assign": _assign,
        "quantise": _quantise,
        "index": _index,
        "match": _match,
        "retrieve": _retrieve,
        "assemble": _assemble,
    }
    return [make(recipe, counts, shapes, given) for name, make in makers.items() if name in stages]


Shapes = Mapping[str, Shape]


def _ingest(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    return Work(
        "ingest",
        counts.asked,
        stored=counts.asked * given.row_bytes,
        driver=16 * counts.asked,
        seconds_of={"ingest_rows": counts.asked},
    )


def _fetch(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    return Work(
        "fetch",
        counts.asked,
        stored=counts.images * given.stored_kib * KIB + counts.asked * given.row_bytes,
        received=counts.images * given.original_kib * KIB,
        seconds_of={"fetch_rows": counts.asked},
    )


def _screen(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    return Work(
        "screen",
        counts.asked,
        stored=counts.asked * BOOKKEEPING,
        seconds_of={"screen_images": counts.images},
    )


def _embed(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    return Work(
        "embed",
        counts.asked,
        stored=counts.images * sum(2 * shape.dim + 40 for shape in shapes.values()),
        model_flop=counts.images * sum(shape.flop for shape in shapes.values()),
        seconds_of={"decode_images": counts.images * len(shapes)},
    )


def _score(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    heads = list(recipe.score.heads.values())
    read = sum(2 * shapes[name].dim for name in {head.encoder for head in heads})
    return Work(
        "score",
        counts.asked,
        stored=counts.asked * (40 + 4 * len(heads)),
        cpu_flop=counts.images * sum(2 * shapes[head.encoder].dim for head in heads),
        seconds_of={"table_mb": counts.images * read / 1e6},
    )


def _neighbours(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    rows = counts.images
    hashed = recipe.dedup.perceptual is not None
    found = rows * given.near_pairs
    flop = moved = 0.0
    for level in recipe.dedup.vector_levels.values():
        dim = shapes[level.encoder].dim
        choice = choose_join(level, int(rows), dim)
        if choice.join == "exact":
            # Pool among itself, and each other role against the pool and the seeds.
            flop += 2 * dim * (counts.pool * rows + counts.held_out * counts.seeds)
            moved += max(1.0, rows / ROWS_PER_BLOCK) * rows * 2 * dim
        else:
            flop += 2 * choice.by_cells
            # Sent once to each cell.
            moved += level.spread * rows * 2 * dim
    return Work(
        "neighbours",
        found,
        stored=found * BOOKKEEPING,
        moved=moved + (rows * max(1.0, rows / HASHES_PER_BLOCK) * 32 if hashed else 0),
        cpu_flop=flop,
        driver=100 * min(found, PASSING),
        seconds_of={"hash_queries": rows * max(1.0, rows / HASHED) if hashed else 0},
    )


def _verify(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    verify = recipe.dedup.verify
    if verify is None:
        return Work("verify", 0)
    pairs = counts.images * min(given.near_pairs, verify.k) / 2
    reduced = 12 * KIB * counts.images
    return Work(
        "verify",
        pairs,
        stored=pairs * BOOKKEEPING + reduced,
        moved=pairs * 2 * IMAGES_PER_ROW_GROUP * 12 * KIB,
        driver=pairs * 3 * 64,
        seconds_of={"compared_pairs": pairs, "decode_images": counts.images},
    )


def _dedup(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    here = counts.asked <= recipe.dedup.rows_at_once
    return Work(
        "dedup",
        counts.asked,
        stored=counts.asked * BOOKKEEPING,
        # In parts rows go with their captions to the labels, to their part and to their fragment.
        moved=counts.images * 200 * (1 if here else 6),
        driver=counts.images * (310 + 13 * given.near_pairs) if here else 0,
        # By benchmarks/results/parts.md: 14 µs a row here, 26 of a core in parts.
        seconds_of={"table_mb": counts.images * (2500 if here else 4500) / 1e6},
    )


def _tally(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    return Work(
        "tally",
        counts.asked,
        stored=counts.asked * BOOKKEEPING / 2,
        moved=counts.images * 24,
        driver=counts.asked * 4 + min(counts.pool, 2**27) * 80,
        seconds_of={"table_mb": counts.images * 200 / 1e6},
    )


def _select(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    read = counts.asked * 3 * BOOKKEEPING
    return Work(
        "select",
        counts.asked,
        stored=counts.asked * BOOKKEEPING / 2,
        seconds_of={"table_mb": read / 1e6},
    )


def _cluster(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    dim = shapes[recipe.semantic_encoder].dim
    levels, params = recipe.cluster.levels, recipe.cluster
    points = min(counts.eligible, levels[0] * params.max_points_per_centroid)
    flop = 2 * points * levels[0] * dim * (params.iterations + 1)
    for below, size in pairwise(levels):
        # Each round trains on at most all centroids below, and assigns them all.
        passes = params.resampling.rounds * (params.iterations + 2)
        flop += 2 * below * size * dim * passes
    size_of_sample = points * 2 * dim
    in_memory = size_of_sample <= params.memory_gib * 2**30
    passes = 1 if in_memory else params.iterations + 2
    return Work(
        "cluster",
        sum(levels),
        stored=sum(levels) * 4 * dim + size_of_sample,
        moved=size_of_sample * passes,
        cpu_flop=flop,
        driver=levels[0] * dim * 12 + (size_of_sample if in_memory else 0),
    )


def _assign(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    dim = shapes[recipe.semantic_encoder].dim
    centroids = recipe.cluster.levels[0]
    return Work(
        "assign",
        counts.asked,
        stored=counts.asked * BOOKKEEPING / 2,
        moved=counts.fragments * centroids * 4 * dim,
        cpu_flop=2 * counts.images * centroids * dim,
    )


def _choice(recipe: Recipe, counts: Counts, dim: int) -> SearchChoice:
    return choose_search(
        recipe.match, recipe.largest_k, int(counts.seeds), int(counts.eligible), dim
    )


def _quantise(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    dim = shapes[recipe.match_encoder].dim
    choice = _choice(recipe, counts, dim)
    if choice.index == "exact":
        return Work("quantise", 0)
    sample = min(counts.eligible, sample_size(choice.nlist))
    flop = 2 * min(sample, TRAIN_PER_LIST * choice.nlist) * choice.nlist * dim * ITERATIONS
    stored = 4 * choice.nlist * dim
    return Work("quantise", choice.nlist, stored=stored, cpu_flop=flop, driver=2 * dim * sample)


def _index(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    dim = shapes[recipe.match_encoder].dim
    choice = _choice(recipe, counts, dim)
    if choice.index == "exact":
        return Work("index", 0)
    coded = recipe.match.subquantizers if choice.index == "ivf_pq" else 0
    return Work(
        "index",
        counts.images,
        stored=counts.images * (40 + coded),
        moved=counts.fragments * 4 * choice.nlist * dim,
        cpu_flop=2 * counts.images * choice.nlist * dim,
    )


def _match(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    dim, k = shapes[recipe.match_encoder].dim, recipe.largest_k
    if k == 0:
        return Work("match", 0)
    choice = _choice(recipe, counts, dim)
    if choice.index == "exact":
        flop = 2 * choice.exact
    else:
        probed = min(1.0, recipe.match.nprobe / choice.nlist)
        each = dim if choice.index == "ivf_flat" else recipe.match.subquantizers
        flop = 2 * counts.seeds * (counts.fragments * choice.nlist * dim)
        flop += 2 * counts.seeds * counts.eligible * probed * each
    shards = counts.fragments * counts.pool / max(counts.images, 1)
    merged_here = min(counts.seeds * k * shards, MERGED_ON_DRIVER)
    return Work(
        "match",
        counts.seeds * k,
        stored=counts.seeds * k * (BOOKKEEPING + shards * 44),
        moved=shards * counts.seeds * (2 * dim + 44 * k),
        cpu_flop=flop,
        driver=(merged_here + counts.seeds * k) * 44,
    )


def _retrieve(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    found = counts.seeds * recipe.largest_k
    return Work(
        "retrieve",
        counts.final,
        stored=counts.final * BOOKKEEPING,
        moved=counts.images * BOOKKEEPING + found * BOOKKEEPING,
        driver=100 * counts.images + 480 * counts.final,
        seconds_of={"table_mb": (counts.asked + found) * BOOKKEEPING / 1e6},
    )


def _assemble(recipe: Recipe, counts: Counts, shapes: Shapes, given: Assumptions) -> Work:
    pixels = given.stored_kib * KIB if recipe.assemble.pixels else 0
    row = given.row_bytes + 3 * BOOKKEEPING + pixels
    read = counts.images * given.row_bytes + counts.final * pixels
    return Work(
        "assemble",
        counts.final,
        stored=counts.final * row,
        seconds_of={"table_mb": (read + counts.final * row) / 1e6},
    )
