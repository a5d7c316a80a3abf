"""Searches a finished run for the images nearest to vectors, and tells their source and their arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
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
from curation.algorithms.knn.params import SearchParams
from curation.algorithms.knn.read import read_numbered_vectors
from curation.engine.table import Table
from curation.errors import Detail, RecipeError, StoreError, not_utf8
from curation.inspect.lineage import trace
from curation.inspect.queries import read_picture
from curation.media.encoders import ENCODERS, with_text
from curation.media.encoders.params import EMBEDDINGS, EncoderSpec
from curation.media.web.fetch_error import FetchError
from curation.progress import ProgressBar, shown_wait
from curation.recipe import Recipe
from curation.store.store import Store
from curation.store.tombstones import IMAGE_ID_DIGITS

IMAGE_COLUMNS = ("image_id", "pair_id", "role", "source", "url", "caption")
TOWERS_SHARE = ("architecture", "weights_sha256")
"""What the identities of the two towers of a model have in common."""
PLACE_COLUMNS = ("location", "fragment")
"""Where a picture is: the place of bytes that no URL gave, and the fragment of its row."""


@dataclass(frozen=True)
class SearchSettings:
    """How a run is searched.

    Attributes:
        encoder: name of the encoder whose vectors are searched.
        spec: the encoder; None if it is not known, so that only vectors are searched for.
        params: of the approximate search.
        batch_size: rows per forward pass.
        max_pixels: largest picture that is read.
        formats: formats that are read only on request.
    """

    encoder: str
    spec: EncoderSpec | None
    params: SearchParams
    batch_size: int
    max_pixels: int
    formats: tuple[str, ...] = ()


class ImageSearch:
    """Searches vectors, by an index if there is one, and knows the metadata of images.

    Args:
        tables: `images`, `pairs` and the embeddings; `codebooks`, `lists`, `claims` if made.
        settings: how they are searched.
    """

    def __init__(self, tables: Mapping[str, Table], settings: SearchSettings) -> None:
        self._tables, self._settings = tables, settings
        self.encoder = settings.encoder

    @property
    def embeddings(self) -> Table:
        """The vectors that are searched: those of pool, seed and held-out images."""
        return self._tables[EMBEDDINGS.table(self.encoder)]

    @property
    def images(self) -> Table:
        """The table with the pictures."""
        return self._tables["images"]

    def nearest(self, queries: Vectors, k: int, exact: bool = False) -> tuple[pa.Table, str]:
        """Return the k nearest images of each query, and the name of the index that was searched.

        Args:
            queries: unit vectors (n, dim).
            k: number of images per query.
            exact: search exactly, without the index.

        Returns:
            A table (query, rank, similarity, image_id, pair_id, role, source, url, caption, location,
            fragment, arms). For each query the nearest image comes first. `arms` are those that claim
            the image for the dataset.
        """
        has_index = not exact and "codebooks" in self._tables and "lists" in self._tables
        codebooks = read_codebooks(self._tables["codebooks"]) if has_index else None
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
                    candidates = ivf.search(queries, index, self._settings.params, k)
                best = merge([best, candidates], k)
                progress.set_done(done)
        return self._with_metadata(best), "exact" if codebooks is None else codebooks.index

    def vectors_of(self, image_ids: Sequence[str]) -> Vectors:
        """Return the stored vectors of images, (n, dim).

        Raises:
            StoreError: an image has no vector in this run.
        """
        wanted = [image_id.lower() for image_id in image_ids]
        vectors = self._stored_vectors(wanted)
        missing = [i for i in wanted if i not in vectors]
        if missing:
            message = f"This run has no vector of {', '.join(missing[:3])}"
            fix = (
                "An image_id has 32 hex digits, as in the tables images and dataset; `curation why` "
                "prints that of a URL or key"
            )
            raise StoreError(Detail(message, "--id", missing[:3], fix=fix))
        return np.stack([vectors[i] for i in wanted])

    def vectors_of_files(self, paths: Sequence[Path]) -> Vectors:
        """Return the vectors of image files, (n, dim): the stored one if the run has these bytes.

        Other files are embedded as they are. What is stored was encoded again, so its own file would
        give another vector.

        Raises:
            RecipeError: a file is not an image, or the encoder embeds captions.
            StoreError: the stored vectors are from another encoder, or of none that is known.
        """
        if self._settings.spec is not None and self._settings.spec.of != "image":
            message = f"Encoder {self.encoder!r} embeds captions"
            raise RecipeError(
                Detail(message, "--image", fix="Search with --text, --id or --vectors")
            )
        files = [(path, read_picture(path)) for path in paths]
        ids = [sha256(content).hexdigest()[:IMAGE_ID_DIGITS] for _, content in files]
        vectors = self._stored_vectors(ids)
        others = {i: file for i, file in zip(ids, files, strict=True) if i not in vectors}
        if others:
            spec = self._spec
            shown = [self._shown(*file) for file in others.values()]
            vectors |= zip(others, self._embed(spec, shown), strict=True)
        return np.stack([vectors[image_id] for image_id in ids])

    def vectors_of_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts with the text tower of the encoder, and return their vectors, (n, dim).

        Raises:
            RecipeError: the encoder has no text tower, or a text is not UTF-8.
            StoreError: the stored vectors are from another encoder.
        """
        if wrong := [detail for text in texts if (detail := not_utf8(text, "--text"))]:
            raise RecipeError(*wrong)
        family = self._spec.family
        if not ENCODERS[family].text:
            raise RecipeError(
                Detail(
                    f"Encoder {self.encoder!r} ({self._spec.model}) has no text tower. Those of "
                    f"{', '.join(with_text())} have one",
                    "--text",
                    family,
                    fix="Name such an encoder under `match.encoder`",
                )
            )
        return self._embed(self._spec.model_copy(update={"of": "caption"}), list(texts))

    def _stored_vectors(self, image_ids: Sequence[str]) -> dict[str, Any]:
        """Return the stored vectors of those images that have one, by image id."""
        vectors: dict[str, Any] = {}
        # Digits alone: Arrow has no text that is not UTF-8, as a terminal may give.
        wanted = pa.array([i for i in image_ids if i.isascii()], pa.string())
        for fragment in self.embeddings.fragments.values():
            table = fragment.read(["image_id", "vector"])
            is_wanted = pc.is_in(table.column("image_id"), wanted)
            rows = table.filter(pc.and_(is_wanted, table.column("vector").is_valid()))
            if len(rows):
                ids = rows.column("image_id").to_pylist()
                vectors |= zip(ids, vector_matrix(rows.column("vector")), strict=True)
        return vectors

    @property
    def _spec(self) -> EncoderSpec:
        if self._settings.spec is None:
            raise StoreError(
                Detail(
                    f"No model is known here that made the vectors of {self.encoder!r}: they were "
                    "imported, or are of a plug-in's encoder",
                    EMBEDDINGS.table(self.encoder),
                    fix="`curation search` finds neighbours with --id or --vectors",
                )
            )
        return self._settings.spec

    @property
    def embeds_files(self) -> bool:
        """Whether the model of the vectors is known, so that pictures of files can be searched for."""
        return self._settings.spec is not None

    def _embed(self, spec: EncoderSpec, items: Sequence[Any]) -> Vectors:
        from curation.media.encoders.encoder import load_encoder
        from curation.media.encoders.forward import encode

        stored = self.embeddings.manifest.stats.get("encoder")
        with shown_wait("Loading the encoder …"):
            encoder = load_encoder(spec, "cpu")
        if stored is not None and not _is_same(stored, encoder.identity, spec.of == self._spec.of):
            raise StoreError(
                f"The stored vectors are by {stored}, but the recipe's encoder is "
                f"{encoder.identity}",
                fix="Use the weights and packages of the run, or run the recipe again",
            )
        vectors, _ = encode(encoder, items, self._settings.batch_size, "cpu")
        return vectors

    def _shown(self, path: Path, content: bytes) -> npt.NDArray[np.uint8]:
        """Return the pixels of a file as `fetch` would show them, RGB."""
        from curation.media.pictures.apart import decode_apart

        settings = self._settings
        try:
            pixels = decode_apart(content, settings.max_pixels, settings.formats)
            # torch warns of arrays that cannot be written.
            return np.array(pixels)
        except FetchError as error:
            message = f"it cannot be decoded as an image ({error.reason})"
            fix = "Give a file that a browser shows"
            raise RecipeError(Detail(message, str(path), error.reason, fix=fix)) from error

    def _check_dim(self, queries: Vectors, vectors: Vectors) -> None:
        if len(vectors) and queries.shape[1] != vectors.shape[1]:
            message = (
                f"The queries have {queries.shape[1]} dimensions, but the vectors of encoder "
                f"{self.encoder!r} have {vectors.shape[1]}"
            )
            fix = "Embed the queries with that encoder"
            raise StoreError(Detail(message, "--vectors", queries.shape[1], fix=fix))

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
        for column in (*IMAGE_COLUMNS[1:], *PLACE_COLUMNS):
            columns[column] = pa.array([metadata[name][column] for name in names], pa.string())
        columns["arms"] = pa.array([sorted(arms.get(n, ())) for n in names], pa.list_(pa.string()))
        return pa.table(columns)

    def _metadata(self, wanted: pa.Array) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        for name, fragment in self._tables["images"].fragments.items():
            ids = fragment.read(["image_id"]).column("image_id")
            is_wanted = pc.is_in(ids, wanted)
            if not pc.any(is_wanted).as_py():
                continue
            locations = self._locations(name)
            for row in fragment.read(list(IMAGE_COLUMNS)).filter(is_wanted).to_pylist():
                place = {"location": locations.get(row["pair_id"]), "fragment": name}
                rows.setdefault(row["image_id"], row | place)
        return rows

    def _locations(self, fragment: str) -> dict[str, str | None]:
        rows = self._tables["pairs"].fragments[fragment].read(["pair_id", "location"])
        pairs, locations = (rows.column(name).to_pylist() for name in ("pair_id", "location"))
        return dict(zip(pairs, locations, strict=True))

    def _arms(self, wanted: pa.Array) -> dict[str, set[str]]:
        arms: dict[str, set[str]] = {}
        if "claims" not in self._tables:
            return arms
        for fragment in self._tables["claims"].fragments.values():
            claims = fragment.read(["image_id", "arm"])
            for row in claims.filter(pc.is_in(claims.column("image_id"), wanted)).to_pylist():
                arms.setdefault(row["image_id"], set()).add(row["arm"])
        return arms


def _is_same(stored: Mapping[str, Any], loaded: Mapping[str, Any], same_tower: bool) -> bool:
    """Whether a loaded encoder is the one that made the stored vectors, or its other tower."""
    if same_tower:
        return stored == loaded
    return all(stored.get(name) == loaded.get(name) for name in TOWERS_SHARE)


class Search(ImageSearch):
    """The vectors of a run, its index if it has one, and the metadata of its images.

    Args:
        recipe: of the run.
        store: where it is.
        run: see `trace`.

    Raises:
        StoreError: the store's dataset is not of this recipe.
    """

    def __init__(self, recipe: Recipe, store: Store, run: str | None = None) -> None:
        encoder = recipe.match_encoder
        spec = recipe.embed.encoders[encoder]
        settings = SearchSettings(
            encoder,
            None if spec.is_imported else spec,
            recipe.match,
            recipe.embed.batch_size,
            recipe.fetch.max_pixels,
            tuple(recipe.fetch.formats),
        )
        super().__init__(trace(recipe, store, run).tables, settings)
