"""Reduced images, written by hand."""

from __future__ import annotations

from pathlib import Path

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import Ids
from curation.engine.fragment_writer import FragmentWriter
from curation.stages.verify.reduced_image import reduce_image
from curation.stages.verify.reduced_tables import reduced_batch
from curation.store.fragment import Fragment
from curation.store.store import Store


def write_reduced(folder: Path, ids: Ids, files: list[bytes]) -> Fragment:
    """Write the reduced images of some files."""
    store = Store(folder)
    writer = FragmentWriter(store, "work/verify/data", "reduced", None)
    reduced = [reduce_image(file) for file in files]
    writer.write(reduced_batch(from_ids(ids).to_pylist(), reduced, describe=False))
    return Fragment(store, writer.close("work/verify", "reduced", {}))
