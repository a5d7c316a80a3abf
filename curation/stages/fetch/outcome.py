"""What becomes of one row: a reason why not, or what goes on to the resizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Wanted(NamedTuple):
    """One row to fetch: its number in the fragment, and where its bytes are."""

    row: int
    url: str | None
    location: str | None
    sha256: str | None
    faces: str | None = None


@dataclass(frozen=True)
class Got:
    """The bytes of a row, or the reason why there are none."""

    wanted: Wanted
    content: bytes | None = None
    reason: str | None = None
