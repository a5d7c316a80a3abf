"""What each arm did with an image: the claims on it, or the limit that left it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as pc

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.kmeans.levels import at_level, read_parents
from curation.inspect.why.tables import RowReader
from curation.inspect.why.values import integers
from curation.stages.retrieve.strategies import EVERYTHING
from curation.store.manifest import Manifest

CLAIM_COLUMNS = ("arm", "image_id", "seed_image_id", "similarity", "rank", "cluster_id", "pair_id")
MATCH_COLUMNS = ("seed_set", "seed_image_id", "similarity", "rank")
SHOWN_SEEDS = 10

Arm = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """The image that arms may claim: the representative of the row.

    Attributes:
        tables: of the recipe.
        image_id: the image.
        role: role of its row.
        source: source of its row.
        reason: why it is not eligible; None if it is, or if `select` has not run.
        cluster_id: its cluster of level 0; None for none.
    """

    tables: RowReader
    image_id: str
    role: str
    source: str
    reason: str | None
    cluster_id: int | None

    @cached_property
    def matches(self) -> list[dict[str, Any]]:
        """The seed images whose nearest pool images it is among, the most similar first."""
        rows = self.tables.scan("matches", MATCH_COLUMNS, {"image_id": [self.image_id]})
        return sorted(rows, key=lambda row: (-row["similarity"], row["rank"], row["seed_image_id"]))

    @cached_property
    def claims(self) -> list[dict[str, Any]]:
        """The claims on it."""
        return self.tables.scan("claims", CLAIM_COLUMNS, {"image_id": [self.image_id]})

    def cluster_at(self, level: int) -> int | None:
        """Return its cluster of a level."""
        if self.cluster_id is None or "centroids" not in self.tables:
            return None
        number = np.array([self.cluster_id], np.int32)
        return int(at_level(level, number, read_parents(self.tables["centroids"]))[0])


def nearest_seeds(subject: Subject) -> list[dict[str, Any]]:
    """Return the nearest seed images of those whose neighbours `match` kept, the most similar first."""
    return [{name: row[name] for name in MATCH_COLUMNS} for row in subject.matches[:SHOWN_SEEDS]]


def arms_of(subject: Subject) -> list[dict[str, Any]]:
    """Return for each arm of the recipe its claims on the image, or why it has none."""
    if "claims" not in subject.tables:
        return []
    manifest = subject.tables["claims"].manifest
    limits = _Limits.of(manifest)
    arms = []
    for arm in manifest.params.get("arms", []):
        claims = [claim for claim in subject.claims if claim["arm"] == arm["name"]]
        evidence = [{n: c[n] for n in CLAIM_COLUMNS[2:6] if c[n] is not None} for c in claims]
        left_out = None if claims else _left_out(arm, subject, limits)
        arms.append(
            {
                "arm": arm["name"],
                "strategy": arm["strategy"],
                "seed_set": arm.get("seeds"),
                "claims": evidence,
                "left_out": left_out,
            }
        )
    return arms


@dataclass(frozen=True)
class _Limits:
    """What limits all arms, and what it took away.

    Attributes:
        seed: of the recipe.
        balance: the limits over all arms that the recipe sets.
        capped_sets: the seed sets whose arms have a cap together.
        totals: the row of the composition of each arm.
    """

    seed: int
    balance: tuple[str, ...]
    capped_sets: frozenset[str]
    totals: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, claims: Manifest) -> _Limits:
        """Return the limits of a version of `claims`."""
        balance = claims.params.get("balance", {})
        names = ("per_seed_set", "per_cluster", "per_host", "target")
        return cls(
            seed=claims.params["seed"],
            balance=tuple(name for name in names if balance.get(name) not in (None, {})),
            capped_sets=frozenset(balance.get("per_seed_set", {})),
            totals={row["arm"]: row for row in claims.stats.get("composition", [])},
        )

    def capped(self, arm: Arm) -> str | None:
        """Return what took claims of an arm away; None if nothing did."""
        row = self.totals.get(arm["name"], {})
        if not row.get("capped"):
            return None
        cap = arm.get("cap")
        by_cap = cap is not None and row["retrieved"] > cap
        limits = [f"its cap of {cap:,}"] if by_cap else []
        if not by_cap or row["final"] < cap:
            of_set = arm.get("seeds") in self.capped_sets
            names = [name for name in self.balance if of_set or name != "per_seed_set"]
            limits.append(f"balance ({', '.join(names)})")
        return (
            f"{' or '.join(limits)} left {row['capped']:,} of the {row['retrieved']:,} claims of the "
            "arm out"
        )


def _left_out(arm: Arm, subject: Subject, limits: _Limits) -> str:
    """Return the first limit that explains why an arm has no claim on an image."""
    if subject.reason is not None:
        return f"it is not eligible: {subject.reason}"
    explain = _LIMITS.get(arm["strategy"])
    if explain is None:
        # What a strategy of a plug-in chooses is not known here.
        return _either("its strategy chose other images", limits.capped(arm))
    if arm["strategy"] != "as_is" and subject.role != "pool":
        return (
            f"the strategy {arm['strategy']} claims pool images, and this is a {subject.role} image"
        )
    limit = explain(arm, subject, limits)
    return limit or limits.capped(arm) or "its strategy chose other images"


def _as_is(arm: Arm, subject: Subject, limits: _Limits) -> str | None:
    if subject.source == arm["seeds"]:
        return None
    return (
        f"it claims the images of seed set {arm['seeds']}, and this is of source {subject.source}"
    )


def _sample(arm: Arm, subject: Subject, limits: _Limits) -> str | None:
    ranked = [row for row in subject.matches if row["seed_set"] == arm["seeds"]]
    if not ranked:
        kept = _kept(subject, arm)
        # An index does not find all of them.
        return (
            f"`match` did not find it among the {kept} nearest pool images of any image of "
            f"{arm['seeds']}"
        )
    best = min(ranked, key=lambda row: (row["rank"], -row["similarity"]))
    if best["rank"] > arm["k"]:
        too_far = (
            f"k is {arm['k']}, and it is at best the {_ordinal(best['rank'])} nearest of a seed image "
            f"({best['seed_image_id']}, similarity {best['similarity']:.3f})"
        )
        # A seed image may have claimed it in place of a nearer one that another seed image claims.
        is_candidate = arm.get("collisions") == "reassign"
        return _either(too_far, limits.capped(arm)) if is_candidate else too_far
    return None


def _kept(subject: Subject, arm: Arm) -> Any:
    """Return how many neighbours of each seed image of an arm `match` kept."""
    if not _matched(subject):
        return arm["k"]
    kept = subject.tables["matches"].manifest.params.get("k")
    # Runs of older versions kept as many for all sets.
    return kept.get(arm["seeds"]) if isinstance(kept, dict) else kept


def _matched(subject: Subject) -> bool:
    return "matches" in subject.tables


def _cluster(arm: Arm, subject: Subject, limits: _Limits) -> str | None:
    level = arm.get("level", 0)
    cluster = subject.cluster_at(level)
    if cluster is None or cluster < 0:
        return "it has no cluster"
    seeds, pool = _eligible_in_cluster(subject, level, cluster, arm["seeds"])
    place = f"its cluster {cluster} of level {level}"
    if len(seeds) <= arm["more_than"]:
        return (
            f"{place} has {len(seeds):,} images of {arm['seeds']}, and more than "
            f"{arm['more_than']:,} are needed"
        )
    if arm["per_cluster"] is None:
        return None
    if len(pool) < arm["per_cluster"] and arm.get("small_clusters") == "skip":
        return f"{place} has {len(pool):,} eligible images, fewer than {arm['per_cluster']:,}"
    if not _is_drawn(subject.image_id, pool, arm, limits.seed):
        return (
            f"it was not among the {arm['per_cluster']:,} drawn of {len(pool):,} images of {place}"
        )
    return None


def _is_drawn(image_id: str, pool: set[str], arm: Arm, seed: int) -> bool:
    """Whether an arm draws an image from the images of a cluster, before all caps."""
    ids = np.array(sorted(pool), "S32")
    keys = seeded_keys(ids, seed, arm["name"])
    key_of_image = keys[np.searchsorted(ids, np.bytes_(image_id))]
    return int((keys < key_of_image).sum()) < int(arm["per_cluster"])


def _hierarchical(arm: Arm, subject: Subject, limits: _Limits) -> str | None:
    capped = limits.capped(arm)
    if capped and limits.totals[arm["name"]]["shortfall"]:
        # Every image of the pool was claimed, as often as it may be.
        return capped
    not_chosen = (
        f"it was not among the {arm['target']:,} claims that are shared out over all clusters"
    )
    return _either(not_chosen, capped)


def _either(limit: str, capped: str | None) -> str:
    """Return a limit, and the caps if they may be the reason instead: earlier claims are not kept."""
    return f"{limit}, or {capped}" if capped else limit


def _eligible_in_cluster(
    subject: Subject, level: int, cluster: int, seed_set: str
) -> tuple[set[str], set[str]]:
    """Return the different eligible images of a seed set and of the pool that a cluster has."""
    tables = subject.tables
    members = _members(read_parents(tables["centroids"]), level, cluster)
    images: dict[str, set[str]] = {"seed": set(), "pool": set()}
    for name, fragment in tables["assignments"].fragments.items():
        in_cluster = pc.is_in(fragment.read(["cluster_id"]).column("cluster_id"), members)
        if not pc.any(in_cluster).as_py():
            continue
        columns = ["image_id", "role", "source", "status"]
        rows = tables["eligible"].fragments[name].read(columns).filter(in_cluster)
        for row in rows.to_pylist():
            is_of = row["role"] == "pool" or row["source"] == seed_set
            if row["status"] == "eligible" and is_of:
                images[row["role"]].add(row["image_id"])
    return images["seed"], images["pool"]


def _members(parents: Sequence[Any], level: int, cluster: int) -> Any:
    """Return the clusters of level 0 that a cluster of a level contains."""
    numbers = np.array([cluster], np.int32)
    for parent in reversed(parents[:level]):
        numbers = np.flatnonzero(np.isin(parent, numbers)).astype(np.int32)
    return integers(numbers.tolist())


def _ordinal(number: int) -> str:
    ending = (
        "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number:,}{ending}"


_LIMITS: dict[str, Callable[[Arm, Subject, _Limits], str | None]] = {
    "as_is": _as_is,
    "sample": _sample,
    "cluster": _cluster,
    "hierarchical": _hierarchical,
    EVERYTHING: lambda arm, subject, limits: None,
}
"""By strategy: the limit of the strategy that leaves an image out, or None."""
