"""Candidate pairs of queries and their nearest rows: one step of queries after the other past all rows.

Queries stay on the device if they fit, also while one base after another is searched; otherwise they
are sent step by step. The rows of a base stay there if they fit; otherwise they are sent in tiles, once
for each step. A step has so many queries that products take longer than this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from curation.algorithms.arrays.crowded import nearest_rows
from curation.algorithms.arrays.device_memory import (
    TileSizes,
    fits,
    group_count,
    send_ahead,
    tile_sizes,
)
from curation.algorithms.arrays.pair_scores import keep_near_pairs
from curation.algorithms.arrays.screened_products import RoundedVectors, Tile, scan
from curation.algorithms.arrays.vectors import Floor, RowNumbers, Vectors, floor_of_each
from curation.engine.sorted_arrays import stable_order

SCREEN = torch.bfloat16
BYTES_PER_VALUE = 4
"""Bytes on the device for each value of the rows: as they are, and rounded, as columns."""


class SearchedRows:
    """The rows that are searched, on a device.

    Args:
        rows: (n, dim), of length about 1.
        sizes: of tiles.
        device: where products are computed.
        resident: whether the rows stay on the device.
    """

    def __init__(
        self, rows: Vectors, sizes: TileSizes, device: torch.device, resident: bool
    ) -> None:
        self.rows, self.columns, self.device = rows, sizes.columns, device
        self.on_device = (
            torch.from_numpy(np.ascontiguousarray(rows)).to(device) if resident else None
        )
        self.resident_tiles = list(self._tiles()) if resident else None

    def tiles(self) -> Iterable[Tile]:
        """Return the rows in tiles, which are read once."""
        return self._tiles() if self.resident_tiles is None else self.resident_tiles

    def _tiles(self) -> Iterator[Tile]:
        starts = range(0, len(self.rows), self.columns)
        parts: Iterable[Tensor]
        if self.on_device is None:
            sent = (self.rows[start : start + self.columns] for start in starts)
            parts = send_ahead(sent, self.device)
        else:
            parts = (self.on_device[start : start + self.columns] for start in starts)
        for part in parts:
            yield Tile.of(part, SCREEN, group_count(len(part)))

    def rows_of(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows on the device, and the place there of each row number, (m,)."""
        if self.on_device is not None:
            return self.on_device, numbers
        distinct, place = torch.unique(numbers, return_inverse=True)
        return torch.from_numpy(self.rows[distinct.cpu().numpy()]).to(self.device), place


class QuerySteps:
    """Queries that stay on a device, if they fit, while one base after another streams past them.

    Args:
        vectors: the queries, (n, dim), of length about 1.
        device: `cpu` or `cuda[:n]`.
    """

    def __init__(self, vectors: Vectors, device: str) -> None:
        self.vectors, self.device = vectors, device
        self.on = torch.device(device)
        self.sizes = tile_sizes(self.on, vectors.shape[1])
        is_resident = fits(vectors.nbytes, self.on)
        self.resident = list(self._steps()) if is_resident else None

    def _steps(self) -> Iterator[tuple[int, Tensor]]:
        starts = range(0, len(self.vectors), self.sizes.queries)
        parts = (self.vectors[start : start + self.sizes.queries] for start in starts)
        return zip(starts, send_ahead(parts, self.on), strict=True)

    def candidate_pairs(
        self,
        base: Vectors,
        k: int,
        at_least: Floor = -2.0,
        order: RowNumbers | None = None,
    ) -> tuple[RowNumbers, RowNumbers]:
        """Return candidate pairs that contain the k rows of largest inner product of every query.

        There are about k pairs for each query, and more if further scores are within rounding of the
        k-th best. If very many are, the exact k best are found in another way, in bounded memory.

        Args:
            base: (rows, dim), of length about 1, at least one row.
            k: number of neighbours.
            at_least: score below which no neighbour is wanted, of all queries or of each, (n,).
            order: rows of the base in the order in which equal ones are better; by default as they are.

        Returns:
            Query and base row of each pair, (m,) each, sorted by query.
        """
        order = np.arange(len(base)) if order is None else order
        floors, wanted = floor_of_each(at_least, len(self.vectors)), min(k, len(base))
        searched = SearchedRows(
            base, self.sizes, self.on, fits(base.size * BYTES_PER_VALUE, self.on)
        )
        pairs = []
        for start, exact in self._steps() if self.resident is None else self.resident:
            floor = torch.from_numpy(floors[start : start + len(exact)].copy()).to(self.on)
            result = scan(RoundedVectors.of(exact, SCREEN), searched.tiles(), wanted, floor)
            by_query = torch.argsort(result.query, stable=True)
            query, row = result.query[by_query], result.place[by_query]
            rows, place = searched.rows_of(row)
            kept = keep_near_pairs(exact, rows, query, place, wanted)
            pairs.append((query[kept].cpu().numpy() + start, row[kept].cpu().numpy()))
            crowded = torch.nonzero(result.crowded)[:, 0].cpu().numpy() + start
            near = nearest_rows(self.vectors[crowded], base, order, wanted, floors[crowded])
            pairs.append((crowded[near[0]], near[1]))
        queries_of, rows_of = (np.concatenate(part) for part in zip(*pairs, strict=True))
        sorted_pairs = stable_order(queries_of)
        return queries_of[sorted_pairs], rows_of[sorted_pairs]


def candidate_pairs(
    queries: Vectors, base: Vectors, k: int, at_least: Floor = -2.0, device: str = "cpu"
) -> tuple[RowNumbers, RowNumbers]:
    """Return `QuerySteps.candidate_pairs` of queries that are searched once."""
    return QuerySteps(queries, device).candidate_pairs(base, k, at_least)
