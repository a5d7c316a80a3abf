"""Stored vectors near those of pictures that were taken down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.algorithms.arrays.vectors import comparable_rows, vector_matrix
from curation.errors import StoreError
from curation.media.encoders.params import EMBEDDINGS
from curation.progress import ProgressBar
from curation.store.access import set_aside_fix
from curation.store.manifest import FragmentRecord
from curation.store.storage.base import open_input
from curation.store.store import Store
from curation.store.tombstones import Descriptor

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

ENCODER = "encoder"
"""The measurement of a fragment of vectors that tells their encoder."""
ROWS = 16_384
VectorFiles = Mapping[str, Mapping[str, Any]]
"""The identity of the encoder by the path of a file of vectors."""
Cosines = npt.NDArray[np.float64]


def vector_files(store: Store) -> dict[str, Mapping[str, Any]]:
    """Return all files of vectors, also those of steps that are not committed yet."""
    files: dict[str, Mapping[str, Any]] = {}
    for table in filter(EMBEDDINGS.holds, store.storage.folders("tables")):
        manifests = (store.manifest(table, version) for version in store.versions(table))
        committed = [r for m in manifests if m is not None for r in m.fragments]
        memos = {PurePosixPath(p).stem for p in store.storage.files(f"tables/{table}/done")}
        others = sorted(memos - {record.memo for record in committed})
        finished = store.finished_records(f"tables/{table}", others).values()
        files |= files_with_vectors([*committed, *finished])
    return files


def files_with_vectors(records: Iterable[FragmentRecord]) -> dict[str, Mapping[str, Any]]:
    """Return those files of some fragments that hold vectors of a known encoder."""
    made = (record for record in records if ENCODER in record.stats)
    return {f.path: record.stats[ENCODER] for record in made for f in record.files}


def alike_images(store: Store, descriptors: Sequence[Descriptor], files: VectorFiles) -> set[str]:
    """Return the images whose vectors are near one of some descriptors of the same encoder.

    Raises:
        StoreError: a file cannot be read.
    """
    images: set[str] = set()
    with ProgressBar("compare vectors", len(files)) as bar:
        for done, (path, encoder) in enumerate(files.items(), 1):
            comparable = [each for each in descriptors if each.encoder == encoder]
            if comparable:
                bounds = np.array([each.at_least for each in comparable])
                for ids, cosines in cosines_of(store, path, [d.vector for d in comparable]):
                    images.update(ids[(cosines >= bounds).any(axis=1)].tolist())
            bar.set_done(done)
    return images


def cosines_of(
    store: Store, path: str, vectors: Sequence[str]
) -> Iterator[tuple[npt.NDArray[np.object_], Cosines]]:
    """Yield the images of a file of vectors, (n,), and their cosines with some vectors, (n, vectors).

    Args:
        store: where the file is.
        path: of the file. One that has been deleted yields nothing.
        vectors: as `Descriptor.vector`, of the encoder of the file.

    Raises:
        StoreError: it cannot be read.
    """
    matrix = np.stack([np.frombuffer(bytes.fromhex(text), "<f2") for text in vectors])
    try:
        for batch in _batches(store, path):
            rows = pa.Table.from_batches([batch])
            rows = rows.filter(pa.array(comparable_rows(rows.column("vector"))))
            if len(rows):
                stored = vector_matrix(rows.column("vector")).astype(np.float64)
                ids = rows.column("image_id").to_numpy(zero_copy_only=False)
                yield ids, stored @ matrix.astype(np.float64).T
    except (FileNotFoundError, pa.ArrowInvalid):
        # A run has deleted it, or it is damaged: then whoever searches its rows says so.
        return
    except OSError as error:
        raise StoreError(
            f"{store.address(path)} cannot be read ({error}), so nobody knows whether it holds a "
            "copy of what was taken down",
            fix=set_aside_fix(store.uri, "run the same command again"),
        ) from error


def _batches(store: Store, path: str) -> Iterator[pa.RecordBatch]:
    with open_input(store.storage, path) as stream:
        yield from pq.ParquetFile(stream).iter_batches(ROWS, columns=["image_id", "vector"])
