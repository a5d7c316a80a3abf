"""Reasons for which a row has no image, and the names of several of them."""

from __future__ import annotations

import re

from curation.errors import Detail, InvalidValueError

TRANSIENT_REASONS = (
    "timeout",
    "connection_error",
    "http_408",
    "http_425",
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
LISTED_FAILURES = ("failed_to_download", "failed_to_resize")
"""Reasons of rows that a list says have no image: the statuses of img2dataset."""
OTHER_LISTED_FAILURE = "failed_status"
"""The reason of rows with any other status that is no success."""
DROPPED = (
    *LISTED_FAILURES,
    OTHER_LISTED_FAILURE,
    "bad_scheme",
    "bad_row",
    "bad_url",
    "blocked_domain",
    "blocked_pattern",
    "duplicate_pair",
    "duplicate_url",
    "no_image",
    "outside_folder",
    FORGOTTEN,
    "removed",
)
"""Reasons of rows that no host is asked for."""
TRANSIENT, ALL, OPTED_OUT = "transient", "all", "opted_out"
"""Names of several reasons: those for which a later attempt may succeed, all of hosts and files, and
all opt-outs besides that of robots.txt."""
PERMANENT_REASONS = (
    *("dns_error", "tls_error", "private_address", "blocked_port", "no_contact"),
    *("bad_redirect", "too_many_redirects", "bad_response", "robots_disallowed"),
    *("file_missing", "unreadable"),
    *("empty", "too_large", "sha256_mismatch", "not_an_image", "unsupported_format"),
    *("too_many_pixels", "bad_dimensions", "too_many_boxes", "truncated", "undecodable"),
    *("decoder_died", "decoder_timeout", "decoder_memory"),
)
"""Reasons for which a row fails again; all http_4xx, format_ and opted_out_ are permanent too."""
FAMILIES = r"^(http_\d{1,3}|error_\w+|format_\w+|opted_out_\w+)$"
"""Pattern of the reasons that are named by a status, a class of errors, a format or a signal."""


def failure_names() -> list[str]:
    """Return the names of reasons, and of several of them, that are no family."""
    return [TRANSIENT, ALL, OPTED_OUT, *TRANSIENT_REASONS, *PERMANENT_REASONS]


def is_permanent(reason: str) -> bool:
    """Whether a row that failed for this reason would fail again."""
    return reason not in TRANSIENT_REASONS and not reason.startswith(("http_5", "error_"))


def check_failure(name: str) -> str:
    """Return the name of a reason, or of several.

    Raises:
        ValueError: it cannot be one.
    """
    names = failure_names()
    if name not in names and not re.fullmatch(FAMILIES, name):
        families = ("http_<status>", "error_<class>", "format_<name>", "opted_out_<signal>")
        raise InvalidValueError(
            Detail(f"{name!r} is no failure of a fetch", found=name, valid=(*names, *families))
        )
    return name


def is_called(reason: str, name: str) -> bool:
    """Whether a reason is the one with a name, or one of several with that name."""
    if reason == "ok" or reason in DROPPED:
        return False
    if name == OPTED_OUT:
        return reason.startswith(f"{OPTED_OUT}_")
    return name in (ALL, reason) or (name == TRANSIENT and not is_permanent(reason))
