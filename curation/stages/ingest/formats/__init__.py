"""Formats of sources: each a function that yields the rows of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from curation.stages.ingest.formats.delimited import read_csv, read_tsv
from curation.stages.ingest.formats.folder import read_folder
from curation.stages.ingest.formats.jsonl import read_jsonl
from curation.stages.ingest.formats.parquet import read_parquet
from curation.stages.ingest.formats.plain import read_plain
from curation.stages.ingest.formats.source_row import Asked
from curation.stages.ingest.formats.wat import read_wat
from curation.stages.ingest.formats.webdataset import read_webdataset
from curation.stages.ingest.sources.source_file import SourceFile

FORMATS: dict[str, Callable[[SourceFile], Iterator[Asked]]] = {
    "parquet": read_parquet,
    "csv": read_csv,
    "tsv": read_tsv,
    "jsonl": read_jsonl,
    "txt": read_plain,
    "wat": read_wat,
    "folder": read_folder,
    "webdataset": read_webdataset,
}
