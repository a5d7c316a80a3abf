"""Finds in a text what was taken down: URLs and ids."""

from __future__ import annotations

import re

from curation.runner.takedown.file_search import is_gone_url
from curation.store.tombstones import Takedowns

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

_URL = re.compile(r"https?://[^\s\"'<>\\,;)\]}]+", re.IGNORECASE)
_ID = re.compile(r"(?<![0-9A-Fa-f])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9A-Fa-f])")


def mentions(text: str, takedowns: Takedowns) -> list[str]:
    """Return the URLs and ids in a text that were taken down."""
    urls = {url.rstrip(".:") for url in _URL.findall(text)}
    ids = set(_ID.findall(text))
    gone = {url for url in urls if is_gone_url(url, takedowns)}
    return sorted(gone | {i for i in ids if takedowns.has("pair", i) or takedowns.has_image(i)})
