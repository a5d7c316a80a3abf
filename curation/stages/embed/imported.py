"""Imported vectors: which vector each row of `images` has, found once for all fragments."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
from curation.store.fragment import Fragment

logger = logging.getLogger(__name__)

Numbers = npt.NDArray[np.int64]
"""Number of the vector of each row; −1 for none."""
COLUMNS = {"key": "source_key", "sha256": "sha256"}
"""The column of `images` that holds what the ids are."""
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class ImportedRows:
    """The vectors of the rows of one fragment.

    Attributes:
        path: of the vectors.
        column: of Parquet files with the vectors.
        rows: how many vectors there are.
        numbers: of the vector of each row, (n,).
        identity: of the encoder.
        content: what memos depend on besides the fragment and the content of the files.
    """

    path: str
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
        vectors = VectorSet(local_path(self.path), self.column)
        if (vectors.rows, vectors.dim) != (self.rows, self.identity["dim"]):
            raise StoreError(
                f"{self.path!r} changed while the run read it",
                fix=(
                    "Run the same command again, and leave the files of vectors as they are until it "
                    "ends"
                ),
            )
        return vectors


class _Source(NamedTuple):
    """The fragments of `images` of one source, and its vectors."""

    name: str
    fragments: list[Fragment]
    vectors: VectorSet
    ids_file: str | None


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
    numbers = _numbers(sources, spec, content, context)
    for source in sources:
        first = 0
        for fragment in source.fragments:
            # The place of a fragment in its source is not in its content.
            place = first if ids_of(spec).join == "rows" else None
            vectors, of_fragment = source.vectors, numbers[fragment.name]
            described = (vectors.path, spec.column, vectors.rows)
            yield fragment.name, ImportedRows(*described, of_fragment, identity, place)
            first += fragment.rows


def _sources(images: Table, spec: EncoderSpec) -> list[_Source]:
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
        sources.append(_Source(name, fragments, vectors, of_source(ids_of(spec).file, name)))
    if sources:
        sources[0].fragments.extend(empty)
    return sources


def _source_of(fragment: Fragment) -> str:
    for batch in fragment.batches(["source"], rows=1):
        return str(batch.column("source")[0].as_py())
    return ""


def _numbers(
    sources: Sequence[_Source], spec: EncoderSpec, content: Mapping[str, Any], context: Context
) -> dict[str, Numbers]:
    """Return the number of the vector of each row, by fragment.

    They are saved: a run that has nothing to do need not read the key of every row.
    """
    if ids_of(spec).join == "rows":
        return dict(_by_order(sources))
    fragments = [fragment for source in sources for fragment in source.fragments]
    names = [source.name for source in sources]
    key = [fragments, names, content]
    # Another step may import the same vectors for the same rows.
    states = context.for_all_steps()
    saved = states.load_state("vectors", key)
    if saved is None:
        numbers = np.concatenate([np.empty(0, np.int64), *_by_ids(sources, spec)])
        batch = pa.RecordBatch.from_arrays([pa.array(numbers)], ["number"])
        states.save_state("vectors", key, batch)
    else:
        numbers = saved.read().column("number").to_numpy()
    states.keep_state("vectors", key)
    ends = np.cumsum([fragment.rows for fragment in fragments])
    parts = np.split(numbers, ends[:-1]) if fragments else []
    return {fragment.name: part for fragment, part in zip(fragments, parts, strict=True)}


def _by_order(sources: Sequence[_Source]) -> Iterator[tuple[str, Numbers]]:
    """Yield vector n for row n of each source.

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
        first = 0
        for fragment in source.fragments:
            yield fragment.name, np.arange(first, first + fragment.rows)
            first += fragment.rows


def _by_ids(sources: Sequence[_Source], spec: EncoderSpec) -> list[Numbers]:
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


def _numbers_of_source(source: _Source, join: str, index: IdIndex) -> Numbers:
    numbers, asked, example = [np.empty(0, np.int64)], 0, ""
    for fragment in source.fragments:
        for batch in fragment.batches([COLUMNS[join], "status"], rows=_ROWS_AT_ONCE):
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


def _no_vector(source: _Source, join: str, asked: int, example: str, index: IdIndex) -> str:
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
