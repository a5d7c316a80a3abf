"""Reads the pool of a finished run for an audit, and draws the sample of images to copy."""

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
from curation.algorithms.knn.hash_parts import BITS, Hashes
from curation.algorithms.knn.read import read_vectors
from curation.errors import Detail, RecipeError, StoreError
from curation.inspect.lineage import recipe_tables
from curation.inspect.report.album import read_stored
from curation.media.encoders.compatibility import check_spaces
from curation.media.encoders.params import EMBEDDINGS
from curation.recipe import Recipe
from curation.store.store import Store

HASH_BYTES = BITS // 8


@dataclass(frozen=True)
class Sample:
    """Sampled pool images, in a seeded order.

    Attributes:
        ids: image ids, (n,).
        fragment: the fragment of `images` that each image is read from.
        row: the row of each image in its fragment, (n,).
        requested: how many images the sample should have.
        pool_rows: how many rows of the pool have pixels.
    """

    ids: Ids
    fragment: list[str]
    row: npt.NDArray[np.int64]
    requested: int
    pool_rows: int

    def __len__(self) -> int:
        return len(self.ids)


class Pool:
    """The pool's tables: `images`, and those of the levels that the recipe configures.

    Raises:
        RecipeError: the recipe configures no level, or compares hashes that it does not compute.
        StoreError: the recipe has not made a table, tables were made from different images, or vectors
            of two encoders would be compared.
    """

    def __init__(self, recipe: Recipe, store: Store) -> None:
        perceptual, near = recipe.dedup.perceptual, recipe.dedup.near
        if perceptual is None and near is None:
            raise RecipeError(
                Detail(
                    "dedup.perceptual and dedup.near are both null, so dedup finds no edited copies "
                    "and there is nothing to audit",
                    "dedup",
                    fix="Configure at least one of them",
                )
            )
        self.store, self.has_hashes = store, perceptual is not None
        self.has_pixels = recipe.dedup.pixels
        has_scores = perceptual is not None or recipe.dedup.pixels
        vectors = EMBEDDINGS.table(near.encoder) if near else None
        names = ["images", *(["scores"] if has_scores else []), *([vectors] if vectors else [])]
        tables = recipe_tables(recipe, store, names)
        self.images, self.scores = tables["images"], tables.get("scores")
        self.embeddings = tables[vectors] if vectors else None
        self._images = self.images.fragments
        self._hashed = self.scores.fragments if self.scores else {}
        self._embedded = self.embeddings.fragments if self.embeddings else {}
        self._check()

    def _check(self) -> None:
        if self.embeddings:
            check_spaces("audit", {self.embeddings.manifest.table: self.embeddings})
        if not self.fragments:
            raise StoreError(
                Detail(
                    f"No pool image in {self.store.uri} has pixels, so there is nothing to copy",
                    "images",
                    fix="Audit a store whose recipe fetches pixels",
                )
            )

    @property
    def fragments(self) -> list[str]:
        """Names of the fragments with pool images. All rows of a fragment have one source."""
        records = self.images.manifest.fragments
        return [r.name for r in records if r.counts.get("pool", {}).get("ok")]

    @property
    def versions(self) -> dict[str, str]:
        """The version of each table that the audit reads."""
        tables = (self.images, self.scores, self.embeddings)
        return {t.manifest.table: t.manifest.version for t in tables if t is not None}

    def rows(self, columns: Iterable[str]) -> Iterator[tuple[str, pa.Table]]:
        """Yield each pool fragment of `images`: its name, and its rows that have pixels."""
        names = [*dict.fromkeys([*columns, "status"])]
        for name in self.fragments:
            table = self._images[name].read(names)
            row = pa.array(np.arange(len(table)))
            table = table.append_column("row", row)
            yield name, table.filter(pc.equal(table.column("status"), "ok"))

    def hashes(self, name: str) -> tuple[Ids, Hashes]:
        """Return the ids (n,) and hashes (n, 32) of the images of a fragment that have a hash."""
        ids, hashes = self._score_column(name, "phash")
        raw = b"".join(hashes.to_pylist())
        return ids, np.frombuffer(raw, np.uint8).reshape(-1, HASH_BYTES)

    def pixel_ids(self, name: str) -> tuple[Ids, Ids]:
        """Return the ids (n,) and pixel ids (n,) of the images of a fragment."""
        ids, pixels = self._score_column(name, "pixel_id")
        return ids, to_ids(pixels)

    def _score_column(self, name: str, column: str) -> tuple[Ids, pa.ChunkedArray]:
        table = self._hashed[name].read([column])
        if column not in table.column_names:
            raise StoreError(
                f"The scores in {self.store.uri} have no column {column!r}, because an "
                "earlier version of curation made them",
                fix="Run the recipe (curation run RECIPE --store DIR) first",
            )
        values = table.column(column)
        ids = self._images[name].read(["image_id"]).column("image_id")
        known = pc.and_(values.is_valid(), ids.is_valid())
        return to_ids(ids.filter(known)), values.filter(known)

    def vectors(self, name: str) -> tuple[Ids, Vectors]:
        """Return the ids (n,) and unit vectors (n, dim) of the images of a fragment that have one."""
        return read_vectors(self._embedded[name])

    def sampled_images(self, sample: Sample) -> Iterator[tuple[int, bytes]]:
        """Yield the number of each sampled image with its stored bytes, fragment by fragment."""
        yield from self.read_images(sample.fragment, sample.row)

    def read_images(
        self, fragments: Sequence[str], rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the stored bytes of images, each with its position in the arguments.

        Images come fragment by fragment.

        Args:
            fragments: the fragment of each image.
            rows: the row of each image in its fragment, (n,).
        """
        for name in sorted(set(fragments)):
            positions = [n for n, fragment in enumerate(fragments) if fragment == name]
            by_row = {int(rows[n]): n for n in positions}
            for row, image in read_stored(self._images[name], sorted(by_row)):
                yield by_row[row], image

    def locate(self, image_ids: set[str]) -> dict[str, tuple[str, str, int]]:
        """Return where images are stored: fragment, pair_id and row.

        Of several rows of one image, the one with the smallest pair_id is returned.
        """
        places: dict[str, tuple[str, str, int]] = {}
        for name, table in self.rows(["image_id", "pair_id"]) if image_ids else ():
            rows = table.select(["image_id", "pair_id", "row"]).to_pandas()
            for row in rows[rows["image_id"].isin(image_ids)].itertuples(index=False):
                place = (name, str(row.pair_id), int(row.row))
                best = places.setdefault(row.image_id, place)
                places[row.image_id] = min(best, place, key=lambda p: p[1])
        return places


def draw_sample(pool: Pool, size: int, seed: int) -> Sample:
    """Return up to `size` pool images: the first ones in an order given by their ids and the seed.

    Rows with the same bytes are one image, which is read from the row with the smallest pair_id.
    """
    first: pd.DataFrame | None = None
    pool_rows = 0
    for name, table in pool.rows(["image_id", "pair_id"]):
        rows = table.drop_columns(["status"]).to_pandas()
        pool_rows += len(rows)
        keys = seeded_keys(to_ids(table.column("image_id")), seed, "audit")
        rows = rows.assign(key=keys, fragment=name)
        merged = rows if first is None else pd.concat([first, rows])
        merged = merged.sort_values(["key", "image_id", "pair_id"])
        first = merged.drop_duplicates("image_id").head(size)
    assert first is not None
    return Sample(
        ids=first["image_id"].to_numpy().astype("S32"),
        fragment=first["fragment"].tolist(),
        row=first["row"].to_numpy(np.int64),
        requested=size,
        pool_rows=pool_rows,
    )


def gather_by_id(
    read: Callable[[str], tuple[Ids, npt.NDArray[Any]]], fragments: Iterable[str], wanted: Ids
) -> Mapping[bytes, npt.NDArray[Any]]:
    """Return the values of the wanted images by id.

    Args:
        read: returns the ids (n,) and values (n, …) of a fragment, such as `Pool.hashes`.
        fragments: names of the fragments to read.
        wanted: image ids.
    """
    values_by_id: dict[bytes, npt.NDArray[Any]] = {}
    for name in fragments:
        ids, values = read(name)
        for row in np.flatnonzero(np.isin(ids, wanted)):
            values_by_id.setdefault(bytes(ids[row]), np.array(values[row]))
    return values_by_id
