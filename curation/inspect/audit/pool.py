"""The pool of a committed run as an audit reads it: a fragment at a time, and a sample by identity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids, Vectors
from curation.algorithms.knn.read import read_vectors
from curation.engine.fragment import Fragment
from curation.engine.params_base import manifest_params
from curation.engine.store import Store
from curation.engine.table import Table, open_table
from curation.errors import RecipeError, StoreError
from curation.media.encoders.compatibility import check_spaces
from curation.media.encoders.params import EMBEDDINGS
from curation.recipe import Recipe

Hashes = npt.NDArray[np.uint8]
"""Perceptual hashes, (n, 32): 256 bits each."""
HASH_BYTES = 32
STORED_BY = ("resize", "quality", "max_pixels")
"""What of `fetch` decides how a picture is stored."""


@dataclass(frozen=True)
class Sample:
    """Pool images in a seeded order: ids (n,), and the row of `images` that each is read from.

    `asked` is how many were wanted, `pool_rows` how many rows of the pool have pixels.
    """

    ids: Ids
    fragment: list[str]
    row: npt.NDArray[np.int64]
    asked: int
    pool_rows: int

    def __len__(self) -> int:
        return len(self.ids)


class Pool:
    """The pool's tables: `images`, and those of the levels that the recipe configures.

    Raises:
        RecipeError: the recipe configures no level, or hashes that it does not compute.
        StoreError: a table is missing, is of another recipe or not of these images, or vectors of two
            encoders would meet.
    """

    def __init__(self, recipe: Recipe, store: Store) -> None:
        perceptual, near = recipe.dedup.perceptual, recipe.dedup.near
        if perceptual is None and near is None:
            raise RecipeError(
                "dedup.perceptual and dedup.near are both null: only files with the same bytes are "
                "copies, and no edited copy is ever found. Configure one of them to audit it."
            )
        if perceptual and not recipe.screen.perceptual_hash:
            raise RecipeError(
                "dedup.perceptual compares hashes, and screen.perceptual_hash is false. Set it true "
                "and run the recipe, or set dedup.perceptual: null."
            )
        self.store, self.has_hashes = store, perceptual is not None
        self.has_pixels = recipe.dedup.pixels
        self.images = open_table(store, "images")
        self.scores = open_table(store, "scores") if perceptual or recipe.dedup.pixels else None
        self.embeddings = open_table(store, EMBEDDINGS.table(near.encoder)) if near else None
        self._images = self.images.fragments
        self._hashed = self.scores.fragments if self.scores else {}
        self._embedded = self.embeddings.fragments if self.embeddings else {}
        self._check(recipe)

    def _check(self, recipe: Recipe) -> None:
        params, fetch = self.images.manifest.params, manifest_params(recipe.fetch)
        for name in STORED_BY:
            if name in params and params[name] != fetch[name]:
                raise StoreError(
                    f"The images in {self.store.uri} were stored with fetch.{name} {params[name]}, "
                    f"the recipe has {fetch[name]}. Run the recipe, or audit with that of the run."
                )
        for table in (self.scores, self.embeddings):
            if table is not None:
                _check_aligned(table, self.images)
        made = self.scores.manifest.params if self.scores and self.has_hashes else {}
        if made.get("perceptual_hash") is False:
            raise StoreError(
                f"The scores in {self.store.uri} were made with screen.perceptual_hash: false, and "
                "hold no hashes. Run the recipe again from screen on."
            )
        if self.embeddings:
            check_spaces("audit", {self.embeddings.manifest.table: self.embeddings})
        if not self.fragments:
            raise StoreError(f"No picture of the pool in {self.store.uri} has pixels.")

    @property
    def fragments(self) -> list[str]:
        """Names of the fragments that have pool pictures; a fragment comes from one source."""
        records = self.images.manifest.fragments
        return [r.name for r in records if r.counts.get("pool", {}).get("ok")]

    @property
    def versions(self) -> dict[str, str]:
        """The version of each table that is read."""
        tables = (self.images, self.scores, self.embeddings)
        return {t.manifest.table: t.manifest.version for t in tables if t is not None}

    def rows(self, columns: Iterable[str]) -> Iterator[tuple[str, pa.Table]]:
        """Yield each fragment of the pool: its name, and the rows of `images` that have pixels."""
        names = [*dict.fromkeys([*columns, "status"])]
        for name in self.fragments:
            table = self._images[name].read(names)
            row = pa.array(np.arange(len(table)))
            table = table.append_column("row", row)
            yield name, table.filter(pc.equal(table.column("status"), "ok"))

    def hashes(self, name: str) -> tuple[Ids, Hashes]:
        """Return ids (n,) and hashes (n, 32) of a fragment, of the pictures that have one."""
        ids, hashes = self._scores(name, "phash")
        raw = b"".join(hashes.to_pylist())
        return ids, np.frombuffer(raw, np.uint8).reshape(-1, HASH_BYTES)

    def pixel_ids(self, name: str) -> tuple[Ids, Ids]:
        """Return ids (n,) and the names (n,) of the stored pixels of a fragment."""
        ids, pixels = self._scores(name, "pixel_id")
        return ids, to_ids(pixels)

    def _scores(self, name: str, column: str) -> tuple[Ids, pa.ChunkedArray]:
        table = self._hashed[name].read([column])
        if column not in table.column_names:
            raise StoreError(
                f"The scores in {self.store.uri} have no column {column!r}: an earlier version made "
                "them. Run the recipe (curation run RECIPE --store DIR) first."
            )
        values = table.column(column)
        ids = self._images[name].read(["image_id"]).column("image_id")
        known = pc.and_(values.is_valid(), ids.is_valid())
        return to_ids(ids.filter(known)), values.filter(known)

    def vectors(self, name: str) -> tuple[Ids, Vectors]:
        """Return ids (n,) and unit vectors (n, dim) of a fragment, of the pictures that have one."""
        return read_vectors(self._embedded[name])

    def pictures(self, sample: Sample) -> Iterator[tuple[int, bytes]]:
        """Yield the number of each sampled image with its stored bytes, fragment by fragment."""
        yield from self.stored(sample.fragment, sample.row)

    def stored(
        self, fragments: Sequence[str], rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, bytes]]:
        """Yield stored bytes by fragment and row in it, each with its number, fragment by fragment."""
        for name in sorted(set(fragments)):
            own = [n for n, fragment in enumerate(fragments) if fragment == name]
            numbers = {int(rows[n]): n for n in own}
            for row, image in _images_of(self._images[name], sorted(numbers)):
                yield numbers[row], image

    def places(self, wanted: set[str]) -> dict[str, tuple[str, str, int]]:
        """Return where images are: fragment, pair_id (the smallest of an image) and row."""
        found: dict[str, tuple[str, str, int]] = {}
        for name, table in self.rows(["image_id", "pair_id"]) if wanted else ():
            rows = table.select(["image_id", "pair_id", "row"]).to_pandas()
            for row in rows[rows["image_id"].isin(wanted)].itertuples(index=False):
                place = (name, str(row.pair_id), int(row.row))
                best = found.setdefault(row.image_id, place)
                found[row.image_id] = min(best, place, key=lambda p: p[1])
        return found


def _check_aligned(table: Table, images: Table) -> None:
    """Refuse a table that was made from other images than those that are current."""
    then = table.manifest.reads.get("images")
    read = images.store.manifest("images", then) if then else images.manifest
    same = {r.name: r.rows for r in table.manifest.fragments} == {
        r.name: r.rows for r in images.manifest.fragments
    }
    if not same or read is None or read.content != images.content:
        raise StoreError(
            f"Table {table.manifest.table!r} in {table.store.uri} was made from other images than "
            "those that are there now. Run the recipe (curation run RECIPE --store DIR) first."
        )


def _images_of(fragment: Fragment, rows: list[int]) -> Iterator[tuple[int, bytes]]:
    """Yield some rows (rising) with their stored bytes, reading no further than the last."""
    start, waiting = 0, list(rows)
    for batch in fragment.batches(["image"], rows=256):
        while waiting and waiting[0] < start + batch.num_rows:
            row = waiting.pop(0)
            yield row, batch.column("image")[row - start].as_py()
        start += batch.num_rows
        if not waiting:
            return


def draw_sample(pool: Pool, size: int, seed: int) -> Sample:
    """Return up to `size` pool images: the first in an order that their identities and the seed decide.

    Rows with the same bytes are one image; of them the one with the smallest pair_id is read.
    """
    best: pd.DataFrame | None = None
    rows = 0
    for name, table in pool.rows(["image_id", "pair_id"]):
        part = table.drop_columns(["status"]).to_pandas()
        rows += len(part)
        keys = seeded_keys(to_ids(table.column("image_id")), seed, "audit")
        part = part.assign(key=keys, fragment=name)
        both = part if best is None else pd.concat([best, part])
        both = both.sort_values(["key", "image_id", "pair_id"])
        best = both.drop_duplicates("image_id").head(size)
    assert best is not None
    return Sample(
        ids=best["image_id"].to_numpy().astype("S32"),
        fragment=best["fragment"].tolist(),
        row=best["row"].to_numpy(np.int64),
        asked=size,
        pool_rows=rows,
    )


def gather(
    read: Callable[[str], tuple[Ids, npt.NDArray[Any]]], names: Iterable[str], wanted: Ids
) -> Mapping[bytes, npt.NDArray[Any]]:
    """Return what `read` gives of the wanted images, by id: hashes or vectors of some fragments."""
    found: dict[bytes, npt.NDArray[Any]] = {}
    for name in names:
        ids, values = read(name)
        for row in np.flatnonzero(np.isin(ids, wanted)):
            found.setdefault(bytes(ids[row]), np.array(values[row]))
    return found
