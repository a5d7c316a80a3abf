"""Renders an audit as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from curation.inspect.audit.contact_sheet import MAX_PAIRS, SheetSection
from curation.inspect.audit.edits import EDIT_NAMES, EDITS
from curation.inspect.audit.thresholds import CAUTION
from curation.inspect.html import format_number, format_percent, render_page
from curation.inspect.report.album import Album

TEMPLATE = "audit.html.j2"


def render_audit(
    summary: Mapping[str, Any],
    copies: pd.DataFrame,
    sections: list[SheetSection],
    album: Album,
    thumbnails: Mapping[int, str],
) -> bytes:
    """Return the HTML page.

    Args:
        summary: as in audit.json.
        copies: of `copies_table`.
        sections: of the contact sheet.
        album: the images of the contact sheet, loaded.
        thumbnails: data URIs of the copies of the first original, by the number of the edit.
    """
    content = {
        "summary": summary,
        "strengths": {name: edit.strength for name, edit in EDITS.items()},
        "sections": sections,
        "max_pairs": MAX_PAIRS,
        "album": album,
        "example": _example_copies(copies, thumbnails),
        "caution": CAUTION,
    }
    filters: dict[str, Callable[..., Any]] = {
        "number": format_number,
        "percent": format_percent,
        "verification": describe_verification,
    }
    return render_page(Path(__file__).parent / TEMPLATE, content, filters)


def _example_copies(copies: pd.DataFrame, thumbnails: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the copies of the first original, each with whether a level finds it."""
    rows = copies.head(len(EDIT_NAMES)).to_dict("records") if thumbnails else []
    return [
        {"edit": row["edit"], "thumbnail": thumbnails[edit], "found": bool(row["found"])}
        for edit, row in enumerate(rows)
        if edit in thumbnails
    ]


def describe_verification(summary: Mapping[str, Any]) -> str:
    """Return in words what the verification of the recipe changed."""
    verify = summary["verify"]
    refused = ", ".join(
        f"{format_number(count)} by {level}" for level, count in verify["ties_refused"].items()
    )
    before, after = verify["unverified_recall"]["all"]["any"], summary["recall"]["all"]["any"]
    return (
        "Pairs are verified: they count only if their pixels agree within the bounds of dedup.verify. "
        f"Verification refused {format_number(verify['copies_refused'])} copies, so recall is "
        f"{format_percent(after)} instead of {format_percent(before)}. It also refused pairs with "
        f"other pool images: {refused}."
    )
