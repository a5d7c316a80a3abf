"""The contact sheet of an audit: a seeded sample of linked pairs, for a person to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.inspect.audit.pool import Pool
from curation.inspect.report.album import Album, ImageRef, optional_float
from curation.store.digest import digest

MAX_PAIRS = 60
LINKED_BY = ("near alone", "perceptual alone", "both")
"""Pairs that only one level links come first: this is where copies and look-alikes differ."""


@dataclass(frozen=True)
class SheetPair:
    """Two pool images that a level links, with their cosine similarity and Hamming distance in bits."""

    left: ImageRef
    right: ImageRef
    similarity: float | None
    distance: int | None


@dataclass(frozen=True)
class SheetSection:
    """The pairs shown that `linked_by` links, the weakest first; `pairs` counts those not shown too."""

    linked_by: str
    pairs: int
    shown: list[SheetPair]


def choose_pairs(pairs: pd.DataFrame, pool: Pool, album: Album, seed: int) -> list[SheetSection]:
    """Choose up to MAX_PAIRS pairs, equally many from each entry of LINKED_BY as far as they last.

    Args:
        pairs: the rows of `pairs_table` that agree.
        pool: where the images are.
        album: gets the images to load.
        seed: of the audit.
    """
    linked = _linked_pairs(pairs, seed)
    if linked.empty:
        return []
    linked = linked.sort_values(["key", "low", "high"])
    linked["turn"] = linked.groupby("linked_by").cumcount()
    chosen = linked.sort_values(["turn", "linked_by"]).head(MAX_PAIRS)
    places = pool.locate({*chosen["image_id"], *chosen["other"]})
    counts = linked["linked_by"].value_counts()
    sections = []
    for linked_by in LINKED_BY:
        rows = _weakest_first(chosen[chosen["linked_by"] == linked_by], linked_by)
        shown = [_sheet_pair(row, places, album) for row in rows.to_dict("records")]
        if shown:
            sections.append(SheetSection(linked_by, int(counts[linked_by]), shown))
    return sections


def _linked_pairs(pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return each linked pair once, with what links it and a key for a seeded order."""
    linked = pairs[pairs["by_perceptual"] | pairs["by_near"]]
    # Two images that are both in the sample find each other.
    ids = np.sort(linked[["image_id", "other"]].to_numpy().astype("U32"), axis=1)
    linked = linked.assign(low=ids[:, 0], high=ids[:, 1]).drop_duplicates(["low", "high"])
    names = [digest([low, high]) for low, high in zip(linked["low"], linked["high"], strict=True)]
    alone = np.where(linked["by_near"], LINKED_BY[0], LINKED_BY[1])
    both = linked["by_near"] & linked["by_perceptual"]
    return linked.assign(
        linked_by=np.where(both, LINKED_BY[2], alone),
        key=seeded_keys(np.array(names, "S32"), seed, "audit sheet"),
    )


def _weakest_first(rows: pd.DataFrame, linked_by: str) -> pd.DataFrame:
    if linked_by == "perceptual alone":
        return rows.sort_values(["distance", "low", "high"], ascending=[False, True, True])
    return rows.sort_values(["similarity", "low", "high"])


def _sheet_pair(
    row: Mapping[Any, Any], places: Mapping[str, tuple[str, str, int]], album: Album
) -> SheetPair:
    return SheetPair(
        left=album.add(*places[row["image_id"]]),
        right=album.add(*places[row["other"]]),
        similarity=optional_float(row["similarity"]),
        distance=None if pd.isna(row["distance"]) else int(row["distance"]),
    )
