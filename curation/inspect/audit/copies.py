"""The data of an audit: injected copies, stored originals, and what the search detects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Bools, Vectors
from curation.algorithms.knn.exact import Candidates
from curation.algorithms.knn.hash_parts import Hashes
from curation.stages.verify.compare import Agreement


@dataclass(frozen=True)
class InjectedCopy:
    """One edited copy of a sampled image.

    Attributes:
        original: number of the original in the sample.
        edit: number of the edit.
        stored: the bytes that fetch would store, or None.
        refused: why fetch would not store the copy, or None.
        agreement: how well the pixels agree with those of the original; None where they were not
            compared.
    """

    original: int
    edit: int
    stored: bytes | None
    refused: str | None
    agreement: Agreement | None


@dataclass(frozen=True)
class InjectedCopies:
    """All injected copies, sorted by original and edit. Arrays have shape (m,) or (m, …).

    Attributes:
        original: number of the original in the sample.
        edit: number of the edit.
        refused: why fetch would not store the copy, or None.
        hashes: perceptual hashes, (m, 32), valid where `hashed`.
        hashed: which copies have a hash.
        vectors: unit vectors, (m, dim), valid where `embedded`.
        embedded: which copies have a vector.
        agrees: which copies agree with their originals pixel by pixel; None where the recipe does not
            verify.
        undecodable: how many sampled images could not be decoded, so that they have no copies.
        thumbnails: data URIs of the copies of the first sampled image, by the number of the edit.
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
    thumbnails: dict[int, str]

    def __len__(self) -> int:
        return len(self.original)


@dataclass(frozen=True)
class StoredOriginals:
    """What the tables of the run hold of the sampled images.

    Attributes:
        hashes: perceptual hashes, (n, 32), valid where `hashed`.
        hashed: which originals have a hash, (n,).
        vectors: unit vectors, (n, dim), valid where `embedded`.
        embedded: which originals have a vector, (n,).
    """

    hashes: Hashes
    hashed: Bools
    vectors: Vectors
    embedded: Bools


@dataclass(frozen=True)
class Detections:
    """The images that the search finds near to originals, and how near each copy is to its original.

    Attributes:
        by_hash: pairs of an original (`query`, its number in the sample) and another pool image; the
            similarity is 1 − distance / 256.
        by_vector: the same by cosine similarity.
        distance: Hamming distance of each copy to its original in bits, (m,); −1 where one of them has
            no hash.
        similarity: cosine similarity of each copy to its original, (m,); NaN where one of them has no
            vector.
        rank: rank of the original among the nearest pool images of each copy, (m,), from 1; 0 where it
            is not among them.
    """

    by_hash: Candidates
    by_vector: Candidates
    distance: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]
    rank: npt.NDArray[np.int64]
