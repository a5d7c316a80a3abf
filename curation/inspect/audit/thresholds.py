"""What other thresholds would find and link, and the threshold that the sample supports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from curation.algorithms.arrays.vectors import Bools
from curation.algorithms.knn.params import MAX_HAMMING_DISTANCE
from curation.inspect.audit.edits import STRENGTHS
from curation.inspect.audit.evaluate import is_explained
from curation.recipe import Recipe

COSINES = (
    *(n / 100 for n in range(-100, 90, 5)),
    *(n / 100 for n in range(90, 98)),
    *(0.98, 0.985, 0.99, 0.995, 0.999),
)
DISTANCES = (*range(0, MAX_HAMMING_DISTANCE, 4), MAX_HAMMING_DISTANCE)
ORIGINALS_PER_UNEXPLAINED = 1000
"""The suggestion allows one original with an unexplained pair for each so many sampled originals."""
CONFIDENCE = 0.95
RULES = {
    "near": (
        "the lowest cosine at which at most 1 in 1,000 sampled originals is linked to another pool "
        "image that equal pixels and perceptual hashes do not already put into its component"
    ),
    "perceptual": (
        "the largest distance at which at most 1 in 1,000 sampled originals is linked to another pool "
        "image that is not already in its component by the recipe's own distance or by near vectors, "
        "so it is never below the recipe's distance"
    ),
}
CAUTION = (
    "A linked pair may be a true copy or a false alarm, and only a person can decide: look at the "
    "contact sheet before you change a threshold."
)


def near_thresholds(
    copies: pd.DataFrame, pairs: pd.DataFrame, originals: int, recipe: Recipe
) -> dict[str, Any]:
    """Return the table of cosines, the strictest first, and the suggestion.

    Args:
        copies: of `copies_table`.
        pairs: the rows of `pairs_table` that agree.
        originals: number of sampled images that have a vector.
        recipe: gives the floor and the thresholds.
    """
    near, held_out, verify = recipe.dedup.near, recipe.dedup.held_out, recipe.dedup.verify
    assert near is not None
    floor = max(near.floor, verify.floor) if verify else near.floor
    unexplained = pairs[~is_explained(pairs, "near") & pairs["similarity"].notna()]
    strongest = np.sort(unexplained.groupby("original")["similarity"].max().to_numpy())[::-1]
    suggested = lowest_cosine(strongest.tolist(), originals // ORIGINALS_PER_UNEXPLAINED, floor)
    marks = {"recipe": near.at_least, "suggested": suggested}
    if held_out:
        marks["held_out"] = held_out.at_least
    grid = {v for v in COSINES if v >= floor} | {v for v in marks.values() if v is not None}
    findable = copies["rank"].notna() & copies["allowed_near"]
    rows = []
    for threshold in sorted(grid, reverse=True):
        is_recalled = np.asarray((copies["similarity"] >= np.float32(threshold)) & findable)
        linked = np.asarray(pairs["similarity"] >= np.float32(threshold))
        counts = _threshold_row(copies, pairs, "near", (is_recalled, linked), originals)
        rows.append({"at_least": threshold} | counts)
    return _with_suggestion("near", rows, marks, originals)


def perceptual_thresholds(
    copies: pd.DataFrame, pairs: pd.DataFrame, originals: int, recipe: Recipe
) -> dict[str, Any]:
    """Return the table of Hamming distances, the strictest first, and the suggestion.

    Args:
        copies: of `copies_table`.
        pairs: the rows of `pairs_table` that agree.
        originals: number of sampled images that have a hash.
        recipe: gives the threshold.
    """
    perceptual = recipe.dedup.perceptual
    assert perceptual is not None
    near = pairs[_is_within(pairs, MAX_HAMMING_DISTANCE)]
    unexplained = near[~is_explained(near, "perceptual")]
    nearest = np.sort(unexplained.groupby("original")["distance"].min().to_numpy(np.int64))
    suggested = largest_distance(
        nearest.tolist(), originals // ORIGINALS_PER_UNEXPLAINED, MAX_HAMMING_DISTANCE
    )
    marks = {"recipe": perceptual.max_distance, "suggested": suggested}
    grid = set(DISTANCES) | {v for v in marks.values() if v is not None}
    allowed = copies.assign(distance=copies["distance"].where(copies["allowed_perceptual"]))
    rows = []
    for threshold in sorted(grid):
        passed = (_is_within(allowed, threshold), _is_within(pairs, threshold))
        counts = _threshold_row(copies, pairs, "perceptual", passed, originals)
        rows.append({"max_distance": threshold} | counts)
    return _with_suggestion("perceptual", rows, marks, originals)


def _is_within(rows: pd.DataFrame, max_distance: float) -> Bools:
    """Return which rows have a distance of at most `max_distance`, (n,)."""
    return np.asarray((rows["distance"] <= max_distance).fillna(False), dtype=bool)


def lowest_cosine(strongest: list[float], allowed: int, floor: float) -> float | None:
    """Return the lowest threshold, in steps of 0.001, that at most `allowed` similarities reach.

    Args:
        strongest: similarities in falling order.
        allowed: how many of them may reach the threshold.
        floor: the lowest threshold to return.

    Returns:
        The threshold, or None where there is none up to 1.
    """
    if len(strongest) <= allowed:
        return floor
    thousandths = int(np.floor(strongest[allowed] * 1000)) + 1
    while np.float32(thousandths / 1000) <= np.float32(strongest[allowed]):
        thousandths += 1
    return None if thousandths > 1000 else max(thousandths / 1000, floor)


def largest_distance(nearest: list[int], allowed: int, maximum: int) -> int | None:
    """Return the largest threshold, up to `maximum`, that at most `allowed` distances reach.

    Args:
        nearest: distances in rising order.
        allowed: how many of them may be within the threshold.
        maximum: the largest threshold to return.

    Returns:
        The threshold, or None where there is none from 0 up.
    """
    if len(nearest) <= allowed:
        return maximum
    return nearest[allowed] - 1 if nearest[allowed] > 0 else None


def rate_upper_bound(events: int, trials: int) -> float:
    """Return the one-sided upper bound of a rate at CONFIDENCE (Clopper and Pearson 1934)."""
    if events >= trials:
        return 1.0
    return float(beta.ppf(CONFIDENCE, events + 1, trials - events))


def _threshold_row(
    copies: pd.DataFrame,
    pairs: pd.DataFrame,
    level: str,
    passed: tuple[Bools, Bools],
    originals: int,
) -> dict[str, Any]:
    """Return the recall by strength, and the counts of pairs, at one threshold.

    Args:
        copies: of `copies_table`.
        pairs: of `pairs_table`.
        level: the level of the threshold.
        passed: which copies and which pairs pass the threshold.
        originals: number of sampled images that the level can compare.
    """
    stored = copies["refused"].isna().to_numpy()
    is_recalled, is_linked = passed
    strength = copies["strength"].to_numpy()
    groups = {name: stored & (strength == name) for name in STRENGTHS} | {"all": stored}
    per_1000 = 1000 / originals if originals else 0.0
    linked = pairs[is_linked]
    unexplained = linked[~is_explained(linked, level)]["original"].nunique()
    return {
        "recall": {n: float(is_recalled[g].mean()) if g.any() else None for n, g in groups.items()},
        "pairs_per_1000": per_1000 * len(linked),
        "originals_linked_per_1000": per_1000 * linked["original"].nunique(),
        "unexplained_originals": int(unexplained),
        "unexplained_originals_per_1000": per_1000 * unexplained,
    }


def _with_suggestion(
    level: str,
    rows: list[dict[str, Any]],
    marks: Mapping[str, float | None],
    originals: int,
) -> dict[str, Any]:
    """Return the rows, each with the names of the marks at its threshold, and the suggestion."""
    (key,) = {"at_least", "max_distance"} & set(rows[0])
    for row in rows:
        row["marks"] = [name for name, threshold in marks.items() if threshold == row[key]]
    value = marks["suggested"]
    events = next((r["unexplained_originals"] for r in rows if "suggested" in r["marks"]), 0)
    bound = None if value is None else 1000 * rate_upper_bound(events, originals)
    return {
        "table": rows,
        "suggestion": {
            "value": value,
            "rule": RULES[level],
            "originals": originals,
            "allowed": originals // ORIGINALS_PER_UNEXPLAINED,
            "unexplained_originals": None if value is None else events,
            "at_most_per_1000": bound,
            "confidence": CONFIDENCE,
            "caution": CAUTION,
        },
    }


THRESHOLDS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, int, Recipe], dict[str, Any]]] = {
    "perceptual": perceptual_thresholds,
    "near": near_thresholds,
}
