"""Copies found: groups of them, the weakest ties, and what copies a held-out picture."""

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
from curation.inspect.report.pictures import Album, Ref, strength

Keys = npt.NDArray[np.uint64]
COLUMNS = ["pair_id", "image_id", "role", "component_id", "method", "similarity", "evidence_id"]
HELD = ["contaminated_by", "contaminated_set", "contamination_method", "contamination_similarity"]
TIE = ("evidence_id", "method", "similarity")
LEAK = ("contaminated_by", "contamination_method", "contamination_similarity")
Places = dict[tuple[bool, str], tuple[str, str]]
JOINED = ("perceptual", "near", "semantic")
WEAKEST = 10
LARGEST = 4
OTHERS = 8
SIZES = 5
MEMBERS = 8
LEAKS = 5


@dataclass(frozen=True)
class Tie:
    """Two pictures that a method says are copies."""

    left: Ref
    right: Ref
    method: str
    similarity: float


@dataclass(frozen=True)
class Member:
    """A copy within its group, with its strongest tie."""

    ref: Ref
    method: str
    similarity: float | None


@dataclass(frozen=True)
class Group:
    """A representative with some of its copies; `rows` counts all of them."""

    representative: Ref
    copies: list[Member]
    rows: int


@dataclass(frozen=True)
class Copies:
    """What the section shows.

    `rows` counts copies, representatives aside; `largest` counts both. `leaks` are ties of held-out
    pictures (left) to others (right), by held-out set and role; `leak_counts` counts rows by set,
    role and method.
    """

    groups: int = 0
    rows: int = 0
    largest: list[int] = field(default_factory=list)
    examples: list[Group] = field(default_factory=list)
    weakest: dict[str, list[Tie]] = field(default_factory=dict)
    leaks: dict[tuple[str, str], list[Tie]] = field(default_factory=dict)
    leak_counts: dict[tuple[str, str, str], int] = field(default_factory=dict)


@dataclass
class _Found:
    """What a first pass over the table keeps: keys of groups, and the few rows to show."""

    keys: list[Keys] = field(default_factory=list)
    weakest: dict[str, pd.DataFrame] = field(default_factory=dict)
    leaks: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)


def copies_of(copies: Table, album: Album, seed: int) -> Copies:
    """Choose what to show of the copies. The table is read twice, a fragment at a time."""
    found = _Found()
    for rows in _walk(copies):
        _note_copies(found, rows, seed)
        _note_leaks(found, rows)
    joined = np.concatenate(found.keys) if found.keys else np.empty(0, np.uint64)
    groups, sizes = np.unique(joined, return_counts=True)
    by_size = np.lexsort((groups, -sizes))
    chosen = groups[np.concatenate([by_size[:LARGEST], np.sort(by_size[LARGEST:])[:OTHERS]])]
    weak = pd.concat(found.weakest.values()) if found.weakest else _nothing()
    leaks = pd.concat(found.leaks.values()) if found.leaks else _nothing()
    wanted = {*weak["evidence_id"], *leaks["contaminated_by"]}
    places, members = _collect(copies, wanted, chosen, seed)
    counts = dict(zip(groups.tolist(), sizes.tolist(), strict=True))
    return Copies(
        groups=len(groups),
        rows=len(joined),
        largest=(sizes[by_size[:SIZES]] + 1).tolist(),
        examples=[
            _group(members[members["group"] == key], counts[int(key)] + 1, album) for key in chosen
        ],
        weakest={m: _ties(own, places, album, False) for m, own in sorted(found.weakest.items())},
        leaks={s: _ties(own, places, album, True) for s, own in sorted(found.leaks.items())},
        leak_counts=dict(sorted(found.counts.items())),
    )


def _walk(copies: Table) -> Iterator[pd.DataFrame]:
    for name, fragment in copies.fragments.items():
        yield fragment.read([*COLUMNS, *HELD]).to_pandas().assign(fragment=name)


