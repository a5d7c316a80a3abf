"""Reads what a search looks for: pictures and vectors in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from curation.algorithms.arrays.vectors import Vectors, of_moderate_size
from curation.errors import Detail, RecipeError, start_of_paths
from curation.media.pictures.apart import MAX_FILE_BYTES
from curation.media.vectors.npy import open_npy

SAVE_VECTORS = "Write an array of float32 with numpy.save, one row for each vector"


def read_picture(path: Path) -> bytes:
    """Return the bytes of a file, which may be a pipe of the shell.

    Raises:
        RecipeError: it cannot be read, or is too large for a picture.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        message, fix = f"it cannot be read: {error.strerror}", start_of_paths()
        raise RecipeError(Detail(message, str(path), fix=fix)) from error
    if len(content) > MAX_FILE_BYTES:
        message = f"it has more than {MAX_FILE_BYTES >> 20:,} MiB"
        raise RecipeError(Detail(message, str(path), fix="Name a picture"))
    return content


def read_queries(path: Path) -> Vectors:
    """Return the vectors (n, dim) of a .npy file as unit vectors. Pickled objects are refused.

    Raises:
        RecipeError: the file is not an array of that shape, or a vector has no direction.
    """
    if not path.exists():
        message, fix = f"there is no file {str(path)!r}", start_of_paths()
        raise RecipeError(Detail(message, "--vectors", str(path), fix=fix))
    try:
        vectors = open_npy(path)
    except RecipeError as error:
        raise RecipeError(*error.details, within="--vectors") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not len(vectors):
        shape = f"{vectors.dtype} of shape {vectors.shape}"
        message = f"{path} holds {shape}; it must hold floats of shape (n, dim), n at least 1"
        raise RecipeError(Detail(message, "--vectors", shape, fix=SAVE_VECTORS))
    doubles = of_moderate_size(vectors.astype(np.float64))
    lengths = np.linalg.norm(doubles, axis=1, keepdims=True)
    invalid = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(invalid):
        message = f"{path}: row {invalid[0]} is zero or not finite"
        raise RecipeError(Detail(message, "--vectors", int(invalid[0]), fix="Leave such rows out"))
    unit: Vectors = (doubles / lengths).astype(np.float32)
    return unit
