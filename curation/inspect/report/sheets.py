"""Contact sheets: what each arm retrieved, beside the seed images that retrieved it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.kmeans.levels import at_level, read_parents
from curation.engine.table import Table
from curation.inspect.lineage import Lineage
from curation.inspect.report.pictures import Album, Ref, strength
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm

CLAIM = ["arm", "image_id", "pair_id", "seed_image_id", "similarity", "rank", "cluster_id"]
GROUPS = {"seed": 6, "cluster": 4, "flat": 1}
MEMBERS = {"seed": 8, "cluster": 10, "flat": 16}
SEEDS_OF_A_CLUSTER = 4


@dataclass(frozen=True)
class Shown:
    """A picture with the similarity under it."""

    ref: Ref
    similarity: float | None = None


@dataclass(frozen=True)
class Strip:
    """Some pictures that one seed image or one cluster brought, of `claims` in all."""

    seeds: list[Shown]
    seed_images: int
    found: list[Shown]
    claims: int
    cluster_id: int | None = None


@dataclass(frozen=True)
class Sheet:
    """The strips of one arm; `groups` is how many there are, `shown_by` what they stand for."""

    arm: str
    strategy: str
    seed_set: str | None
    shown_by: str
    groups: int
    strips: list[Strip] = field(default_factory=list)


@dataclass
class _Picked:
    """Groups of one arm: a seeded few with their keys, and the claims of each that are shown."""

    kind: str
    seen: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    chosen: dict[int, str] = field(default_factory=dict)
    claims: dict[int, int] = field(default_factory=dict)
    members: pd.DataFrame = field(default_factory=pd.DataFrame)


def sheets(lineage: Lineage, arms: list[Arm], album: Album, seed: int) -> list[Sheet]:
    """Return a sheet an arm. Claims are read twice, a fragment at a time: to choose and to show."""
    claims = lineage["claims"]
    picked = {arm.name: _Picked(STRATEGIES[arm.strategy].grouped_by) for arm in arms}
    for _, own, arm in _by_arm(claims, ["arm", "seed_image_id", "cluster_id"]):
        _choose(picked[arm], own, (seed, "report", arm))
    for fragment, own, arm in _by_arm(claims, CLAIM):
        _collect(picked[arm], own.assign(fragment=fragment), (seed, "report", arm))
    seeds = _Seeds(lineage, arms, picked, seed)
    return [_sheet(arm, picked[arm.name], seeds, album) for arm in arms]


def _by_arm(claims: Table, columns: list[str]) -> Iterator[tuple[str, pd.DataFrame, str]]:
    for name, fragment in claims.fragments.items():
        rows = fragment.read(columns).to_pandas()
        # A column with nulls comes as floats.
        rows["cluster_id"] = rows["cluster_id"].fillna(-1).astype(int)
        for arm, own in rows.groupby("arm", sort=True):
            yield name, own, str(arm)


def _group_keys(own: pd.DataFrame, kind: str, salt: tuple[object, ...]) -> npt.NDArray[np.uint64]:
    """Return a number for the group of each claim, in a seeded order."""
    if kind == "seed":
        return seeded_keys(own["seed_image_id"].to_numpy().astype("S32"), *salt)
    if kind == "cluster":
        return seeded_keys(_cluster_names(own["cluster_id"].to_numpy()), *salt)
    return np.zeros(len(own), dtype=np.uint64)


def _cluster_names(numbers: npt.NDArray[Any]) -> npt.NDArray[np.bytes_]:
    """Return cluster numbers in the form of image ids."""
    return np.array([f"{int(n):016x}".ljust(32, "0") for n in numbers], dtype="S32")


def _choose(picked: _Picked, own: pd.DataFrame, salt: tuple[object, ...]) -> None:
    keys, first, counts = np.unique(
        _group_keys(own, picked.kind, salt), return_index=True, return_counts=True
    )
    picked.seen.append(keys)
    few = GROUPS[picked.kind]
    column = {"seed": "seed_image_id", "cluster": "cluster_id"}.get(picked.kind, "arm")
    for key, row, rows in zip(*(v[:few].tolist() for v in (keys, first, counts)), strict=True):
        picked.chosen[key] = str(own[column].iloc[row])
        picked.claims[key] = picked.claims.get(key, 0) + rows
    kept = sorted(picked.chosen)[: GROUPS[picked.kind]]
    # A group with a larger key cannot come back, so the counts of those kept are whole.
    picked.chosen = {key: picked.chosen[key] for key in kept}
    picked.claims = {key: picked.claims[key] for key in kept}


def _collect(picked: _Picked, own: pd.DataFrame, salt: tuple[object, ...]) -> None:
    own = own.assign(group=_group_keys(own, picked.kind, salt))
    own = own[own["group"].isin(list(picked.chosen))]
    own = own.assign(order=seeded_keys(own["image_id"].to_numpy().astype("S32"), *salt))
    if picked.kind == "seed":
        own["order"] = own["rank"]
    both = pd.concat([picked.members, own], ignore_index=True) if len(picked.members) else own
    both = both.sort_values(["group", "order", "image_id"])
    picked.members = both.groupby("group").head(MEMBERS[picked.kind])


_Place: TypeAlias = tuple[str, int, int]
"""A seed set, a level and a cluster of it."""


def _level(arm: Arm) -> int:
    return int(getattr(arm, "level", 0))


class _Seeds:
    """Where the seed images to be shown are: by (set, image), or by (set, level, cluster)."""

    def __init__(
        self, lineage: Lineage, arms: list[Arm], picked: Mapping[str, _Picked], seed: int
    ) -> None:
        self.by_image: dict[tuple[str, str], tuple[str, str]] = {}
        self.by_cluster: dict[_Place, list[tuple[int, str, str]]] = {}
        self.in_cluster: dict[_Place, int] = {}
        self._seed = seed
        self._parents = read_parents(lineage["centroids"])
        self._images: dict[str, set[str]] = {}
        self._clusters: dict[tuple[str, int], set[int]] = {}
        for arm in arms:
            chosen = picked[arm.name].chosen.values()
            if picked[arm.name].kind == "seed":
                self._images.setdefault(str(arm.seeds), set()).update(chosen)
            elif picked[arm.name].kind == "cluster":
                place = (str(arm.seeds), _level(arm))
                self._clusters.setdefault(place, set()).update(int(c) for c in chosen)
        clusters = lineage["assignments"].fragments
        for name, fragment in lineage["eligible"].fragments.items():
            if "seed" not in fragment.record.counts:
                continue
            rows = fragment.read(["pair_id", "image_id", "source", "status"])
            rows = rows.append_column(
                "cluster_id", pc.fill_null(clusters[name].read(["cluster_id"])["cluster_id"], -1)
            )
            rows = rows.filter(pc.equal(rows.column("status"), "eligible"))
            self._note(name, rows.to_pandas())

    def _note(self, fragment: str, rows: pd.DataFrame) -> None:
        for source, own in rows.groupby("source"):
            images = own[own["image_id"].isin(self._images.get(str(source), set()))]
            for row in images.to_dict("records"):
                place = (fragment, str(row["pair_id"]))
                self.by_image.setdefault((str(source), str(row["image_id"])), place)
            for (seeds, level), wanted in self._clusters.items():
                if seeds != source:
                    continue
                clusters = at_level(level, own["cluster_id"].to_numpy(np.int32), self._parents)
                at = own.assign(cluster_id=clusters)
                for cluster, found in at[at["cluster_id"].isin(wanted)].groupby("cluster_id"):
                    self._note_cluster(fragment, (seeds, level, int(str(cluster))), found)

    def _note_cluster(self, fragment: str, key: _Place, rows: pd.DataFrame) -> None:
        rows = rows.drop_duplicates("image_id")
        order = seeded_keys(rows["image_id"].to_numpy().astype("S32"), self._seed, "report")
        places = zip(order.tolist(), [fragment] * len(rows), rows["pair_id"], strict=True)
        nearest = sorted([*self.by_cluster.get(key, []), *places])
        self.by_cluster[key] = nearest[:SEEDS_OF_A_CLUSTER]
        self.in_cluster[key] = self.in_cluster.get(key, 0) + len(rows)


def _sheet(arm: Arm, picked: _Picked, seeds: _Seeds, album: Album) -> Sheet:
    strips = [_strip(arm, picked, key, seeds, album) for key in sorted(picked.chosen)]
    groups = len(np.unique(np.concatenate(picked.seen))) if picked.seen else 0
    return Sheet(arm.name, arm.strategy, arm.seeds, picked.kind, groups, strips)


def _strip(arm: Arm, picked: _Picked, key: int, seeds: _Seeds, album: Album) -> Strip:
    own = picked.members[picked.members["group"] == key]
    found = [
        Shown(album.ask_row(row), strength(row["similarity"])) for row in own.to_dict("records")
    ]
    name = picked.chosen[key]
    if picked.kind == "seed":
        place = seeds.by_image.get((str(arm.seeds), name))
        shown = [Shown(album.ask(*place))] if place else []
        return Strip(shown, len(shown), found, picked.claims[key])
    if picked.kind == "cluster":
        where = (str(arm.seeds), _level(arm), int(name))
        shown = [Shown(album.ask(f, p)) for _, f, p in seeds.by_cluster.get(where, [])]
        inside = seeds.in_cluster.get(where, 0)
        return Strip(shown, inside, found, picked.claims[key], int(name))
    return Strip([], 0, found, picked.claims[key])
