"""One row to fetch, and the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from curation.media.web.opt_outs.site import SiteFile, SiteRules

_NOTHING_KNOWN = SiteRules()
LARGE_BYTES = 4 * 2**20
"""Bytes of a file beside which no other is held while it is read or decoded."""
_BYTES_OF_ROW = 512


class FetchRequest(NamedTuple):
    """One row to fetch.

    Attributes:
        row: its number in the fragment.
        url: where its image is on the web; normalised.
        location: where its image is in a file; it is preferred to the URL.
        sha256: that its image must have, in hexadecimal digits; None for any.
        faces: boxes of faces to blur, as JSON.
        pair_id: id of the pair.
    """

    row: int
    url: str | None
    location: str | None
    sha256: str | None
    faces: str | None = None
    pair_id: str = ""

    @property
    def weight(self) -> int:
        """As how many rows it counts in memory: a long URL or many boxes count as several."""
        return 1 + (len(self.url or "") + len(self.faces or "")) // _BYTES_OF_ROW


@dataclass(frozen=True)
class FetchResult:
    """The bytes of the image of a row, or the reason why there are none.

    Attributes:
        request: the row.
        content: the bytes.
        reason: why there are none.
        detail: kind and text of an exception that nothing foresaw.
        opt_out: what withholds the image, as JSON.
        final_url: the URL that gave the bytes, after redirects; None for an image in a file.
        license: address of the licence that the robots.txt of its host names.
    """

    request: FetchRequest
    content: bytes | None = None
    reason: str | None = None
    final_url: str | None = None
    detail: str | None = None
    opt_out: str | None = None
    license: str | None = None


@dataclass(slots=True, eq=False)
class HttpRequest:
    """A request for the image of a row, or for a file with the rules of a site.

    Attributes:
        row: the row; None for a file of a site.
        url: the next URL to request, after the redirects so far.
        redirects: redirects so far.
        rules_of: for a file of a site, the origin whose rules it gives.
        file: that file.
        known: what the files of this origin before it say.
        permitted: the rules of its origin permit the URL.
        license: address of the licence that the robots.txt of its origin names.
        started: loop time when it was last sent; None while it is not sent.
        doubtful: it counts among the requests that may take long.
    """

    row: FetchRequest | None
    url: str
    redirects: int = 0
    rules_of: str = ""
    file: SiteFile | None = None
    known: SiteRules = _NOTHING_KNOWN
    permitted: bool = False
    license: str | None = None
    started: float | None = None
    doubtful: bool = False
