"""Copies of a picture that is taken down, by the copy descriptors of a store.

A recipe says what a copy is: `dedup.near` names the encoder and the smallest cosine, and
`dedup.verify` compares pixels. Stored pictures that are copies in this sense are taken down by their
ids. A tombstone holds no pixels, so later pictures are known by the vector alone, from a cosine on that
no stored picture reaches whose pixels differ.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from curation.engine.device import CPU
from curation.errors import Detail, RecipeError, StoreError
from curation.media.encoders.params import EMBEDDINGS, EncoderSpec
from curation.media.encoders.recorded import recorded_spec
from curation.media.pictures.apart import decode_apart
from curation.media.pictures.pixels import Pixels
from curation.media.web.fetch_error import FetchError
from curation.progress import ProgressBar
from curation.runner.takedown.alike import ENCODER, cosines_of, vector_files
from curation.stages.dedup.agreement import MEASURED, agrees
from curation.stages.dedup.params import DedupParams, Verify
from curation.stages.fetch.params import FetchParams
from curation.stages.verify.compare import compare
from curation.stages.verify.reduced_image import ReducedImage, reduce_image
from curation.store.access import set_aside_fix
from curation.store.storage.base import open_input
from curation.store.store import Store
from curation.store.tombstones import Descriptor

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

MAX_COMPARED = 10_000
"""Stored pictures whose pixels are compared with one that is taken down; the nearest ones."""
MARGIN = 1e-6
"""Cosine above that of a picture that is no copy; rounding is far below it."""
COPIES, IMAGES = "copies", "images"
_PICTURES_AT_ONCE = 64
_WITHOUT = "or leave edited copies out by --hash-only"


@dataclass(frozen=True)
class FoundCopies:
    """Copies of one picture by the vectors of one encoder.

    Attributes:
        encoder: name of the encoder.
        compared: stored pictures whose pixels were compared.
        images: those that are copies.
        others: rows of the latest version with a vector that are no copies. None reaches the cosine of
            the descriptor, unless the vector alone makes a copy. So at most one in `others` + 1 of
            other pictures is expected to, if later ones are like those that are stored.
        descriptor: what stands for the picture in a tombstone.
    """

    encoder: str
    compared: int
    images: frozenset[str]
    others: int
    descriptor: Descriptor


class _Space(NamedTuple):
    """An encoder that a recipe of the store finds copies with.

    Attributes:
        name: its name.
        identity: of the encoder, as `embed` recorded it.
        spec: the encoder; None if its vectors were imported.
        at_least: smallest cosine of two copies.
        verify: how their pixels are compared; None compares none.
        rows: rows with a vector in the latest version.
    """

    name: str
    identity: Mapping[str, Any]
    spec: EncoderSpec | None
    at_least: float
    verify: Verify | None
    rows: int


@dataclass
class _Candidates:
    """The nearest images to a picture: (cosine, image), the smallest on top once there are many."""

    nearest: dict[str, float] = field(default_factory=dict)
    above: float = -1.0
    """Images that are not farther than this were left out."""

    def add(self, cosines: Mapping[str, float]) -> None:
        for image, cosine in cosines.items():
            self.nearest[image] = max(cosine, self.nearest.get(image, -1.0))
        if len(self.nearest) > MAX_COMPARED:
            kept = heapq.nlargest(MAX_COMPARED, self.nearest.items(), key=lambda item: item[1])
            left_out = self.nearest.keys() - dict(kept).keys()
            self.above = max(self.above, *(self.nearest[image] for image in left_out))
            self.nearest = dict(kept)


def find_copies(store: Store, picture: bytes, cosine: float | None = None) -> list[FoundCopies]:
    """Return the stored copies of a picture, for each encoder that a recipe finds copies with.

    Args:
        store: where the pictures are.
        picture: a file.
        cosine: from which on a vector alone makes a copy; None compares pixels as the recipes say.

    Raises:
        RecipeError: the picture cannot be decoded, or an encoder cannot be loaded here.
        StoreError: a file cannot be read.
    """
    spaces = list(_spaces(store))
    if not spaces:
        return []
    try:
        pixels = decode_apart(picture, FetchParams().max_pixels)
    except FetchError as error:
        raise RecipeError(
            f"--like: the picture cannot be decoded ({error.reason})",
            fix=f"Give a JPEG, PNG or WebP that a browser shows, {_WITHOUT}",
        ) from error
    return [_copies_in_space(store, space, pixels, cosine) for space in spaces]


def _copies_in_space(
    store: Store, space: _Space, pixels: Pixels, cosine: float | None
) -> FoundCopies:
    vector = _vector(space, pixels)
    at_least = space.at_least if cosine is None else cosine
    near = _nearest(store, space, vector, at_least)
    images, compared = frozenset(near.nearest), 0
    if cosine is None and space.verify is not None:
        images, compared = _compared(store, near.nearest, pixels, space.verify)
        # Without a picture nobody knows whether it is a copy, so it counts as another one.
        others = near.nearest.keys() - images
        farthest = max([near.above, *(near.nearest[image] for image in others)])
        at_least = at_least if farthest < at_least else farthest + MARGIN
    descriptor = Descriptor(dict(space.identity), vector, at_least)
    rows = max(space.rows - len(images), 0)
    return FoundCopies(space.name, compared, images, rows, descriptor)


def _spaces(store: Store) -> Iterator[_Space]:
    """Yield the encoders that the recipes of a store find copies with, each once."""
    for name, params in _levels(store).items():
        assert params.near is not None
        known: list[Mapping[str, Any]] = []
        for version in store.versions(EMBEDDINGS.table(name)):
            header = store.header(EMBEDDINGS.table(name), version)
            identity = None if header is None else header["stats"].get(ENCODER)
            if header is None or identity is None or identity in known:
                continue
            known.append(identity)
            spec = recorded_spec(header["params"].get("encoders", {}).get(name), identity)
            rows = sum(of_role.get("ok", 0) for of_role in header["counts"].values())
            yield _Space(name, identity, spec, params.near.at_least, params.verify, rows)


def _levels(store: Store) -> dict[str, DedupParams]:
    """Return how copies are found by the vectors of an encoder: as the latest version says."""
    levels: dict[str, DedupParams] = {}
    for version in store.versions(COPIES):
        header = store.header(COPIES, version)
        try:
            params = None if header is None else DedupParams.model_validate(header["params"])
        except ValidationError:
            # Another version of curation wrote it.
            continue
        if params is not None and params.near is not None:
            levels.setdefault(params.near.encoder, params)
    return levels


def _vector(space: _Space, pixels: Pixels) -> str:
    """Return the vector of a picture, as `Descriptor.vector`.

    Raises:
        RecipeError: its encoder cannot be loaded here.
    """
    from curation.media.encoders.encoder import load_encoder
    from curation.media.encoders.forward import encode

    place = f"--like: encoder {space.name!r}, by which the store finds copies"
    if space.spec is None or space.spec.is_imported:
        raise RecipeError(
            Detail(
                f"{place}, is not known here: its vectors were imported, or a plug-in made them",
                fix=f"Name the image_id of each copy, {_WITHOUT}",
            )
        )
    try:
        encoder = load_encoder(space.spec, CPU)
    except RecipeError as error:
        raise RecipeError(
            Detail(
                f"{place}, cannot be loaded: {error}",
                fix=f"Bring its weights to this machine (curation weights RECIPE), {_WITHOUT}",
            )
        ) from error
    if encoder.identity != space.identity:
        raise RecipeError(
            Detail(
                f"{place}, has other weights or another preprocessing on this machine",
                fix=f"Use the weights and packages of the run, {_WITHOUT}",
            )
        )
    vectors, valid = encode(encoder, [pixels.copy()], 1, CPU)
    if not valid[0]:
        raise RecipeError(
            Detail(f"{place}, gives the picture no vector", fix="Take it down by --hash-only")
        )
    return bytes(vectors[0].astype("<f2").tobytes()).hex()


def _nearest(store: Store, space: _Space, vector: str, at_least: float) -> _Candidates:
    """Return the images with a vector of an encoder that reaches a cosine."""
    candidates = _Candidates()
    files = [path for path, made_by in vector_files(store).items() if made_by == space.identity]
    with ProgressBar("compare vectors", len(files)) as bar:
        for done, path in enumerate(files, 1):
            for ids, cosines in cosines_of(store, path, [vector]):
                near = cosines[:, 0] >= at_least
                pairs = zip(ids[near].tolist(), cosines[near, 0].tolist(), strict=True)
                candidates.add({image: cosine for image, cosine in pairs if image is not None})
            bar.set_done(done)
    return candidates


def _compared(
    store: Store, images: Collection[str], pixels: Pixels, bounds: Verify
) -> tuple[frozenset[str], int]:
    """Return the images whose pixels agree with those of a picture, and how many were compared."""
    png = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
    reduced = reduce_image(png)
    assert reduced is not None
    this, copies, compared = ReducedImage.of(reduced), set[str](), 0
    with ProgressBar("compare pixels", len(images)) as bar:
        for image, content in _pictures(store, images):
            stored = reduce_image(content)
            if stored is not None:
                compared += 1
                if _agree(this, ReducedImage.of(stored), bounds):
                    copies.add(image)
            bar.set_done(compared)
    return frozenset(copies), compared


def _agree(this: ReducedImage, other: ReducedImage, bounds: Verify) -> bool:
    measured = asdict(compare(this, other))
    columns = {
        name: np.array([np.nan if measured[name] is None else measured[name]]) for name in MEASURED
    }
    return bool(agrees(columns, bounds)[0])


def _pictures(store: Store, images: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield some images and their stored pictures, each once."""
    missing = set(images)
    for path in sorted(store.storage.files(f"tables/{IMAGES}/data", recursive=True)):
        if not missing:
            return
        try:
            for image, content in _of_file(store, path, missing):
                missing.discard(image)
                yield image, content
        except (FileNotFoundError, pa.ArrowInvalid):
            # A run has deleted it, or it is damaged: then whoever searches its rows says so.
            continue
        except OSError as error:
            raise StoreError(
                f"{store.address(path)} cannot be read ({error})",
                fix=set_aside_fix(store.uri, "run the same command again"),
            ) from error


def _of_file(store: Store, path: str, images: Collection[str]) -> Iterator[tuple[str, bytes]]:
    with open_input(store.storage, path) as stream:
        file = pq.ParquetFile(stream)
        if not any(each in images for each in _ids(file)):
            return
        for batch in file.iter_batches(_PICTURES_AT_ONCE, columns=["image_id", "image"]):
            for number, image in enumerate(batch.column("image_id").to_pylist()):
                content = batch.column("image")[number].as_py() if image in images else None
                if content is not None:
                    yield image, content


def _ids(file: pq.ParquetFile) -> Iterator[str | None]:
    for batch in file.iter_batches(columns=["image_id"]):
        yield from batch.column("image_id").to_pylist()
