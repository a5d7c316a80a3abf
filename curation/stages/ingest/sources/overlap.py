"""Whether a source would read what a store writes."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.globs import split_glob
from curation.stages.ingest.sources.listing import is_hidden
from curation.stages.ingest.sources.source import Source
from curation.store.storage.base import join_address

STORE_FOLDERS = ("tables", "work", "steps", "runs", "open")
"""Folders of a store whose files come and go. Those of a dataset stay, and may be a source."""
DEPTHS = range(1, 5)
"""How many folders below a store its files are."""


def overlap(source: Source, store: str) -> str | None:
    """Return how the files of a source and those of a store are mixed up, or None if they are not.

    Args:
        source: the source.
        store: address of the store: an absolute path or a URI.
    """
    store = _address(store)
    path = _address(source.path)
    if ("://" in path) != ("://" in store):
        return None
    if any(_is_within(path, join_address(store, folder)) for folder in STORE_FOLDERS):
        return f"it reads {source.path!r}, where the store writes its own files"
    base, pattern = split_glob(path, os.path.isdir)
    if not _is_within(store, base):
        return None
    prefix = f"{store[len(base) :].strip('/')}/".removeprefix("/")
    if pattern is None:
        read = not is_hidden(source, f"{prefix}file")
    else:
        endings = FORMATS[source.reader].endings or ("",)
        names = [f"{prefix}{'x/' * depth}x{ending}" for depth in DEPTHS for ending in endings]
        read = any(pattern.fullmatch(name) for name in names)
    return f"the store {store!r} lies within {source.path!r}" if read else None


def _address(text: str) -> str:
    """Return an absolute path without links, or a URI without its query."""
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if "://" in text:
        return text.partition("?")[0].rstrip("/")
    # A glob has no links to follow after its first wildcard, which do not exist.
    return os.path.realpath(Path(text).absolute())


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
