"""Finds the rows of one Parquet file that were taken down, whatever columns it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.media.pictures.likeness import is_near, looks_like
from curation.media.web.urls import InvalidURLError, normalize
from curation.store.storage.base import Storage, open_input
from curation.store.tombstones import Takedowns
from curation.store.url_hosts import is_address
from curation.store.withheld import ID_COLUMNS, nested_ids

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

ROWS = 1024
MAX_KNOWN = 100_000
"""Texts whose answers are kept, at about 300 bytes each."""
PHASH = "phash"
PICTURES = ("image", "jpg")
"""Columns with stored pictures: of tables, and of shards of unfinished downloads."""
IDENTIFYING = frozenset(
    {
        *("pair_id", "image_id", "sha256", "expected_sha256", PHASH, *PICTURES),
        *("url", "url_normalized", "final_url", "source_key", "caption"),
    }
)
"""Columns that say what a row is. In others it may only name another row, such as a copy of it."""
URLS = frozenset({"url", "url_normalized", "final_url"})
"""Columns with URLs as lists have them, which may have spaces."""
OTHER_ADDRESSES = frozenset({"location", "rsl_license"})
"""Columns with addresses that are of no picture: of the archive that holds it, and of a licence."""
_ID = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")
_ID_LENGTHS = (32, 64)
_NORMAL = re.compile(r"https?://[a-z0-9.-]+\.[a-z]{2,}/[A-Za-z0-9._~/-]*")
"""URLs that are in their normal form, as most are; the others are brought into it."""


@dataclass
class FileHits:
    """What was found in a file.

    Attributes:
        read: number of rows that were read.
        rows: number of rows that were taken down.
        pairs: their pairs.
        images: images of rows that were taken down for their image.
        others: images of the other rows that were taken down.
        kept: images of rows that were not, as far as they are asked for.
        is_nameless: it has no column with ids, but numbers or bytes that may be made from vectors.
        footer: the text beside the rows, such as the measurements of a manifest.
    """

    read: int = 0
    rows: int = 0
    pairs: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    is_nameless: bool = False
    footer: str = ""


class FileSearch:
    """Searches files for what was taken down.

    Args:
        takedowns: what was taken down.
        orphans: hashes of images that count as gone in these files, though they may come back.
        wanted: whether it is asked if a row has an image that was not taken down; None asks for none.
        decode: look at every column, and at the bytes of every value.
    """

    def __init__(
        self,
        takedowns: Takedowns,
        orphans: Collection[str] = (),
        wanted: Callable[[str], bool] | None = None,
        decode: bool = False,
    ) -> None:
        self._takedowns, self._orphans = takedowns, frozenset(orphans)
        self._wanted, self._decode = wanted, decode
        self._known: dict[str, tuple[bool, bool]] = {}

    def search(self, storage: Storage, path: str) -> FileHits:
        """Return what a file holds.

        Raises:
            OSError, pyarrow.ArrowException: it cannot be read.
        """
        hits = FileHits()
        with open_input(storage, path) as stream:
            file = pq.ParquetFile(stream)
            schema = file.schema_arrow
            hits.is_nameless = _is_nameless(schema)
            hits.footer = _footer(schema)
            columns = schema.names if self._decode else self._columns(schema)
            if columns:
                for batch in file.iter_batches(batch_size=ROWS, columns=columns):
                    self._search_batch(batch, hits)
        self._known.clear()
        return hits

    def _columns(self, schema: pa.Schema) -> list[str]:
        """Return the columns in which something may be found."""
        likes = bool(self._takedowns.likes)
        return [
            f.name
            for f in schema
            if pa.types.is_string(f.type)
            or nested_ids(f.type)
            or (likes and f.name in (PHASH, *PICTURES))
        ]

    def _search_batch(self, batch: pa.RecordBatch, hits: FileHits) -> None:
        hits.read += batch.num_rows
        named, by_image, by_other = set[int](), set[int](), set[int]()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            identifies = name in IDENTIFYING
            # A row may list a thousand copies.
            is_nested = bool(nested_ids(column.type))
            values = (v.as_py() for v in column) if is_nested else column.to_pylist()
            for number, value in enumerate(values):
                image, other = self._test(value, name)
                if image:
                    (by_image if identifies else named).add(number)
                if other:
                    (by_other if identifies else named).add(number)
        hits.rows += len(named | by_image | by_other)
        pairs, images = (_values(batch, name) for name in ("pair_id", "image_id"))
        hits.pairs.update(pairs[n] for n in by_image | by_other if pairs[n] is not None)
        hits.images.update(images[n] for n in by_image if images[n] is not None)
        hits.others.update(images[n] for n in by_other - by_image if images[n] is not None)
        if self._wanted is not None:
            others = set(range(batch.num_rows)) - by_image - by_other
            stay = {images[n] for n in others} - {None}
            hits.kept.update(filter(self._wanted, stay))

    def _test(self, value: Any, name: str) -> tuple[bool, bool]:
        """Return whether a value names an image that is gone, and whether it names a URL or a pair.

        Texts that repeat are tested once, as long as they are few.
        """
        if isinstance(value, str):
            is_url = "://" in value
            if not (_may_name_row(value, name) if is_url else len(value) in _ID_LENGTHS):
                return False, False
            if value not in self._known:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[value] = self._test_text(value)
            return self._known[value]
        if isinstance(value, bytes):
            return self._test_bytes(value, name), False
        if isinstance(value, dict | list):
            tested = [self._test(leaf, name) for leaf in _leaves(value)]
            return any(image for image, _ in tested), any(other for _, other in tested)
        return False, False

    def _test_text(self, text: str) -> tuple[bool, bool]:
        takedowns = self._takedowns
        if len(text) in _ID_LENGTHS and _ID.fullmatch(text):
            orphan = bool(self._orphans) and takedowns.hash_of("image", text) in self._orphans
            return takedowns.has_image(text), orphan or takedowns.has("pair", text)
        return False, "://" in text and is_gone_url(text, takedowns)

    def _test_bytes(self, content: bytes, name: str) -> bool:
        """Whether bytes are the hash of a picture that is gone, or look like one, or are its bytes."""
        takedowns = self._takedowns
        if name == PHASH and is_near(content, takedowns.likes):
            return True
        if name in PICTURES and looks_like(content, takedowns.likes):
            return True
        return self._decode and takedowns.has_image(sha256(content).hexdigest())


def _may_name_row(url: str, name: str) -> bool:
    """Whether a text with a URL in a column may name a row, and does not only mention a URL."""
    return name in URLS or (name not in OTHER_ADDRESSES and is_address(url))


def is_gone_url(text: str, takedowns: Takedowns) -> bool:
    """Whether a text is a URL that was taken down."""
    url = text.strip()
    if _NORMAL.fullmatch(url) is None or "/." in url:
        with suppress(InvalidURLError):
            url = normalize(text)
    return takedowns.has_url(url)


def _values(batch: pa.RecordBatch, name: str) -> list[Any]:
    if name in batch.schema.names and pa.types.is_string(batch.schema.field(name).type):
        values: list[Any] = batch.column(name).to_pylist()
        return values
    return [None] * batch.num_rows


def _leaves(value: Any) -> Iterable[Any]:
    """Yield the single values of a list or a structure."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif value is not None:
        yield value


def _footer(schema: pa.Schema) -> str:
    texts = (schema.metadata or {}).items()
    return "\n".join(f"{k!r} {v.decode('utf-8', 'replace')}" for k, v in texts)


def _is_nameless(schema: pa.Schema) -> bool:
    ids = ID_COLUMNS & set(schema.names)
    return not ids and any(_holds_numbers(f.type) for f in schema)


def _holds_numbers(kind: pa.DataType) -> bool:
    """Whether values may be vectors, sums of them, or keys of a row: bytes, or numbers of 64 bits."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _holds_numbers(kind.value_type)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return is_bytes or pa.types.is_floating(kind) or kind in (pa.int64(), pa.uint64())
