"""Contact sheets: what each arm retrieved, next to the seed images that it was retrieved for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from curation.inspect.report.album import Album, ImageRef, optional_float
from curation.inspect.report.key_counts import KeyCounts
from curation.stages.retrieve.strategies import STRATEGIES, GroupedBy
from curation.stages.retrieve.strategies.arm import Arm

CLAIM_COLUMNS = ["arm", "image_id", "pair_id", "seed_image_id", "similarity", "rank", "cluster_id"]
GROUPS_SHOWN = {"seed": 6, "cluster": 4, "flat": 1}
CLAIMS_SHOWN = {"seed": 8, "cluster": 10, "flat": 16}
SEEDS_PER_CLUSTER = 4


@dataclass(frozen=True)
class SheetImage:
    """An image of a contact sheet, with its similarity where it has one."""

    ref: ImageRef
    similarity: float | None = None


@dataclass(frozen=True)
class ClaimGroup:
    """Claims of one seed image, one cluster, or a whole arm.

    Attributes:
        seeds: seed images to show beside them.
        seed_images: number of seed images, with those not shown.
        images: claimed images to show.
        claims: number of claims, with those not shown.
        cluster_id: the cluster that the claims come from, for an arm grouped by clusters.
    """

    seeds: list[SheetImage]
    seed_images: int
    images: list[SheetImage]
    claims: int
    cluster_id: int | None = None


@dataclass(frozen=True)
class ContactSheet:
    """The claims of one arm; `total_groups` counts the groups that are not shown too."""

    arm: str
    strategy: str
    seed_set: str | None
    grouped_by: GroupedBy
    total_groups: int
    groups: list[ClaimGroup] = field(default_factory=list)


@dataclass
class _Selection:
    """The groups of one arm that are shown.

    Attributes:
        grouped_by: what the claims of the arm are grouped by.
        keys: keys of all groups.
        chosen: the seed image, cluster or arm of each group that is shown, by key.
        claims: number of claims of each group that is shown, by key.
        rows: the claims that are shown.
    """

    grouped_by: GroupedBy
    keys: KeyCounts = field(default_factory=KeyCounts)
    chosen: dict[int, str] = field(default_factory=dict)
    claims: dict[int, int] = field(default_factory=dict)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)


def contact_sheets(
    lineage: Lineage, arms: Sequence[Arm], album: Album, seed: int
) -> list[ContactSheet]:
    """Return one sheet per arm. Claims are read twice, a fragment at a time: to choose and to show."""
    claims = lineage["claims"]
    selections = {arm.name: _Selection(STRATEGIES[arm.strategy].grouped_by) for arm in arms}
    for _, rows, arm in _claims_by_arm(claims, ["arm", "seed_image_id", "cluster_id"]):
        _choose_groups(selections[arm], rows, (seed, "report", arm))
    for fragment, rows, arm in _claims_by_arm(claims, CLAIM_COLUMNS):
        _choose_claims(selections[arm], rows.assign(fragment=fragment), (seed, "report", arm))
    seeds = _SeedImages(lineage, arms, selections, seed)
    return [_sheet(arm, selections[arm.name], seeds, album) for arm in arms]


def _claims_by_arm(claims: Table, columns: list[str]) -> Iterator[tuple[str, pd.DataFrame, str]]:
    for name, fragment in claims.fragments.items():
        rows = fragment.read(columns).to_pandas()
        # pandas reads a column with nulls as floats.
        rows["cluster_id"] = rows["cluster_id"].fillna(-1).astype(int)
        for arm, of_arm in rows.groupby("arm", sort=True):
            yield name, of_arm, str(arm)


def _group_keys(
    claims: pd.DataFrame, grouped_by: GroupedBy, salt: tuple[object, ...]
) -> npt.NDArray[np.uint64]:
    """Return the key of the group of each claim, (n,), in a seeded order."""
    if grouped_by == "seed":
        return seeded_keys(claims["seed_image_id"].to_numpy().astype("S32"), *salt)
    if grouped_by == "cluster":
        return seeded_keys(_cluster_names(claims["cluster_id"].to_numpy()), *salt)
    return np.zeros(len(claims), dtype=np.uint64)


def _cluster_names(numbers: npt.NDArray[Any]) -> npt.NDArray[np.bytes_]:
    """Return cluster numbers in the form of image ids."""
    return np.array([f"{int(n):016x}".ljust(32, "0") for n in numbers], dtype="S32")


def _choose_groups(selection: _Selection, claims: pd.DataFrame, salt: tuple[object, ...]) -> None:
    keys, first, counts = np.unique(
        _group_keys(claims, selection.grouped_by, salt), return_index=True, return_counts=True
    )
    selection.keys.add(keys)
    shown = GROUPS_SHOWN[selection.grouped_by]
    column = {"seed": "seed_image_id", "cluster": "cluster_id"}.get(selection.grouped_by, "arm")
    for key, row, count in zip(*(v[:shown].tolist() for v in (keys, first, counts)), strict=True):
        selection.chosen[key] = str(claims[column].iloc[row])
        selection.claims[key] = selection.claims.get(key, 0) + count
    smallest = sorted(selection.chosen)[:shown]
    # A group with a larger key cannot come back, so the counts of the smallest keys are complete.
    selection.chosen = {key: selection.chosen[key] for key in smallest}
    selection.claims = {key: selection.claims[key] for key in smallest}


def _choose_claims(selection: _Selection, claims: pd.DataFrame, salt: tuple[object, ...]) -> None:
    claims = claims.assign(group=_group_keys(claims, selection.grouped_by, salt))
    claims = claims[claims["group"].isin(list(selection.chosen))]
    claims = claims.assign(order=seeded_keys(claims["image_id"].to_numpy().astype("S32"), *salt))
    if selection.grouped_by == "seed":
        claims["order"] = claims["rank"]
    earlier = selection.rows
    merged = pd.concat([earlier, claims], ignore_index=True) if len(earlier) else claims
    merged = merged.sort_values(["group", "order", "image_id"])
    selection.rows = merged.groupby("group").head(CLAIMS_SHOWN[selection.grouped_by])


_ClusterKey: TypeAlias = tuple[str, int, int]
"""A seed set, a level, and a cluster of that level."""


class _SeedImages:
    """Where the seed images to show are.

    Attributes:
        by_image: fragment and pair_id by seed set and image_id.
        by_cluster: seeded key, fragment and pair_id of some seed images of each cluster.
        in_cluster: number of seed images of each cluster.
    """

    def __init__(
        self,
        lineage: Lineage,
        arms: Sequence[Arm],
        selections: Mapping[str, _Selection],
        seed: int,
    ) -> None:
        self.by_image: dict[tuple[str, str], tuple[str, str]] = {}
        self.by_cluster: dict[_ClusterKey, list[tuple[int, str, str]]] = {}
        self.in_cluster: dict[_ClusterKey, int] = {}
        self._seed = seed
        self._parents = read_parents(lineage["centroids"])
        self._wanted_images: dict[str, set[str]] = {}
        self._wanted_clusters: dict[tuple[str, int], set[int]] = {}
        for arm in arms:
            self._want(arm, selections[arm.name])
        self._read(lineage)

    def _want(self, arm: Arm, selection: _Selection) -> None:
        chosen = selection.chosen.values()
        if selection.grouped_by == "seed":
            self._wanted_images.setdefault(str(arm.seeds), set()).update(chosen)
        elif selection.grouped_by == "cluster":
            key = (str(arm.seeds), arm.level_of_clusters())
            self._wanted_clusters.setdefault(key, set()).update(int(c) for c in chosen)

    def _read(self, lineage: Lineage) -> None:
        assignments = lineage["assignments"].fragments
        for name, fragment in lineage["eligible"].fragments.items():
            if "seed" not in fragment.record.counts:
                continue
            rows = fragment.read(["pair_id", "image_id", "source", "status"])
            clusters = assignments[name].read(["cluster_id"])["cluster_id"]
            rows = rows.append_column("cluster_id", pc.fill_null(clusters, -1))
            rows = rows.filter(pc.equal(rows.column("status"), "eligible"))
            self._add(name, rows.to_pandas())

    def _add(self, fragment: str, rows: pd.DataFrame) -> None:
        for source, of_source in rows.groupby("source"):
            wanted = self._wanted_images.get(str(source), set())
            for row in of_source[of_source["image_id"].isin(wanted)].to_dict("records"):
                place = (fragment, str(row["pair_id"]))
                self.by_image.setdefault((str(source), str(row["image_id"])), place)
            for (seeds, level), clusters in self._wanted_clusters.items():
                if seeds == source:
                    self._add_clusters(fragment, seeds, level, of_source, clusters)

    def _add_clusters(
        self, fragment: str, seeds: str, level: int, rows: pd.DataFrame, wanted: set[int]
    ) -> None:
        clusters = at_level(level, rows["cluster_id"].to_numpy(np.int32), self._parents)
        rows = rows.assign(cluster_id=clusters)
        for cluster, members in rows[rows["cluster_id"].isin(wanted)].groupby("cluster_id"):
            self._add_cluster(fragment, (seeds, level, int(str(cluster))), members)

    def _add_cluster(self, fragment: str, key: _ClusterKey, rows: pd.DataFrame) -> None:
        rows = rows.drop_duplicates("image_id")
        order = seeded_keys(rows["image_id"].to_numpy().astype("S32"), self._seed, "report")
        places = zip(order.tolist(), [fragment] * len(rows), rows["pair_id"], strict=True)
        first = sorted([*self.by_cluster.get(key, []), *places])
        self.by_cluster[key] = first[:SEEDS_PER_CLUSTER]
        self.in_cluster[key] = self.in_cluster.get(key, 0) + len(rows)


def _sheet(arm: Arm, selection: _Selection, seeds: _SeedImages, album: Album) -> ContactSheet:
    groups = [_claim_group(arm, selection, key, seeds, album) for key in sorted(selection.chosen)]
    with selection.keys:
        total = sum(len(keys) for keys, _ in selection.keys.counts())
    return ContactSheet(arm.name, arm.strategy, arm.seeds, selection.grouped_by, total, groups)


def _claim_group(
    arm: Arm, selection: _Selection, key: int, seeds: _SeedImages, album: Album
) -> ClaimGroup:
    rows = selection.rows[selection.rows["group"] == key]
    images = [
        SheetImage(album.add_row(row), optional_float(row["similarity"]))
        for row in rows.to_dict("records")
    ]
    name, claims = selection.chosen[key], selection.claims[key]
    if selection.grouped_by == "seed":
        place = seeds.by_image.get((str(arm.seeds), name))
        shown = [SheetImage(album.add(*place))] if place else []
        return ClaimGroup(shown, len(shown), images, claims)
    if selection.grouped_by == "cluster":
        cluster = (str(arm.seeds), arm.level_of_clusters(), int(name))
        shown = [SheetImage(album.add(f, p)) for _, f, p in seeds.by_cluster.get(cluster, [])]
        return ClaimGroup(shown, seeds.in_cluster.get(cluster, 0), images, claims, int(name))
    return ClaimGroup([], 0, images, claims)
