"""The scores of a row beside their thresholds, and what `select` made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curation.inspect.why.tables import Place, RowReader

SCORE_TABLES = ("scores", "head_scores", "tallies")
NO_SCORES = ("pair_id", "pixel_id", "method", "contaminated", "copy_of_seed")
"""Columns of these tables that are no score."""


def scores_of(tables: RowReader, place: Place, role: str) -> list[dict[str, Any]]:
    """Return every score of a row beside its threshold.

    Args:
        tables: of the recipe.
        place: of the row.
        role: of its source; thresholds apply to the pool alone.
    """
    params = tables["eligible"].manifest.params if "eligible" in tables else {}
    thresholds = params.get("thresholds", {}) if role == "pool" else {}
    rows: list[dict[str, Any]] = []
    for table in SCORE_TABLES:
        row = tables.row(table, place) or {}
        rows += [
            {"name": name, "value": value, "threshold": thresholds.get(name)}
            | {"passes": _passes(value, thresholds[name]) if name in thresholds else None}
            for name, value in row.items()
            if name not in NO_SCORES
        ]
    return rows


def _passes(value: Any, threshold: Mapping[str, Any]) -> bool:
    """Whether a score passes a threshold, as `select` decides."""
    if value is None:
        return bool(threshold.get("missing") == "keep")
    if threshold.get("one_of") is not None:
        return value in threshold["one_of"]
    low, high = threshold.get("at_least"), threshold.get("at_most")
    return (low is None or value >= low) and (high is None or value <= high)
