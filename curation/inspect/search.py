"""Search of a finished run: the images nearest to some vectors, with where they came from and went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import Vectors, vector_matrix
from curation.algorithms.knn import ivf
from curation.algorithms.knn.codebooks import read_codebooks, read_lists
from curation.algorithms.knn.exact import Candidates, build_base, merge
from curation.algorithms.knn.exact import search as search_exact
from curation.algorithms.knn.read import read_numbered_vectors
from curation.engine.progress import Progress
from curation.engine.store import Store
from curation.engine.table import Table
from curation.errors import RecipeError, StoreError
from curation.inspect.lineage import Lineage, trace
from curation.recipe import Recipe

FACTS = ("image_id", "role", "source", "url", "caption")


class Search:
    """The vectors of a run, its index where it has one, and what is known of each image.

    Raises:
        StoreError: the store's dataset is not of this recipe.
    """

    def __init__(self, recipe: Recipe, store: Store) -> None:
        self._recipe = recipe
        self._tables: Lineage = trace(recipe, store)
        self.encoder = recipe.match_encoder

    @property
    def embeddings(self) -> Table:
        """The vectors that are searched, of pool, seeds and held-out images alike."""
        return self._tables.embeddings[self.encoder]

    def nearest(self, queries: Vectors, k: int, exact: bool = False) -> tuple[pa.Table, str]:
        """Return the k nearest images of each query, and the name of the index that was searched.

        Args:
            queries: unit vectors (n, dim).
            k: images wanted a query.
            exact: pass over the index.

        Returns:
            Rows (query, rank, similarity, image_id, role, source, url, caption, arms), best first;
            `arms` are those that claim the image for the dataset.
        """
        books = None if exact else read_codebooks(self._tables["codebooks"])
        fragments = self.embeddings.fragments
        best = merge([], k)
        with Progress("search", len(fragments)) as progress:
            for done, (name, fragment) in enumerate(fragments.items(), start=1):
                rows, ids, vectors = read_numbered_vectors(fragment)
                self._check(queries, vectors)
                base = build_base(vectors, ids)
                if books is None or not len(vectors):
                    found = search_exact(queries, base, k)
                else:
                    lists = read_lists(self._tables["lists"].fragments[name], rows, base)
                    found = ivf.search(
                        queries, ivf.build_index(base, lists, books), self._recipe.match, k
                    )
                best = merge([best, found], k)
                progress.reached(done)
        return self._told(best), "exact" if books is None else books.index

    def vectors_of(self, image_ids: Sequence[str]) -> Vectors:
        """Return the stored vectors of images, (n, dim).

        Raises:
            StoreError: an image has no vector in this run.
        """
        found: dict[str, Any] = {}
        wanted = pa.array(list(image_ids))
        for fragment in self.embeddings.fragments.values():
            table = fragment.read(["image_id", "vector"])
            here = pc.and_(
                pc.is_in(table.column("image_id"), wanted), table.column("vector").is_valid()
            )
            own = table.filter(here)
            if len(own):
                ids = own.column("image_id").to_pylist()
                found |= dict(zip(ids, vector_matrix(own.column("vector")), strict=True))
        missing = [i for i in image_ids if i not in found]
        if missing:
            raise StoreError(
                f"No vector of {', '.join(missing[:3])} in this run. An image_id is 32 hex digits; "
                "the tables images and dataset have them."
            )
        return np.stack([found[i] for i in image_ids])

    def vectors_of_pictures(self, paths: Sequence[Path]) -> Vectors:
        """Return the vectors of picture files, (n, dim), by the recipe's own encoder.

        Raises:
            RecipeError: a file is no picture.
            StoreError: the encoder is not the one whose vectors are stored.
        """
        from curation.media.encoders.encoder import load_encoder
        from curation.media.encoders.forward import encode
        from curation.media.pictures.decode import decode

        encoder = load_encoder(self._recipe.embed.encoders[self.encoder], "cpu")
        stored = self.embeddings.manifest.stats.get("encoder")
        if stored is not None and stored != encoder.identity:
            raise StoreError(
                f"The stored vectors are of {stored}, the recipe's encoder is {encoder.identity}. "
                "Use the weights and packages of the run, or run the recipe again."
            )
        pictures = [decode(path.read_bytes()) for path in paths]
        bad = [str(p) for p, picture in zip(paths, pictures, strict=True) if picture is None]
        if bad:
            raise RecipeError(f"No picture: {', '.join(bad)}")
        vectors, _ = encode(encoder, pictures, self._recipe.embed.batch_size, "cpu")
        return vectors

    def _check(self, queries: Vectors, vectors: Vectors) -> None:
        if len(vectors) and queries.shape[1] != vectors.shape[1]:
            raise StoreError(
                f"Queries have {queries.shape[1]} dimensions, the vectors of encoder "
                f"{self.encoder!r} have {vectors.shape[1]}. Embed the queries with that encoder."
            )

    def _told(self, found: Candidates) -> pa.Table:
        """Return candidates with what is known of each image."""
        ids = from_ids(found.ids)
        wanted = pc.unique(ids)
        known: dict[str, dict[str, Any]] = {}
        for fragment in self._tables["images"].fragments.values():
            table = fragment.read(list(FACTS))
            for row in table.filter(pc.is_in(table.column("image_id"), wanted)).to_pylist():
                known.setdefault(row["image_id"], row)
        arms: dict[str, set[str]] = {}
        claims = self._tables["claims"].read(["image_id", "arm"])
        for row in claims.filter(pc.is_in(claims.column("image_id"), wanted)).to_pylist():
            arms.setdefault(row["image_id"], set()).add(row["arm"])
        names = ids.to_pylist()
        columns: dict[str, pa.Array] = {
            "query": pa.array(found.query),
            "rank": pa.array(found.rank()),
            "similarity": pa.array(found.similarity),
            "image_id": ids,
        }
        for fact in FACTS[1:]:
            columns[fact] = pa.array([known[name][fact] for name in names], pa.string())
        columns["arms"] = pa.array([sorted(arms.get(n, ())) for n in names], pa.list_(pa.string()))
        return pa.table(columns)


def read_queries(path: Path) -> Vectors:
    """Return vectors (n, dim) of a .npy file as unit vectors; nothing is unpickled.

    Raises:
        RecipeError: no array of that shape, or a vector without a direction.
    """
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: no .npy array of numbers ({error}).") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise RecipeError(
            f"{path}: holds {vectors.dtype} of shape {vectors.shape}; wanted are floats (n, dim)."
        )
    doubles = vectors.astype(np.float64)
    lengths = np.linalg.norm(doubles, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(bad):
        raise RecipeError(f"{path}: row {bad[0]} is zero or not finite.")
    unit: Vectors = (doubles / lengths).astype(np.float32)
    return unit
