"""What dedup knows of the fetched rows: narrow columns, about a hundred bytes per row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.engine.sorted_arrays import positions_in, run_starts
from curation.engine.table import Table
from curation.stages.dedup.params import Criterion
from curation.store.fragment import Fragment
from curation.store.manifest import RowCounts, count_outcomes

ImageNumbers = npt.NDArray[np.int64]
"""Numbers of distinct images."""
Ranks = npt.NDArray[np.int64]
"""Rank of each image, all different; 0 is the best."""
COLUMNS = ["image_id", "status", "caption", "original_width", "original_height", "bytes"]


class TextReader(Protocol):
    """Reads text columns of fetched rows."""

    def __call__(self, rows: RowNumbers, names: list[str]) -> pa.Table:
        """Return the columns `names` of `rows`, in the order of `rows`."""
        ...


@dataclass(frozen=True)
class FetchedRows:
    """Fetched rows, in the order of fragments. A fragment has one role and one source.

    Attributes:
        roles: role of each fragment, shape (fragments,).
        sources: source of each fragment, shape (fragments,).
        held_out_sets: names of all held-out sets, sorted.
        texts: reads text columns.
        fragment: number of each row's fragment, shape (n,).
        row: number of each row within its fragment, shape (n,).
        image_ids: shape (n,).
        pixel_ids: equal for rows whose stored images have equal pixels, blank if unknown, shape (n,).
        pixels: width × height of the original image, shape (n,).
        caption_length: characters of the caption, shape (n,).
        file_size: bytes of the original file, shape (n,).
    """

    roles: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    held_out_sets: list[str]
    texts: TextReader
    fragment: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]
    image_ids: Ids
    pixel_ids: Ids
    pixels: npt.NDArray[np.int32]
    caption_length: npt.NDArray[np.int32]
    file_size: npt.NDArray[np.int64]

    @cached_property
    def fragment_bounds(self) -> RowNumbers:
        """The first row of each fragment, and after them the number of rows, shape (fragments + 1,)."""
        return np.searchsorted(self.fragment, np.arange(len(self.roles) + 1))

    def of_role(self, role: str) -> RowNumbers:
        """Return the rows of a role."""
        return np.flatnonzero((self.roles == role)[self.fragment])

    def of_source(self, source: str) -> RowNumbers:
        """Return the rows of a source."""
        return np.flatnonzero((self.sources == source)[self.fragment])

    def pair_ids(self, rows: RowNumbers) -> Ids:
        """Return the pair_id of some rows."""
        return to_ids(self.texts(rows, ["pair_id"]).column("pair_id"))


@dataclass(frozen=True)
class StoredTexts:
    """Reads texts from their fragments when they are needed.

    Attributes:
        fragments: the fragments of `images`.
        fragment: number of each row's fragment, shape (n,).
        row: number of each row within its fragment, shape (n,).
    """

    fragments: tuple[Fragment, ...]
    fragment: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]

    def __call__(self, rows: RowNumbers, names: list[str]) -> pa.Table:
        """Return the columns `names` of `rows`. Each fragment is read once."""
        order = np.argsort(rows, kind="stable")
        parts = [pa.table({name: pa.array([], pa.string()) for name in names})]
        sorted_rows = rows[order]
        for number in np.unique(self.fragment[sorted_rows]).tolist():
            fragment_rows = sorted_rows[self.fragment[sorted_rows] == number]
            table = self.fragments[number].read(names)
            parts.append(table.take(pa.array(self.row[fragment_rows])))
        inverse = np.empty(len(rows), np.int64)
        inverse[order] = np.arange(len(rows))
        return pa.concat_tables(parts, promote_options="permissive").take(pa.array(inverse))


@dataclass(frozen=True)
class TextsInMemory:
    """Returns texts of a table that is in memory, one row for each fetched row."""

    table: pa.Table

    def __call__(self, rows: RowNumbers, names: list[str]) -> pa.Table:
        """Return the columns `names` of `rows`."""
        return self.table.select(names).take(pa.array(rows))


def read_fetched_rows(images: Table, scores: Table | None) -> FetchedRows:
    """Return all fetched rows.

    Args:
        images: the table `images`.
        scores: gives the identity of stored pixels; None if equal pixels do not make copies.
    """
    fragments = tuple(images.fragments.values())
    origins = [role_and_source(fragment) for fragment in fragments]
    parts = []
    for number, fragment in enumerate(fragments):
        fragment_scores = scores.fragments[fragment.name] if scores else None
        parts.append(narrow_columns(number, fragment.read(COLUMNS), fragment_scores))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    roles, sources = (np.array(names) for names in zip(*origins, strict=True))
    texts = StoredTexts(fragments, columns["fragment"], columns["row"])
    return FetchedRows(roles, sources, held_out_sets(images), texts, **columns)


def role_and_source(fragment: Fragment) -> tuple[str, str]:
    """Return the role and the source of a fragment of `images`; blank for one without rows."""
    for batch in fragment.batches(["role", "source"], rows=1):
        return batch.column("role")[0].as_py(), batch.column("source")[0].as_py()
    return "", ""


def held_out_outcomes(images: Table) -> dict[str, dict[str, int]]:
    """Return the rows of each held-out set by `ok` or the reason why they have no image."""
    counts: dict[str, list[RowCounts]] = {}
    for fragment in images.fragments.values():
        if "held_out" in fragment.record.counts:
            counts.setdefault(role_and_source(fragment)[1], []).append(fragment.record.counts)
    return {name: count_outcomes(counts[name]) for name in sorted(counts)}


def held_out_sets(images: Table) -> list[str]:
    """Return the names of the held-out sets, sorted."""
    return list(held_out_outcomes(images))


def narrow_columns(number: int, table: pa.Table, scores: Fragment | None) -> dict[str, Any]:
    """Return the arrays of `FetchedRows` for the fetched rows of one fragment.

    Args:
        number: of the fragment.
        table: COLUMNS of the fragment of `images`.
        scores: fragment of `scores` with the same rows; None leaves pixel ids blank.
    """
    row = np.flatnonzero(table.column("status").to_numpy() == "ok").astype(np.int32)
    table = table.take(pa.array(row))
    pixel_ids = np.full(len(row), b"", "S32")
    if scores is not None:
        pixel_id = scores.read(["pixel_id"]).column("pixel_id").take(pa.array(row))
        pixel_ids = to_ids(pc.fill_null(pixel_id, ""))

    def zero_for_null(column: pa.ChunkedArray, dtype: Any) -> npt.NDArray[Any]:
        return np.asarray(pc.fill_null(column, 0).to_numpy(), dtype=dtype)

    width, height = (
        zero_for_null(table.column(f"original_{side}"), np.int64) for side in ("width", "height")
    )
    return {
        "fragment": np.full(len(row), number, np.int32),
        "row": row,
        "image_ids": to_ids(table.column("image_id")),
        "pixel_ids": pixel_ids,
        "pixels": (width * height).astype(np.int32),
        "caption_length": zero_for_null(pc.utf8_length(table.column("caption")), np.int32),
        "file_size": zero_for_null(table.column("bytes"), np.int64),
    }


@dataclass(frozen=True)
class DistinctImages:
    """The distinct images of some rows.

    Attributes:
        ids: image ids, sorted, shape (m,).
        best_row: the row that stands for each image, shape (m,). It has the longest caption, and of
            several with the longest one the smallest pair_id.
    """

    ids: Ids
    best_row: RowNumbers

    def numbers_of(self, ids: Ids) -> ImageNumbers:
        """Return the number of each image id, or −1 if it is not among the images, shape (n,)."""
        positions, known = positions_in(ids, self.ids)
        return np.where(known, positions, -1)


def distinct_images(fetched: FetchedRows, rows: RowNumbers) -> DistinctImages:
    """Return the distinct images of some rows."""
    image_ids, caption_length = fetched.image_ids[rows], fetched.caption_length[rows]
    order = np.lexsort((-caption_length, image_ids))
    image_ids, caption_length = image_ids[order], caption_length[order]
    first = run_starts(image_ids)
    image = np.cumsum(first) - 1
    starts = np.flatnonzero(first)
    best_row = rows[order[starts]]
    # The pair_id decides only where several rows of an image have the longest caption.
    longest = caption_length == caption_length[starts][image]
    several = np.bincount(image[longest], minlength=len(starts)) > 1
    tied = np.flatnonzero(longest & several[image])
    if len(tied):
        pair_ids = fetched.pair_ids(rows[order[tied]])
        by_pair_id = np.lexsort((pair_ids, image[tied]))
        images, smallest = np.unique(image[tied][by_pair_id], return_index=True)
        best_row[images] = rows[order[tied[by_pair_id[smallest]]]]
    return DistinctImages(image_ids[starts], best_row)


def rank_images(fetched: FetchedRows, images: DistinctImages, criteria: list[Criterion]) -> Ranks:
    """Return the rank of each image: first by the criteria, then by the smallest image id."""
    measures: Mapping[str, npt.NDArray[Any]] = {
        "pixels": fetched.pixels,
        "caption": fetched.caption_length,
        "bytes": fetched.file_size,
    }
    keys = [
        images.ids,
        *(-measures[name][images.best_row].astype(np.int64) for name in criteria[::-1]),
    ]
    rank = np.empty(len(images.ids), np.int64)
    rank[np.lexsort(keys)] = np.arange(len(rank))
    return rank
