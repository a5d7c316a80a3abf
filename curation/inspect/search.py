"""Searches a finished run for the images nearest to vectors, and tells their source and their arms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import Vectors, vector_matrix
from curation.algorithms.knn import ivf
from curation.algorithms.knn.codebooks import read_codebooks, read_lists
from curation.algorithms.knn.exact import Candidates, build_base, merge
from curation.algorithms.knn.exact import search as search_exact
from curation.algorithms.knn.read import read_numbered_vectors
from curation.engine.table import Table
from curation.errors import RecipeError, StoreError
from curation.inspect.lineage import Lineage, trace
from curation.media.web.fetch_error import FetchError
from curation.progress import ProgressBar
from curation.recipe import Recipe
from curation.store.store import Store

IMAGE_COLUMNS = ("image_id", "role", "source", "url", "caption")


class Search:
    """The vectors of a run, its index if it has one, and the metadata of its images.

    Args:
        recipe: of the run.
        store: where it is.
        run: see `trace`.

    Raises:
        StoreError: the store's dataset is not of this recipe.
    """

    def __init__(self, recipe: Recipe, store: Store, run: str | None = None) -> None:
        self._recipe = recipe
        self._tables: Lineage = trace(recipe, store, run)
        self.encoder = recipe.match_encoder

    @property
    def embeddings(self) -> Table:
        """The vectors that are searched: those of pool, seed and held-out images."""
        return self._tables.embeddings[self.encoder]

    def nearest(self, queries: Vectors, k: int, exact: bool = False) -> tuple[pa.Table, str]:
        """Return the k nearest images of each query, and the name of the index that was searched.

        Args:
            queries: unit vectors (n, dim).
            k: number of images per query.
            exact: search exactly, without the index.

        Returns:
            A table (query, rank, similarity, image_id, role, source, url, caption, arms). For each
            query the nearest image comes first. `arms` are those that claim the image for the dataset.
        """
        codebooks = None if exact else read_codebooks(self._tables["codebooks"])
        fragments = self.embeddings.fragments
        best = merge([], k)
        with ProgressBar("search", len(fragments)) as progress:
            for done, (name, fragment) in enumerate(fragments.items(), start=1):
                rows, ids, vectors = read_numbered_vectors(fragment)
                self._check_dim(queries, vectors)
                base = build_base(vectors, ids)
                if codebooks is None or not len(vectors):
                    candidates = search_exact(queries, base, k)
                else:
                    lists = read_lists(self._tables["lists"].fragments[name], rows, base)
                    index = ivf.build_index(base, lists, codebooks)
                    candidates = ivf.search(queries, index, self._recipe.match, k)
                best = merge([best, candidates], k)
                progress.set_done(done)
        return self._with_metadata(best), "exact" if codebooks is None else codebooks.index

    def vectors_of(self, image_ids: Sequence[str]) -> Vectors:
        """Return the stored vectors of images, (n, dim).

        Raises:
            StoreError: an image has no vector in this run.
        """
        vectors: dict[str, Any] = {}
        wanted = pa.array(list(image_ids))
        for fragment in self.embeddings.fragments.values():
            table = fragment.read(["image_id", "vector"])
            is_wanted = pc.is_in(table.column("image_id"), wanted)
            rows = table.filter(pc.and_(is_wanted, table.column("vector").is_valid()))
            if len(rows):
                ids = rows.column("image_id").to_pylist()
                vectors |= dict(zip(ids, vector_matrix(rows.column("vector")), strict=True))
        missing = [i for i in image_ids if i not in vectors]
        if missing:
            raise StoreError(
                f"This run has no vector of {', '.join(missing[:3])}. An image_id has 32 hex digits, "
                "as in the tables images and dataset."
            )
        return np.stack([vectors[i] for i in image_ids])

    def vectors_of_files(self, paths: Sequence[Path]) -> Vectors:
        """Embed image files with the recipe's encoder, and return their vectors, (n, dim).

        Raises:
            RecipeError: a file is not an image.
            StoreError: the stored vectors are from another encoder.
        """
        from curation.media.encoders.encoder import load_encoder
        from curation.media.encoders.forward import encode

        encoder = load_encoder(self._recipe.embed.encoders[self.encoder], "cpu")
        stored = self.embeddings.manifest.stats.get("encoder")
        if stored is not None and stored != encoder.identity:
            raise StoreError(
                f"The stored vectors are by {stored}, but the recipe's encoder is "
                f"{encoder.identity}",
                fix="Use the weights and packages of the run, or run the recipe again",
            )
        images = [self._shown(path) for path in paths]
        vectors, _ = encode(encoder, images, self._recipe.embed.batch_size, "cpu")
        return vectors

    def _shown(self, path: Path) -> npt.NDArray[np.uint8]:
        """Return the pixels of a file as `fetch` would show them, RGB."""
        from curation.media.pictures.upright import make_upright

        limits = self._recipe.fetch
        try:
            return make_upright(path.read_bytes(), limits.max_pixels, limits.formats).rgb
        except FetchError as error:
            raise RecipeError(
                f"{path} cannot be decoded as an image ({error.reason})",
                fix="Give a file that a browser shows",
            ) from error

    def _check_dim(self, queries: Vectors, vectors: Vectors) -> None:
        if len(vectors) and queries.shape[1] != vectors.shape[1]:
            raise StoreError(
                f"The queries have {queries.shape[1]} dimensions, but the vectors of encoder "
                f"{self.encoder!r} have {vectors.shape[1]}",
                fix="Embed the queries with that encoder",
            )

    def _with_metadata(self, candidates: Candidates) -> pa.Table:
        """Return candidates with the metadata of each image and the arms that claim it."""
        ids = from_ids(candidates.ids)
        metadata, arms = self._metadata(pc.unique(ids)), self._arms(pc.unique(ids))
        names = ids.to_pylist()
        columns: dict[str, pa.Array] = {
            "query": pa.array(candidates.query),
            "rank": pa.array(candidates.rank()),
            "similarity": pa.array(candidates.similarity),
            "image_id": ids,
        }
        for column in IMAGE_COLUMNS[1:]:
            columns[column] = pa.array([metadata[name][column] for name in names], pa.string())
        columns["arms"] = pa.array([sorted(arms.get(n, ())) for n in names], pa.list_(pa.string()))
        return pa.table(columns)

    def _metadata(self, wanted: pa.Array) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        for fragment in self._tables["images"].fragments.values():
            table = fragment.read(list(IMAGE_COLUMNS))
            for row in table.filter(pc.is_in(table.column("image_id"), wanted)).to_pylist():
                rows.setdefault(row["image_id"], row)
        return rows

    def _arms(self, wanted: pa.Array) -> dict[str, set[str]]:
        arms: dict[str, set[str]] = {}
        claims = self._tables["claims"].read(["image_id", "arm"])
        for row in claims.filter(pc.is_in(claims.column("image_id"), wanted)).to_pylist():
            arms.setdefault(row["image_id"], set()).add(row["arm"])
        return arms


def read_queries(path: Path) -> Vectors:
    """Return the vectors (n, dim) of a .npy file as unit vectors. Pickled objects are refused.

    Raises:
        RecipeError: the file is not an array of that shape, or a vector has no direction.
    """
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read as a .npy array of numbers: {error}") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise RecipeError(
            f"{path} holds {vectors.dtype} of shape {vectors.shape}; it must hold floats of shape "
            "(n, dim)."
        )
    doubles = vectors.astype(np.float64)
    lengths = np.linalg.norm(doubles, axis=1, keepdims=True)
    invalid = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(invalid):
        raise RecipeError(f"{path}: row {invalid[0]} is zero or not finite.")
    unit: Vectors = (doubles / lengths).astype(np.float32)
    return unit
