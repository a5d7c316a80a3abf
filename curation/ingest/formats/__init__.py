"""Formats of sources: each a function that yields the rows of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from curation.ingest.asked import Asked
from curation.ingest.formats.delimited import read_csv, read_tsv
from curation.ingest.formats.folder import read_folder
from curation.ingest.formats.jsonl import read_jsonl
from curation.ingest.formats.parquet import read_parquet
from curation.ingest.formats.plain import read_plain
from curation.ingest.formats.wat import read_wat
from curation.ingest.formats.webdataset import read_webdataset
from curation.ingest.source_file import SourceFile

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
