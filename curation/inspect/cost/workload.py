"""Counts the work of each stage of this version: rows, bytes, operations, memory of the driver.

A new stage needs a function here and an entry in `STAGE_WORK`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

from curation.algorithms.knn.broadcast import MERGED_ON_DRIVER
from curation.algorithms.knn.ivf import ITERATIONS, TRAIN_PER_LIST, sample_size
from curation.errors import RecipeError
from curation.flow import plan
from curation.inspect.cost.claims import retrieve_work, rows_at_once
from curation.inspect.cost.counts import expected_counts
from curation.inspect.cost.encoder_profiles import EncoderProfile
from curation.inspect.cost.joins import hash_join, vector_joins
from curation.inspect.cost.rates import Assumptions
from curation.inspect.cost.work import PART_ON_DRIVER, CostInputs, Work
from curation.recipe import Recipe
from curation.stages.assemble.stage import ROWS_AT_ONCE as SIZES_AT_ONCE
from curation.stages.tally.params import TallyStep
from curation.stages.tally.parts import ROWS_PER_PART as ROWS_PER_TALLY_PART
from curation.stages.verify.measured_pairs import CACHED_IMAGES

KIB = 1024
MAX_DRIVER_PAIRS = 5e7
"""Largest number of pairs that are in the driver's memory at once."""
NARROW_ROW = 120
"""Bytes of a narrow row: ids, a status, a number or two."""
DRIVER_ROW = 48
"""Bytes of the driver for an image of the dataset: its order key, its size, and their order."""
REDUCED_IMAGE = 12 * KIB
"""Bytes of an image at the size at which verify compares it."""
CANDIDATE = 44
"""Bytes of a candidate of a search: query, image id, similarity."""
CAPTION_ROW = 200
"""Bytes of a row with its caption."""
TALLY_ROW = 120
"""Bytes of the driver for a row whose caption it counts: its keys, their order, and copies of both."""


def work_of_stages(
    recipe: Recipe, encoders: Mapping[str, EncoderProfile], assumptions: Assumptions
) -> list[Work]:
    """Return the work of every stage that the recipe runs, in order.

    Args:
        recipe: with `count` on every source.
        encoders: profiles of the encoders by their names in the recipe.
        assumptions: what only the data can show.

    Raises:
        RecipeError: the counts of the recipe are incomplete, or a stage has no entry in `STAGE_WORK`.
    """
    inputs = CostInputs(recipe, expected_counts(recipe, assumptions), encoders, assumptions)
    return [stage_work(step.name)(inputs) for step in plan(recipe)]


def stage_work(stage: str) -> Callable[[CostInputs], Work]:
    """Return the function that counts the work of a stage.

    Raises:
        RecipeError: the stage has no entry in `STAGE_WORK`.
    """
    if stage not in STAGE_WORK:
        raise RecipeError(
            f"The cost of stage {stage!r} is unknown, so the cost of the recipe would be too low",
            fix=(
                "Add an entry for it to STAGE_WORK in curation/inspect/cost/workload.py. Stages "
                f"with an entry: {', '.join(STAGE_WORK)}"
            ),
        )
    return STAGE_WORK[stage]


def _ingest(inputs: CostInputs) -> Work:
    rows = inputs.counts.rows
    return Work(
        "ingest",
        rows,
        stored=rows * inputs.assumptions.row_bytes,
        driver=16 * rows,
        units_by_rate={"ingest_rows": rows},
    )


def _fetch(inputs: CostInputs) -> Work:
    counts, assumptions = inputs.counts, inputs.assumptions
    if inputs.recipe.fetch.pixels == "none":
        rows_alone = counts.rows * assumptions.row_bytes
        return Work(
            "fetch", counts.rows, stored=rows_alone, units_by_rate={"ingest_rows": counts.rows}
        )
    images = counts.images * assumptions.stored_kib * KIB
    return Work(
        "fetch",
        counts.rows,
        stored=images + counts.rows * assumptions.row_bytes,
        received=counts.images * assumptions.original_kib * KIB,
        units_by_rate={"fetch_rows": counts.rows},
    )


def _screen(inputs: CostInputs) -> Work:
    has_pixels = inputs.recipe.fetch.pixels == "fetch"
    return Work(
        "screen",
        inputs.counts.rows,
        stored=inputs.counts.rows * NARROW_ROW,
        units_by_rate={"screen_images": inputs.counts.images if has_pixels else 0},
    )


