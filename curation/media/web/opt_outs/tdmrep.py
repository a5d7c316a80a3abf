"""The TDM Reservation Protocol (W3C community group): a header, and a file of a host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from curation.media.web.opt_outs.path_rules import PathRule, RuleSet, pattern_of

PATH = "/.well-known/tdmrep.json"
HEADER = "tdm-reservation"
RESERVED = frozenset(("1", "1.0", "true"))
"""Values that reserve rights. Programs write 1 in these forms, which can mean nothing else."""
_SIGNAL = "tdmrep"


def read_tdmrep(content: bytes, place: str) -> RuleSet | None:
    """Return the rules of a file, or None if it has none. What is not valid is ignored.

    Args:
        content: the file, not trusted.
        place: its address.
    """
    try:
        entries = json.loads(content.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None
    entries = entries if isinstance(entries, list) else [entries]
    rules = tuple(_rules(entries))
    return RuleSet(_SIGNAL, place, "", rules) if rules else None


def _rules(entries: list[Any]) -> Iterator[PathRule]:
    for entry in entries:
        # Text may be no Unicode, and values nested: the other entries count all the same.
        with suppress(ValueError, RecursionError):
            if _is_rule(entry):
                yield _rule(entry)


def _is_rule(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("location"), str) and HEADER in entry


def _rule(entry: dict[str, Any]) -> PathRule:
    value = entry[HEADER]
    forbids = str(value).strip().lower() in RESERVED
    shown = {name: entry[name] for name in ("location", HEADER, "tdm-policy") if name in entry}
    return PathRule(pattern_of(_path(entry["location"])), forbids, json.dumps(shown))


def _path(location: str) -> str:
    """Return the path of a location, which may be written as a whole address."""
    # JSON can escape half a character, which no path has.
    location = location.strip().encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "://" in location:
        location = f"/{location.split('://', 1)[1].partition('/')[2]}"
    return location if location.startswith(("/", "*")) else f"/{location}"
