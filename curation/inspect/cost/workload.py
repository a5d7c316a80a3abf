"""Counts the work of each stage of this version: rows, bytes, operations, memory of the driver.

A new stage needs a function here and an entry in `STAGE_WORK`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from curation.errors import RecipeError
from curation.flow import plan
from curation.inspect.cost.claims import retrieve_work
from curation.inspect.cost.clusters import assign_work, cluster_work
from curation.inspect.cost.counts import expected_counts
from curation.inspect.cost.encoder_profiles import EncoderProfile
from curation.inspect.cost.joins import hash_join, vector_joins
from curation.inspect.cost.pixel_pairs import verify_work
from curation.inspect.cost.rates import Assumptions
from curation.inspect.cost.searches import index_work, match_work, quantise_work
from curation.inspect.cost.work import PART_ON_DRIVER, CostInputs, Work, rows_at_once
from curation.recipe import Recipe
from curation.stages.assemble.stage import ROWS_AT_ONCE as SIZES_AT_ONCE
from curation.stages.dedup.partitioned_inputs import ROWS_PER_PART as ROWS_PER_DEDUP_PART
from curation.stages.ingest.duplicates import ROWS_PER_PART
from curation.stages.tally.params import TallyStep
from curation.stages.tally.parts import ROWS_PER_PART as ROWS_PER_TALLY_PART

KIB = 1024
NARROW_ROW = 120
"""Bytes of a narrow row: ids, a status, a number or two."""
DRIVER_ROW = 48
"""Bytes of the driver for an image of the dataset: its order key, its size, and their order."""
KEYED_ROW = 64
"""Bytes of a row of a list that is sent to find repeated ones: its key, place and pair_id."""
CAPTION_ROW = 200
"""Bytes of a row with its caption."""
# benchmarks/results/growth.md: the time of a row, as bytes of a table that take as long.
TALLIED_ROW, SELECTED_ROW, ASSEMBLED_ROW, ASSEMBLED_CLAIM = 750, 700, 1_200, 8_000
DEDUP_EXCHANGES = 24
"""Exchanges of dedup on workers, with some 12 rounds for components, of two each at most."""
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
    inputs = cost_inputs(recipe, encoders, assumptions)
    works = [stage_work(step.name)(inputs) for step in plan(recipe)]
    # Every stage that works knows its fragments.
    records = inputs.counts.fragments * PART_ON_DRIVER
    return [replace(work, driver=work.driver + records) if work.rows else work for work in works]


def cost_inputs(
    recipe: Recipe, encoders: Mapping[str, EncoderProfile], assumptions: Assumptions
) -> CostInputs:
    """Return what the work of every stage follows from; the arguments are those of `work_of_stages`."""
    return CostInputs(recipe, expected_counts(recipe, assumptions), encoders, assumptions)


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
        # Lists are read, grouped by host, and cut into fragments.
        moved=rows * (KEYED_ROW + 2 * inputs.assumptions.row_bytes),
        driver=2 * (rows / ROWS_PER_PART + 1) * PART_ON_DRIVER,
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
    dedup = inputs.recipe.dedup
    has_levels = dedup.perceptual is not None or bool(dedup.vector_levels)
    pairs = inputs.counts.images * inputs.assumptions.near_pairs if has_levels else 0
    hashes, vectors = hash_join(inputs), vector_joins(inputs)
    return Work(
        "neighbours",
        pairs,
        stored=pairs * NARROW_ROW,
        moved=hashes.moved + vectors.moved,
        product_flop=vectors.product_flop,
        near_cell_flop=vectors.near_cell_flop,
        driver=hashes.driver + vectors.driver,
        units_by_rate={"hash_comparisons": hashes.comparisons},
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
        driver=images * row_bytes
        if on_driver
        else DEDUP_EXCHANGES * (images / ROWS_PER_DEDUP_PART + 1) * PART_ON_DRIVER,
        # benchmarks/results/growth.md: 7 µs of a core per row on the driver, 20 on workers with what is
        # sent.
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
        units_by_rate={"table_mb": images * TALLIED_ROW / 1e6},
    )


def _select(inputs: CostInputs) -> Work:
    rows = inputs.counts.rows
    return Work(
        "select",
        rows,
        stored=rows * NARROW_ROW / 2,
        units_by_rate={"table_mb": rows * SELECTED_ROW / 1e6},
    )


def _assemble(inputs: CostInputs) -> Work:
    counts, assumptions = inputs.counts, inputs.assumptions
    pixels = assumptions.stored_kib * KIB if inputs.recipe.kept_pixels != "none" else 0
    row_bytes = assumptions.row_bytes + 3 * NARROW_ROW + pixels
    read = counts.images * assumptions.row_bytes + counts.final * pixels
    rows = counts.images * ASSEMBLED_ROW + counts.final * (row_bytes + ASSEMBLED_CLAIM)
    return Work(
        "assemble",
        counts.final,
        stored=counts.final * row_bytes,
        # Each image goes to the worker that writes its file.
        moved=counts.final * row_bytes,
        driver=DRIVER_ROW * min(counts.final, SIZES_AT_ONCE),
        units_by_rate={"table_mb": (2 * read + rows) / 1e6},
    )


STAGE_WORK: dict[str, Callable[[CostInputs], Work]] = {
    "ingest": _ingest,
    "fetch": _fetch,
    "screen": _screen,
    "embed": _embed,
    "score": _score,
    "neighbours": _neighbours,
    "verify": verify_work,
    "dedup": _dedup,
    "tally": _tally,
    "select": _select,
    "cluster": cluster_work,
    "assign": assign_work,
    "quantise": quantise_work,
    "index": index_work,
    "match": match_work,
    "retrieve": retrieve_work,
    "assemble": _assemble,
}
"""For each stage, the function that counts its work."""
