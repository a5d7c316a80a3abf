"""Detected copies: groups of them, the weakest pairs, and what copies a held-out image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.engine.table import Table
from curation.inspect.report.album import Album, ImageRef, optional_float
from curation.inspect.report.key_counts import KeyCounts

Keys = npt.NDArray[np.uint64]
COPY_COLUMNS = [
    "pair_id",
    "image_id",
    "role",
    "representative_id",
    "method",
    "similarity",
    "evidence_id",
]
CONTAMINATION_COLUMNS = [
    "contaminated_by",
    "contaminated_set",
    "contamination_method",
    "contamination_similarity",
]
COPY_PAIR = ("evidence_id", "method", "similarity")
CONTAMINATION_PAIR = ("contaminated_by", "contamination_method", "contamination_similarity")
Places = dict[tuple[bool, str], tuple[str, str]]
"""Fragment and pair_id by (whether the role is held-out, image_id)."""
METHODS_WITH_THRESHOLD = ("perceptual", "near", "semantic")
WEAKEST_PAIRS = 10
LARGEST_GROUPS = 4
OTHER_GROUPS = 8
LARGEST_SIZES = 5
COPIES_PER_GROUP = 8
CONTAMINATION_ENDS = 5
"""How many of the weakest and how many of the strongest contaminated pairs are shown."""


@dataclass(frozen=True)
class CopyPair:
    """Two images that a method takes for copies."""

    left: ImageRef
    right: ImageRef
    method: str
    similarity: float


@dataclass(frozen=True)
class GroupMember:
    """A copy within its group, with its strongest pair."""

    ref: ImageRef
    method: str
    similarity: float | None


@dataclass(frozen=True)
class CopyGroup:
    """A representative and some of its copies; `rows` counts all rows of the group."""

    representative: ImageRef
    copies: list[GroupMember]
    rows: int


@dataclass(frozen=True)
class CopySummary:
    """What the report shows of copies.

    Attributes:
        groups: number of groups of copies in the pool.
        rows: copies in the pool, without the representatives.
        largest: rows of the largest groups, with their representatives.
        examples: the groups to show.
        weakest: the weakest pairs of each method.
        contaminations: pairs of a held-out image (left) and its copy (right), by held-out set and role
            of the copy.
        contamination_counts: rows by held-out set, role and method.
    """

    groups: int = 0
    rows: int = 0
    largest: list[int] = field(default_factory=list)
    examples: list[CopyGroup] = field(default_factory=list)
    weakest: dict[str, list[CopyPair]] = field(default_factory=dict)
    contaminations: dict[tuple[str, str], list[CopyPair]] = field(default_factory=dict)
    contamination_counts: dict[tuple[str, str, str], int] = field(default_factory=dict)


@dataclass
class _FirstPass:
    """What a first pass over the table collects: sizes of groups, and the few rows to show."""

    sizes: KeyCounts
    weakest: dict[str, pd.DataFrame] = field(default_factory=dict)
    contaminations: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)


def summarise_copies(copies: Table, album: Album, seed: int) -> CopySummary:
    """Choose what to show of the copies. The table is read twice, a fragment at a time."""
    with KeyCounts() as sizes:
        first = _FirstPass(sizes)
        for rows in _read_fragments(copies):
            _add_copies(first, rows, seed)
            _add_contaminations(first, rows)
        groups = choose_groups(sizes)
    chosen = np.array(list(groups.shown), np.uint64)
    places, members = _collect(copies, _other_ends(first), chosen, seed)
    return CopySummary(
        groups=groups.count,
        rows=groups.copies,
        largest=[size + 1 for size in groups.largest],
        examples=[
            _group(members[members["group"] == key], size + 1, album)
            for key, size in groups.shown.items()
        ],
        weakest={
            method: _pairs(rows, places, album, held_out=False)
            for method, rows in sorted(first.weakest.items())
        },
        contaminations={
            key: _pairs(rows, places, album, held_out=True)
            for key, rows in sorted(first.contaminations.items())
        },
        contamination_counts=dict(sorted(first.counts.items())),
    )


@dataclass(frozen=True)
class ChosenGroups:
    """Groups of copies: how many there are, and which are shown.

    Attributes:
        count: number of groups.
        copies: number of copies in all of them.
        largest: copies in each of the largest groups.
        shown: copies in each group that is shown, by its key: the largest, then others in the order of
            their keys.
    """

    count: int
    copies: int
    largest: list[int]
    shown: dict[int, int]


def choose_groups(sizes: KeyCounts) -> ChosenGroups:
    """Choose the largest groups, and the first others by their keys."""
    count = copies = 0
    largest: list[tuple[int, int]] = []
    first: dict[int, int] = {}
    for keys, counts in sizes.counts():
        count, copies = count + len(keys), copies + int(counts.sum())
        top = np.lexsort((keys, -counts))[: max(LARGEST_GROUPS, LARGEST_SIZES)]
        largest += zip((-counts[top]).tolist(), keys[top].tolist(), strict=True)
        largest = sorted(largest)[: max(LARGEST_GROUPS, LARGEST_SIZES)]
        # Some of them may be among the largest.
        missing = LARGEST_GROUPS + OTHER_GROUPS - len(first)
        first |= zip(keys[:missing].tolist(), counts[:missing].tolist(), strict=True)
    shown = {key: -size for size, key in largest[:LARGEST_GROUPS]}
    others = {key: size for key, size in first.items() if key not in shown}
    shown |= list(others.items())[:OTHER_GROUPS]
    return ChosenGroups(count, copies, [-size for size, _ in largest[:LARGEST_SIZES]], shown)


def _read_fragments(copies: Table) -> Iterator[pd.DataFrame]:
    for name, fragment in copies.fragments.items():
        rows = fragment.read([*COPY_COLUMNS, *CONTAMINATION_COLUMNS]).to_pandas()
        yield rows.assign(fragment=name)


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame(columns=[*COPY_COLUMNS, *CONTAMINATION_COLUMNS, "fragment"])


def _group_keys(rows: pd.DataFrame, seed: int) -> Keys:
    """Return the key of the group of each row, (n,), in a seeded order.

    A component has two representatives if some of its images copy a held-out image and others stay.
    """
    return seeded_keys(rows["representative_id"].to_numpy().astype("S32"), seed, "report")


def _add_copies(first: _FirstPass, rows: pd.DataFrame, seed: int) -> None:
    pool = rows[(rows["role"] == "pool") & (rows["method"] != "representative")]
    first.sizes.add(_group_keys(pool, seed))
    for method in METHODS_WITH_THRESHOLD:
        of_method = pool[pool["method"] == method]
        if not of_method.empty:
            merged = pd.concat([*_earlier(first.weakest, method), of_method])
            # The two images of a pair often name each other.
            ids = np.sort(merged[["image_id", "evidence_id"]].to_numpy().astype("U32"), axis=1)
            merged = merged.assign(low=ids[:, 0], high=ids[:, 1])
            merged = merged.sort_values(["similarity", "image_id"]).drop_duplicates(["low", "high"])
            first.weakest[method] = merged.head(WEAKEST_PAIRS)


def _earlier(rows_by_key: Mapping[Any, pd.DataFrame], key: object) -> list[pd.DataFrame]:
    return [rows_by_key[key]] if key in rows_by_key else []


def _add_contaminations(first: _FirstPass, rows: pd.DataFrame) -> None:
    contaminated = rows[rows["contaminated_by"].notna()]
    columns = [contaminated[c] for c in ("contaminated_set", "role", "contamination_method")]
    first.counts.update(zip(*columns, strict=True))
    for (held_out, role), group in contaminated.groupby(["contaminated_set", "role"]):
        key = (str(held_out), str(role))
        merged = pd.concat([*_earlier(first.contaminations, key), group])
        merged = merged.sort_values(["contamination_similarity", "image_id"])
        merged = merged.drop_duplicates(["image_id", "contaminated_by"])
        # The weakest pairs show where a threshold errs, the strongest what it is meant for.
        weakest = merged.head(CONTAMINATION_ENDS)
        strongest = merged.iloc[CONTAMINATION_ENDS:].tail(CONTAMINATION_ENDS)
        first.contaminations[key] = pd.concat([weakest, strongest])


def _other_ends(first: _FirstPass) -> set[Any]:
    """Return the ids of the images at the other end of the pairs to show."""
    weakest = pd.concat(first.weakest.values()) if first.weakest else _no_rows()
    contaminations = (
        pd.concat(first.contaminations.values()) if first.contaminations else _no_rows()
    )
    return {*weakest["evidence_id"], *contaminations["contaminated_by"]}


def _collect(
    copies: Table, image_ids: set[Any], chosen: Keys, seed: int
) -> tuple[Places, pd.DataFrame]:
    """Return the places of some images, and the rows of the chosen groups that are shown."""
    places: Places = {}
    members = _no_rows().assign(group=np.empty(0, np.uint64), order=np.empty(0))
    for rows in _read_fragments(copies):
        for row in rows[rows["image_id"].isin(image_ids)].to_dict("records"):
            key = (row["role"] == "held_out", str(row["image_id"]))
            places.setdefault(key, (str(row["fragment"]), str(row["pair_id"])))
        pool = rows[rows["role"] == "pool"]
        pool = pool.assign(group=_group_keys(pool, seed))
        pool = pool[pool["group"].isin(chosen)]
        if not pool.empty:
            members = _add_members(members, pool)
    return places, members


def _add_members(members: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Add rows to the members of groups, up to the representative and COPIES_PER_GROUP copies each."""
    # The representative comes first, then weak pairs, which tell more than files with the same bytes.
    is_copy = rows["method"] != "representative"
    rows = rows.assign(order=is_copy + rows["similarity"].fillna(0))
    rows.loc[~is_copy, "order"] = -1.0
    merged = pd.concat([members, rows]) if len(members) else rows
    merged = merged.sort_values(["group", "order", "image_id", "pair_id"])
    return merged.groupby("group").head(COPIES_PER_GROUP + 1)


def _group(rows: pd.DataFrame, size: int, album: Album) -> CopyGroup:
    members = [
        GroupMember(album.add_row(row), str(row["method"]), optional_float(row["similarity"]))
        for row in rows.to_dict("records")
    ]
    return CopyGroup(members[0].ref, members[1:], size)


def _pairs(rows: pd.DataFrame, places: Places, album: Album, held_out: bool) -> list[CopyPair]:
    other_end, method, similarity = CONTAMINATION_PAIR if held_out else COPY_PAIR
    pairs = []
    for row in rows.to_dict("records"):
        place = places.get((held_out, str(row[other_end])))
        if place:
            left, right = album.add(*place), album.add_row(row)
            pairs.append(CopyPair(left, right, str(row[method]), float(row[similarity])))
    return pairs
