"""Imported vectors: which vector each row of `images` has, found once for all fragments."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.engine.context import Context
from curation.engine.shipped_files import local_path
from curation.engine.table import Table
from curation.engine.units import OfMembers
from curation.errors import Detail, RecipeError, StoreError
from curation.media.encoders.imported import (
    content_of,
    identity_of,
    ids_of,
    of_source,
    one_dim,
    read_index,
)
from curation.media.encoders.params import EncoderSpec
from curation.media.vectors.ids import IdIndex
from curation.media.vectors.vector_set import VectorSet
from curation.stages.embed.params import EmbedParams
from curation.stages.embed.row_vectors import (
    ROWS_AT_ONCE,
    ImportSource,
    RowVectors,
    one_vector_each,
)
from curation.store.digest import digest
from curation.store.fragment import Fragment

logger = logging.getLogger(__name__)

Numbers = npt.NDArray[np.int64]
"""Number of the vector of each row; −1 for none."""
COLUMNS = {"key": "source_key", "sha256": "sha256"}
"""The column of `images` that holds what the ids are."""
_STATE, _SAVED = "row vectors", RowVectors._fields
"""The saved state with the vector of each row, and its columns."""
_STATE_VERSION = 2
"""It is raised where the same files would give rows other vectors."""


@dataclass(frozen=True)
class ImportedRows:
    """The vectors of the rows of one fragment.

    Attributes:
        paths: of the vectors; after those of its source those of sources that share images with it.
        column: of Parquet files with the vectors.
        rows: how many vectors there are under all paths.
        numbers: of the vector of each row among them, (n,).
        identity: of the encoder.
        content: what memos depend on besides the fragment and the content of the files.
    """

    paths: Sequence[str]
    column: str | None
    rows: int
    numbers: Numbers
    identity: Mapping[str, Any]
    content: Any

    def open(self) -> VectorSet:
        """Open the vectors on this machine.

        Raises:
            StoreError: the files are not those that the driver has read.
        """
        vectors = VectorSet([local_path(path) for path in self.paths], self.column)
        if (vectors.rows, vectors.dim) != (self.rows, self.identity["dim"]):
            raise StoreError(
                f"{', '.join(map(repr, self.paths))} changed while the run read it",
                fix=(
                    "Run the same command again, and leave the files of vectors as they are until it "
                    "ends"
                ),
            )
        return vectors


def units(images: Table, *, params: EmbedParams, context: Context) -> dict[str, dict[str, Any]]:
    """Return the arguments of `embed` for each fragment.

    Raises:
        RecipeError: imported vectors cannot be read, or do not fit the rows of a source.
        StoreError: a file of vectors is damaged.
    """
    parts: dict[str, dict[str, ImportedRows]] = {name: {} for name in images.fragments}
    for name, spec in params.encoders.items():
        if spec.is_imported:
            try:
                for fragment, rows in _imported_rows(images, spec, context):
                    parts[fragment][name] = rows
            except RecipeError as error:
                place = f"embed.encoders.{name}"
                raise RecipeError(*(detail.within(place) for detail in error.details)) from error
    return {
        name: {"images": fragment, "imported": OfMembers(parts[name])}
        for name, fragment in images.fragments.items()
    }


def _imported_rows(
    images: Table, spec: EncoderSpec, context: Context
) -> Iterator[tuple[str, ImportedRows]]:
    """Yield for each fragment its name, and the vectors of its rows."""
    sources = _sources(images, spec)
    content = content_of(spec)
    identity = identity_of(content, one_dim(source.vectors for source in sources))
    vectors, start = _vectors(sources, spec, content, context), 0
    for number, source in enumerate(sources):
        first = 0
        for fragment in source.fragments:
            # The place of a fragment in its source is not in its content.
            place = first if ids_of(spec).join == "rows" else None
            of_fragment = vectors.select(slice(start, start + fragment.rows))
            paths, rows, numbers = _among(sources, number, of_fragment)
            memo = _content(place, sources, of_fragment)
            yield fragment.name, ImportedRows(paths, spec.column, rows, numbers, identity, memo)
            first += fragment.rows
            start += fragment.rows


def _among(
    sources: Sequence[ImportSource], source: int, vectors: RowVectors
) -> tuple[list[str], int, Numbers]:
    """Return the paths of a fragment's vectors, how many they hold, and the numbers of its rows."""
    used = [source, *(int(n) for n in np.unique(vectors.source) if n != source)]
    numbers, paths, rows = vectors.number.copy(), [], 0
    for other in used:
        numbers[(vectors.source == other) & (vectors.number >= 0)] += rows
        paths.append(sources[other].vectors.path)
        rows += sources[other].vectors.rows
    return paths, rows, numbers


def _content(place: int | None, sources: Sequence[ImportSource], vectors: RowVectors) -> Any:
    """Return what a memo depends on: other fragments decide which vectors are replaced, by which."""
    rows = np.flatnonzero(vectors.is_replaced)
    if not len(rows):
        return place
    names = [sources[number].name for number in vectors.source[rows]]
    return [place, digest([rows.tolist(), names, vectors.number[rows].tolist()])]


def _sources(images: Table, spec: EncoderSpec) -> list[ImportSource]:
    """Return the sources of a table; fragments without rows belong to the first."""
    by_source: dict[str, list[Fragment]] = {}
    empty = []
    for fragment in images.fragments.values():
        if fragment.rows:
            by_source.setdefault(_source_of(fragment), []).append(fragment)
        else:
            empty.append(fragment)
    opened: dict[str, VectorSet] = {}
    sources = []
    for name, fragments in by_source.items():
        path = of_source(spec.vectors, name)
        if path is None:
            message, fix = f"it names no vectors of source {name!r}", "Add the path of its vectors"
            raise RecipeError(Detail(message, "import", fix=fix))
        vectors = opened[path] = opened.get(path) or VectorSet(path, spec.column)
        sources.append(ImportSource(name, fragments, vectors, of_source(ids_of(spec).file, name)))
    if sources:
        sources[0].fragments.extend(empty)
    return sources


