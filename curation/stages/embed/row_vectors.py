"""Which imported vector each row has, where rows of one image come with different ones, or without.

An image has one vector, as it has where an encoder computes it. Otherwise it would be its own
neighbour, and the order of rows would decide what it is compared by. It would also be lost where the
row that represents it is one of those without a vector.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Bools, Ids, RowNumbers
from curation.engine.sorted_arrays import positions_in, run_starts
from curation.media.vectors.vector_set import VectorSet
from curation.store.fragment import Fragment

logger = logging.getLogger(__name__)

Numbers = npt.NDArray[np.int64]
ROWS_AT_ONCE = 65_536
VECTOR_BYTES = 2**26
"""Vectors that are compared are in memory together up to this size in float64."""
_DIGEST_BYTES = 16


class ImportSource(NamedTuple):
    """The fragments of `images` of one source, and its vectors."""

    name: str
    fragments: list[Fragment]
    vectors: VectorSet
    ids_file: str | None


class RowVectors(NamedTuple):
    """The vector of each row of some fragments, each of shape (n,).

    Attributes:
        source: the number of the source whose vectors hold it.
        number: its number among them; −1 for none.
        is_replaced: whether it is that of another row of the image.
    """

    source: npt.NDArray[np.int32]
    number: Numbers
    is_replaced: Bools

    def select(self, rows: Any) -> RowVectors:
        """Return those of some rows."""
        return RowVectors(self.source[rows], self.number[rows], self.is_replaced[rows])


class _Candidates(NamedTuple):
    """Rows of images that have several rows, sorted by image and pair; each of shape (n,).

    Attributes:
        row: number of the row in all fragments.
        image: its image_id.
        vectors: where its vector is.
    """

    row: RowNumbers
    image: Ids
    vectors: RowVectors

    def select(self, rows: Any) -> _Candidates:
        """Return some of them."""
        return _Candidates(self.row[rows], self.image[rows], self.vectors.select(rows))


def one_vector_each(sources: Sequence[ImportSource], vectors: RowVectors) -> RowVectors:
    """Return vectors such that all rows of an image have the same.

    It is that of the row with the smallest pair_id among those whose vector can be used. If there is
    no such row, each stays as it is.

    Args:
        sources: they hold all vectors, and the rows in the order of their fragments.
        vectors: of each row.
    """
    fragments = [fragment for source in sources for fragment in source.fragments]
    rows = _rows_of_repeated_images(fragments)
    candidates = _with_several_vectors(_candidates(fragments, rows, vectors))
    digests = _digests(sources, candidates.vectors)
    can_be_used = digests != b""
    images, usable = candidates.image, np.flatnonzero(can_be_used)
    position, known = positions_in(images, images[usable])
    if not known.any():
        return vectors
    first = usable[position[known]]
    differs = digests[known] != digests[first]
    replaced, by = candidates.select(known).select(differs), candidates.select(first[differs])
    _report(replaced, can_be_used[known][differs])
    result = vectors.select(np.arange(len(vectors.number)))
    result.source[replaced.row], result.number[replaced.row] = by.vectors.source, by.vectors.number
    result.is_replaced[replaced.row] = True
    return result


def _report(replaced: _Candidates, had_another: Bools) -> None:
    """Log how many rows get the vector of another row.

    Args:
        replaced: these rows.
        had_another: which of them come with a vector that could be used, too, (n,).
    """
    others = replaced.image[had_another]
    if len(others):
        logger.warning(
            "embed: %d rows of %d images come with another vector than the row of the same image with "
            "the smallest pair_id; they get the vector of that row",
            *(len(others), int(run_starts(others).sum())),
        )
    if not had_another.all():
        logger.info(
            "embed: %d rows come without a vector that can be used, and get that of another row of "
            "the same image",
            int((~had_another).sum()),
        )


def _rows_of_repeated_images(fragments: Sequence[Fragment]) -> RowNumbers:
    """Return the rows that may share their image with another row; 8 bytes a row are held."""
    rows = sum(fragment.rows for fragment in fragments)
    hashes, has_image = np.empty(rows, np.uint64), np.zeros(rows, bool)
    start = 0
    for batch in _batches(fragments, ["image_id"]):
        end, column = start + len(batch), batch.column("image_id")
        words = to_ids(column).view(np.uint64).reshape(-1, 4)
        # Half of the digits: which images are the same is decided by all of them later.
        hashes[start:end] = words[:, 0] * np.uint64(0x9E3779B97F4A7C15) + words[:, 1]
        has_image[start:end] = column.is_valid()
        start = end
    known = np.sort(hashes[has_image])
    repeated = known[~run_starts(known)] if len(known) else known
    if not len(repeated):
        return np.empty(0, np.int64)
    repeated = repeated[run_starts(repeated)]
    return np.flatnonzero(positions_in(hashes, repeated)[1] & has_image)


def _batches(fragments: Sequence[Fragment], columns: Sequence[str]) -> Iterator[Any]:
    for fragment in fragments:
        yield from fragment.batches(columns, rows=ROWS_AT_ONCE)


def _candidates(
    fragments: Sequence[Fragment], rows: RowNumbers, vectors: RowVectors
) -> _Candidates:
    """Return rows with their images, sorted by image and pair_id."""
    images, pairs = [np.empty(0, "S32")], [np.empty(0, "S32")]
    start = 0
    for fragment in fragments:
        wanted = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + fragment.rows)]
        if len(wanted):
            image, pair = _ids(fragment, wanted - start)
            images.append(image)
            pairs.append(pair)
        start += fragment.rows
    image = np.concatenate(images)
    order = np.lexsort((np.concatenate(pairs), image))
    return _Candidates(rows[order], image[order], vectors.select(rows[order]))


def _ids(fragment: Fragment, rows: RowNumbers) -> tuple[Ids, Ids]:
    """Return the image_id and the pair_id of some rows of a fragment."""
    images, pairs = [], []
    start = 0
    for batch in fragment.batches(["image_id", "pair_id"], rows=ROWS_AT_ONCE):
        end = start + len(batch)
        some = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)] - start
        images.append(to_ids(batch.column("image_id"))[some])
        pairs.append(to_ids(batch.column("pair_id"))[some])
        start = end
    return np.concatenate(images), np.concatenate(pairs)


def _with_several_vectors(candidates: _Candidates) -> _Candidates:
    """Return the candidates of images whose rows do not all have one vector, by its number."""
    place, vectors = _first_of_image(candidates.image), candidates.vectors
    first = vectors.select(place)
    differs = (vectors.source != first.source) | (vectors.number != first.number)
    several = np.zeros(len(place), bool)
    several[place[differs]] = True
    return candidates.select(several[place])


def _first_of_image(images: Ids) -> RowNumbers:
    """Return for each place in sorted images, of which there is one, the first place of its image."""
    starts = run_starts(images)
    first: RowNumbers = np.flatnonzero(starts)[np.cumsum(starts) - 1]
    return first


def _digests(sources: Sequence[ImportSource], vectors: RowVectors) -> npt.NDArray[np.bytes_]:
    """Return a digest of each vector as it is stored, (n,); blank for none that can be used."""
    digests = np.zeros(len(vectors.number), f"S{2 * _DIGEST_BYTES}")
    for number, source in enumerate(sources):
        of_source = np.flatnonzero((vectors.source == number) & (vectors.number >= 0))
        # Files are read from their beginning to their end.
        order = of_source[np.argsort(vectors.number[of_source], kind="stable")]
        at_once = max(VECTOR_BYTES // (8 * source.vectors.dim), 1)
        for start in range(0, len(order), at_once):
            some = order[start : start + at_once]
            stored, reasons = source.vectors.take(vectors.number[some])
            digests[some] = [
                _digest(vector) if reason is None else ""
                for vector, reason in zip(stored, reasons, strict=True)
            ]
    return digests


def _digest(vector: npt.NDArray[Any]) -> str:
    # Bytes that end with zeros would lose them in an array.
    return blake2b(vector.tobytes(), digest_size=_DIGEST_BYTES).hexdigest()
