"""The contact sheet: a seeded few of the pairs of originals and others, for a person to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.engine.digest import digest
from curation.inspect.audit.pool import Pool
from curation.inspect.report.pictures import Album, Ref, strength

PAIRS = 60
TIED_BY = ("near alone", "perceptual alone", "both")
"""What only one level ties comes first: there copies and look-alikes part."""


@dataclass(frozen=True)
class Pair:
    """Two pool pictures that a level ties; distance in bits of 256."""

    left: Ref
    right: Ref
    similarity: float | None
    distance: int | None


@dataclass(frozen=True)
class Strip:
    """The pairs shown of those that `tied_by` ties, the weakest first; `pairs` counts all of them."""

    tied_by: str
    pairs: int
    shown: list[Pair]


def strips_of(pairs: pd.DataFrame, pool: Pool, album: Album, seed: int) -> list[Strip]:
    """Choose up to PAIRS pairs, as many of each kind as there are of the others while they last."""
    tied = _tied(pairs, seed)
    if tied.empty:
        return []
    tied = tied.sort_values(["key", "low", "high"])
    tied["turn"] = tied.groupby("tied_by").cumcount()
    chosen = tied.sort_values(["turn", "tied_by"]).head(PAIRS)
    places = pool.places({*chosen["image_id"], *chosen["other"]})
    counts = tied["tied_by"].value_counts()
    strips = []
    for kind in TIED_BY:
        own = chosen[chosen["tied_by"] == kind]
        weakest = {"distance": False} if kind == "perceptual alone" else {"similarity": True}
        own = own.sort_values([*weakest, "low", "high"], ascending=[*weakest.values(), True, True])
        shown = [
            Pair(
                left=album.ask(*places[row["image_id"]]),
                right=album.ask(*places[row["other"]]),
                similarity=strength(row["similarity"]),
                distance=None if pd.isna(row["distance"]) else int(row["distance"]),
            )
            for row in own.to_dict("records")
        ]
        if shown:
            strips.append(Strip(kind, int(counts[kind]), shown))
    return strips


def _tied(pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the tied pairs, each once, with what ties them and a place in a seeded order."""
    tied = pairs[pairs["by_perceptual"] | pairs["by_near"]]
    # Two pictures that are both in the sample find each other.
    ends = np.sort(tied[["image_id", "other"]].to_numpy().astype("U32"), axis=1)
    tied = tied.assign(low=ends[:, 0], high=ends[:, 1]).drop_duplicates(["low", "high"])
    names = [digest([low, high]) for low, high in zip(tied["low"], tied["high"], strict=True)]
    alone = np.where(tied["by_near"], TIED_BY[0], TIED_BY[1])
    both = tied["by_near"] & tied["by_perceptual"]
    return tied.assign(
        tied_by=np.where(both, TIED_BY[2], alone),
        key=seeded_keys(np.array(names, "S32"), seed, "audit sheet"),
    )
