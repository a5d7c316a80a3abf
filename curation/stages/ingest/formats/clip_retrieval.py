"""The metadata of clip-retrieval (`metadata/*.parquet`): one row for each row of its vectors.

Rows keep the order of the files by name, and within a file their own order. The vectors beside
(`img_emb/*.npy`, `text_emb/*.npy`) have the same order.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from curation.stages.ingest.formats.boundary import Item
from curation.stages.ingest.formats.mapped import mapped_columns
from curation.stages.ingest.formats.parquet import Layout, read_table
from curation.stages.ingest.sources.source_file import SourceFile


def read(file: SourceFile) -> Iterator[Item]:
    """Yield the rows of a file, each with its `image_path` as key.

    Raises:
        RecipeError: a mapped column is missing, or has a type that cannot hold its field.
        UnreadableError: the file is damaged.
    """
    return read_table(file, _layout)


def _layout(file: SourceFile, schema: pa.Schema) -> Layout:
    return Layout(mapped_columns(file, schema.names))
