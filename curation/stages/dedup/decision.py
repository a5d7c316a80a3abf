"""What dedup decides about each row, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import RowNumbers
from curation.engine.sorted_arrays import positions_of_ranges
from curation.stages.dedup.edges import METHODS
from curation.stages.dedup.fetched_rows import FetchedRows

ROW_METHODS = [*METHODS, "exact", "representative"]
"""Values of the column `method` of `copies`: how a row is linked to the row that represents it."""
EXACT, REPRESENTATIVE = len(METHODS), len(METHODS) + 1
NO_ROW = -1
"""In place of the number of a row, where there is none."""


@dataclass(frozen=True)
class Contamination:
    """Which held-out image each row, or its component, copies.

    Attributes:
        by: a row of the held-out image, NO_ROW for none, shape (n,).
        via: a row of the image of the component that copies it, NO_ROW for none, shape (n,).
        set: number of the held-out set, −1 for none, shape (n,).
        method: number of the method in ROW_METHODS, −1 for none, shape (n,).
        similarity: NaN for none, shape (n,).
        images_found: number of images of each held-out set that an image of the pool or of a seed set
            copies, whichever held-out image is named above.
    """

    by: RowNumbers
    via: RowNumbers
    set: npt.NDArray[np.int16]
    method: npt.NDArray[np.int8]
    similarity: npt.NDArray[np.float32]
    images_found: Sequence[int] = ()

    @classmethod
    def none(cls, rows: int) -> Contamination:
        """Return that no row is contaminated."""
        return cls(
            np.full(rows, NO_ROW),
            np.full(rows, NO_ROW),
            np.full(rows, -1, np.int16),
            np.full(rows, -1, np.int8),
            np.full(rows, np.nan, np.float32),
        )


@dataclass(frozen=True)
class Links:
    """How each row is linked to its component. Images are given by one of their rows.

    Attributes:
        component: a row of the image with the smallest id in the component, shape (n,).
        representative: the row that represents the row, shape (n,).
        method: number of the method in ROW_METHODS, shape (n,).
        similarity: of the best edge, NaN for none, shape (n,).
        evidence: a row of the image at the other end of that edge, NO_ROW for none, shape (n,).
    """

    component: RowNumbers
    representative: RowNumbers
    method: npt.NDArray[np.int8]
    similarity: npt.NDArray[np.float32]
    evidence: RowNumbers

    @classmethod
    def to_itself(cls, rows: int) -> Links:
        """Return that each row represents itself."""
        return cls(
            np.arange(rows),
            np.arange(rows),
            np.full(rows, REPRESENTATIVE, np.int8),
            np.full(rows, np.nan, np.float32),
            np.full(rows, NO_ROW),
        )


@dataclass(frozen=True)
class Decision:
    """What dedup decides about each row.

    Attributes:
        links: how each row is linked to its component.
        contamination: which held-out image each row copies.
        copied_seed: a row of the seed image that the row copies, NO_ROW for none, shape (n,).
        stats: edges by method, and sizes of components.
    """

    links: Links
    contamination: Contamination
    copied_seed: RowNumbers
    stats: dict[str, Any]

    def pool_copies(self, rows: FetchedRows) -> tuple[RowNumbers, RowNumbers]:
        """Return the pool rows that copy another row, and the row that represents each."""
        pool = rows.of_role("pool")
        copies = pool[self.links.representative[pool] != pool]
        return copies, self.links.representative[copies]

    def copies_of_seeds(self, rows: FetchedRows) -> tuple[RowNumbers, RowNumbers]:
        """Return pool rows with the image of a seed row, or represented by it, and that seed row.

        The seed row stands for the image in the dataset if an arm claims the seeds themselves. Pool
        rows that copy a held-out image are left out.
        """
        seeds = rows.of_role("seed")
        seeds = seeds[self.links.representative[seeds] == seeds]
        seeds = seeds[np.argsort(rows.image_ids[seeds], kind="stable")]
        seed_ids = rows.image_ids[seeds]
        pool = rows.of_role("pool")
        pool = pool[self.contamination.by[pool] == NO_ROW]
        pool_ids = rows.image_ids[pool]
        represented_by = rows.image_ids[self.links.representative[pool]]
        copies, of_seeds = [], []
        others = pool[represented_by != pool_ids]
        for rows_here, ids in (
            (pool, pool_ids),
            (others, represented_by[represented_by != pool_ids]),
        ):
            first, last = (np.searchsorted(seed_ids, ids, side) for side in ("left", "right"))
            number, position = positions_of_ranges(first, last - first)
            copies.append(rows_here[number])
            of_seeds.append(seeds[position])
        return np.concatenate(copies), np.concatenate(of_seeds)
