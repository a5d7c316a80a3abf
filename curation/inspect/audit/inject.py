"""Makes edited copies of sampled images, stores them as fetch would, hashes and embeds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from PIL import Image

from curation.algorithms.arrays.vectors import Bools, Vectors, vector_matrix
from curation.errors import StoreError
from curation.inspect.audit.copies import InjectedCopies, InjectedCopy
from curation.inspect.audit.edits import EDIT_NAMES, apply_edit
from curation.inspect.audit.pool import HASH_BYTES, Pool, Sample
from curation.inspect.audit.verify_pairs import compare_pictures, load_picture, within_bounds
from curation.inspect.report.album import thumbnail
from curation.media.encoders.compatibility import Space
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EMBEDDINGS
from curation.media.pictures.decode import decode
from curation.media.pictures.hashes import decode_grey, perceptual_hash
from curation.progress import ProgressBar
from curation.recipe import Recipe
from curation.stages.dedup.params import Verify
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.request import FetchRequest, FetchResult
from curation.stages.fetch.sample_schema import IMAGE_FORMAT
from curation.stages.fetch.sample_writer import SampleWriter
from curation.stages.fetch.work_shards import WorkShards
from curation.store.store import Store
from curation.store.work_folder import WorkFolder

if TYPE_CHECKING:
    from curation.media.encoders.encoder import Encoder


def open_encoder(recipe: Recipe, pool: Pool, device: str) -> Encoder | None:
    """Return the encoder of level `near`, or None where the recipe does not configure that level.

    Raises:
        RecipeError: the encoder cannot be loaded.
        StoreError: the stored vectors are from another encoder.
    """
    near = recipe.dedup.near
    if near is None or pool.embeddings is None:
        return None
    from curation.media.encoders.encoder import load_encoder

    encoder = load_encoder(recipe.embed.encoders[near.encoder], device)
    wanted, stored = Space(encoder.identity, encoder.dim), _stored_space(pool)
    if stored is not None and not stored.holds(wanted):
        raise StoreError(
            f"The vectors in {EMBEDDINGS.table(near.encoder)} are by {stored}, but the "
            f"recipe's encoder is {wanted}",
            fix="Use the weights and packages of the run, or run the recipe again",
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


def inject_copies(
    pool: Pool,
    sample: Sample,
    recipe: Recipe,
    seed: int,
    encoder: tuple[Encoder | None, str],
) -> InjectedCopies:
    """Make every edited copy of every sampled image. Memory holds the pixels of one batch.

    Args:
        pool: where the stored images are.
        sample: the originals.
        recipe: decides how images are stored, hashed, embedded and verified.
        seed: of the edits' random numbers.
        encoder: the encoder of level `near`, or None to leave vectors out; and its device.
    """
    model, device = encoder
    undecodable: list[int] = []
    copies = _make_copies(pool, sample, recipe, seed, undecodable)
    batches = _Batches()
    while batch := list(islice(copies, recipe.embed.batch_size)):
        batches.copies += [replace(copy, stored=None) for copy in batch]
        batches.hashes += [_hash(copy.stored) if pool.has_hashes else None for copy in batch]
        if model is not None:
            images = [decode(copy.stored) if copy.stored else None for copy in batch]
            batches.vectors.append(encode(model, images, recipe.embed.batch_size, device))
        first = [copy for copy in batch if copy.original == 0]
        batches.thumbnails |= {c.edit: thumbnail(c.stored) for c in first if c.stored}
    return batches.join(recipe.dedup.verify, len(undecodable))


@dataclass
class _Batches:
    """What is known of the copies so far, in the order in which they were made."""

    copies: list[InjectedCopy] = field(default_factory=list)
    hashes: list[bytes | None] = field(default_factory=list)
    vectors: list[tuple[Vectors, Bools]] = field(default_factory=list)
    thumbnails: dict[int, str] = field(default_factory=dict)

    def join(self, bounds: Verify | None, undecodable: int) -> InjectedCopies:
        """Return all copies, sorted by original and edit."""
        count = len(self.copies)
        order = sorted(range(count), key=lambda n: (self.copies[n].original, self.copies[n].edit))
        copies = [self.copies[n] for n in order]
        vectors, embedded = zip(*self.vectors, strict=True) if self.vectors else ((), ())
        matrix = np.concatenate(vectors) if vectors else np.zeros((count, 0))
        valid = np.concatenate(embedded) if embedded else np.zeros(count, bool)
        raw = b"".join(hash_ or bytes(HASH_BYTES) for hash_ in self.hashes)
        return InjectedCopies(
            original=np.array([copy.original for copy in copies], np.int64),
            edit=np.array([copy.edit for copy in copies], np.int64),
            refused=[copy.refused for copy in copies],
            hashes=np.frombuffer(raw, np.uint8).reshape(-1, HASH_BYTES)[order],
            hashed=np.array([self.hashes[n] is not None for n in order], bool),
            vectors=matrix[order],
            embedded=valid[order],
            agrees=within_bounds([c.agreement for c in copies], bounds) if bounds else None,
            undecodable=undecodable,
            thumbnails=self.thumbnails,
        )


def _hash(stored: bytes | None) -> bytes | None:
    grey = None if stored is None else decode_grey(stored)
    return None if grey is None else perceptual_hash(grey)


def _make_copies(
    pool: Pool, sample: Sample, recipe: Recipe, seed: int, undecodable: list[int]
) -> Iterator[InjectedCopy]:
    """Yield the copies of each image; numbers of images that cannot be decoded go to `undecodable`."""
    verify = recipe.dedup.verify is not None
    with ProgressBar("inject copies", len(sample)) as progress:
        for done, (number, stored_image) in enumerate(pool.sampled_images(sample), start=1):
            pixels = decode(stored_image)
            if pixels is None:
                undecodable.append(number)
                continue
            image_id, image = sample.ids[number].decode(), Image.fromarray(pixels)
            files = [apply_edit(image, name, image_id, seed) for name in EDIT_NAMES]
            original = load_picture(stored_image) if verify else None
            for edit, (stored, refused) in enumerate(store_files(files, recipe.fetch)):
                agreement = compare_pictures(original, load_picture(stored)) if verify else None
                yield InjectedCopy(number, edit, stored, refused, agreement)
            progress.set_done(done)


def store_files(files: list[bytes], params: FetchParams) -> list[tuple[bytes | None, str | None]]:
    """Return what stage fetch stores of image files: (stored image, None) or (None, reason) each."""
    with TemporaryDirectory(prefix="curation-audit-") as folder:
        work = WorkShards(WorkFolder(Store(folder), "shards", "audit"), len(files))
        with work.folder() as shards, SampleWriter(shards, params, work) as samples:
            for row, content in enumerate(files):
                samples.write_result(FetchResult(FetchRequest(row, None, None, None), content))
        work.scan()
        table, rows = work.read(0, len(files))
    if table is None:
        return []
    stored = table.take(pa.array(rows)).to_pylist()
    return [(row[IMAGE_FORMAT], row["reason"]) for row in stored]
