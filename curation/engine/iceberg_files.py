"""What the files of Iceberg metadata hold: https://iceberg.apache.org/spec, format version 2.

A table has one snapshot. Its manifest list names one manifest, and that names the data files: with
several manifests, DuckDB does not return the rows in the order of the files.
"""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import fastavro
import pyarrow as pa

from curation.errors import ContractError

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FORMAT_VERSION = 2
_PRIMITIVES = {
    pa.string(): "string",
    pa.binary(): "binary",
    pa.bool_(): "boolean",
    pa.int32(): "int",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
}


class DataFile(NamedTuple):
    """One Parquet file: its address (a plain absolute path or a URI), size in bytes, rows."""

    address: str
    size: int
    rows: int


class Schema:
    """The Iceberg schema of an Arrow schema.

    Args:
        schema: the Arrow schema; the metadata `doc` and `unit` of a field is its documentation.
        undocumented: documentation of fields at the top that have none.

    Attributes:
        spec: the schema.
        mapping: the ids of fields by name, which stand for ids in the data files: they have none.
        last_id: the largest id.

    Raises:
        ContractError: Iceberg has no type for a column.
    """

    def __init__(self, schema: pa.Schema, undocumented: str = "") -> None:
        self.last_id = 0
        specs, self.mapping = self._fields(schema)
        for spec in specs:
            if undocumented:
                spec.setdefault("doc", undocumented)
        self.spec = {"type": "struct", "schema-id": 0, "fields": specs}

    def _new_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def _fields(self, fields: Iterable[pa.Field]) -> tuple[list[Any], list[Any]]:
        specs, mapping = [], []
        for field in fields:
            number = self._new_id()
            kind, inner = self._type(field.type)
            spec = {"id": number, "name": field.name, "required": not field.nullable, "type": kind}
            specs.append(spec | _documentation(field))
            mapping.append({"field-id": number, "names": [field.name], **inner})
        return specs, mapping

    def _type(self, kind: pa.DataType) -> tuple[Any, dict[str, Any]]:
        if kind in _PRIMITIVES:
            return _PRIMITIVES[kind], {}
        if pa.types.is_fixed_size_binary(kind):
            return f"fixed[{kind.byte_width}]", {}
        if pa.types.is_struct(kind):
            specs, mapping = self._fields(kind)
            return {"type": "struct", "fields": specs}, {"fields": mapping}
        if pa.types.is_list(kind):
            number = self._new_id()
            element, inner = self._type(kind.value_type)
            spec = {
                "type": "list",
                "element-id": number,
                "element": element,
                "element-required": not kind.value_field.nullable,
            }
            # Parquet files of pyarrow before version 15 call the elements `item`.
            names = ["element", "item"]
            return spec, {"fields": [{"field-id": number, "names": names, **inner}]}
        raise ContractError(
            f"Iceberg, by which readers open tables, has no type for {kind}",
            fix="Give the column another type in schemas/",
        )


def _documentation(field: pa.Field) -> dict[str, str]:
    metadata = field.metadata or {}
    doc, unit = (metadata.get(key, b"").decode() for key in (b"doc", b"unit"))
    return {"doc": f"{doc} [{unit}]" if unit else doc} if doc else {}


@dataclass(frozen=True)
class Snapshot:
    """What one version of the metadata of a table describes.

    Attributes:
        location: address of the folder of the table.
        schema: its columns.
        files: its data files, in the order of rows, none without rows.
        properties: of the table.
    """

    location: str
    schema: Schema
    files: Sequence[DataFile]
    properties: Mapping[str, str]

    @cached_property
    def id(self) -> int:
        """A number that no other snapshot has."""
        return uuid.uuid4().int >> 65

    @cached_property
    def rows(self) -> int:
        """Number of rows."""
        return sum(f.rows for f in self.files)


_OPTIONAL = ["null", "long"]


def _record(name: str, *fields: tuple[str, Any, int]) -> dict[str, Any]:
    """Return an Avro schema of fields, each with its name, type and id."""
    specs: list[dict[str, Any]] = [{"name": n, "type": t, "field-id": i} for n, t, i in fields]
    for spec in specs:
        if spec["type"] == _OPTIONAL:
            spec["default"] = None
    return {"type": "record", "name": name, "fields": specs}


