"""Ids of imported vectors: read in bounded parts, and looked up by their digests."""

from __future__ import annotations

import hashlib
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.engine.sorted_arrays import positions_in
from curation.errors import RecipeError
from curation.media.files.parquet_images import is_bytes, plain_type
from curation.media.vectors.file_order import order_problem
from curation.media.vectors.npy import open_npy
from curation.media.vectors.params import Join
from curation.media.vectors.parquet import column_batches
from curation.media.vectors.vector_set import PARQUET_ENDINGS, VectorSet, files_of

Texts = list[str | None]
ID_CHARACTERS = 128 * 1024
"""Longest id, as the longest key of a source."""
_PART_BYTES = 16 * 2**20
_PART_ROWS = 65_536
_MAX_ITEM_BYTES = 4 * ID_CHARACTERS
_DIGEST_BYTES = 16
_DIGESTS = np.dtype(f"S{_DIGEST_BYTES}")
_SHA256_BYTES = 32


def digests_of(texts: Iterable[str]) -> Any:
    """Return the digest of each text, S16, (n,)."""
    digests = [
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        for text in texts
    ]
    return np.array(digests, _DIGESTS)


def read_ids(
    vectors: VectorSet, file: str | None, column: str | None, join: Join
) -> Iterator[Texts]:
    """Yield the ids of vectors in parts, in the order of the vectors; None for a null.

    Args:
        vectors: the vectors.
        file: file or folder of ids; None for a column of the files with the vectors.
        column: of Parquet files.
        join: what the ids are.

    Raises:
        RecipeError: a file cannot be read, or holds no ids of that kind.
    """
    if file is None:
        paths = [each.path for each in vectors.files]
        if any(path.suffix.lower() not in PARQUET_ENDINGS for path in paths):
            raise RecipeError(
                f"{vectors.path!r} is of .npy files, which hold no ids",
                fix="Set ids.file to the file with the ids, in the order of the vectors",
            )
    else:
        paths = files_of(file, (".npy", ".txt", *PARQUET_ENDINGS), "ids")
        names = [each.path.stem for each in vectors.files]
        problem = order_problem(names, [path.stem for path in paths], "ids")
        if problem is not None:
            raise RecipeError(problem)
    parts = chain.from_iterable(_ids_of(path, column) for path in paths)
    if join == "sha256":
        return ([_sha256(value, file or vectors.path) for value in part] for part in parts)
    return ([_as_text(value, file or vectors.path) for value in part] for part in parts)


def _ids_of(path: Path, column: str | None) -> Iterator[list[Any]]:
    ending = path.suffix.lower()
    if ending in PARQUET_ENDINGS:
        if column is None:
            raise RecipeError(
                f"{str(path)!r} is a Parquet file, and the recipe names no column of it",
                fix="Set ids.column to its column with the ids",
            )
        return _of_parquet(path, column)
    if column is not None:
        raise RecipeError(
            f"{str(path)!r} has no columns", fix="Remove ids.column, or name a Parquet file"
        )
    return _of_npy(path) if ending == ".npy" else _of_txt(path)


