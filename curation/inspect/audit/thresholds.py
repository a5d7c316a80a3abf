"""What other thresholds would find and tie, and which one the sample speaks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from curation.algorithms.arrays.vectors import Bools
from curation.algorithms.knn.params import MAX_HAMMING_DISTANCE
from curation.inspect.audit.edits import STRENGTHS
from curation.inspect.audit.evaluate import explained
from curation.recipe import Recipe

COSINES = (
    *(n / 100 for n in range(-100, 90, 5)),
    *(n / 100 for n in range(90, 98)),
    *(0.98, 0.985, 0.99, 0.995, 0.999),
)
BITS = (*range(0, MAX_HAMMING_DISTANCE, 4), MAX_HAMMING_DISTANCE)
ONE_IN = 1000
"""At most one original in so many may get a tie that nothing else explains."""
CONFIDENCE = 0.95
RULES = {
    "near": (
        "the lowest cosine at which at most 1 in 1,000 sampled originals is tied to another pool "
        "picture that equal pixels and perceptual hashes do not already put into its component"
    ),
    "perceptual": (
        "the largest distance at which at most 1 in 1,000 sampled originals is tied to another pool "
        "picture that is not in its component already, by the recipe's own distance or near vectors; "
        "so it is never below the recipe's"
    ),
}
CAUTION = (
    "A tie may be a true copy or a false alarm, and only a person can tell: look at the contact sheet "
    "before moving a threshold."
)


def near_thresholds(
    copies: pd.DataFrame, pairs: pd.DataFrame, originals: int, recipe: Recipe
) -> dict[str, Any]:
    """Return the table of cosines, the strictest first, and the suggestion.

    Args:
        copies: of `copies_table`.
        pairs: of `pairs_table`, those that agree.
        originals: sampled images that have a vector.
        recipe: gives floor and thresholds.
    """
    near, held_out, verify = recipe.dedup.near, recipe.dedup.held_out, recipe.dedup.verify
    assert near is not None
    floor = max(near.floor, verify.floor) if verify else near.floor
    unexplained = pairs[~explained(pairs, "near") & pairs["similarity"].notna()]
    strongest = np.sort(unexplained.groupby("original")["similarity"].max().to_numpy())[::-1]
    value = lowest_cosine(strongest.tolist(), originals // ONE_IN, floor)
    marks = {"recipe": near.at_least, "suggested": value}
    if held_out:
        marks["held_out"] = held_out.at_least
    grid = {v for v in COSINES if v >= floor} | {v for v in marks.values() if v is not None}

    def ties(at: float) -> Bools:
        return np.asarray(pairs["similarity"] >= np.float32(at))

    def hits(at: float) -> Bools:
        close = copies["similarity"] >= np.float32(at)
        return np.asarray(close & copies["rank"].notna() & copies["allowed_near"])

    rows = [
        {"at_least": at} | _row(copies, pairs, "near", (hits(at), ties(at)), originals)
        for at in sorted(grid, reverse=True)
    ]
    return _told("near", rows, marks, originals)


def perceptual_thresholds(
    copies: pd.DataFrame, pairs: pd.DataFrame, originals: int, recipe: Recipe
) -> dict[str, Any]:
    """Return the table of Hamming distances, the strictest first, and the suggestion.

    Args:
        copies: of `copies_table`.
        pairs: of `pairs_table`, those that agree.
        originals: sampled images that have a hash.
        recipe: gives the threshold.
    """
    perceptual = recipe.dedup.perceptual
    assert perceptual is not None
    close = pairs[(pairs["distance"] <= MAX_HAMMING_DISTANCE).fillna(False).astype(bool)]
    unexplained = close[~explained(close, "perceptual")]
    nearest = np.sort(unexplained.groupby("original")["distance"].min().to_numpy(np.int64))
    value = largest_distance(nearest.tolist(), originals // ONE_IN, MAX_HAMMING_DISTANCE)
    marks = {"recipe": perceptual.max_distance, "suggested": value}
    grid = set(BITS) | {v for v in marks.values() if v is not None}
    found = copies.assign(distance=copies["distance"].where(copies["allowed_perceptual"]))

    def within(rows: pd.DataFrame, at: float) -> Bools:
        return np.asarray((rows["distance"] <= at).fillna(False), dtype=bool)

    rows = [
        {"max_distance": at}
        | _row(copies, pairs, "perceptual", (within(found, at), within(pairs, at)), originals)
        for at in sorted(grid)
    ]
    return _told("perceptual", rows, marks, originals)


def lowest_cosine(strongest: list[float], allowed: int, floor: float) -> float | None:
    """Return the lowest threshold, in thousandths, that all but `allowed` of the falling similarities
    stay below; None where there is none up to 1."""
    if len(strongest) <= allowed:
        return floor
    thousandths = int(np.floor(strongest[allowed] * 1000)) + 1
    while np.float32(thousandths / 1000) <= np.float32(strongest[allowed]):
        thousandths += 1
    return None if thousandths > 1000 else max(thousandths / 1000, floor)


def largest_distance(nearest: list[int], allowed: int, most: int) -> int | None:
    """Return the largest distance, up to `most`, that all but `allowed` of the rising ones lie beyond;
    None where there is none from 0 on."""
    if len(nearest) <= allowed:
        return most
    return nearest[allowed] - 1 if nearest[allowed] > 0 else None


def at_most(seen: int, originals: int) -> float:
    """Return the rate below which the true one is with CONFIDENCE (Clopper and Pearson, one-sided)."""
    if seen >= originals:
        return 1.0
    return float(beta.ppf(CONFIDENCE, seen + 1, originals - seen))


def _row(
    copies: pd.DataFrame,
    pairs: pd.DataFrame,
    level: str,
    passed: tuple[Bools, Bools],
    originals: int,
) -> dict[str, Any]:
    """Return recall by strength of the copies that pass, and what of the pairs does."""
    planted = copies["refused"].isna().to_numpy()
    hits, ties = passed
    names = copies["strength"].to_numpy()
    groups = {name: planted & (names == name) for name in STRENGTHS} | {"all": planted}
    per = 1000 / originals if originals else 0.0
    tied = pairs[ties]
    unexplained = tied[~explained(tied, level)]
    return {
        "recall": {n: float(hits[g].mean()) if g.any() else None for n, g in groups.items()},
        "ties_per_1000": per * len(tied),
        "originals_tied_per_1000": per * tied["original"].nunique(),
        "unexplained_originals": int(unexplained["original"].nunique()),
        "unexplained_originals_per_1000": per * unexplained["original"].nunique(),
    }


def _told(
    level: str,
    rows: list[dict[str, Any]],
    marks: Mapping[str, float | None],
    originals: int,
) -> dict[str, Any]:
    (key,) = {"at_least", "max_distance"} & set(rows[0])
    for row in rows:
        row["marks"] = [name for name, value in marks.items() if value == row[key]]
    suggested = marks["suggested"]
    seen = next((r["unexplained_originals"] for r in rows if "suggested" in r["marks"]), 0)
    return {
        "table": rows,
        "suggestion": {
            "value": suggested,
            "rule": RULES[level],
            "originals": originals,
            "allowed": originals // ONE_IN,
            "unexplained_originals": None if suggested is None else seen,
            "at_most_per_1000": None if suggested is None else 1000 * at_most(seen, originals),
            "confidence": CONFIDENCE,
            "caution": CAUTION,
        },
    }


THRESHOLDS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, int, Recipe], dict[str, Any]]] = {
    "perceptual": perceptual_thresholds,
    "near": near_thresholds,
}