_DATA_FILE = _record(
    "r2",
    ("content", "int", 134),
    ("file_path", "string", 100),
    ("file_format", "string", 101),
    ("partition", _record("r102"), 102),
    ("record_count", "long", 103),
    ("file_size_in_bytes", "long", 104),
)
_MANIFEST = _record(
    "manifest_entry",
    ("status", "int", 0),
    ("snapshot_id", _OPTIONAL, 1),
    ("sequence_number", _OPTIONAL, 3),
    ("file_sequence_number", _OPTIONAL, 4),
    ("data_file", _DATA_FILE, 2),
)
_MANIFEST_LIST = _record(
    "manifest_file",
    ("manifest_path", "string", 500),
    ("manifest_length", "long", 501),
    ("partition_spec_id", "int", 502),
    ("content", "int", 517),
    ("sequence_number", "long", 515),
    ("min_sequence_number", "long", 516),
    ("added_snapshot_id", "long", 503),
    ("added_files_count", "int", 504),
    ("existing_files_count", "int", 505),
    ("deleted_files_count", "int", 506),
    ("added_rows_count", "long", 512),
    ("existing_rows_count", "long", 513),
    ("deleted_rows_count", "long", 514),
)


def _avro(schema: dict[str, Any], rows: Iterable[Any], metadata: dict[str, str]) -> bytes:
    out = io.BytesIO()
    parsed = fastavro.parse_schema(schema)
    fastavro.writer(out, parsed, rows, codec="deflate", metadata=metadata)
    return out.getvalue()


def manifest_file(snapshot: Snapshot) -> bytes:
    """Return the manifest of a snapshot. It does not depend on the number of the version."""
    rows = (
        {
            "status": 1,
            "snapshot_id": snapshot.id,
            "data_file": {
                "content": 0,
                "file_path": file.address,
                "file_format": "PARQUET",
                "partition": {},
                "record_count": file.rows,
                "file_size_in_bytes": file.size,
            },
        }
        for file in snapshot.files
    )
    metadata = {
        "schema": json.dumps(snapshot.schema.spec),
        "schema-id": "0",
        "partition-spec": "[]",
        "partition-spec-id": "0",
        "format-version": str(FORMAT_VERSION),
        "content": "data",
    }
    return _avro(_MANIFEST, rows, metadata)


def manifest_list(snapshot: Snapshot, number: int, manifest: str, length: int) -> bytes:
    """Return the manifest list of a snapshot.

    Args:
        snapshot: the snapshot. One without files has no manifest.
        number: of the version.
        manifest: address of its manifest.
        length: of the manifest, in bytes.
    """
    listed = {
        "manifest_path": manifest,
        "manifest_length": length,
        "partition_spec_id": 0,
        "content": 0,
        "sequence_number": number,
        "min_sequence_number": number,
        "added_snapshot_id": snapshot.id,
        "added_files_count": len(snapshot.files),
        "existing_files_count": 0,
        "deleted_files_count": 0,
        "added_rows_count": snapshot.rows,
        "existing_rows_count": 0,
        "deleted_rows_count": 0,
    }
    metadata = {
        "snapshot-id": str(snapshot.id),
        "parent-snapshot-id": "null",
        "sequence-number": str(number),
        "format-version": str(FORMAT_VERSION),
    }
    return _avro(_MANIFEST_LIST, [listed] if snapshot.files else [], metadata)


def table_metadata(snapshot: Snapshot, number: int, manifest_list_address: str) -> bytes:
    """Return the metadata of a table that has one snapshot.

    Args:
        snapshot: the snapshot.
        number: of the version.
        manifest_list_address: address of its manifest list.
    """
    now = int(time.time() * 1000)
    spec = {
        "snapshot-id": snapshot.id,
        "sequence-number": number,
        "timestamp-ms": now,
        "schema-id": 0,
        "manifest-list": manifest_list_address,
        "summary": {
            "operation": "overwrite",
            "total-data-files": str(len(snapshot.files)),
            "total-records": str(snapshot.rows),
            "total-files-size": str(sum(f.size for f in snapshot.files)),
        },
    }
    metadata = {
        "format-version": FORMAT_VERSION,
        "table-uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, snapshot.location)),
        "location": snapshot.location,
        "last-sequence-number": number,
        "last-updated-ms": now,
        "last-column-id": snapshot.schema.last_id,
        "current-schema-id": 0,
        "schemas": [snapshot.schema.spec],
        "default-spec-id": 0,
        "partition-specs": [{"spec-id": 0, "fields": []}],
        "last-partition-id": 999,
        "default-sort-order-id": 0,
        "sort-orders": [{"order-id": 0, "fields": []}],
        "properties": {
            "schema.name-mapping.default": json.dumps(snapshot.schema.mapping),
            # No engine may delete data files: versions and other recipes share them.
            "gc.enabled": "false",
            **snapshot.properties,
        },
        "current-snapshot-id": snapshot.id,
        "snapshots": [spec],
        "refs": {"main": {"snapshot-id": snapshot.id, "type": "branch"}},
        "snapshot-log": [{"snapshot-id": snapshot.id, "timestamp-ms": now}],
        "metadata-log": [],
    }
    return json.dumps(metadata, indent=1).encode()
