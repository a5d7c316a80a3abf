"""Vectors in a file, or in the files of a folder, as one numbered set."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from curation.algorithms.arrays.vectors import comparable, of_moderate_size, unit_vectors
from curation.errors import RecipeError
from curation.media.vectors.npy import NpyVectors
from curation.media.vectors.parquet import ParquetVectors

PARQUET_ENDINGS = (".parquet", ".parq", ".pq")
MAX_DIM = 65_536
_ROUNDING = 2**-11
"""Largest error of the length of a unit vector whose values were rounded to float16."""


class VectorFile(Protocol):
    """One file of vectors."""

    path: Path
    rows: int
    dim: int

    def take(self, numbers: Any) -> tuple[Any, Any]:
        """Return the vectors of some rows, and why a row has none."""
        ...


def files_of(path: str, endings: tuple[str, ...], what: str) -> list[Path]:
    """Return a file, or the files of a folder in the order of their names, all of one kind.

    Args:
        path: file or folder.
        endings: of the names of files that are read; others in a folder are left alone.
        what: what the files hold, for messages.

    Raises:
        RecipeError: there is none, they are of two kinds, or one is no regular file.
    """
    place = Path(path)
    listed = sorted(place.iterdir()) if place.is_dir() else [place]
    files = [file for file in listed if file.suffix.lower() in endings]
    if place.is_dir():
        # As `._vectors.npy`, which macOS leaves on other file systems.
        files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise RecipeError(
            f"{path!r} is no file of {what}, and no folder with some",
            fix=f"Name a file or folder; names of files end with {', '.join(endings)}",
        )
    kinds = {"parquet" if f.suffix.lower() in PARQUET_ENDINGS else f.suffix.lower() for f in files}
    if len(kinds) > 1:
        raise RecipeError(
            f"The folder {path!r} holds {what} of several kinds: {', '.join(sorted(kinds))}",
            fix="Keep one kind in a folder, or name one file",
        )
    for file in files:
        if not file.exists() or not stat.S_ISREG(file.stat().st_mode):
            raise RecipeError(f"{str(file)!r} is no regular file", fix="Put the file itself there")
    return files


def vector_files(path: str) -> list[Path]:
    """Return the files of vectors at a path; see `files_of`."""
    return files_of(path, (".npy", *PARQUET_ENDINGS), "vectors")


class VectorSet:
    """The vectors of a file or folder, numbered in the order of the names of files and of their rows.

    Args:
        paths: a `.npy` or Parquet file, or a folder of one of these kinds; or several, one after the
            other.
        column: the column of Parquet files; None takes the only one that can hold vectors.

    Attributes:
        path: where they are, for messages.
        files: the files.
        rows: number of vectors.
        dim: their dimension.

    Raises:
        RecipeError: a file cannot be read or holds no vectors, or two differ in their dimension.
    """

    def __init__(self, paths: str | Sequence[str], column: str | None = None) -> None:
        listed = [paths] if isinstance(paths, str) else paths
        self.path = path = ", ".join(listed)
        self.files = [_open(file, column) for each in listed for file in vector_files(each)]
        self._starts = np.cumsum([0, *(file.rows for file in self.files)])
        self.rows = int(self._starts[-1])
        known = [file for file in self.files if file.dim]
        self.dim = known[0].dim if known else 0
        for file in known:
            if file.dim != self.dim:
                raise RecipeError(
                    f"{str(file.path)!r} holds vectors of dimension {file.dim}, "
                    f"{str(known[0].path)!r} of {self.dim}",
                    fix="Write all vectors of an encoder with one dimension",
                )
        if not 0 < self.dim <= MAX_DIM or not self.rows:
            raise RecipeError(
                f"{path!r} holds {self.rows:,} vectors of dimension {self.dim}",
                fix=f"Write at least one vector, of 1 to {MAX_DIM:,} numbers",
            )

    def take(self, numbers: Any) -> tuple[Any, Any]:
        """Return some vectors as unit vectors in float16, and for each the reason if it is missing.

        Args:
            numbers: of the vectors, in any order, (n,); −1 for none.

        Returns:
            Vectors (n, dim), those without a direction zero, and reasons (n,): None, `missing`,
            `wrong_dimension` or `not_finite`.
        """
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], self._starts)
        vectors = np.zeros((len(numbers), self.dim), np.float16)
        reasons = np.full(len(numbers), "missing", object)
        for file, start, first, end in zip(
            self.files, self._starts, bounds, bounds[1:], strict=False
        ):
            if first < end:
                rows = order[first:end]
                raw, why = file.take(numbers[rows] - start)
                vectors[rows], valid = as_stored(raw)
                reasons[rows] = np.where((why == None) & ~valid, "not_finite", why)  # noqa: E711
        return vectors, reasons


def _open(path: Path, column: str | None) -> VectorFile:
    if path.suffix.lower() == ".npy":
        if column is not None:
            raise RecipeError(
                f"{str(path)!r} is a .npy file, which has no columns", fix="Remove `column`"
            )
        return NpyVectors(path)
    return ParquetVectors(path, column)


def as_stored(vectors: Any) -> tuple[Any, Any]:
    """Return vectors (n, dim) as `embed` stores them, and which of them have a direction, (n,).

    They are divided by their length and rounded to float16. Vectors that were rounded so before stay
    as they are, so that those of a store can be taken out and brought back.
    """
    wide = vectors.astype(np.float32) if vectors.dtype.itemsize == 2 else vectors
    unit, valid = unit_vectors(of_moderate_size(wide))
    with np.errstate(over="ignore", invalid="ignore"):
        half = vectors.astype(np.float16)
        lengths = np.linalg.norm(wide, axis=1)
        same = (half == vectors).all(axis=1) & (np.abs(lengths - 1) <= _ROUNDING)
    unit[same] = half[same]
    return unit, valid | (same & comparable(half))
