"""Why an image cannot be fetched."""

from __future__ import annotations


class FetchError(Exception):
    """The image of a row cannot be fetched.

    Args:
        reason: code that the table `images` gives for the row, as `http_404`.
        transient: a later attempt may succeed.
        unanswered: the host sent no response.
        whole_host: the failure holds for every URL of the host.
        wait_s: seconds for which the host asks not to be requested (0 if it names no time); None if
            it does not ask.
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool = False,
        unanswered: bool = False,
        whole_host: bool = False,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.transient, self.unanswered = reason, transient, unanswered
        self.whole_host, self.wait_s = whole_host, wait_s


TRANSIENT_REASONS = (
    "timeout",
    "connection_error",
    "http_429",
    "robots_unreachable",
    "host_unreachable",
    "host_too_slow",
)
"""Reasons for which a later attempt may succeed; all http_5xx are transient too."""


def is_permanent(reason: str) -> bool:
    """Whether a row that failed for this reason would fail again."""
    return reason not in TRANSIENT_REASONS and not reason.startswith("http_5")
