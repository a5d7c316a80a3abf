"""Random tables that retrieve reads, and random arms over them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from curation.store.store import Store

from ..tables import commit, commit_batches

HOSTS = ("a.example", "b.example", "c.example")
SETS = ("cats", "dogs")
CLUSTERS, COARSE = 9, 3
FRAGMENTS = {
    "web-0": 60,
    "web-1": 0,
    "web-2": 45,
    "web-3": 7,
    "cats-0": 14,
    "dogs-0": 9,
    "dogs-1": 6,
}
ROLES = {"web": "pool", "cats": "seed", "dogs": "seed"}


def image_id(number: int) -> str:
    """An id as real ones are: a hash."""
    return hashlib.sha256(b"%d" % number).hexdigest()[:32]


class World:
    """Rows in fragments, of which some have the same image, in clusters of two levels, with matches.

    Attributes:
        fragments: rows by fragment.
        matches: rows of `matches`.
        parents: for each level but the coarsest, the parent of each cluster.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.clusters: dict[str, int | None] = {}
        self.fragments = {
            name: [self._row(name, number) for number in range(count)]
            for name, count in FRAGMENTS.items()
        }
        self.parents = (self.rng.integers(0, COARSE, CLUSTERS).tolist(),)
        self.matches = [m for name in SETS for m in self._matches_of(name)]

    def _row(self, fragment: str, number: int) -> dict[str, Any]:
        source = fragment.split("-", maxsplit=1)[0]
        image = image_id(int(self.rng.integers(0, 90)))
        # Clusters are skewed, and some images have none.
        cluster = min(int(self.rng.geometric(0.35)) - 1, CLUSTERS)
        cluster_id = self.clusters.setdefault(image, cluster if cluster < CLUSTERS else None)
        host = HOSTS[int(self.rng.integers(len(HOSTS)))]
        return {
            "pair_id": hashlib.sha256(f"{fragment} {number}".encode()).hexdigest()[:32],
            "image_id": image,
            "role": ROLES[source],
            "source": source,
            "status": "eligible" if self.rng.random() < 0.85 else "dropped",
            "url": f"http://{host}/{number}" if source == "web" else None,
            "cluster_id": cluster_id,
            # Few values, so that many are equal.
            "similarity": float(np.float32(int(image[:2], 16) % 5 / 8)),
        }

    def _eligible(self, role: str, source: str | None = None) -> list[str]:
        return sorted(
            {
                row["image_id"]
                for part in self.fragments.values()
                for row in part
                if row["status"] == "eligible"
                and row["role"] == role
                and source in (None, row["source"])
            }
        )

    def _matches_of(self, seed_set: str) -> list[dict[str, Any]]:
        pool, matches = self._eligible("pool"), []
        for seed_image in self._eligible("seed", seed_set):
            count = int(self.rng.integers(0, 9))
            # Some pool images are popular.
            chance = 1 / np.arange(1, len(pool) + 1)
            matched = self.rng.choice(pool, count, replace=False, p=chance / chance.sum())
            scores = np.sort(self.rng.integers(0, 8, count))[::-1] / 8
            matches += [
                {
                    "seed_set": seed_set,
                    "seed_image_id": seed_image,
                    "image_id": str(image),
                    "similarity": float(score),
                    "rank": rank,
                }
                for rank, (image, score) in enumerate(zip(matched, scores, strict=True), 1)
            ]
        return matches

    def host(self, row: dict[str, Any]) -> str | None:
        """The host of a row."""
        return row["url"].split("/")[2] if row["url"] else None

    def commit(self, store: Store) -> None:
        """Commit the tables that retrieve reads."""
        for table in ("eligible", "assignments"):
            commit(store, table, self.fragments)
        images = {n: [r | {"status": "ok"} for r in rows] for n, rows in self.fragments.items()}
        commit(store, "images", images)
        # In two files, as a large table is.
        commit(store, "matches", {"all": self.matches}, rows_per_file=len(self.matches) // 2 + 1)
        commit_batches(
            store,
            "centroids",
            {"level-0": _level(0, self.parents[0]), "level-1": _level(1, [None] * COARSE)},
        )

    # -- recipes --------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """A recipe with random arms and limits."""
        kinds = self.rng.choice(
            ["as_is", "sample", "sample", "cluster", "hierarchical", "everything"],
            int(self.rng.integers(1, 5)),
        )
        arms = [self._arm(f"{'zyxw'[n]}-{kind}", str(kind)) for n, kind in enumerate(kinds)]
        return {
            "name": "random",
            "seed": int(self.rng.integers(9)),
            "sources": [
                {
                    "name": "web",
                    "role": "pool",
                    "format": "csv",
                    "path": "w",
                    "columns": {"url": "u"},
                },
                *({"name": n, "role": "seed", "format": "folder", "path": n} for n in SETS),
            ],
            "cluster": {"levels": [CLUSTERS, COARSE]},
            "retrieve": arms,
            "balance": self._balance(arms),
        }

    def _arm(self, name: str, kind: str) -> dict[str, Any]:
        rng = self.rng
        arm: dict[str, Any] = {"name": name, "strategy": kind}
        if kind in ("as_is", "sample", "cluster"):
            arm["seeds"] = SETS[int(rng.integers(len(SETS)))]
        if kind in ("sample", "cluster"):
            arm["cap"] = [None, 0, 3, 20][int(rng.integers(4))]
        if kind == "sample":
            arm["k"] = int(rng.integers(1, 5))
            arm["collisions"] = str(rng.choice(["count", "once", "reassign"]))
            if arm["collisions"] == "reassign":
                arm["candidates"] = int(rng.integers(1, 3))
        if kind == "cluster":
            arm |= {"per_cluster": int(rng.integers(1, 12)), "more_than": int(rng.integers(0, 3))}
            arm |= {"level": int(rng.integers(2))}
            arm["small_clusters"] = str(rng.choice(["take_all", "skip"]))
            if rng.random() < 0.25:
                arm |= {"per_cluster": None, "small_clusters": "take_all"}
        if kind == "hierarchical":
            arm |= {"target": int(rng.integers(0, 150)), "multiplier": int(rng.integers(1, 4))}
            arm["leaf"] = str(rng.choice(["random", "nearest"]))
        return arm

    def _balance(self, arms: list[dict[str, Any]]) -> dict[str, Any]:
        rng = self.rng
        names = [arm["name"] for arm in arms]
        limits = {
            "per_seed_set": {"dogs": int(rng.integers(0, 12))},
            "per_cluster": int(rng.integers(0, 8)),
            "level": int(rng.integers(2)),
            "per_host": int(rng.integers(0, 25)),
            "weights": {"web": float(rng.integers(1, 5)), "cats": 0.5},
            "target": int(rng.integers(0, 60)),
            "priority": rng.permutation(names)[: int(rng.integers(1, len(names) + 1))].tolist(),
        }
        chosen = {name: value for name, value in limits.items() if rng.random() < 0.5}
        if "per_cluster" not in chosen:
            chosen.pop("level", None)
        if not any(arm.get("seeds") == "dogs" for arm in arms):
            chosen.pop("per_seed_set", None)
        if not any((arm["strategy"], arm.get("seeds")) == ("as_is", "cats") for arm in arms):
            chosen.get("weights", {}).pop("cats", None)
        if not chosen.keys() - {"weights", "priority"}:
            chosen = {}
        return chosen


def _level(level: int, parents: list[Any]) -> pa.RecordBatch:
    count = len(parents)
    return pa.RecordBatch.from_pydict(
        {
            "level": pa.array([level] * count, pa.int32()),
            "cluster_id": pa.array(range(count), pa.int32()),
            "vector": pa.array([bytes(8)] * count, pa.binary(8)),
            "training_count": pa.array([1] * count, pa.int64()),
            "parent_id": pa.array(parents, pa.int32()),
        }
    )
