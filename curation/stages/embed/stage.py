"""embed: one vector per encoder for each image or its caption; images are decoded once."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.vectors import vector_array
from curation.engine.device import CPU, task_context
from curation.engine.row_counts import count_finished
from curation.engine.units import OfMembers, StageOutput
from curation.media.encoders.params import EMBEDDINGS
from curation.media.pictures.decode import decode
from curation.stages.embed.imported import ImportedRows
from curation.stages.embed.params import EmbedParams
from curation.store.fragment import Fragment

NOTHING_IMPORTED = OfMembers()
NO_PIXELS = "no_pixels"
"""Reason of a row that was not fetched."""
IMPORT_BYTES = 2**26
"""Imported vectors that are in memory together, in bytes of their files."""
KEY_COLUMNS = ["pair_id", "image_id", "status"]
WINDOW_ROWS = 1024
"""Rows that are in memory together; batches are filled across rows that have no image."""
WINDOW_BYTES = 2**28
"""Largest size of their stored images in bytes."""
GPU_PREPARE_THREADS = 8
"""Threads that prepare images for a GPU, unless Spark gives the task more cores."""


def embed(
    images: Fragment, imported: OfMembers = NOTHING_IMPORTED, *, params: EmbedParams, device: str
) -> StageOutput:
    """Embed each image, or its caption, with each encoder; or take the vector that is imported.

    Args:
        images: a fragment of the table `images`.
        imported: the vectors of its rows, by encoder (`ImportedRows`).
        params: the encoders by name.
        device: `cpu` or `cuda[:n]`.

    Yields:
        (table name, batch of the encoder's table `embeddings`), aligned with `images`.

    Returns:
        For each table the identity of its encoder, and the format of its vectors.

    Raises:
        StoreError: a file of imported vectors has changed, or is damaged.
    """
    identities: dict[str, Mapping[str, Any]] = {}
    if params.computed:
        identities |= yield from _computed(images, params, device)
    for name, spec in params.encoders.items():
        if spec.is_imported:
            identities[name] = imported.parts[name].identity
            for batch in _imported(images, imported.parts[name]):
                yield EMBEDDINGS.table(name), batch
    return {
        EMBEDDINGS.table(name): {"encoder": identity, **_VECTOR_FORMAT}
        for name, identity in identities.items()
    }


def _computed(
    images: Fragment, params: EmbedParams, device: str
) -> Generator[Any, None, dict[str, Mapping[str, Any]]]:
    """Yield the vectors of the encoders that have a model; return their identities."""
    # torch takes seconds to import, which a run with nothing to embed should not need.
    from curation.media.encoders.encoder import load_encoder
    from curation.media.encoders.forward import BatchEncoder, prefetch

    specs = params.computed
    encoders = {n: load_encoder(s, device) for n, s in specs.items()}
    columns = sorted({spec.of for spec in specs.values()})

    def preprocess(row: Mapping[str, Any]) -> dict[str, Any]:
        contents = {of: _content(row, of) for of in columns}
        by_encoder = {name: contents[spec.of] for name, spec in specs.items()}
        return {n: None if c is None else encoders[n].preprocess(c) for n, c in by_encoder.items()}

    with _preprocessing_pool(device) as pool:
        batches = images.batches([*KEY_COLUMNS, *columns], rows=params.batch_size)
        for window in windows(batches, WINDOW_ROWS, WINDOW_BYTES):
            keys = pa.Table.from_batches(window).select(KEY_COLUMNS)
            batch_encoders = {
                name: BatchEncoder(encoder, len(keys), params.batch_size, device)
                for name, encoder in encoders.items()
            }
            has_content: dict[str, list[bool]] = {name: [] for name in encoders}
            rows = prefetch(pool, preprocess, _rows_of(window), 2 * params.batch_size)
            for number, inputs in enumerate(rows):
                for name, tensor in inputs.items():
                    has_content[name].append(tensor is not None)
                    if tensor is not None:
                        batch_encoders[name].add(number, tensor)
                count_finished(1)
            for name in encoders:
                reason = _NO_CONTENT_REASONS[specs[name].of]
                vectors = batch_encoders[name].finish()
                batch = _embeddings(keys, has_content[name], vectors, reason)
                yield EMBEDDINGS.table(name), batch
    return {name: encoder.identity for name, encoder in encoders.items()}


def _imported(images: Fragment, rows: ImportedRows) -> Iterator[pa.RecordBatch]:
    """Yield the imported vectors of rows, at most IMPORT_BYTES at a time."""
    vectors, start = rows.open(), 0
    at_once = max(IMPORT_BYTES // (8 * vectors.dim), 1)
    for keys in images.batches(KEY_COLUMNS, rows=at_once):
        is_ok = np.asarray(pc.equal(keys.column("status"), "ok"))
        numbers = np.where(is_ok, rows.numbers[start : start + len(keys)], -1)
        joined, reasons = vectors.take(numbers)
        reasons = np.where(is_ok, reasons, NO_PIXELS)
        yield _batch(keys, joined, reasons)
        start += len(keys)


_VECTOR_FORMAT = {"dtype": "<f2", "normalized": "L2"}
_NO_CONTENT_REASONS = {"image": "undecodable", "caption": "no_caption"}
"""The reason of a fetched row without anything to embed, by what is embedded."""


def windows(
    batches: Iterable[pa.RecordBatch], rows: int, size: int
) -> Iterator[list[pa.RecordBatch]]:
    """Yield successive batches together, up to a number of rows and bytes.

    Args:
        batches: of the table `images`.
        rows: largest number of rows, unless a single batch has more.
        size: largest size in bytes, unless a single batch is larger.
    """
    window: list[pa.RecordBatch] = []
    for batch in batches:
        extended = [*window, batch]
        if window and (sum(map(len, extended)) > rows or sum(b.nbytes for b in extended) > size):
            yield window
            extended = [batch]
        window = extended
    if window:
        yield window


def _rows_of(window: Sequence[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Yield the rows one by one, so that only a few images are copied at a time."""
    for batch in window:
        for number in range(len(batch)):
            yield batch.slice(number, 1).to_pylist()[0]


def _content(row: Mapping[str, Any], of: str) -> Any:
    """Return the image or caption of a row that is embedded; None if there is none."""
    if row["status"] != "ok" or row[of] is None:
        return None
    return decode(row[of]) if of == "image" else not_blank(row[of])


@contextmanager
def _preprocessing_pool(device: str) -> Iterator[Executor | None]:
    """Yield threads that decode and preprocess while the model computes.

    They are None if they would only compete with the model for the same core.
    """
    context = task_context()
    cores = int(context.cpus()) if context else 1
    if device != CPU:
        cores = max(cores, min(GPU_PREPARE_THREADS, os.cpu_count() or 1))
    if cores == 1:
        yield None
        return
    with ThreadPoolExecutor(cores) as pool:
        yield pool


def not_blank(caption: str) -> str | None:
    """Return a caption, or None if it is blank."""
    return caption if caption.strip() else None


def _embeddings(
    keys: pa.Table,
    has_content: Sequence[bool],
    encoded: tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]],
    no_content_reason: str,
) -> pa.RecordBatch:
    """Return a batch of `embeddings`, with a reason for each row without a vector."""

    def reason(status: str, content: bool, has_vector: bool) -> str | None:
        if status != "ok":
            return NO_PIXELS
        if not content:
            return no_content_reason
        return None if has_vector else "not_finite"

    vectors, valid = encoded
    statuses = keys.column("status").to_pylist()
    reasons = [
        reason(status, content, bool(has_vector))
        for status, content, has_vector in zip(statuses, has_content, valid, strict=True)
    ]
    return _batch(keys.combine_chunks().to_batches()[0], vectors, np.array(reasons, object))


def _batch(
    keys: pa.RecordBatch, vectors: npt.NDArray[np.float16], reasons: npt.NDArray[np.object_]
) -> pa.RecordBatch:
    """Return a batch of `embeddings`; a row with a reason has no vector."""
    has_vector = np.array([reason is None for reason in reasons], bool)
    return pa.record_batch(
        {
            "pair_id": keys.column("pair_id"),
            "image_id": keys.column("image_id"),
            "vector": vector_array(vectors, has_vector),
            "reason": pa.array(reasons.tolist(), pa.string()),
        }
    )
