"""The findings as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from curation.inspect.audit.edits import EDITS
from curation.inspect.audit.inject import NAMES
from curation.inspect.audit.sheet import PAIRS, Strip
from curation.inspect.audit.thresholds import CAUTION
from curation.inspect.report.pictures import Album

TEMPLATE = "audit.html.j2"


def render(
    told: Mapping[str, Any],
    copies: pd.DataFrame,
    strips: list[Strip],
    album: Album,
    shown: Mapping[int, str],
) -> bytes:
    """Return the page.

    Args:
        told: as in audit.json.
        copies: a row a planted copy, by original and edit.
        strips: the contact sheet.
        album: its pictures, loaded.
        shown: data URIs of the copies of the first original, by the number of the edit.
    """
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader([here, here.parent / "report"]),
        # Captions, links and keys come from strangers.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": share, "verified": verified}
    content = {
        "told": told,
        "strengths": {name: edit.strength for name, edit in EDITS.items()},
        "strips": strips,
        "most": PAIRS,
        "album": album,
        "example": _example(copies, shown),
        "caution": CAUTION,
    }
    page = environment.get_template(TEMPLATE).render(content)
    return page.encode("utf-8", errors="replace")


def _example(copies: pd.DataFrame, shown: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the copies of one picture, each with what finds it."""
    own = copies.head(len(NAMES)).to_dict("records") if shown else []
    return [
        {"edit": row["edit"], "thumb": shown[edit], "found": bool(row["found"])}
        for edit, row in enumerate(own)
        if edit in shown
    ]


def verified(told: Mapping[str, Any]) -> str:
    """Return in words what verify, which the recipe has, did to what was found."""
    own = told["verify"]
    ties = ", ".join(f"{number(n)} of {level}" for level, n in own["ties_refused"].items())
    before, after = own["unverified_recall"]["all"]["any"], told["recall"]["all"]["any"]
    return (
        "Pairs are verified: they count only if their pixels agree within dedup.verify. Recall was "
        f"{share(before)} before and is {share(after)} after, {number(own['copies_refused'])} copies "
        f"being refused; ties to other pool pictures that are refused: {ties}."
    )


def number(value: float | None, digits: int = 0) -> str:
    """Return a number as people read it, – for none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """Return a share of one in per cent, – for none."""
    return "–" if value is None else f"{100 * value:.1f} %"
