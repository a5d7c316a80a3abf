"""embed: a vector an encoder for every fetched picture, or its caption, all over one decode."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.vectors import vector_array
from curation.engine.device import CPU
from curation.engine.fragment import Fragment
from curation.engine.units import StageOutput
from curation.media.encoders.params import EMBEDDINGS
from curation.media.pictures.decode import decode
from curation.stages.embed.params import EmbedParams

if TYPE_CHECKING:
    pass

NARROW = ["pair_id", "image_id", "status"]
WINDOW = 1024
"""Rows whose pictures are held at once; batches are filled across their failures."""
WINDOW_BYTES = 2**28
"""Bytes of these pictures as they are stored, where they are large."""
FEWEST = 8
"""Threads that prepare pictures for a GPU, if Spark does not give the task more cores."""


def embed(images: Fragment, *, params: EmbedParams, device: str) -> StageOutput:
    """Embed each picture, or its caption, with every encoder.

    Args:
        images: a fragment of the table `images`.
        params: the encoders by name.
        device: `cpu` or `cuda[:n]`.

    Yields:
        (table name, batch of that encoder's `embeddings`), aligned with `images`.

    Returns:
        For each table the encoder's identity, and what its vectors are.
    """
    # torch takes seconds to import, and a run with nothing to embed does without.
    from curation.media.encoders.encoder import load_encoder
    from curation.media.encoders.forward import Passes, ahead

    encoders = {n: load_encoder(s, device) for n, s in params.encoders.items()}
    wanted = sorted({spec.of for spec in params.encoders.values()})

    def prepare(row: Mapping[str, Any]) -> dict[str, Any]:
        given = {of: _given(row, of) for of in wanted}
        of_each = {name: given[spec.of] for name, spec in params.encoders.items()}
        return {n: None if g is None else encoders[n].preprocess(g) for n, g in of_each.items()}

    with _preparers(device) as pool:
        batches = images.batches([*NARROW, *wanted], rows=params.batch_size)
        for window in windows(batches, WINDOW, WINDOW_BYTES):
            narrow = pa.Table.from_batches(window).select(NARROW)
            passes = {
                name: Passes(encoder, len(narrow), params.batch_size, device)
                for name, encoder in encoders.items()
            }
            there: dict[str, list[bool]] = {name: [] for name in encoders}
            rows = ahead(pool, prepare, _rows_of(window), 2 * params.batch_size)
            for number, prepared in enumerate(rows):
                for name, tensor in prepared.items():
                    there[name].append(tensor is not None)
                    if tensor is not None:
                        passes[name].add(number, tensor)
            for name in encoders:
                absent = _ABSENT[params.encoders[name].of]
                told = _told(narrow, there[name], passes[name].finish(), absent)
                yield EMBEDDINGS.table(name), told
    return {EMBEDDINGS.table(n): {"encoder": e.identity, **_STORED} for n, e in encoders.items()}


_STORED = {"dtype": "<f2", "normalized": "L2"}
_ABSENT = {"image": "undecodable", "caption": "no_caption"}
"""Why a fetched row has nothing to embed."""


def windows(
    batches: Iterable[pa.RecordBatch], rows: int, size: int
) -> Iterator[list[pa.RecordBatch]]:
    """Yield batches together, up to so many rows and bytes, or one that is larger."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        together = [*held, batch]
        if held and (sum(map(len, together)) > rows or sum(b.nbytes for b in together) > size):
            yield held
            together = [batch]
        held = together
    if held:
        yield held


def _rows_of(window: Sequence[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Yield the rows one by one, so that only a few pictures are held twice."""
    for batch in window:
        for number in range(len(batch)):
            yield batch.slice(number, 1).to_pylist()[0]


def _given(row: Mapping[str, Any], of: str) -> Any:
    """Return what is embedded of a row, None where there is nothing."""
    if row["status"] != "ok" or row[of] is None:
        return None
    return decode(row[of]) if of == "image" else readable(row[of])


@contextmanager
def _preparers(device: str) -> Iterator[Executor | None]:
    """Give threads that decode and prepare while a GPU computes; None where they would only compete
    with the model for the same core."""
    from pyspark import TaskContext

    context = TaskContext.get()
    cores = int(context.cpus()) if context else 1
    if device != CPU:
        cores = max(cores, min(FEWEST, os.cpu_count() or 1))
    if cores == 1:
        yield None
        return
    with ThreadPoolExecutor(cores) as pool:
        yield pool


def readable(caption: str) -> str | None:
    """Return a caption, or None where it is blank."""
    return caption if caption.strip() else None


def _told(
    rows: pa.Table,
    there: Sequence[bool],
    found: tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]],
    absent: str,
) -> pa.RecordBatch:
    def reason(status: str, given: bool, has_vector: bool) -> str | None:
        if status != "ok":
            return "no_pixels"
        if not given:
            return absent
        return None if has_vector else "not_finite"

    vectors, valid = found
    reasons = [
        reason(s, given, bool(v))
        for s, given, v in zip(rows.column("status").to_pylist(), there, valid, strict=True)
    ]
    return pa.RecordBatch.from_arrays(
        [
            rows.column("pair_id").combine_chunks(),
            rows.column("image_id").combine_chunks(),
            vector_array(vectors, valid),
            pa.array(reasons, pa.string()),
        ],
        names=["pair_id", "image_id", "vector", "reason"],
    )
