"""WAT files of Common Crawl: the links of pages, of which the images become rows."""

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
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.formats.values import as_json, clean
from curation.stages.ingest.sources.source_file import SourceFile

MAX_RECORD_BYTES = 64 << 20
"""Largest record that is parsed; a larger one becomes a bad row."""
_IMAGE_PATHS = ("IMG@/src",)


def read(file: SourceFile) -> Iterator[SourceRow]:
    """Yield the images of all pages: absolute URL, alternative text as caption, and URL of the page.

    Raises:
        StoreError: the file cannot be read.
    """
    with file.open() as raw:
        # Python's gzip reader, since FastWARC's own does not notice a truncated file.
        stream = gzip.GzipFile(fileobj=raw) if file.name.endswith(".gz") else raw
        try:
            for record in ArchiveIterator(stream, WarcRecordType.metadata, parse_http=False):
                if record.content_length > MAX_RECORD_BYTES:
                    name = str(record.record_id)
                    yield bad_row(name.encode(), f"record {name}", "it is larger than 64 MiB")
                    continue
                content = record.reader.read()
                if len(content) < record.content_length:
                    raise EOFError("it ends in the middle of a record")
                yield from _images(content, str(record.record_id))
        except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
            raise StoreError(
                f"Source {file.source.name!r}: {file.display_name} cannot be read as WAT ({error}). "
                "Replace the file, or remove it from the source, and run again."
            ) from error


def _images(content: bytes, name: str) -> Iterator[SourceRow]:
    try:
        envelope = json.loads(content)["Envelope"]
        page = str(envelope["WARC-Header-Metadata"]["WARC-Target-URI"])
        response = envelope["Payload-Metadata"]["HTTP-Response-Metadata"]
        html = response["HTML-Metadata"]
    except KeyError:
        # A response that is not HTML has no images.
        return
    except (ValueError, TypeError, RecursionError) as error:
        yield bad_row(content, f"record {name}", f"it is not the JSON of a page ({error})")
        return
    base = _absolute(page, _text(_field(_field(html, "Head"), "Base"))) or page
    links = _field(html, "Links")
    for link in links if isinstance(links, list) else ():
        if _field(link, "path") in _IMAGE_PATHS:
            url = _absolute(base, _text(_field(link, "url")))
            caption = _text(_field(link, "alt"))
            metadata = as_json({"page_url": clean(page)})
            yield SourceRow(url=url, caption=caption, metadata=metadata)


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    return (clean(value).strip() or None) if isinstance(value, str) else None


def _absolute(base: str, url: str | None) -> str | None:
    if url is None:
        return None
    try:
        return urljoin(base, url)
    except ValueError:
        # The row keeps the invalid URL, and is dropped for it later.
        return url