def _source_of(fragment: Fragment) -> str:
    for batch in fragment.batches(["source"], rows=1):
        return str(batch.column("source")[0].as_py())
    return ""


def _vectors(
    sources: Sequence[ImportSource], spec: EncoderSpec, content: Mapping[str, Any], context: Context
) -> RowVectors:
    """Return the vector of each row of all sources.

    They are saved: a run that has nothing to do need not read the key and the image of every row.
    """
    fragments = [fragment for source in sources for fragment in source.fragments]
    key = [_STATE_VERSION, fragments, [source.name for source in sources], content]
    # Another step may import the same vectors for the same rows.
    states = context.for_all_steps()
    saved = states.load_state(_STATE, key)
    if saved is None:
        vectors = one_vector_each(sources, _joined(sources, spec))
        batch = pa.RecordBatch.from_arrays([pa.array(values) for values in vectors], _SAVED)
        states.save_state(_STATE, key, batch)
    else:
        columns = saved.read()
        source, number, is_replaced = (columns.column(name).to_numpy() for name in _SAVED)
        vectors = RowVectors(source, number, is_replaced)
    states.keep_state(_STATE, key)
    return vectors


def _joined(sources: Sequence[ImportSource], spec: EncoderSpec) -> RowVectors:
    """Return the vector of each row by itself."""
    by_source = _by_order(sources) if ids_of(spec).join == "rows" else _by_ids(sources, spec)
    number = np.concatenate([np.empty(0, np.int64), *by_source])
    source = np.repeat(np.arange(len(sources), dtype=np.int32), [len(n) for n in by_source])
    return RowVectors(source, number, np.zeros(len(number), bool))


def _by_order(sources: Sequence[ImportSource]) -> list[Numbers]:
    """Return n for row n, by source.

    Raises:
        RecipeError: a source has another number of rows than vectors.
    """
    for source in sources:
        rows = sum(fragment.rows for fragment in source.fragments)
        if rows != source.vectors.rows:
            raise RecipeError(
                f"source {source.name!r} has {rows:,} rows, and {source.vectors.path!r} holds "
                f"{source.vectors.rows:,} vectors",
                fix=(
                    "With `join: rows`, give one vector for each row, in the order of rows; otherwise "
                    "join them by key or sha256"
                ),
            )
    return [np.arange(source.vectors.rows) for source in sources]


def _by_ids(sources: Sequence[ImportSource], spec: EncoderSpec) -> list[Numbers]:
    """Return the number of the vector of each row, by source.

    Raises:
        RecipeError: no row of a source has one, or rows of two sources have the same key.
    """
    ids = ids_of(spec)
    indices: dict[tuple[str, str | None], IdIndex] = {}
    by_source = []
    for source in sources:
        place = source.vectors.path, source.ids_file
        if place not in indices:
            indices[place] = read_index(spec, source.vectors, source.ids_file)
        by_source.append(_numbers_of_source(source, ids.join, indices[place]))
    if isinstance(spec.vectors, str) and ids.join == "key":
        _check_shared([source.name for source in sources], by_source)
    return by_source


def _numbers_of_source(source: ImportSource, join: str, index: IdIndex) -> Numbers:
    numbers, asked, example = [np.empty(0, np.int64)], 0, ""
    for fragment in source.fragments:
        for batch in fragment.batches([COLUMNS[join], "status"], rows=ROWS_AT_ONCE):
            columns = (batch.column(place).to_pylist() for place in range(2))
            texts = [
                text if status == "ok" else None for text, status in zip(*columns, strict=True)
            ]
            asked += batch.column(1).to_pylist().count("ok")
            example = example or next((text for text in texts if text is not None), "")
            numbers.append(index.find(texts))
    joined = np.concatenate(numbers)
    has_vector = int((joined >= 0).sum())
    if asked and not has_vector:
        raise RecipeError(
            _no_vector(source, join, asked, example, index),
            fix=f"Correct `ids`, or map `{join}` to the right column in the `columns` of the source",
        )
    logger.info(
        "embed: %d of %d rows of source %r have a vector in %r",
        *(has_vector, asked, source.name, source.vectors.path),
    )
    return joined


def _no_vector(source: ImportSource, join: str, asked: int, example: str, index: IdIndex) -> str:
    """Return what is wrong with a source none of whose rows has a vector."""
    rows = f"the first {join} of a row is {example!r}" if example else f"no row has a {join}"
    ids = ", ".join(map(repr, index.first)) or "none"
    return (
        f"none of the {asked:,} rows of source {source.name!r} has a vector in "
        f"{source.vectors.path!r}: {rows}, and the first ids are {ids}"
    )


def _check_shared(names: Sequence[str], by_source: Sequence[Numbers]) -> None:
    """Check that rows of two sources do not get the same vector by their keys.

    Raises:
        RecipeError: they do: each source may have numbered its rows by itself.
    """
    used = np.empty(0, np.int64)
    for name, numbers in zip(names, by_source, strict=True):
        of_source = np.unique(numbers[numbers >= 0])
        shared = np.intersect1d(used, of_source)
        if len(shared):
            raise RecipeError(
                f"{len(shared):,} keys of source {name!r} are keys of another source, too, and "
                f"`import` is one path for all: {', '.join(names)}",
                fix=(
                    "If the same key means the same image, write the path for each source; otherwise "
                    f"name the vectors of each: `import: {{{name}: PATH, …}}`"
                ),
            )
        used = np.union1d(used, of_source)
