"""What is asked for: rows as a source's file gives them, and what makes a pair the same pair."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from curation.engine.contract import contract
from curation.media.files.location import OutsideFolderError, escape
from curation.media.web.urls import Rules
from curation.stages.ingest.sources.source_file import SourceFile

ROWS = 1024
KEY_BYTES = 16
SAME_AS = "same_as_key"
_encode = json.JSONEncoder().encode
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class Asked:
    """One row of a source.

    `member` is where inline bytes are inside the file: `column/row` or a tar member; `picture`
    tells those bytes apart from others: their SHA-256 or their place within the source.
    """

    url: str | None = None
    path: str | None = None
    caption: str | None = None
    key: str | None = None
    sha256: str | None = None
    faces: str | None = None
    metadata: str | None = None
    member: str | None = None
    picture: str | None = None
    bad: bool = False


def bad_row(content: bytes) -> Asked:
    """Return the row that stands for a line or part of a file that cannot be read."""
    return Asked(picture=hashlib.sha256(content).hexdigest(), bad=True)


def staged_schema() -> pa.Schema:
    """Return the columns of `pairs` and the key by which duplicates are found."""
    return contract("pairs").arrow_schema([pa.field(SAME_AS, pa.binary(KEY_BYTES))])


def stage(given: SourceFile, rows: Iterable[Asked], rules: Rules) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `pairs`, before duplicates are known, with their `same_as_key`."""
    schema = staged_schema()
    source = given.source
    # Pool sources are one pool; a seed set or held-out set is a set of its own.
    scope = "pool" if source.role == "pool" else f"{source.role}:{source.name}"
    home = given.location
    remaining = iter(rows)
    while chunk := list(islice(remaining, ROWS)):
        staged = [_row(given, row, rules, (home, scope)) for row in chunk]
        columns: dict[str, list[Any]] = {n: [] for n in schema.names}
        for row in staged:
            for name, values in columns.items():
                values.append(row.get(name))
        columns["role"] = [source.role] * len(staged)
        columns["source"] = [source.name] * len(staged)
        arrays = [pa.array(columns[f.name], f.type) for f in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _row(
    given: SourceFile, row: Asked, rules: Rules, home_and_scope: tuple[str, str]
) -> dict[str, Any]:
    """Return one row of `pairs` by column name; what is not named is null."""
    home, scope = home_and_scope
    url, reason = rules.judge(row.url) if row.url else (None, None)
    location = None
    picture = row.picture
    if row.member is not None:
        location = f"{home}#{escape(row.member)}"
    elif row.path is not None:
        try:
            location = given.place(row.path)
            picture = picture or f"path:{posixpath.normpath(row.path)}"
        except OutsideFolderError:
            reason = reason or "outside_folder"
    has_bytes = location is not None
    if has_bytes and reason in ("bad_url", "bad_scheme"):
        # The bytes are here, so nobody asks behind the URL.
        reason = None
    if row.bad or (row.sha256 is not None and not _SHA256.fullmatch(row.sha256)):
        reason = "bad_row"
    elif reason is None and not has_bytes and url is None:
        reason = "no_image"
    identity = [given.source.name, row.key, url or row.url, picture, row.caption]
    if row.faces is not None:
        # Other boxes make another picture of the same file.
        identity.append(row.faces)
    pair_id = _hash(_encode(identity)).hexdigest()[:32]
    asked_for = f"pair {pair_id}" if has_bytes else f"url {url}"
    return {
        "pair_id": pair_id,
        "source_key": row.key,
        "url": row.url,
        "url_normalized": url,
        "location": location,
        "caption": row.caption,
        "metadata": row.metadata,
        "face_boxes": row.faces if reason != "bad_row" else None,
        "expected_sha256": row.sha256 if reason != "bad_row" else None,
        "status": "dropped" if reason else "ok",
        "reason": reason,
        SAME_AS: None if reason else _hash(f"{scope} {asked_for}").digest()[:KEY_BYTES],
    }


def _hash(text: str) -> Any:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass"))
