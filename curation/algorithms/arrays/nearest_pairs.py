"""Candidate pairs of queries and their nearest rows: one step of queries after the other past all rows.

Queries are sent to the device step by step. The rows stay there if they fit; otherwise they are sent in
tiles, once for each step. A step has so many queries that products take longer than this.
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
from curation.algorithms.arrays.vectors import RowNumbers, Vectors

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

    def some(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows on the device, and the place there of each row number, (m,)."""
        if self.on_device is not None:
            return self.on_device, numbers
        distinct, place = torch.unique(numbers, return_inverse=True)
        return torch.from_numpy(self.rows[distinct.cpu().numpy()]).to(self.device), place


def candidate_pairs(
    queries: Vectors,
    base: Vectors,
    k: int,
    at_least: float = -torch.inf,
    device: str = "cpu",
    order: RowNumbers | None = None,
) -> tuple[RowNumbers, RowNumbers]:
    """Return candidate pairs that contain the k rows with the largest inner product of every query.

    There are about k pairs for each query, and more if further scores are within rounding of the k-th
    best. If very many are, the exact k best are found in another way, in bounded memory.

    Args:
        queries: (n, dim), of length about 1.
        base: (rows, dim), of length about 1.
        k: number of neighbours.
        at_least: score below which no neighbour is wanted.
        device: `cpu` or `cuda[:n]`.
        order: rows of the base in the order in which equal ones are better; by default as they are.

    Returns:
        Query and base row of each pair, (m,) each, sorted by query.
    """
    order = np.arange(len(base)) if order is None else order
    on, wanted = torch.device(device), min(k, len(base))
    sizes = tile_sizes(on, base.shape[1])
    searched = SearchedRows(base, sizes, on, fits(base.size * BYTES_PER_VALUE, on))
    starts = range(0, len(queries), sizes.queries)
    pairs = []
    steps = send_ahead((queries[start : start + sizes.queries] for start in starts), on)
    for start, exact in zip(starts, steps, strict=True):
        result = scan(RoundedVectors.of(exact, SCREEN), searched.tiles(), wanted, at_least)
        by_query = torch.argsort(result.query, stable=True)
        query, row = result.query[by_query], result.place[by_query]
        rows, place = searched.some(row)
        kept = keep_near_pairs(exact, rows, query, place, wanted)
        pairs.append((query[kept].cpu().numpy() + start, row[kept].cpu().numpy()))
        crowded = torch.nonzero(result.crowded)[:, 0].cpu().numpy() + start
        near = nearest_rows(queries[crowded], base, order, wanted, at_least)
        pairs.append((crowded[near[0]], near[1]))
    queries_of, rows_of = (np.concatenate(part) for part in zip(*pairs, strict=True))
    sorted_pairs = np.argsort(queries_of, kind="stable")
    return queries_of[sorted_pairs], rows_of[sorted_pairs]