def _embed(inputs: CostInputs) -> Work:
    images, encoders = inputs.counts.images, inputs.encoders.values()
    return Work(
        "embed",
        inputs.counts.rows,
        stored=images * sum(2 * encoder.dim + 40 for encoder in encoders),
        model_flop=images * sum(encoder.flop for encoder in encoders),
        units_by_rate={"decode_images": images * len(inputs.recipe.embed.computed)},
    )


def _score(inputs: CostInputs) -> Work:
    rows, images = inputs.counts.rows, inputs.counts.images
    heads = list(inputs.recipe.score.heads.values())
    vector_bytes = sum(2 * inputs.encoders[name].dim for name in {head.encoder for head in heads})
    return Work(
        "score",
        rows,
        stored=rows * (40 + 4 * len(heads)),
        cpu_flop=images * sum(2 * inputs.encoders[head.encoder].dim for head in heads),
        units_by_rate={"table_mb": images * vector_bytes / 1e6},
    )


def _neighbours(inputs: CostInputs) -> Work:
    pairs = inputs.counts.images * inputs.assumptions.near_pairs
    flop, moved = vector_joins(inputs)
    comparisons, sent = hash_join(inputs)
    return Work(
        "neighbours",
        pairs,
        stored=pairs * NARROW_ROW,
        moved=moved + sent,
        cpu_flop=flop,
        driver=100 * min(pairs, MAX_DRIVER_PAIRS),
        units_by_rate={"hash_comparisons": comparisons},
    )


def _verify(inputs: CostInputs) -> Work:
    verify = inputs.recipe.dedup.verify
    if verify is None:
        return Work("verify", 0)
    images = inputs.counts.images
    pairs = images * min(inputs.assumptions.near_pairs, verify.k) / 2
    return Work(
        "verify",
        pairs,
        stored=pairs * NARROW_ROW + images * REDUCED_IMAGE,
        moved=pairs * 2 * CACHED_IMAGES * REDUCED_IMAGE,
        driver=pairs * 4 * 64,
        units_by_rate={"compared_pairs": pairs, "decode_images": images},
    )


def _dedup(inputs: CostInputs) -> Work:
    rows, images = inputs.counts.rows, inputs.counts.images
    on_driver = rows <= inputs.recipe.dedup.rows_at_once
    row_bytes = 310 + 13 * inputs.assumptions.near_pairs
    return Work(
        "dedup",
        rows,
        stored=rows * NARROW_ROW,
        # On workers, rows are sent with their captions several times: by label, by part, by fragment.
        moved=images * CAPTION_ROW * (1 if on_driver else 6),
        driver=images * row_bytes if on_driver else 0,
        # benchmarks/results/parts.md: 14 µs per row on the driver, 26 µs of a core on workers.
        units_by_rate={"table_mb": images * (2500 if on_driver else 4500) / 1e6},
    )


def _tally(inputs: CostInputs) -> Work:
    rows, images = inputs.counts.rows, inputs.counts.images
    on_driver = rows <= rows_at_once(TallyStep)
    return Work(
        "tally",
        rows,
        stored=rows * NARROW_ROW / 2,
        # On workers, keys are sent to their caption, and counts to their fragment.
        moved=images * (24 if on_driver else 32 + 12),
        driver=TALLY_ROW * rows if on_driver else 2 * PART_ON_DRIVER * rows / ROWS_PER_TALLY_PART,
        units_by_rate={"table_mb": images * CAPTION_ROW / 1e6},
    )


def _select(inputs: CostInputs) -> Work:
    rows = inputs.counts.rows
    return Work(
        "select",
        rows,
        stored=rows * NARROW_ROW / 2,
        units_by_rate={"table_mb": rows * 3 * NARROW_ROW / 1e6},
    )


