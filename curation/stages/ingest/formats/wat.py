"""Common Crawl's WAT files: what pages link to, of which their images are rows."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pyarrow as pa
from fastwarc.warc import ArchiveIterator, WarcRecordType

from curation.errors import StoreError
from curation.stages.ingest.formats.source_row import Asked, bad_row
from curation.stages.ingest.formats.values import as_json, clean
from curation.stages.ingest.sources.source_file import SourceFile

MAX_RECORD = 64 << 20
"""Bytes of a record that are looked at; larger ones are a bad row."""
_PATHS = ("IMG@/src",)


def read(given: SourceFile) -> Iterator[Asked]:
    """Yield the images of all pages: their URL, made whole, the alternative text, and the page.

    Raises:
        StoreError: the file cannot be read.
    """
    with given.open() as file:
        # Python's reader, since FastWARC's own takes a file that is cut short for one that ends there.
        stream = gzip.GzipFile(fileobj=file) if given.name.endswith(".gz") else file
        try:
            for record in ArchiveIterator(stream, WarcRecordType.metadata, parse_http=False):
                if record.content_length > MAX_RECORD:
                    yield bad_row(str(record.record_id).encode())
                    continue
                content = record.reader.read()
                if len(content) < record.content_length:
                    raise EOFError("it ends in the middle of a record")
                yield from _images(content)
        except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
            raise StoreError(
                f"Source {given.source.name!r}: {given.shown} cannot be read as WAT ({error}). "
                "Replace the file, or take it out of the source, and run again."
            ) from error


def _images(content: bytes) -> Iterator[Asked]:
    try:
        envelope = json.loads(content)["Envelope"]
        page = str(envelope["WARC-Header-Metadata"]["WARC-Target-URI"])
        response = envelope["Payload-Metadata"]["HTTP-Response-Metadata"]
        html = response["HTML-Metadata"]
    except KeyError:
        # A page that is no HTML has no images.
        return
    except (ValueError, TypeError, RecursionError):
        yield bad_row(content)
        return
    base = _joined(page, _text(_field(_field(html, "Head"), "Base"))) or page
    links = _field(html, "Links")
    for link in links if isinstance(links, list) else ():
        if _field(link, "path") in _PATHS:
            url = _joined(base, _text(_field(link, "url")))
            caption = _text(_field(link, "alt"))
            yield Asked(url=url, caption=caption, metadata=as_json({"page_url": clean(page)}))


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    return (clean(value).strip() or None) if isinstance(value, str) else None


def _joined(base: str, url: str | None) -> str | None:
    if url is None:
        return None
    try:
        return urljoin(base, url)
    except ValueError:
        # It stays as it is, and is found to be no URL.
        return url
