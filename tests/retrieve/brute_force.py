"""retrieve over Python lists, one claim after another: what the stage must give, however it is cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.stages.retrieve.params import RetrieveStep

from .random_world import World

Claim = dict[str, Any]


def key(image: str, *salt: object) -> int:
    return int(seeded_keys(np.array([image], "S32"), *salt)[0])


def water_fill(sizes: dict[Any, int], target: int, key_of: Callable[[Any], int]) -> dict[Any, int]:
    """Share a target out: everybody gets up to the same level, and some get one more."""
    level = 0
    while sum(min(level + 1, size) for size in sizes.values()) <= target and level < max(
        sizes.values(), default=0
    ):
        level += 1
    shares = {name: min(level, size) for name, size in sizes.items()}
    larger = sorted((name for name, size in sizes.items() if size > level), key=key_of)
    for name in larger[: target - sum(shares.values())]:
        shares[name] += 1
    return shares


class BruteForce:
    """Claims of all arms of a recipe on a world."""

    def __init__(self, world: World, params: RetrieveStep) -> None:
        self.world, self.params, self.seed = world, params, params.seed
        self.rows = [
            row | {"fragment": name}
            for name, part in world.fragments.items()
            for row in part
            if row["status"] == "eligible"
        ]
        self.pool = self._images(row for row in self.rows if row["role"] == "pool")
        self.stats: dict[str, dict[str, int]] = {}

    def _images(self, rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        first: dict[str, dict[str, Any]] = {}
        for row in rows:
            first.setdefault(row["image_id"], row)
        return first

    def _seeds(self, seed_set: str) -> dict[str, dict[str, Any]]:
        return self._images(r for r in self.rows if r["role"] == "seed" and r["source"] == seed_set)

    def _cluster_of(self, row: dict[str, Any], level: int) -> int | None:
        cluster: int | None = row["cluster_id"]
        for parents in self.world.parents[:level]:
            cluster = None if cluster is None else parents[cluster]
        return cluster

    # -- arms -----------------------------------------------------------------------------------

    def claims(self) -> list[Claim]:
        """Return the final claims."""
        claims = []
        for arm in self.params.arms:
            of_arm, requested, available = getattr(self, f"_{arm.strategy}")(arm)
            of_arm = [
                {"arm": arm.name, "seed_set": arm.seeds, "strategy": arm.strategy} | c
                for c in of_arm
            ]
            self.stats[arm.name] = {
                "requested": requested,
                "available": available,
                "retrieved": len(of_arm),
                "unique": len({c["image_id"] for c in of_arm}),
            }
            cap = getattr(arm, "cap", None)
            if cap is not None and len(of_arm) > cap:
                of_arm.sort(
                    key=lambda c: (
                        key(c["image_id"], self.seed, c["arm"], "cap"),
                        c["seed_image_id"] or c["image_id"],
                    )
                )
                of_arm = of_arm[:cap]
            claims += of_arm
        claims = self._balanced(claims)
        for arm in self.params.arms:
            final = sum(c["arm"] == arm.name for c in claims)
            self.stats[arm.name] |= {"final": final}
        return sorted(claims, key=self._order_of_table)

    @staticmethod
    def _order_of_table(claim: Claim) -> tuple[Any, ...]:
        return (
            claim["fragment"],
            claim["image_id"],
            claim["arm"],
            claim["seed_image_id"] or "",
            claim["rank"] or 0,
        )

    def _as_is(self, arm: Any) -> tuple[list[Claim], int, int]:
        images = self._seeds(arm.seeds)
        rows = sum(
            len(part)
            for part in self.world.fragments.values()
            if part and (part[0]["role"], part[0]["source"]) == ("seed", arm.seeds)
        )
        return [claim(image, seed=image) for image in images], rows, len(images)

    def _everything(self, arm: Any) -> tuple[list[Claim], int, int]:
        return [claim(image) for image in self.pool], len(self.pool), len(self.pool)

    def _sample(self, arm: Any) -> tuple[list[Claim], int, int]:
        matches = [m for m in self.world.matches if m["seed_set"] == arm.seeds]
        matches.sort(key=lambda m: (-m["similarity"], m["seed_image_id"], m["image_id"]))
        nearest = [m for m in matches if m["rank"] <= arm.k]
        chosen = nearest
        if arm.collisions == "once":
            first: dict[str, dict[str, Any]] = {}
            for match in nearest:
                first.setdefault(match["image_id"], match)
            chosen = list(first.values())
        if arm.collisions == "reassign":
            chosen, taken = [], set()
            count: dict[str, int] = defaultdict(int)
            for match in matches:
                free = match["rank"] <= arm.k * arm.candidates and match["image_id"] not in taken
                if free and count[match["seed_image_id"]] < arm.k:
                    taken.add(match["image_id"])
                    count[match["seed_image_id"]] += 1
                    chosen.append(match)
        claims = [
            claim(m["image_id"], m["seed_image_id"], similarity=m["similarity"], rank=m["rank"])
            for m in chosen
        ]
        return claims, arm.k * len(self._seeds(arm.seeds)), len(nearest)

    def _cluster_arm_members(self, arm: Any) -> dict[int, list[str]]:
        seeds: dict[Any, int] = defaultdict(int)
        for row in self._seeds(arm.seeds).values():
            seeds[self._cluster_of(row, arm.level)] += 1
        members: dict[int, list[str]] = {
            c: [] for c, count in seeds.items() if c is not None and count > arm.more_than
        }
        for image, row in self.pool.items():
            cluster = self._cluster_of(row, arm.level)
            if cluster in members:
                members[cluster].append(image)
        return members

    def _cluster(self, arm: Any) -> tuple[list[Claim], int, int]:
        members = self._cluster_arm_members(arm)
        claims = []
        pool = sum(map(len, members.values()))
        for cluster, images in members.items():
            if (
                arm.per_cluster is not None
                and arm.small_clusters == "skip"
                and len(images) < arm.per_cluster
            ):
                continue
            drawn = sorted(images, key=lambda image: (key(image, self.seed, arm.name), image))
            claims += [
                claim(i, similarity=self.pool[i]["similarity"], cluster_id=cluster)
                for i in drawn[: arm.per_cluster]
            ]
        requested = pool if arm.per_cluster is None else len(members) * arm.per_cluster
        return claims, requested, pool

    def _hierarchical(self, arm: Any) -> tuple[list[Claim], int, int]:
        members: dict[int, list[str]] = defaultdict(list)
        for image, row in self.pool.items():
            if row["cluster_id"] is not None:
                members[row["cluster_id"]].append(image)
        claims = []
        for cluster, share in self._shares(arm, members).items():
            images = sorted(members[cluster], key=lambda i: self._leaf_order(arm, i))
            for place in range(share):
                image = images[place % len(images)]
                row = self.pool[image]
                rank = place // len(images) + 1
                claims.append(
                    claim(image, similarity=row["similarity"], rank=rank, cluster_id=cluster)
                )
        return claims, arm.target, sum(map(len, members.values())) * arm.multiplier

    def _leaf_order(self, arm: Any, image: str) -> tuple[Any, str]:
        if arm.leaf == "nearest":
            return (-self.pool[image]["similarity"], image)
        return (key(image, self.seed, arm.name), image)

    def _shares(self, arm: Any, members: dict[int, list[str]]) -> dict[int, int]:
        parents = self.world.parents
        sizes = [{c: len(images) * arm.multiplier for c, images in members.items()}]
        for parent in parents:
            above: dict[int, int] = defaultdict(int)
            for cluster, size in sizes[-1].items():
                above[parent[cluster]] += size
            sizes.append(above)

        def key_at(level: int) -> Callable[[int], int]:
            return lambda cluster: key(f"{cluster:032x}", self.seed, arm.name, "level", level)

        share = water_fill(sizes[-1], arm.target, key_at(len(parents)))
        for level in reversed(range(len(parents))):
            below: dict[int, int] = {}
            for cluster, target in share.items():
                children = {c: s for c, s in sizes[level].items() if parents[level][c] == cluster}
                below |= water_fill(children, target, key_at(level))
            share = below
        return share

    # -- balance --------------------------------------------------------------------------------

    def _representing(self) -> dict[str, dict[str, Any]]:
        as_is = {arm.seeds for arm in self.params.arms if arm.strategy == "as_is"}
        usable = [r for r in self.rows if r["role"] == "pool" or r["source"] in as_is]
        usable = [r for r in usable if r["role"] != "held_out"]
        return self._images(sorted(usable, key=lambda r: (r["role"] == "pool", r["pair_id"])))

    def _balanced(self, claims: list[Claim]) -> list[Claim]:
        balance, rows = self.params.balance, self._representing()
        for one in claims:
            row = rows[one["image_id"]]
            one |= {"pair_id": row["pair_id"], "fragment": row["fragment"]}
        places = {arm: place for place, arm in enumerate(balance.priority)}
        place_of = {arm.name: places.get(arm.name, len(places)) for arm in self.params.arms}
        best: dict[str, int] = {}
        for one in claims:
            image = one["image_id"]
            best[image] = min(best.get(image, 99), place_of[one["arm"]])

        def order(image: str, *limit: str) -> tuple[Any, ...]:
            uniform = (np.float64(key(image, self.seed, "balance", *limit)) + 1) / 2.0**64
            weight = balance.weights.get(rows[image]["source"], 1.0)
            return (best[image], -np.log(uniform) / weight, image)

        def first(images: Iterable[str], count: int, *limit: str) -> set[str]:
            return set(sorted(set(images), key=lambda image: order(image, *limit))[:count])

        for name, cap in balance.per_seed_set.items():
            of_set = (c["image_id"] for c in claims if c["seed_set"] == name)
            kept = first(of_set, cap, "seed_set", name)
            claims = [c for c in claims if c["seed_set"] != name or c["image_id"] in kept]
        groups: list[tuple[str, int | None, Callable[[str], Any]]] = [
            (
                "balance_cluster",
                balance.per_cluster,
                lambda i: self._cluster_of(rows[i], balance.level),
            ),
            ("host", balance.per_host, lambda i: self.world.host(rows[i])),
        ]
        for limit, largest, group_of in groups:
            if largest is None:
                continue
            members: dict[Any, list[str]] = defaultdict(list)
            for one in claims:
                members[group_of(one["image_id"])].append(one["image_id"])
            kept = set(members.pop(None, []))
            kept = kept.union(*(first(m, largest, limit) for m in members.values()))
            claims = [c for c in claims if c["image_id"] in kept]
        if balance.target is not None:
            claims = self._within_target(claims, place_of, first)
        return claims

    def _within_target(
        self,
        claims: Sequence[Claim],
        place_of: dict[str, int],
        first: Callable[..., set[str]],
    ) -> list[Claim]:
        of_image: dict[str, str] = {}
        for one in sorted(claims, key=lambda c: (place_of[c["arm"]], c["arm"])):
            of_image.setdefault(one["image_id"], one["arm"])
        members: dict[str, list[str]] = defaultdict(list)
        for image, arm in of_image.items():
            members[arm].append(image)
        names = sorted(members)
        shares = water_fill(
            {arm: len(images) for arm, images in members.items()},
            self.params.balance.target or 0,
            lambda arm: key(f"{names.index(arm):032x}", self.seed, "balance", "target"),
        )
        kept = set().union(*(first(members[arm], shares[arm], "target") for arm in names))
        return [c for c in claims if c["image_id"] in kept]


def claim(image: str, seed: str | None = None, **values: Any) -> Claim:
    empty = {"similarity": None, "rank": None, "cluster_id": None}
    return {"image_id": image, "seed_image_id": seed} | empty | values
