"""Rows as the readers of all formats give them, and how they become staged rows of `pairs`."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.engine.contract import contract
from curation.media.files.limits import BATCH_BYTES, PATH_BYTES, PICTURES
from curation.media.files.location import OutsideFolderError, escape, shown
from curation.media.web.failure_reasons import FORGOTTEN
from curation.media.web.params import is_web
from curation.media.web.urls import UrlRules
from curation.stages.ingest.formats.forgotten import forgotten_row
from curation.stages.ingest.formats.values import as_json, clean, shortened
from curation.stages.ingest.sources.source_file import SourceFile
from curation.store.tombstones import Takedowns
from curation.store.url_hosts import is_address

BATCH_ROWS = 1024
DUPLICATE_KEY = "same_as_key"
"""Column of staged rows: rows with the same key are duplicates; null for rows that are dropped."""
DUPLICATE_KEY_BYTES = 16
NAMED_PATH = "named_path"
"""Column of staged rows: the path of the image file as the list has it, escaped; null for other rows.
It shows in the next run whether a link on the way leads elsewhere."""
STAGED_ONLY = (DUPLICATE_KEY, NAMED_PATH)
"""Columns that staged rows have besides those of `pairs`."""
_UNREADABLE = "unreadable"
_STORED_TEXTS = ("url", "caption", "key")
_encode = json.JSONEncoder().encode


@dataclass(slots=True)
class SourceRow:
    """One row of a source.

    Attributes:
        url: of the image.
        path: of the image file, within the folder of the source.
        caption: of the image.
        key: the source's own id.
        sha256: that the image must have.
        faces: boxes as JSON.
        metadata: other columns, as one JSON object.
        member: where the image is inside the file: `column/row`, or the place of a tar member; escaped.
        container: name of the file that `member` is in, within the folder of the source; by default the
            file of the row.
        reason: why there is no image, as the list says; None if it may have one.
        image_key: distinguishes the image from others where no URL does: its SHA-256, or its place
            within the source.
        bad: the row cannot be read.
        where: its place within the file, such as `line 7`.
        unreadable: which part of the row cannot be read, and why.
        size: characters of its text; `FileBoundary` counts them.
        left_out: characters or bytes that were read, and are too many to keep.
    """

    url: str | None = None
    path: str | None = None
    caption: str | None = None
    key: str | None = None
    sha256: str | None = None
    faces: str | None = None
    metadata: str | None = None
    member: str | None = None
    container: str | None = None
    reason: str | None = None
    image_key: str | None = None
    bad: bool = False
    where: str = ""
    unreadable: str | None = None
    size: int = 0
    left_out: int = 0


def bad_row(content: bytes, where: str, problem: str) -> SourceRow:
    """Return the row for a line, or another part of a file, that cannot be read."""
    key = hashlib.sha256(content).hexdigest()
    return SourceRow(image_key=key, bad=True, where=where, unreadable=shortened(problem))


def described(error: Exception) -> str:
    """Return the kind of an error and what it says, in bounded text."""
    return clean(shortened(f"{type(error).__name__}: {error}"))


def staged_schema() -> pa.Schema:
    """Return the columns of `pairs` and STAGED_ONLY."""
    key = pa.field(DUPLICATE_KEY, pa.binary(DUPLICATE_KEY_BYTES))
    return contract("pairs").arrow_schema([key, pa.field(NAMED_PATH, pa.string())])


def stage_rows(
    file: SourceFile, rows: Iterable[SourceRow], rules: UrlRules
) -> Iterator[pa.RecordBatch]:
    """Yield staged rows: the columns of `pairs`, before duplicates are found, and STAGED_ONLY."""
    schema = staged_schema()
    source = file.source
    # All pool sources share one scope for duplicates; each seed or held-out set has its own.
    scope = "pool" if source.role == "pool" else f"{source.role}:{source.name}"
    location = file.location
    identities = Identities(file)
    for chunk in _chunks(rows):
        staged: list[dict[str, Any]] = []
        for row in chunk:
            _clean_texts(row)
            try:
                staged.append(_staged_row(file, row, rules, location, scope, identities))
            except Exception as error:
                bad = _bad_of(row, error)
                staged.append(_staged_row(file, bad, rules, location, scope, identities))
        columns: dict[str, list[Any]] = {n: [] for n in schema.names}
        for staged_row in staged:
            for name, values in columns.items():
                values.append(staged_row.get(name))
        columns["role"] = [source.role] * len(staged)
        columns["source"] = [source.name] * len(staged)
        arrays = [pa.array(columns[f.name], f.type) for f in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _clean_texts(row: SourceRow) -> None:
    """Replace lone surrogates in the texts that are stored: JSON may hold them, and tables cannot."""
    for name in _STORED_TEXTS:
        value = getattr(row, name)
        if value is not None:
            setattr(row, name, clean(value))


def _bad_of(row: SourceRow, error: Exception) -> SourceRow:
    identity = _encode([row.url, row.path, row.key, row.caption, row.where])
    return bad_row(identity.encode(), row.where, described(error))


def _chunks(rows: Iterable[SourceRow]) -> Iterator[list[SourceRow]]:
    chunk: list[SourceRow] = []
    size = 0
    for row in rows:
        chunk.append(row)
        # An array of characters beyond Latin takes up to four bytes for one.
        size += row.size
        if len(chunk) == BATCH_ROWS or size > BATCH_BYTES // 4:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class Identities:
    """Names the pairs of one file, so that no two pictures get the same name.

    A key is unique only as far as the list makes it so. Where nothing else distinguishes two images
    inside files, the name of the file does, and within one file their order.
    """

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._seen: set[int] = set()
        self._repeated: dict[int, int] = {}

    def pair_id(self, row: SourceRow, url: str | None) -> str:
        """Return the id of the pair of a row, with its normalised URL."""
        is_inside = row.member is not None or not self._file.source.lists_images
        image_key, inside = row.image_key, is_inside and row.image_key is None
        if inside:
            image_key = f"file:{self._file.name}"
        elif row.path is not None:
            image_key = image_key or f"path:{_plain_path(row.path)}"
        identity = [self._file.source.name, row.key, url or row.url, image_key, row.caption]
        if row.faces is not None:
            # With other boxes, the stored image of the same file differs.
            identity.append(row.faces)
        named = _hash(_encode(identity))
        if inside and (number := self._number(named.digest())):
            named = _hash(_encode([*identity, number]))
        pair_id: str = named.hexdigest()[:32]
        return pair_id

    def _number(self, digest: bytes) -> int:
        """Return how many pictures of the file had the same identity before.

        Raises:
            ValueError: there are too many pictures to know.
        """
        known = int.from_bytes(digest[:8])
        if known in self._seen:
            self._repeated[known] = self._repeated.get(known, 0) + 1
            return self._repeated[known]
        if len(self._seen) >= PICTURES:
            raise ValueError(f"one file holds more than {PICTURES:,} pictures; split it")
        self._seen.add(known)
        return 0


def _plain_path(path: str) -> str:
    # What `link/..` is depends on where the link leads.
    return path if ".." in path.split("/") else posixpath.normpath(path)


def _staged_row(
    file: SourceFile,
    row: SourceRow,
    rules: UrlRules,
    file_location: str,
    scope: str,
    identities: Identities,
) -> dict[str, Any]:
    """Return one staged row by column name; columns that are left out are null."""
    checked = rules.check(row.url) if row.url else (None, None)
    if (problem := problem_of_path(file, row)) is not None:
        raise ValueError(problem)
    pair_id = identities.pair_id(row, checked[0])
    location, url, reason = _place(file, row, rules, file_location, checked)
    is_local = location is not None
    if is_local and reason in ("bad_url", "bad_scheme"):
        # The image is in a file, so its URL is not requested.
        reason = None
    if row.bad and reason != FORGOTTEN:
        reason = "bad_row"
    elif row.reason is not None and not is_local and reason != FORGOTTEN:
        reason = row.reason
    elif reason is None and not is_local and url is None and file.source.lists_images:
        reason = "no_image"
    if rules.takedowns is not None and _is_gone(row, pair_id, reason, rules, rules.takedowns):
        return forgotten_row(rules.takedowns, pair_id, url)
    requested = f"pair {pair_id}" if is_local or url is None else f"url {url}"
    return {
        "pair_id": pair_id,
        "source_key": row.key,
        "url": row.url,
        "url_normalized": url,
        "location": location,
        "caption": row.caption,
        "metadata": _with_problem(file, row) if row.unreadable else row.metadata,
        "face_boxes": row.faces if reason != "bad_row" else None,
        "expected_sha256": row.sha256 if reason != "bad_row" else None,
        "status": "dropped" if reason else "ok",
        "reason": reason,
        DUPLICATE_KEY: None if reason else _duplicate_key(scope, requested),
        NAMED_PATH: _named_path(file, row),
    }


def problem_of_path(file: SourceFile, row: SourceRow) -> str | None:
    """Return why the path of a row cannot be one; None if it can."""
    if row.path is None:
        return None
    if len(row.path) > PATH_BYTES:
        return f"the path has more than {PATH_BYTES:,} characters"
    if row.url is None and is_web(row.path) and not file.source.is_web:
        return "the path is an address on the web: map its column to `url`"
    return None


def _named_path(file: SourceFile, row: SourceRow) -> str | None:
    if row.path is None or row.member is not None or not file.source.names_files:
        return None
    return escape(row.path)


def _place(
    file: SourceFile,
    row: SourceRow,
    rules: UrlRules,
    file_location: str,
    checked: tuple[str | None, str | None],
) -> tuple[str | None, str | None, str | None]:
    """Return the location of a row, its normalised URL, and why neither may be used.

    Args:
        file: the file of the row.
        row: the row.
        rules: which URLs are requested.
        file_location: location of the file.
        checked: the normalised URL of the row, and why it is not requested.
    """
    url, reason = checked
    try:
        if row.member is not None:
            container = file_location if row.container is None else file.location_of(row.container)
            return f"{container}#{row.member}", url, reason
        if row.path is None:
            return None, url, reason
        on_web = file.url_of(row.path)
        if on_web is None:
            return file.location_of(row.path), url, reason
    except OutsideFolderError:
        return None, url, reason or "outside_folder"
    return (None, url, reason) if reason == FORGOTTEN else (None, *rules.check(on_web))


def _is_gone(
    row: SourceRow, pair_id: str, reason: str | None, rules: UrlRules, takedowns: Takedowns
) -> bool:
    """Whether a row was taken down: by its URL, its pair, or the image that the list states."""
    if reason == FORGOTTEN or takedowns.has("pair", pair_id):
        return True
    if any(
        text and is_address(text) and rules.check(text)[1] == FORGOTTEN
        for text in (row.key, row.caption)
    ):
        return True
    return row.sha256 is not None and takedowns.has_image(row.sha256)


def _with_problem(file: SourceFile, row: SourceRow) -> str | None:
    """Return the metadata of a row with what cannot be read of it: file, place and cause."""
    values = json.loads(row.metadata) if row.metadata else {}
    where = ", ".join(part for part in (shown(file.name), row.where) if part)
    problem = f"{where}: {row.unreadable}" if where else row.unreadable
    name = _UNREADABLE
    while name in values:
        name = f".{name}"
    if name != _UNREADABLE:
        # A column of the list.
        values[name] = values[_UNREADABLE]
    return as_json(values | {_UNREADABLE: problem})


def _duplicate_key(scope: str, requested: str) -> bytes:
    digest: bytes = _hash(f"{scope} {requested}").digest()
    return digest[:DUPLICATE_KEY_BYTES]


def _hash(text: str) -> Any:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass"))
