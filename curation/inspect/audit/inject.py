"""Edited copies of sampled pictures, stored as fetch stores them, hashed and embedded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from curation.algorithms.arrays.vectors import Bools, Vectors, vector_matrix
from curation.engine.progress import ProgressBar
from curation.errors import StoreError
from curation.inspect.audit.edits import EDITS, edited
from curation.inspect.audit.pool import HASH_BYTES, Hashes, Pool, Sample
from curation.inspect.audit.verify_pairs import compared, small_picture, within
from curation.inspect.report.pictures import thumbnail
from curation.media.encoders.compatibility import Space
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EMBEDDINGS
from curation.media.pictures.decode import decode
from curation.media.pictures.hashes import decode_grey, perceptual_hash
from curation.recipe import Recipe
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.request import FetchRequest, FetchResult
from curation.stages.fetch.sample_writer import IMAGE_FORMAT, SampleWriter
from curation.stages.fetch.work_shards import WorkShards
from curation.stages.verify.compare import Agreement

if TYPE_CHECKING:
    from curation.media.encoders.encoder import Encoder

NAMES = tuple(EDITS)


@dataclass(frozen=True)
class Copy:
    """A planted copy: its original, its edit (numbers both), its stored bytes or why there are none.

    `agreement` is with its original, where anyone looked.
    """

    original: int
    edit: int
    stored: bytes | None
    refused: str | None
    agreement: Agreement | None


@dataclass(frozen=True)
class Planted:
    """All planted copies, by original and edit; arrays have shape (m,) or (m, …).

    A row of `hashes` (m, 32) counts where `hashed`, one of `vectors` (m, dim) where `embedded`.
    `agrees` tells which agree with their originals; None where the recipe does not verify.
    `shown` are data URIs of the copies of the first sampled picture, by the number of the edit.
    """

    original: npt.NDArray[np.int64]
    edit: npt.NDArray[np.int64]
    refused: list[str | None]
    hashes: Hashes
    hashed: Bools
    vectors: Vectors
    embedded: Bools
    agrees: Bools | None
    undecodable: int
    shown: dict[int, str]


def open_encoder(recipe: Recipe, pool: Pool, device: str) -> Encoder | None:
    """Return the encoder of near vectors, or None where the recipe has no such level.

    Raises:
        RecipeError: it cannot be loaded.
        StoreError: it is not the one whose vectors are stored.
    """
    near = recipe.dedup.near
    if near is None or pool.embeddings is None:
        return None
    from curation.media.encoders.encoder import load_encoder

    encoder = load_encoder(recipe.embed.encoders[near.encoder], device)
    own = Space(encoder.identity, encoder.dim)
    stored = _stored_space(pool)
    if stored is not None and not stored.holds(own):
        raise StoreError(
            f"The vectors in {EMBEDDINGS.table(near.encoder)} are by {stored}, the recipe's encoder "
            f"is {own}. "
            "Use the weights and packages of the run, or run the recipe again."
        )
    return encoder


def _stored_space(pool: Pool) -> Space | None:
    """Return the space of the stored vectors; None where there is no vector."""
    assert pool.embeddings is not None
    identity = pool.embeddings.manifest.stats.get("encoder")
    if identity is not None:
        return Space(identity, identity["dim"])
    for fragment in pool.embeddings.fragments.values():
        schema = fragment.schema()
        if schema is not None and pa.types.is_fixed_size_binary(schema.field("vector").type):
            return Space(None, vector_matrix(pa.array([], schema.field("vector").type)).shape[1])
    return None


def plant(
    pool: Pool,
    sample: Sample,
    recipe: Recipe,
    seed: int,
    encoder: tuple[Encoder | None, str],
) -> Planted:
    """Make every edited copy of every sampled picture, a batch in memory at a time.

    Args:
        pool: where stored pictures are.
        sample: the originals.
        recipe: how pictures are stored and in which batches they are embedded.
        seed: of the edits' random numbers.
        encoder: what embeds them, and the device where it is; None leaves vectors out.
    """
    model, device = encoder
    bad: list[int] = []
    size, bounds = recipe.embed.batch_size, recipe.dedup.verify
    copies = _copies(pool, sample, recipe, seed, bad)
    made: list[Copy] = []
    hashes, vectors = [], []
    shown: dict[int, str] = {}
    while batch := list(islice(copies, size)):
        made += [replace(c, stored=None) for c in batch]
        hashes += [_hash(c.stored) if pool.has_hashes else None for c in batch]
        if model is not None:
            pictures = [decode(c.stored) if c.stored else None for c in batch]
            vectors.append(encode(model, pictures, size, device))
        shown |= {c.edit: thumbnail(c.stored) for c in batch if c.original == 0 and c.stored}
    order = sorted(range(len(made)), key=lambda n: (made[n].original, made[n].edit))
    matrix = np.concatenate([v for v, _ in vectors]) if vectors else np.zeros((len(made), 0))
    valid = np.concatenate([v for _, v in vectors]) if vectors else np.zeros(len(made), bool)
    raw = b"".join(h or bytes(HASH_BYTES) for h in hashes)
    return Planted(
        original=np.array([made[n].original for n in order], np.int64),
        edit=np.array([made[n].edit for n in order], np.int64),
        refused=[made[n].refused for n in order],
        hashes=np.frombuffer(raw, np.uint8).reshape(-1, HASH_BYTES)[order],
        hashed=np.array([hashes[n] is not None for n in order], bool),
        vectors=matrix[order],
        embedded=valid[order],
        agrees=within([made[n].agreement for n in order], bounds) if bounds else None,
        undecodable=len(bad),
        shown=shown,
    )


def _hash(stored: bytes | None) -> bytes | None:
    grey = None if stored is None else decode_grey(stored)
    return None if grey is None else perceptual_hash(grey)


def _copies(
    pool: Pool, sample: Sample, recipe: Recipe, seed: int, bad: list[int]
) -> Iterator[Copy]:
    """Yield the copies of each picture; the numbers of pictures that cannot be decoded go to `bad`."""
    verify = recipe.dedup.verify is not None
    with ProgressBar("plant copies", len(sample)) as progress:
        for done, (number, image) in enumerate(pool.pictures(sample), start=1):
            picture = decode(image)
            if picture is None:
                bad.append(number)
                continue
            image_id, whole = sample.ids[number].decode(), Image.fromarray(picture)
            files = [edited(whole, name, image_id, seed) for name in NAMES]
            original = small_picture(image) if verify else None
            for edit, (stored, refused) in enumerate(store_as(files, recipe.fetch)):
                agreement = compared(original, small_picture(stored)) if verify else None
                yield Copy(number, edit, stored, refused, agreement)
            progress.set_done(done)


def store_as(files: list[bytes], params: FetchParams) -> list[tuple[bytes | None, str | None]]:
    """Return what stage fetch stores of files: (stored image, None), or (None, reason)."""
    with TemporaryDirectory(prefix="curation-audit-") as folder:
        work = WorkShards(folder, len(files))
        with SampleWriter(folder, params, work) as samples:
            for row, content in enumerate(files):
                samples.write_result(FetchResult(FetchRequest(row, None, None, None), content))
        work.scan()
        found, at = work.read(0, len(files))
    if found is None:
        return []
    rows = found.take(pa.array(at)).to_pylist()
    return [(row[IMAGE_FORMAT], row["reason"]) for row in rows]
