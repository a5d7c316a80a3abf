"""Reasons for which a row has no image, and the names of several of them."""

from __future__ import annotations

import re

TRANSIENT_REASONS = (
    "timeout",
    "connection_error",
    "http_429",
    "robots_unreachable",
    "host_unreachable",
    "host_too_slow",
    "robots_unreadable",
)
"""Reasons for which a later attempt may succeed; all http_5xx, and exceptions that a later version may
foresee (`error_`), are transient too."""
FORGOTTEN = "forgotten"
"""The reason of rows that were taken down; nothing else of them is kept."""
DROPPED = (
    "bad_scheme",
    "bad_row",
    "bad_url",
    "blocked_domain",
    "blocked_pattern",
    "duplicate_pair",
    "duplicate_url",
    FORGOTTEN,
    "removed",
)
"""Reasons of rows that no host is asked for."""
TRANSIENT, ALL = "transient", "all"
"""Names of several reasons: those for which a later attempt may succeed, and all of hosts and files."""
_REASON = re.compile(r"[a-z0-9_]+|error_\w+")


def is_permanent(reason: str) -> bool:
    """Whether a row that failed for this reason would fail again."""
    return reason not in TRANSIENT_REASONS and not reason.startswith(("http_5", "error_"))


def check_failure(name: str) -> str:
    """Return the name of a reason, or of several.

    Raises:
        ValueError: it cannot be one.
    """
    if name in DROPPED or name == "ok" or not _REASON.fullmatch(name):
        raise ValueError(
            f"{name!r} is no failure of a fetch. Valid: {TRANSIENT}, {ALL}, or a reason of the table "
            f"`images`, such as {', '.join(TRANSIENT_REASONS[:3])} or http_503"
        )
    return name


def is_called(reason: str, name: str) -> bool:
    """Whether a reason is the one with a name, or one of several with that name."""
    if reason == "ok" or reason in DROPPED:
        return False
    return name in (ALL, reason) or (name == TRANSIENT and not is_permanent(reason))
