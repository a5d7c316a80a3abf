"""Which rows an id, a URL, a key or a file stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from curation.inspect.why.tables import Place, RowReader
from curation.media.web.fetch_error import FetchError
from curation.media.web.urls import InvalidURLError, normalize
from curation.store.digest import file_sha256

ID_DIGITS = 32
Kind = Literal["image_id", "pair_id", "sha256", "url", "final_url", "key", "file", "location"]
_HEX = re.compile(r"[0-9a-fA-F]+")


class Located(NamedTuple):
    """What was asked for, and the rows that it stands for.

    Attributes:
        kind: what it was taken for; None if no row was found.
        places: of the rows.
        file: the file that was named, if it is one.
    """

    kind: Kind | None
    places: list[Place]
    file: Path | None


class _Attempt(NamedTuple):
    """One meaning that a text may have: where such values stand."""

    kind: Kind
    table: str
    columns: tuple[str, ...]
    values: Sequence[str]


def find_rows(tables: RowReader, what: str | Path) -> Located:
    """Return the rows that a text stands for. Meanings are tried until one has rows.

    Args:
        tables: of the recipe.
        what: an image_id, pair_id, SHA-256, URL, key of the source, location, or the path of a file.
    """
    file = _file(what)
    for attempt in _attempts(str(what), file):
        wanted = dict.fromkeys(attempt.columns, attempt.values)
        places = tables.places(attempt.table, wanted)
        if places:
            return Located(attempt.kind, places, file)
    return Located(None, [], file)


def _file(what: str | Path) -> Path | None:
    try:
        return Path(what) if Path(what).is_file() else None
    except (OSError, ValueError):
        return None


def _attempts(what: str, file: Path | None) -> Iterator[_Attempt]:
    if file is not None:
        yield _Attempt("file", "images", ("image_id",), [file_sha256(file)[:ID_DIGITS]])
        yield _Attempt("location", "pairs", ("location",), [str(file.absolute())])
    if _HEX.fullmatch(what):
        lowered = what.lower()
        if len(what) == 2 * ID_DIGITS:
            yield _Attempt("sha256", "images", ("image_id",), [lowered[:ID_DIGITS]])
        if len(what) == ID_DIGITS:
            yield _Attempt("image_id", "images", ("image_id",), [lowered])
            yield _Attempt("pair_id", "pairs", ("pair_id",), [lowered])
    if "://" in what:
        spellings = _spellings(what)
        yield _Attempt("url", "pairs", ("url", "url_normalized"), spellings)
        yield _Attempt("final_url", "images", ("final_url",), spellings)
    yield _Attempt("key", "pairs", ("source_key",), [what])
    yield _Attempt("location", "pairs", ("location",), [what])


def _spellings(url: str) -> list[str]:
    spellings = [url]
    with suppress(InvalidURLError, FetchError, ValueError):
        spellings.append(normalize(url))
    return list(dict.fromkeys(spellings))
