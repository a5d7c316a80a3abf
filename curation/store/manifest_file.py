"""The file of a manifest: Parquet with one row for each fragment, and everything else in its footer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cache
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.store.manifest import FORMAT, FileEntry, FragmentRecord, Manifest, record_path
from curation.store.sealed_json import CHECKSUM, load_json, seal, unseal
from curation.store.storage.base import open_content

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FILE_CHECKSUM = "curation.checksum"
"""The key under which the footer has the SHA-256 of the file in which it is replaced by zeros."""
NO_CHECKSUM = b"0" * 64
HEADER = b"curation.manifest"
"""The key of the footer's metadata under which the manifest is, without its fragments, as JSON."""
JSON_COLUMNS = ("counts", "stats", "libraries")
COUNTED = ("rows", "bytes")
"""What the header has of all fragments together, for readers of the header alone."""
ROW_GROUP_ROWS = 65_536

_FILE = pa.struct(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("rows", pa.int64()),
        ("footer", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("table_dir", pa.string()),
        ("name", pa.string()),
        ("memo", pa.string()),
        ("files", pa.list_(_FILE)),
        *((name, pa.string()) for name in JSON_COLUMNS),
    ]
)


class OtherFormatError(ValueError):
    """The file was written by another version of curation."""


def write_manifest(manifest: Manifest) -> bytes:
    """Return the file of a manifest."""
    header = {f.name: getattr(manifest, f.name) for f in fields(manifest) if f.name != "fragments"}
    header |= {name: getattr(manifest, name) for name in COUNTED}
    header |= {"fragments": len(manifest.fragments), "format": FORMAT}
    schema = SCHEMA.with_metadata({HEADER: json.dumps(header, sort_keys=True).encode()})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        use_dictionary=["table_dir", *JSON_COLUMNS],
    ) as writer:
        for start in range(0, max(len(manifest.fragments), 1), ROW_GROUP_ROWS):
            writer.write_table(_rows(manifest.fragments[start : start + ROW_GROUP_ROWS], schema))
        writer.add_key_value_metadata({FILE_CHECKSUM: NO_CHECKSUM.decode()})
    content: bytes = sink.getvalue().to_pybytes()
    before, _, after = content.rpartition(NO_CHECKSUM)
    return before + sha256(content).hexdigest().encode() + after


def _rows(fragments: Sequence[FragmentRecord], schema: pa.Schema) -> pa.Table:
    entries = [entry for fragment in fragments for entry in fragment.files]
    stops = [0]
    for fragment in fragments:
        stops.append(stops[-1] + len(fragment.files))
    files = pa.StructArray.from_arrays(
        [pa.array([getattr(e, f.name) for e in entries], f.type) for f in _FILE], fields=list(_FILE)
    )
    columns = {
        "files": pa.ListArray.from_arrays(pa.array(stops, pa.int32()), files),
        **{n: [getattr(f, n) for f in fragments] for n in ("table_dir", "name", "memo")},
        **{n: _to_json([getattr(f, n) for f in fragments]) for n in JSON_COLUMNS},
    }
    arrays = [pa.array(columns[f.name], f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _to_json(values: Iterable[Any]) -> list[str]:
    return [json.dumps(value, sort_keys=True) for value in values]


def read_header(content: bytes, table: str, version: str) -> dict[str, Any]:
    """Return everything of the manifest of a version of a table but its fragments.

    `fragments`, `rows` and `bytes` are their numbers.

    Raises:
        OtherFormatError: another version of curation wrote it.
        ValueError, OSError: the file is damaged, or is that of another version.
    """
    try:
        metadata = pq.read_metadata(open_content(content)).metadata or {}
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    header: dict[str, Any] = load_json(metadata.get(HEADER, b"{}"))
    checksum = metadata.get(FILE_CHECKSUM.encode())
    if checksum is None and header and header.get("format") != FORMAT:
        raise OtherFormatError(f"format {header.get('format')}")
    _check(content, checksum)
    if header.get("format") != FORMAT:
        raise OtherFormatError(f"format {header.get('format')}")
    if (header.get("table"), header.get("version")) != (table, version):
        raise ValueError(f"it is that of version {header.get('version')} of {header.get('table')}")
    return header


def _check(content: bytes, checksum: bytes | None) -> None:
    """Raise ValueError if any byte of a manifest is not the one that was written."""
    if not checksum:
        raise ValueError("it has no checksum")
    before, separator, after = content.rpartition(checksum)
    whole = sha256(before)
    whole.update(NO_CHECKSUM)
    whole.update(after)
    if not separator or whole.hexdigest().encode() != checksum:
        raise ValueError("its checksum is wrong")


def read_manifest(content: bytes, table: str, version: str) -> Manifest:
    """Return the manifest of a version of a table.

    Raises:
        OtherFormatError: another version of curation wrote it.
        ValueError, OSError: the file is damaged, or is that of another version.
    """
    header = read_header(content, table, version)
    with pq.ParquetFile(open_content(content)) as file:
        fragments = file.read()
    known = {k: v for k, v in header.items() if k not in (*COUNTED, "format")}
    try:
        return Manifest(**(known | {"fragments": tuple(_records(fragments))}))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it lacks a field or a column: {error}") from error


def read_names(content: bytes, table: str, version: str) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the paths of the files of a version, and the memos of its fragments, as text.

    A manifest of 130,000 fragments takes a hundredth of the memory that `read_manifest` needs.

    Raises:
        OtherFormatError: another version of curation wrote it.
        ValueError, OSError: the file is damaged, or is that of another version.
    """
    read_header(content, table, version)
    with pq.ParquetFile(open_content(content)) as file:
        fragments = file.read(columns=["memo", "files.list.element.path"])
    files = pc.list_flatten(fragments.column("files"))
    return pc.struct_field(files, "path"), fragments.column("memo")


def _records(table: pa.Table) -> Iterable[FragmentRecord]:
    columns = {name: table.column(name).to_pylist() for name in SCHEMA.names}

    @cache
    def shared(text: str) -> Any:
        return load_json(text)

    for row in range(table.num_rows):
        values = {name: columns[name][row] for name in ("table_dir", "name", "memo")}
        files = tuple(FileEntry(**entry) for entry in columns["files"][row])
        # Values of several fragments are equal, as a rule; they are never changed.
        objects = {name: shared(columns[name][row]) for name in JSON_COLUMNS}
        yield FragmentRecord(**values, files=files, **objects)


def record_to_json(record: FragmentRecord) -> bytes:
    """Return the file of a completion record."""
    return seal(record.to_json())


def record_from_json(content: bytes, path: str) -> FragmentRecord:
    """Return the completion record at a path.

    Raises:
        OtherFormatError: another version of curation wrote it.
        ValueError: the file is damaged, or is that of another fragment.
    """
    spec = load_json(content)
    # The oldest formats had no checksum.
    if not isinstance(spec, dict) or CHECKSUM in spec or spec.get("format") == FORMAT:
        spec = unseal(content)
    if spec.get("format") != FORMAT:
        raise OtherFormatError(f"format {spec.get('format')}")
    try:
        record = FragmentRecord.from_json(spec)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it lacks a field: {error}") from error
    if record_path(record.table_dir, record.memo) != path:
        raise ValueError(f"it is that of fragment {record.name!r} of {record.table_dir}")
    return record
