"""Counts the work of the joins that find near pairs."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from curation.algorithms.knn.blocks import ROWS_PER_BLOCK
from curation.algorithms.knn.cells import BYTES_PER_GROUP
from curation.algorithms.knn.choice import choose_join
from curation.algorithms.knn.hamming import HASHES_COMPARED
from curation.algorithms.knn.hash_cells import FEWEST_ROWS, TASKS
from curation.algorithms.knn.hash_groups import HASHES_PER_PART
from curation.algorithms.knn.hash_merge import PAIRS_PER_MERGE as HASH_PAIRS_PER_MERGE
from curation.algorithms.knn.hash_parts import CELL_HASHES, HashParts, choose_parts, query_cost
from curation.algorithms.knn.ivf import ITERATIONS, TRAIN_PER_LIST
from curation.algorithms.knn.pair_merge import PAIRS_PER_MERGE
from curation.inspect.cost.clusters import quantiser_bytes
from curation.inspect.cost.work import PART_ON_DRIVER, CostInputs

HASHED_ROW = 72
"""Bytes of a perceptual hash that is sent to a cell, with its image."""
PAIR_ON_DRIVER = 80
"""Bytes of the driver for a pair of near hashes that it writes itself."""


class JoinWork(NamedTuple):
    """The work of joins.

    Attributes:
        product_flop: operations of large products.
        near_cell_flop: operations within cells.
        comparisons: pairs of hashes that are compared.
        moved: bytes that tasks read beyond their own fragments.
        driver: bytes of the driver.
    """

    product_flop: float = 0
    near_cell_flop: float = 0
    comparisons: float = 0
    moved: float = 0
    driver: float = 0


def vector_joins(inputs: CostInputs) -> JoinWork:
    """Return the work of the joins of all vector levels."""
    counts = inputs.counts
    images, flop, in_cells, moved = counts.images, 0.0, 0.0, 0.0
    trained = parts = 0.0
    for level in inputs.recipe.dedup.vector_levels.values():
        dim = inputs.encoders[level.encoder].dim
        choice = choose_join(level, int(images), dim)
        if choice.join == "exact":
            # The pool with all roles, and held-out images with seeds.
            flop += 2 * dim * (counts.pool * images + counts.held_out * counts.seeds)
            blocks = max(1.0, images / ROWS_PER_BLOCK)
            moved += blocks * images * 2 * dim
            tasks = blocks**2
        else:
            points = min(counts.pool, TRAIN_PER_LIST * choice.cells)
            training = points * choice.cells * dim * ITERATIONS
            flop += 2 * (training + choice.assigning)
            in_cells += 2 * choice.within
            # Each vector is sent once to each of its cells.
            moved += level.spread * images * 2 * dim
            tasks = level.spread * images * 2 * dim / BYTES_PER_GROUP + 1
            # The driver trains the quantiser of one level after the other.
            trained = max(trained, quantiser_bytes(choice.cells, points, dim))
        parts += tasks + images * inputs.assumptions.near_pairs / PAIRS_PER_MERGE + 1
    driver = trained + parts * PART_ON_DRIVER
    return JoinWork(product_flop=flop, near_cell_flop=in_cells, moved=moved, driver=driver)


def hash_join(inputs: CostInputs) -> JoinWork:
    """Return the work of the join of perceptual hashes."""
    perceptual, images = inputs.recipe.dedup.perceptual, inputs.counts.images
    if perceptual is None:
        return JoinWork()
    if images <= HASHES_COMPARED:
        pairs = images * inputs.assumptions.near_pairs
        return JoinWork(comparisons=images * images, driver=PAIR_ON_DRIVER * pairs)
    parts = choose_parts(perceptual.max_distance, int(images))
    # Each hash is sent once to be grouped, and once to each cell.
    return JoinWork(
        comparisons=images * query_cost(parts, int(images)),
        moved=images * HASHED_ROW * (1 + len(parts.pieces)),
        driver=_hash_tasks(parts, images, inputs.assumptions.near_pairs) * PART_ON_DRIVER,
    )


def _hash_tasks(parts: HashParts, images: float, near_pairs: float) -> float:
    """Return how many tasks group hashes, compare them in cells, and merge what they find.

    Args:
        parts: how hashes are cut.
        images: number of hashes.
        near_pairs: pairs of each.
    """
    sent = images * len(parts.pieces)
    # A cell with too many hashes is divided into shares, and each is compared with each.
    shares = ceil(images / 2**parts.cell_bits / CELL_HASHES)
    group = min(CELL_HASHES, max(FEWEST_ROWS, sent / TASKS))
    compared = parts.cells * shares**2 if shares > 1 else sent / group + 1
    merged = images * (near_pairs + 1) / HASH_PAIRS_PER_MERGE + 1
    return images / HASHES_PER_PART + 1 + compared + merged
