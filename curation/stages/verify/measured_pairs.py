"""Measured pairs in work tables. A pair of the last run whose two pictures are the same is not compared
again, however many rows came or went.

A unit has the pairs of a range of ids, so that added pairs change only the units that they fall into.
In these, the rows of the other pairs are copied from the work tables of the last run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.key_ranges import key_ranges
from curation.algorithms.arrays.vectors import Ids
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.row_counts import count_finished
from curation.engine.sorted_arrays import positions_in
from curation.engine.units import StageOutput, content_of
from curation.stages.verify.compare import compare
from curation.stages.verify.pairs import Keys, ends_of, joined, text_of
from curation.stages.verify.reduced_image import ReducedImage
from curation.stages.verify.reduced_tables import ReducedImages
from curation.store.fragment import Fragment

PAIRS_PER_TASK = 1_000
"""Largest number of pairs of a unit."""
CACHED_IMAGES = 500
"""Decoded images that a task keeps with their keypoints, about half a megabyte each."""
DIGESTS = ("digest_a", "digest_b")
"""Columns of a work table besides those of `verified`: the digests of the two reduced images."""
Stored = tuple[bytes, bytes | None]
"""A reduced image as JPEG, and its keypoints if they are stored."""
KEPT = "measured"
"""The name under which the work tables are kept for the next run."""


@dataclass(frozen=True)
class Pairs:
    """Some pairs of images that can be compared, sorted.

    Attributes:
        left: one image of each pair, shape (n,).
        right: the other image, shape (n,).
        digests: of the reduced images left and right, shape (n,) each.
    """

    left: Ids
    right: Ids
    digests: tuple[Ids, Ids]

    @property
    def rows(self) -> int:
        """Number of pairs."""
        return len(self.left)

    @property
    def keys(self) -> Keys:
        """The pairs with the digests of their pictures, sorted."""
        return joined(self.left, self.right, *self.digests)

    @property
    def content(self) -> Any:
        """What decides the rows: which pairs, and their pictures."""
        return content_of([self.left, self.right, *self.digests])


@dataclass(frozen=True)
class PairSources:
    """Where the pictures of some pairs are, and rows that the last run has measured.

    No memo depends on them: the pairs have the digests of the pictures.

    Attributes:
        reduced: work tables with the pictures.
        part: numbers of the work tables of the pictures left and right, shape (n,) each.
        measured: work tables of the last run that may hold some of the pairs.
    """

    reduced: list[Fragment]
    part: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    measured: list[Fragment]
    content: None = None


class _LastRun:
    """The work tables of the last run, by their first pair."""

    def __init__(self, context: Context) -> None:
        kept = context.kept_tables(KEPT)
        self._tables = list(kept.values())
        self._starts = np.array([start.encode("latin-1") for start in kept], "S64")

    def overlapping(self, keys: Keys) -> list[Fragment]:
        """Return the work tables that may hold some of these pairs, which are sorted."""
        low = max(0, int(np.searchsorted(self._starts, keys[0], side="right")) - 1)
        high = int(np.searchsorted(self._starts, keys[-1], side="right"))
        return [fragment for tables in self._tables[low:high] for fragment in tables]


def measure_pairs(pairs: Keys, reduced: ReducedImages, context: Context) -> list[Fragment]:
    """Compare pairs of images; pairs with an image that cannot be decoded are left out.

    Args:
        pairs: both ids of each pair as one key, shape (n,), dtype S64; distinct and sorted.
        reduced: the reduced images of all of them.
        context: where workers run.

    Returns:
        Work tables with the rows of `verified` and DIGESTS, in the order of pairs.
    """
    pairs = pairs[
        (reduced.digests[np.searchsorted(reduced.ids, ends_of(pairs))] != b"").all(axis=1)
    ]
    last = _LastRun(context)
    starts, items = {}, {}
    for number, part in enumerate(key_ranges(pairs, PAIRS_PER_TASK)):
        left, right = ends_of(pairs[part]).T
        images = np.searchsorted(reduced.ids, ends_of(pairs[part]))
        digests = reduced.digests[images[:, 0]], reduced.digests[images[:, 1]]
        sources = _sources(reduced, images, last.overlapping(pairs[part]))
        name = f"pairs-{number:08d}"
        starts[name] = text_of(pairs[part.start])
        items[name] = {"pairs": Pairs(left, right, digests), "sources": sources}
    tables = context.compute("compare", compare_pairs, items)
    context.keep_tables(KEPT, {starts[name]: [table] for name, table in tables.items()})
    return list(tables.values())


def _sources(
    reduced: ReducedImages, images: npt.NDArray[np.int64], measured: list[Fragment]
) -> PairSources:
    """Return where the pictures of pairs are, by their positions (n, 2)."""
    numbers, parts = np.unique(reduced.part[images], return_inverse=True)
    left, right = parts.reshape(images.shape).T
    return PairSources([reduced.parts[n] for n in numbers.tolist()], (left, right), measured)


def compare_pairs(pairs: Pairs, sources: PairSources) -> StageOutput:
    """Compare pairs of images, or take their rows from the last run, in the order of pairs.

    Args:
        pairs: what is compared.
        sources: where pictures and measured rows are.

    Yields:
        A batch of `verified` with DIGESTS.
    """
    # Many tasks run at once: more threads in each of them would only compete for the same cores.
    cv2.setNumThreads(1)
    positions, rows = _measured(sources.measured, pairs)
    is_new = np.ones(len(pairs.left), bool)
    is_new[positions] = False
    new = np.flatnonzero(is_new)
    table = pa.concat_tables([rows, _compared(pairs, sources, new)])
    in_order = table.take(pa.array(np.argsort(np.concatenate([positions, new]))))
    yield from in_order.combine_chunks().to_batches()
    return None


def measured_schema() -> pa.Schema:
    """Return the columns of a work table of measured pairs."""
    fields = [pa.field(name, pa.string()) for name in DIGESTS]
    return pa.schema([*contract("verified").arrow_schema(), *fields])


def _measured(measured: list[Fragment], pairs: Pairs) -> tuple[npt.NDArray[np.int64], pa.Table]:
    """Return the positions of pairs that the last run has measured, and their rows."""
    keys, schema = pairs.keys, measured_schema()
    positions, tables = [np.empty(0, np.int64)], [schema.empty_table()]
    first, last = text_of(pairs.left[0]), text_of(pairs.left[-1])
    for fragment in measured:
        for table in fragment.row_groups_between("image_a", first, last):
            names = ("image_a", "image_b", *DIGESTS)
            row_keys = joined(*(to_ids(table.column(name)) for name in names))
            position, known = positions_in(row_keys, keys)
            positions.append(position[known])
            tables.append(table.select(schema.names).cast(schema).filter(pa.array(known)))
    return np.concatenate(positions), pa.concat_tables(tables)


def _compared(pairs: Pairs, sources: PairSources, new: npt.NDArray[np.int64]) -> pa.Table:
    """Return the rows of some pairs, by their positions."""
    ends = pairs.left[new], pairs.right[new]
    part = np.concatenate([numbers[new] for numbers in sources.part])
    stored = dict(_stored(sources.reduced, np.concatenate(ends), part))
    return compared_rows(ends, tuple(digests[new] for digests in pairs.digests), stored)


def compared_rows(
    ends: tuple[Ids, ...], digests: tuple[Ids, ...], stored: Mapping[bytes, Stored]
) -> pa.Table:
    """Compare pairs of images.

    Args:
        ends: the left and the right images, shape (n,) each.
        digests: of the reduced images left and right, shape (n,) each.
        stored: the reduced image of each of them.

    Returns:
        The rows of `measured_schema`, in the order of pairs.
    """

    @lru_cache(maxsize=CACHED_IMAGES)
    def decode(image_id: bytes) -> ReducedImage:
        return ReducedImage.of(*stored[image_id])

    rows = []
    columns = (column.tolist() for column in (*ends, *digests))
    for a, b, *of_pair in zip(*columns, strict=True):
        images = {"image_a": a.decode(), "image_b": b.decode()}
        noted = {name: value.decode() for name, value in zip(DIGESTS, of_pair, strict=True)}
        rows.append(images | asdict(compare(decode(a), decode(b))) | noted)
        count_finished(1)
    return pa.Table.from_pylist(rows, schema=measured_schema())


def _stored(
    reduced: list[Fragment], ids: Ids, part: npt.NDArray[np.int64]
) -> Iterator[tuple[bytes, Stored]]:
    """Yield the id of images, with the JPEG and the keypoints, each from its work table."""
    for number in np.unique(part).tolist():
        wanted = np.unique(ids[part == number])
        for table in reduced[number].row_groups_with("image_id", wanted.astype("U32").tolist()):
            table_ids = to_ids(table.column("image_id"))
            _, known = positions_in(table_ids, wanted)
            rows = table.filter(pa.array(known))
            columns = (rows.column(name).to_pylist() for name in ("image", "keypoints"))
            yield from zip(table_ids[known].tolist(), zip(*columns, strict=True), strict=True)
