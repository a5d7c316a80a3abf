"""Arrays of .npy files, mapped into memory. No pickle is ever loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import RecipeError

MAGIC = b"\x93NUMPY"


def open_npy(path: Path) -> Any:
    """Return the array of a file, mapped into memory.

    Raises:
        RecipeError: it is no array of numbers or texts, or shorter than its header says.
    """
    try:
        with path.open("rb") as stream:
            is_array = stream.read(len(MAGIC)) == MAGIC
        if is_array:
            return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        # Its header is an expression of Python, whose parser raises errors of many kinds.
        raise RecipeError(
            f"{str(path)!r} cannot be read as an array ({error})",
            fix=(
                "Write it again with numpy.save, without objects: texts as those of np.array(ids, "
                "dtype=str)"
            ),
        ) from error
    raise RecipeError(
        f"{str(path)!r} is no .npy file: it does not begin as numpy.save writes one (an .npz holds "
        "several)",
        fix="Write the array with numpy.save",
    )


class NpyVectors:
    """Vectors of a .npy file.

    Args:
        path: the file, a float array of shape (n, dim).

    Raises:
        RecipeError: it is another array, or none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        array = open_npy(path)
        if array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
            raise RecipeError(
                f"{str(path)!r} holds {array.dtype} of shape {array.shape}",
                fix=(
                    "Write vectors as float16, float32 or float64 of shape (n, dim). If these are "
                    "ids, put them in another folder, and name it as ids.file"
                ),
            )
        self.rows, self.dim = array.shape
        self._array = array

    def take(self, numbers: Any) -> tuple[Any, Any]:
        """Return the vectors of some rows, (n, dim), and why a row has none (None if it has), (n,).

        Args:
            numbers: of the rows, sorted, (n,).
        """
        vectors = np.asarray(self._array[numbers])
        native = vectors.astype(vectors.dtype.newbyteorder("="), copy=False)
        return native, np.full(len(numbers), None, object)
