"""Why a row cannot be fetched."""

from __future__ import annotations


class RefusedError(Exception):
    """A row that fails; `reason` is what the table says.

    Args:
        reason: of a row.
        transient: another try may do better.
        silent: the host gave no answer.
        whole_host: it is so for everything on this host.
        wait_s: seconds for which the host asks to be left alone.
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool = False,
        silent: bool = False,
        whole_host: bool = False,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.transient, self.silent = reason, transient, silent
        self.whole_host, self.wait_s = whole_host, wait_s


PASSING = (
    "timeout",
    "connection_error",
    "http_429",
    "robots_unreachable",
    "host_unreachable",
    "host_too_slow",
)
"""Reasons that may be others another day; so may every http_5xx."""


def is_final(reason: str) -> bool:
    """Whether a row that failed for this reason would fail again."""
    return reason not in PASSING and not reason.startswith("http_5")
