"""Reduced images, written by hand."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import Ids
from curation.engine.fragment_writer import FragmentWriter
from curation.stages.verify.reduced_image import reduce_image
from curation.stages.verify.reduced_tables import REDUCED
from curation.store.fragment import Fragment
from curation.store.store import Store


def write_reduced(folder: Path, ids: Ids, files: list[bytes]) -> Fragment:
    """Write the reduced images of some files."""
    store = Store(folder)
    writer = FragmentWriter(store, "work/verify/data", "reduced", None)
    images = pa.array([reduce_image(file) for file in files], pa.binary())
    names = from_ids(ids)
    writer.write(pa.RecordBatch.from_arrays([names, names, images], schema=REDUCED))
    return Fragment(store, writer.close("work/verify", "reduced", {}))
