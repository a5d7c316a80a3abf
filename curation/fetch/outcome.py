"""What becomes of one row: a reason why not, or what goes on to the resizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class RefusedError(Exception):
    """A row that fails; `reason` is what the table says. Transient ones may be tried again."""

    def __init__(self, reason: str, transient: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.transient, self.wait_s = reason, transient, wait_s


class Wanted(NamedTuple):
    """One row to fetch: its number in the fragment, and where its bytes are."""

    row: int
    url: str | None
    location: str | None
    sha256: str | None


@dataclass(frozen=True)
class Got:
    """The bytes of a row, or the reason why there are none."""

    wanted: Wanted
    content: bytes | None = None
    reason: str | None = None
