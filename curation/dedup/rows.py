"""What dedup knows of the fetched rows: narrow columns, about a hundred bytes a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.dedup.params import Criterion
from curation.fragment import Fragment, Table
from curation.knn.join import to_ids
from curation.vectors import Ids

Ints = npt.NDArray[np.int64]
READ = ["image_id", "status", "caption", "original_width", "original_height", "bytes"]


@dataclass(frozen=True)
class Fetched:
    """Every fetched row, in the order of fragments. A fragment has one role and one source.

    Arrays have shape (n,): `fragment` numbers `fragments`, `row` is the place there; `pixels` are
    width × height of the original, `caption` and `bytes` are lengths; `stored` names the stored
    picture, equal where the pixels are.
    """

    fragments: tuple[Fragment, ...]
    roles: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    fragment: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]
    images: Ids
    stored: Ids
    pixels: npt.NDArray[np.int32]
    caption: npt.NDArray[np.int32]
    bytes: npt.NDArray[np.int64]

    @cached_property
    def ends(self) -> Ints:
        """Where the rows of each fragment begin, and the end, (fragments + 1,)."""
        return np.searchsorted(self.fragment, np.arange(len(self.fragments) + 1))

    def of(self, role: str) -> Ints:
        """Return the rows of a role."""
        return np.flatnonzero((self.roles == role)[self.fragment])

    def columns(self, rows: Ints, names: list[str]) -> pa.Table:
        """Return some columns of some rows, in the order given."""
        order = np.argsort(rows, kind="stable")
        parts = [pa.table({name: pa.array([], pa.string()) for name in names})]
        ordered = rows[order]
        for number in np.unique(self.fragment[ordered]).tolist():
            own = ordered[self.fragment[ordered] == number]
            table = self.fragments[number].read(names)
            parts.append(table.take(pa.array(self.row[own])))
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.concat_tables(parts, promote_options="permissive").take(pa.array(back))

    def pair_ids(self, rows: Ints) -> Ids:
        """Return the pair_id of some rows."""
        return to_ids(self.columns(rows, ["pair_id"]).column("pair_id"))


def read_rows(images: Table, scores: Table | None) -> Fetched:
    """Return every fetched row; `scores` are read for the identity of stored pictures, if given."""
    fragments = tuple(images.fragments.values())
    roles, sources, parts = [], [], []
    for number, fragment in enumerate(fragments):
        head: dict[str, list[str]] = {"role": [""], "source": [""]}
        for batch in fragment.batches(["role", "source"], rows=1):
            head = batch.to_pydict()
            break
        roles.append(head["role"][0])
        sources.append(head["source"][0])
        pixel_id = scores.fragments[fragment.name].read(["pixel_id"]) if scores else None
        parts.append(_narrow(number, fragment.read(READ), pixel_id))
    columns = [np.concatenate(own) for own in zip(*parts, strict=True)]
    return Fetched(fragments, np.array(roles), np.array(sources), *columns)


def _narrow(number: int, table: pa.Table, pixel_id: pa.Table | None) -> tuple[Any, ...]:
    row = np.flatnonzero(table.column("status").to_numpy() == "ok").astype(np.int32)
    table = table.take(pa.array(row))
    images = to_ids(table.column("image_id"))
    stored = np.full(len(row), b"", "S32")
    if pixel_id is not None:
        stored = to_ids(pc.fill_null(pixel_id.column("pixel_id").take(pa.array(row)), ""))

    def number_of(column: pa.ChunkedArray, kind: Any) -> npt.NDArray[Any]:
        return np.asarray(pc.fill_null(column, 0).to_numpy(), dtype=kind)

    width, height = (
        number_of(table.column(f"original_{side}"), np.int64) for side in ("width", "height")
    )
    caption = number_of(pc.utf8_length(table.column("caption")), np.int32)
    size = number_of(table.column("bytes"), np.int64)
    where = np.full(len(row), number, np.int32)
    return where, row, images, stored, (width * height).astype(np.int32), caption, size


@dataclass(frozen=True)
class Images:
    """The distinct images of some rows, by id; arrays have shape (m,).

    `best` is the row that stands for the image: the one with the longest caption, then with the
    smallest pair_id.
    """

    ids: Ids
    best: Ints

    def places(self, ids: Ids) -> Ints:
        """Return where ids stand among the images, −1 for those that do not."""
        if not len(self.ids):
            return np.full(len(ids), -1)
        found = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[found] == ids, found, -1)


def images_of(fetched: Fetched, rows: Ints) -> Images:
    """Return the distinct images of some rows."""
    images, caption = fetched.images[rows], fetched.caption[rows]
    order = np.lexsort((-caption, images))
    images, caption = images[order], caption[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = images[1:] != images[:-1]
    group = np.cumsum(first) - 1
    starts = np.flatnonzero(first)
    # Only where several rows of an image have the longest caption does the pair_id decide.
    longest = caption == caption[starts][group] if len(order) else first
    many = np.bincount(group[longest], minlength=len(starts)) > 1
    best = rows[order[starts]]
    tied = np.flatnonzero(longest & many[group]) if len(order) else order
    if len(tied):
        pairs = fetched.pair_ids(rows[order[tied]])
        by_pair = np.lexsort((pairs, group[tied]))
        groups, least = np.unique(group[tied][by_pair], return_index=True)
        best[groups] = rows[order[tied[by_pair[least]]]]
    return Images(images[starts], best)


def order_of(fetched: Fetched, images: Images, criteria: list[Criterion]) -> Ints:
    """Return a rank for each image, 0 the best: by the criteria, then by the smallest id."""
    measures: Mapping[str, npt.NDArray[Any]] = {
        "pixels": fetched.pixels,
        "caption": fetched.caption,
        "bytes": fetched.bytes,
    }
    keys = [images.ids, *(-measures[name][images.best].astype(np.int64) for name in criteria[::-1])]
    rank = np.empty(len(images.ids), np.int64)
    rank[np.lexsort(keys)] = np.arange(len(rank))
    return rank
