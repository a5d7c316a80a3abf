"""Counts the work of the joins that find near pairs."""

from __future__ import annotations

from curation.algorithms.knn.blocks import ROWS_PER_BLOCK
from curation.algorithms.knn.choice import choose_join
from curation.algorithms.knn.hamming import HASHES_COMPARED
from curation.algorithms.knn.hash_parts import choose_parts, query_cost
from curation.algorithms.knn.ivf import ITERATIONS, TRAIN_PER_LIST
from curation.inspect.cost.work import CostInputs

HASHED_ROW = 72
"""Bytes of a perceptual hash that is sent to a cell, with its image."""


def vector_joins(inputs: CostInputs) -> tuple[float, float, float]:
    """Return the operations of large products, those within cells, and the bytes that joins move."""
    counts = inputs.counts
    images, flop, in_cells, moved = counts.images, 0.0, 0.0, 0.0
    for level in inputs.recipe.dedup.vector_levels.values():
        dim = inputs.encoders[level.encoder].dim
        choice = choose_join(level, int(images), dim)
        if choice.join == "exact":
            # The pool with all roles, and held-out images with seeds.
            flop += 2 * dim * (counts.pool * images + counts.held_out * counts.seeds)
            moved += max(1.0, images / ROWS_PER_BLOCK) * images * 2 * dim
        else:
            points = min(counts.pool, TRAIN_PER_LIST * choice.cells)
            training = points * choice.cells * dim * ITERATIONS
            flop += 2 * (training + choice.assigning)
            in_cells += 2 * choice.within
            # Each vector is sent once to each of its cells.
            moved += level.spread * images * 2 * dim
    return flop, in_cells, moved


def hash_join(inputs: CostInputs) -> tuple[float, float]:
    """Return the comparisons of the join of perceptual hashes, and the bytes that it moves."""
    perceptual, images = inputs.recipe.dedup.perceptual, inputs.counts.images
    if perceptual is None:
        return 0.0, 0.0
    if images <= HASHES_COMPARED:
        return images * images, 0.0
    parts = choose_parts(perceptual.max_distance, int(images))
    # Each hash is sent once to be grouped, and once to each cell.
    return images * query_cost(parts, int(images)), images * HASHED_ROW * (1 + len(parts.pieces))