def _nothing() -> pd.DataFrame:
    return pd.DataFrame(columns=[*COLUMNS, *HELD, "fragment"])


def _keys(rows: pd.DataFrame, seed: int) -> Keys:
    """Return a number for the group of each row, in a seeded order."""
    return seeded_keys(rows["component_id"].to_numpy().astype("S32"), seed, "report")


def _note_copies(found: _Found, rows: pd.DataFrame, seed: int) -> None:
    pool = rows[(rows["role"] == "pool") & (rows["method"] != "representative")]
    found.keys.append(_keys(pool, seed))
    for method in JOINED:
        own = pool[pool["method"] == method]
        if not own.empty:
            both = pd.concat([*_part(found.weakest, method), own])
            # The two ends of a tie often name each other.
            ends = np.sort(both[["image_id", "evidence_id"]].to_numpy().astype("U32"), axis=1)
            both = both.assign(low=ends[:, 0], high=ends[:, 1])
            both = both.sort_values(["similarity", "image_id"]).drop_duplicates(["low", "high"])
            found.weakest[method] = both.head(WEAKEST)


def _part(parts: Mapping[Any, pd.DataFrame], name: object) -> list[pd.DataFrame]:
    return [parts[name]] if name in parts else []


def _note_leaks(found: _Found, rows: pd.DataFrame) -> None:
    leaked = rows[rows["contaminated_by"].notna()]
    names = [leaked[c] for c in ("contaminated_set", "role", "contamination_method")]
    found.counts.update(zip(*names, strict=True))
    for (held_out, role), own in leaked.groupby(["contaminated_set", "role"]):
        place = (str(held_out), str(role))
        both = pd.concat([*_part(found.leaks, place), own])
        both = both.sort_values(["contamination_similarity", "image_id"])
        both = both.drop_duplicates(["image_id", "contaminated_by"])
        # The weakest are where a threshold errs, the strongest show what it is meant for.
        ends = pd.concat([both.head(LEAKS), both.iloc[LEAKS:].tail(LEAKS)])
        found.leaks[place] = ends


def _collect(
    copies: Table, wanted: set[Any], chosen: Keys, seed: int
) -> tuple[Places, pd.DataFrame]:
    """Return where wanted pictures are, by (held out, image_id), and the rows of the chosen groups."""
    places: Places = {}
    members = _nothing().assign(group=np.empty(0, np.uint64), order=np.empty(0))
    for rows in _walk(copies):
        for row in rows[rows["image_id"].isin(wanted)].to_dict("records"):
            key = (row["role"] == "held_out", str(row["image_id"]))
            places.setdefault(key, (str(row["fragment"]), str(row["pair_id"])))
        pool = rows[rows["role"] == "pool"]
        pool = pool.assign(group=_keys(pool, seed))
        pool = pool[pool["group"].isin(chosen)]
        if pool.empty:
            continue
        # The representative first, then what says most: the weakest ties before the same bytes.
        first = pool["method"] != "representative"
        pool = pool.assign(order=first + pool["similarity"].fillna(0))
        pool.loc[~first, "order"] = -1.0
        both = pd.concat([members, pool]) if len(members) else pool
        both = both.sort_values(["group", "order", "image_id", "pair_id"])
        members = both.groupby("group").head(MEMBERS + 1)
    return places, members


def _group(own: pd.DataFrame, rows: int, album: Album) -> Group:
    members = [
        Member(album.ask_row(row), str(row["method"]), strength(row["similarity"]))
        for row in own.to_dict("records")
    ]
    return Group(members[0].ref, members[1:], rows)


def _ties(own: pd.DataFrame, places: Places, album: Album, held_out: bool) -> list[Tie]:
    end, method, similarity = LEAK if held_out else TIE
    ties = []
    for row in own.to_dict("records"):
        other = places.get((held_out, str(row[end])))
        if other:
            left, right = album.ask(*other), album.ask_row(row)
            ties.append(Tie(left, right, str(row[method]), float(row[similarity])))
    return ties
