"""Whether a usage preference forbids training: `Content-Usage` (aipref) and `Content-Signal`."""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[,;\s]+")
# Without the look-behind, a run of spaces is read again from each of them.
_EQUALS = re.compile(r"(?<!\s)\s*=\s*")
FIELDS = {
    "content-usage": ("content_usage", "train-ai", ("y", "n")),
    "content-signal": ("content_signal", "ai-train", ("yes", "no")),
}
"""By field: the signal, the key of training, and the values that allow and forbid it."""
_BEGINS_PATH = ("/", "*")


def forbids_training(field: str, value: str) -> bool | None:
    """Return whether the value of a field forbids training; None if it says nothing of it.

    Of several values one that forbids counts, whatever else stands in the field.

    Args:
        field: name of the field in lower case; one of FIELDS.
        value: its value, without a path.
    """
    _, key, (allow, forbid) = FIELDS[field]
    words = set(_SEPARATORS.split(_EQUALS.sub("=", value.lower().replace('"', ""))))
    if f"{key}={forbid}" in words:
        return True
    return False if f"{key}={allow}" in words else None


def split_path(value: str) -> tuple[str, str]:
    """Return the path of a rule in robots.txt, `/` if it names none, and the preference after it."""
    if not value.startswith(_BEGINS_PATH):
        return "/", value
    path, *preference = value.split(None, 1)
    return path, "".join(preference)
