"""WAT files of Common Crawl: the links of pages, of which the images become rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from curation.media.files.compression import DAMAGE, compression_of, decompressed
from curation.media.files.limits import (
    FIELD_CHARACTERS,
    MIB,
    WAT_PAGE_IMAGES,
    WAT_RECORD_BYTES,
    WAT_URL_CHARACTERS,
)
from curation.media.files.location import FileSystemError
from curation.media.files.warc import WarcError, read_records
from curation.media.web.urls import InvalidURLError, join, normalize
from curation.stages.ingest.formats.boundary import Item, items_or_reason, unreadable
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.formats.values import (
    ALTERED,
    as_json,
    clean,
    is_altered,
    parse_json,
    shortened,
)
from curation.stages.ingest.sources.source_file import SourceFile

_IMAGE_PATHS = ("IMG@/src",)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TOO_LONG = f"its URL or text has more than {FIELD_CHARACTERS:,} characters"


def read(file: SourceFile) -> Iterator[Item]:
    """Yield the images of all pages: absolute URL, alternative text as caption, and URL of the page.

    Raises:
        UnreadableError: the file is damaged.
    """
    with file.open() as raw:
        try:
            stream = decompressed(raw, compression_of(raw))
            for name, _, content in read_records(stream, "metadata", WAT_RECORD_BYTES):
                where = f"record {shortened(name)}"
                if content is None:
                    problem = f"it is larger than {WAT_RECORD_BYTES // MIB} MiB"
                    yield bad_row(name.encode(), where, problem)
                else:
                    yield from items_or_reason(_images(content, where), where, content)
        except FileSystemError:
            raise
        except (*DAMAGE, WarcError) as error:
            raise unreadable(file, f"cannot be read as WAT ({error})") from error


def _images(content: bytes, where: str) -> Iterator[SourceRow]:
    try:
        envelope = parse_json(content.decode(), unique=False)["Envelope"]
        page = str(envelope["WARC-Header-Metadata"]["WARC-Target-URI"])
        response = envelope["Payload-Metadata"]["HTTP-Response-Metadata"]
        html = response["HTML-Metadata"]
    except KeyError:
        # A response that is not HTML has no images.
        return
    except (ValueError, TypeError) as error:
        yield bad_row(content, where, f"it is not the JSON of a page ({error})")
        return
    if len(page) > WAT_URL_CHARACTERS:
        problem = f"the URL of the page has more than {WAT_URL_CHARACTERS:,} characters"
        yield bad_row(content, where, problem)
        return
    left_out = 0
    for number, row in enumerate(_linked(page, html)):
        if number < WAT_PAGE_IMAGES:
            yield row
        else:
            left_out += 1
    if left_out:
        problem = f"{left_out:,} images of the page are more than {WAT_PAGE_IMAGES:,}"
        yield bad_row(content, where, problem)


def _linked(page: str, html: Any) -> Iterator[SourceRow]:
    base = _base_of(clean(page), _text(_field(_field(html, "Head"), "Base")))
    metadata = as_json({"page_url": clean(page)})
    links = _field(html, "Links")
    for number, link in enumerate(links if isinstance(links, list) else ()):
        if _field(link, "path") in _IMAGE_PATHS:
            alt = _field(link, "alt")
            url, caption = _text(_field(link, "url")), _text(alt)
            if max(len(url or ""), len(caption or "")) > FIELD_CHARACTERS:
                content = f"{page} {number}".encode("utf-8", "replace")
                yield bad_row(content, f"image {number} of {page}", _TOO_LONG)
            else:
                row = SourceRow(url=_absolute(base, url), caption=caption, metadata=metadata)
                if isinstance(alt, str) and is_altered(alt, clean(alt)):
                    row.where, row.unreadable = f"image {number} of {page}", f"alt: {ALTERED}"
                yield row


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    return (clean(value).strip() or None) if isinstance(value, str) else None


def _base_of(page: str, stated: str | None) -> str | None:
    """Return the normalised URL that those of a page are relative to; None if its own is invalid."""
    try:
        base = normalize(page)
    except InvalidURLError:
        return None
    with suppress(InvalidURLError):
        if stated and len(stated) <= WAT_URL_CHARACTERS:
            base = join(base, stated)
    return base


def _absolute(base: str | None, url: str | None) -> str | None:
    """Return a URL as the page has it, or where it leads from the page, as browsers read it."""
    if base is None or url is None or _ABSOLUTE.match(url):
        return url
    try:
        return join(base, url)
    except InvalidURLError:
        # The row keeps the invalid URL, and is dropped for it later.
        return f"http:{url}" if url.startswith("//") else url
