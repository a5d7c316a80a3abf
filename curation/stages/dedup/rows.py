"""What dedup knows of the fetched rows: narrow columns, about a hundred bytes a row."""

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
from curation.algorithms.arrays.vectors import Ids
from curation.engine.fragment import Fragment
from curation.engine.table import Table
from curation.stages.dedup.params import Criterion

Ints = npt.NDArray[np.int64]
READ = ["image_id", "status", "caption", "original_width", "original_height", "bytes"]


class Texts(Protocol):
    """Gives some columns of rows by their place among all, in the order asked for."""

    def __call__(self, rows: Ints, names: list[str]) -> pa.Table:
        """Return the columns `names` of `rows`."""
        ...


@dataclass(frozen=True)
class Fetched:
    """Fetched rows, in the order of fragments. A fragment has one role and one source.

    Arrays have shape (n,): `fragment` numbers `roles` and `sources`, `row` is the place there;
    `pixels` are width × height of the original, `caption` and `bytes` are lengths; `stored` names the
    stored picture, equal where the pixels are. `held_out` are the names of all held-out sets, sorted.
    """

    roles: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    held_out: list[str]
    texts: Texts
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
        return np.searchsorted(self.fragment, np.arange(len(self.roles) + 1))

    def of(self, role: str) -> Ints:
        """Return the rows of a role."""
        return np.flatnonzero((self.roles == role)[self.fragment])

    def pair_ids(self, rows: Ints) -> Ids:
        """Return the pair_id of some rows."""
        return to_ids(self.texts(rows, ["pair_id"]).column("pair_id"))


@dataclass(frozen=True)
class Stored:
    """Texts that stay in their fragments until they are asked for."""

    fragments: tuple[Fragment, ...]
    fragment: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]

    def __call__(self, rows: Ints, names: list[str]) -> pa.Table:
        """Return the columns `names` of `rows`, reading each fragment once."""
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


@dataclass(frozen=True)
class Held:
    """Texts that are in memory, a row each."""

    table: pa.Table

    def __call__(self, rows: Ints, names: list[str]) -> pa.Table:
        """Return the columns `names` of `rows`."""
        return self.table.select(names).take(pa.array(rows))


def read_rows(images: Table, scores: Table | None) -> Fetched:
    """Return every fetched row; `scores` are read for the identity of stored pictures, if given."""
    fragments = tuple(images.fragments.values())
    told = [told_of(fragment) for fragment in fragments]
    parts = []
    for number, fragment in enumerate(fragments):
        own = scores.fragments[fragment.name] if scores else None
        parts.append(narrow(number, fragment.read(READ), own))
    columns = {name: np.concatenate([own[name] for own in parts]) for name in parts[0]}
    roles, sources = (np.array(own) for own in zip(*told, strict=True))
    texts = Stored(fragments, columns["fragment"], columns["row"])
    return Fetched(roles, sources, held_out_sets(images), texts, **columns)


def told_of(fragment: Fragment) -> tuple[str, str]:
    """Return the role and the source of a fragment of `images`, blank for one without rows."""
    for batch in fragment.batches(["role", "source"], rows=1):
        return batch.column("role")[0].as_py(), batch.column("source")[0].as_py()
    return "", ""


def held_out_sets(images: Table) -> list[str]:
    """Return the names of the held-out sets, sorted."""
    own = [f for f in images.fragments.values() if "held_out" in f.record.counts]
    return sorted({told_of(fragment)[1] for fragment in own})


def narrow(number: int, table: pa.Table, scores: Fragment | None) -> dict[str, Any]:
    """Return the arrays of `Fetched` for the fetched rows of one fragment; `table` has READ."""
    row = np.flatnonzero(table.column("status").to_numpy() == "ok").astype(np.int32)
    table = table.take(pa.array(row))
    stored = np.full(len(row), b"", "S32")
    if scores is not None:
        pixel_id = scores.read(["pixel_id"]).column("pixel_id").take(pa.array(row))
        stored = to_ids(pc.fill_null(pixel_id, ""))

    def number_of(column: pa.ChunkedArray, kind: Any) -> npt.NDArray[Any]:
        return np.asarray(pc.fill_null(column, 0).to_numpy(), dtype=kind)

    width, height = (
        number_of(table.column(f"original_{side}"), np.int64) for side in ("width", "height")
    )
    return {
        "fragment": np.full(len(row), number, np.int32),
        "row": row,
        "images": to_ids(table.column("image_id")),
        "stored": stored,
        "pixels": (width * height).astype(np.int32),
        "caption": number_of(pc.utf8_length(table.column("caption")), np.int32),
        "bytes": number_of(table.column("bytes"), np.int64),
    }


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