def _cluster(inputs: CostInputs) -> Work:
    dim, params = inputs.semantic_dim, inputs.recipe.cluster
    levels = params.levels
    points = min(inputs.counts.eligible, levels[0] * params.max_points_per_centroid)
    flop = 2 * points * levels[0] * dim * (params.iterations + 1)
    for below, size in pairwise(levels):
        # Each round trains on at most all centroids below, and then assigns all of them.
        passes = params.resampling.rounds * (params.iterations + 2)
        flop += 2 * below * size * dim * passes
    sample_bytes = points * 2 * dim
    in_memory = sample_bytes <= params.memory_gib * 2**30
    return Work(
        "cluster",
        sum(levels),
        stored=sum(levels) * 4 * dim + sample_bytes,
        moved=sample_bytes * (1 if in_memory else params.iterations + 2),
        cpu_flop=flop,
        driver=levels[0] * dim * 12 + (sample_bytes if in_memory else 0),
    )


def _assign(inputs: CostInputs) -> Work:
    counts, dim, centroids = inputs.counts, inputs.semantic_dim, inputs.recipe.cluster.levels[0]
    return Work(
        "assign",
        counts.rows,
        stored=counts.rows * NARROW_ROW / 2,
        moved=counts.fragments * centroids * 4 * dim,
        cpu_flop=2 * counts.images * centroids * dim,
    )


def _quantise(inputs: CostInputs) -> Work:
    choice, dim = inputs.search_choice, inputs.match_dim
    if choice.index == "exact":
        return Work("quantise", 0)
    sample = min(inputs.counts.eligible, sample_size(choice.nlist))
    points = min(sample, TRAIN_PER_LIST * choice.nlist)
    return Work(
        "quantise",
        choice.nlist,
        stored=4 * choice.nlist * dim,
        cpu_flop=2 * points * choice.nlist * dim * ITERATIONS,
        driver=2 * dim * sample,
    )


def _index(inputs: CostInputs) -> Work:
    choice, counts = inputs.search_choice, inputs.counts
    if choice.index == "exact":
        return Work("index", 0)
    code_bytes = inputs.recipe.match.subquantizers if choice.index == "ivf_pq" else 0
    return Work(
        "index",
        counts.images,
        stored=counts.images * (40 + code_bytes),
        moved=counts.fragments * 4 * choice.nlist * inputs.match_dim,
        cpu_flop=2 * counts.images * choice.nlist * inputs.match_dim,
    )


def _match(inputs: CostInputs) -> Work:
    counts, dim, k = inputs.counts, inputs.match_dim, inputs.recipe.largest_k
    if k == 0:
        return Work("match", 0)
    matches = counts.seeds * k
    shards = counts.fragments * counts.pool / max(counts.images, 1)
    merged_on_driver = min(matches * shards, MERGED_ON_DRIVER)
    return Work(
        "match",
        matches,
        stored=matches * (NARROW_ROW + shards * CANDIDATE),
        moved=shards * counts.seeds * (2 * dim + CANDIDATE * k),
        cpu_flop=_search_flop(inputs),
        driver=(merged_on_driver + matches) * CANDIDATE,
    )


def _search_flop(inputs: CostInputs) -> float:
    choice, counts, params = inputs.search_choice, inputs.counts, inputs.recipe.match
    if choice.index == "exact":
        return 2 * choice.exact
    probed = min(1.0, params.nprobe / choice.nlist)
    per_candidate = inputs.match_dim if choice.index == "ivf_flat" else params.subquantizers
    flop = 2 * counts.seeds * (counts.fragments * choice.nlist * inputs.match_dim)
    return flop + 2 * counts.seeds * counts.eligible * probed * per_candidate


def _assemble(inputs: CostInputs) -> Work:
    counts, assumptions = inputs.counts, inputs.assumptions
    pixels = assumptions.stored_kib * KIB if inputs.recipe.kept_pixels != "none" else 0
    row_bytes = assumptions.row_bytes + 3 * NARROW_ROW + pixels
    read = counts.images * assumptions.row_bytes + counts.final * pixels
    return Work(
        "assemble",
        counts.final,
        stored=counts.final * row_bytes,
        # Each image goes to the worker that writes its file.
        moved=counts.final * row_bytes,
        driver=DRIVER_ROW * min(counts.final, SIZES_AT_ONCE),
        units_by_rate={"table_mb": (2 * read + counts.final * row_bytes) / 1e6},
    )


STAGE_WORK: dict[str, Callable[[CostInputs], Work]] = {
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
    "retrieve": retrieve_work,
    "assemble": _assemble,
}
"""For each stage, the function that counts its work."""