def _of_npy(path: Path) -> Iterator[list[Any]]:
    array = open_npy(path)
    if array.ndim != 1 or array.dtype.kind not in "USiu":
        raise RecipeError(
            f"{str(path)!r} holds {array.dtype} of shape {array.shape}",
            fix="Write ids as texts or whole numbers, of shape (n,)",
        )
    if array.dtype.itemsize > _MAX_ITEM_BYTES:
        raise RecipeError(
            f"{str(path)!r} holds {array.dtype}: ids of more than {ID_CHARACTERS:,} characters",
            fix="Write shorter ids, in the source too",
        )
    rows = max(1, min(_PART_ROWS, _PART_BYTES // max(array.dtype.itemsize, 1)))
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        if array.dtype.kind == "U" and not _is_unicode(part):
            raise RecipeError(
                f"{str(path)!r} holds code points that are not in Unicode, so it is damaged",
                fix="Write the ids again",
            )
        yield part.tolist()


def _is_unicode(texts: npt.NDArray[np.str_]) -> bool:
    """Whether texts, (n,), hold code points of Unicode alone; `tolist` fails for others."""
    if not texts.dtype.itemsize:
        return True
    code_points = np.ascontiguousarray(texts).view(f"{texts.dtype.str[0]}u4")
    return bool(code_points.max(initial=0) <= sys.maxunicode)


def _of_txt(path: Path) -> Iterator[list[Any]]:
    part: list[Any] = []
    size = 0
    with path.open("rb") as stream:
        if stream.read(len(BOM_UTF8)) != BOM_UTF8:
            stream.seek(0)
        while line := stream.readline(ID_CHARACTERS + 2):
            part.append(line.rstrip(b"\r\n"))
            size += len(line)
            if len(part) == _PART_ROWS or size > _PART_BYTES:
                yield part
                part, size = [], 0
    yield part


def _of_parquet(path: Path, column: str) -> Iterator[list[Any]]:
    for _, values in column_batches(path, column):
        kind = plain_type(values.type)
        types = pa.types
        texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer)
        if not (is_bytes(kind) or any(of(kind) for of in texts)):
            raise RecipeError(
                f"{str(path)!r}: column {column!r} has the type {values.type}",
                fix="Name a column of texts, bytes or whole numbers",
            )
        try:
            part = values.to_pylist()
        except UnicodeDecodeError as error:
            raise RecipeError(
                f"{str(path)!r}: column {column!r} holds a text that is not UTF-8",
                fix="Write ids as texts in UTF-8",
            ) from error
        yield part


def _as_text(value: Any, path: str) -> str | None:
    """Return an id as text: as `ingest` makes texts of keys.

    Raises:
        RecipeError: it is no text, or too long.
    """
    if value is None or value in ("", b""):
        return None
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            message = f"{path!r}: the id {value[:40]!r} is not UTF-8"
            raise RecipeError(message, fix="Write ids as texts in UTF-8") from error
    text = str(value)
    if len(text) > ID_CHARACTERS:
        message = f"{path!r}: an id has more than {ID_CHARACTERS:,} characters"
        raise RecipeError(message, fix="Write shorter ids, in the source too")
    return text


def _sha256(value: Any, path: str) -> str | None:
    """Return a SHA-256 as hexadecimal digits in lower case.

    Raises:
        RecipeError: it has another form.
    """
    if isinstance(value, bytes) and len(value) == _SHA256_BYTES:
        return value.hex()
    text = _as_text(value, path)
    if text is None:
        return None
    text = text.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise RecipeError(
            f"{path!r}: the id {text[:80]!r} is no SHA-256 of 64 hexadecimal digits",
            fix="If the ids are keys of the source, set ids.join: key",
        )
    return text


@dataclass(frozen=True)
class IdIndex:
    """The ids of some vectors, by their digests.

    Attributes:
        digests: sorted, (n,).
        numbers: of the vector with each digest, (n,).
        first: some of the ids, for messages.
    """

    digests: Any
    numbers: Any
    first: tuple[str, ...]

    def find(self, texts: Sequence[str | None]) -> Any:
        """Return the number of the vector of each text, −1 for none, (n,)."""
        known = np.array([text is not None for text in texts], bool)
        numbers = np.full(len(texts), -1, np.int64)
        wanted = digests_of(text for text in texts if text is not None)
        places, is_there = positions_in(wanted, self.digests)
        if len(self.digests):
            numbers[known] = np.where(is_there, self.numbers[places], -1)
        return numbers


def build_index(parts: Iterable[Texts], vectors: VectorSet) -> IdIndex:
    """Return the index of the ids of vectors.

    Args:
        parts: the ids in the order of the vectors; vectors whose id is None are left out.
        vectors: the vectors.

    Raises:
        RecipeError: an id is repeated, or there are more or fewer ids than vectors.
    """
    digests, numbers, rows, first = [np.empty(0, _DIGESTS)], [np.empty(0, np.int64)], 0, list[str]()
    for part in parts:
        known = [number for number, text in enumerate(part) if text is not None]
        texts = [str(part[number]) for number in known]
        first += texts[: 3 - len(first)]
        digests.append(digests_of(texts))
        numbers.append(np.array(known, np.int64) + rows)
        rows += len(part)
    if rows != vectors.rows:
        raise RecipeError(
            f"{vectors.path!r} holds {vectors.rows:,} vectors, but there are {rows:,} ids",
            fix="Write one id for each vector, in their order",
        )
    every, places = np.concatenate(digests), np.concatenate(numbers)
    order = np.argsort(every, kind="stable")
    every, places = every[order], places[order]
    same = np.flatnonzero(every[1:] == every[:-1])
    if len(same):
        rows_of = f"{places[same[0]]:,} and {places[same[0] + 1]:,}"
        raise RecipeError(
            f"{vectors.path!r}: {len(same):,} ids are repeated; the vectors {rows_of} (counted from 0) "
            "have the same one",
            fix="Keep one vector for each id",
        )
    return IdIndex(every, places, tuple(first))
