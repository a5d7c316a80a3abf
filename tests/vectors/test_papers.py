"""The whole flow on vectors, against brute forces that follow the papers and not the code.

DINOv2 (arXiv 2304.07193, appendix A.3): copies within the pool and with held-out images, sample and
cluster retrieval. Vo et al. (arXiv 2405.15613, section 3.3): levels of clusters, balanced sampling.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from curation.algorithms.arrays.vectors import vector_matrix

from . import helpers

DIM = 8
Spec = dict[str, Any]


class World:
    """A pool, two seed sets and a held-out set with random vectors, and a recipe for them."""

    def __init__(self, seed: int) -> None:
        rng, choice = np.random.default_rng(seed), random.Random(seed).choice
        centers = rng.normal(size=(choice([12, 30]), DIM))
        spread = choice([0.4, 0.7])

        def draw(count: int) -> np.ndarray:
            around = centers[rng.integers(len(centers), size=count)]
            return (around + spread * rng.normal(size=(count, DIM))).astype(np.float32)

        self.vectors = {"web": draw(choice([12, 90])), "s": draw(6), "t": draw(9), "h": draw(3)}
        self.vectors["web"][: len(self.vectors["web"]) // 4] = self.vectors["web"][0]
        self.vectors["h"][0] = self.vectors["web"][-1]
        self.captions = {
            n: ["c" * int(c) for c in rng.integers(1, 5, len(v))] for n, v in self.vectors.items()
        }
        self.near: Spec = {
            "encoder": "semantic",
            "k": choice([2, 64]),
            "at_least": choice([0.9, 0.97]),
        }
        self.held_out = choice([0.85, 0.95])
        self.metric = choice(["spherical", "euclidean"])
        self.sample: Spec = {"k": choice([1, 4, 100]), "collisions": choice(["count", "once"])}
        self.cluster: Spec = {
            "more_than": choice([0, 1, 3]),
            "per_cluster": choice([2, 10_000, None]),
            "level": choice([0, 1]),
        }
        self.hierarchical: Spec = {
            "target": choice([0, 7, 40, 10**6]),
            "leaf": choice(["random", "nearest"]),
        }

    def spec(self, folder: Path) -> Spec:
        """Write the sources and return the recipe."""
        sources, paths = [], {}
        roles = {"web": "pool", "s": "seed", "t": "seed", "h": "held_out"}
        for name, vectors in self.vectors.items():
            keys = [f"{name}-{number}" for number in range(len(vectors))]
            path = folder / f"{name}.parquet"
            helpers.write_list(path, keys, text=self.captions[name])
            sources.append(helpers.source(path, name, roles[name], key="key", caption="text"))
            helpers.write_vectors(folder / name, "fixed", vectors, keys)
            paths[name] = str(folder / name / "vectors.parquet")
        return helpers.without_pixels(
            {"import": paths, "ids": {"join": "key", "column": "id"}},
            *sources,
            dedup={"near": self.near, "held_out": {"at_least": self.held_out}},
            cluster={"levels": [12, 4], "metric": self.metric, "iterations": 500},
            retrieve=[
                {"name": "near", "seeds": "s", "strategy": "sample"} | self.sample,
                {"name": "around", "seeds": "t", "strategy": "cluster"} | self.cluster,
                {"name": "balanced", "strategy": "hierarchical"} | self.hierarchical,
            ],
            expect={"rows": {"at_least": 0}},
        )


def frame(store: Path, name: str) -> pd.DataFrame:
    rows: pd.DataFrame = helpers.table(store, name).read().to_pandas()
    return rows


class Rows:
    """What the flow wrote, by image id."""

    def __init__(self, store: Path) -> None:
        images = frame(store, "images").set_index("pair_id")
        table = helpers.table(store, "embeddings.semantic").read()
        vectors = vector_matrix(table.column("vector")).astype(np.float64)
        by_pair = dict(zip(table.column("pair_id").to_pylist(), vectors, strict=True))
        self.vector = {row.image_id: by_pair[pair] for pair, row in images.iterrows()}
        self.caption = dict(zip(images["image_id"], images["caption"], strict=True))
        self.of = {n: sorted(part["image_id"]) for n, part in images.groupby("source")}
        rows = frame(store, "eligible")
        rows = rows[rows["status"] == "eligible"]
        self.eligible = {n: set(part["image_id"]) for n, part in rows.groupby("source")}
        self.claims = dict(iter(frame(store, "claims").groupby("arm")))
        assigned = frame(store, "assignments").dropna(subset=["cluster_id"])
        self.cluster = dict(
            zip(assigned["image_id"], assigned["cluster_id"].astype(int), strict=True)
        )
        levels = frame(store, "centroids").groupby("level")
        self.centroids = [
            np.stack([np.frombuffer(v, "<f4") for v in part["vector"]]).astype(np.float64)
            for _, part in levels
        ]
        self.parents = [part["parent_id"].to_numpy() for _, part in levels][:-1]

    def nearest(self, image: str, others: list[str]) -> list[tuple[str, np.float32]]:
        """The other images by descending cosine, as float32 has it, then by id."""
        cosines = {o: np.float32(self.vector[image] @ self.vector[o]) for o in others if o != image}
        return sorted(cosines.items(), key=lambda item: (-item[1], item[0]))

    def at_level(self, image: str, level: int) -> int:
        cluster: int = self.cluster[image]
        for parents in self.parents[:level]:
            cluster = int(parents[cluster])
        return cluster


def kept_of_the_pool(world: World, rows: Rows) -> set[str]:
    """One image of each connected component that no held-out image touches."""
    pool, links = rows.of["web"], defaultdict(set)
    for image in pool:
        for other, cosine in rows.nearest(image, pool)[: world.near["k"]]:
            if cosine >= np.float32(world.near["at_least"]):
                links[image].add(other)
                links[other].add(image)
    touched = {
        image
        for held_out in rows.of["h"]
        for image, cosine in rows.nearest(held_out, pool)[: world.near["k"]]
        if cosine >= np.float32(world.held_out)
    }
    kept: set[str] = set()
    seen: set[str] = set()
    for image in pool:
        component, border = set(), {image} - seen
        while border:
            component |= border
            border = {other for member in border for other in links[member]} - component
        seen |= component
        if component and not component & touched:
            kept.add(min(component, key=lambda i: (-len(rows.caption[i]), i)))
    return kept


def check_clusters(world: World, rows: Rows, pool: list[str]) -> None:
    """Each image is in its nearest cluster, whose centroid is the mean, or its direction."""
    points, centroids = np.stack([rows.vector[i] for i in pool]), rows.centroids[0]
    if world.metric == "spherical":
        scores = points @ centroids.T
    else:
        scores = -((points[:, None] - centroids) ** 2).sum(axis=2)
    cluster = np.array([rows.cluster[i] for i in pool])
    assert (scores[np.arange(len(pool)), cluster] >= scores.max(axis=1) - 1e-6).all()
    for number, centroid in enumerate(centroids):
        mean = points[cluster == number].mean(axis=0)
        if world.metric == "spherical":
            mean /= np.linalg.norm(mean)
        np.testing.assert_allclose(centroid, mean, atol=1e-4)


def check_sample(world: World, rows: Rows, pool: list[str]) -> None:
    """The k nearest images of each seed image; with `once`, an image goes to the most similar seed."""
    claims = [
        (image, seed, cosine)
        for seed in rows.eligible.get("s", ())
        for image, cosine in rows.nearest(seed, pool)[: world.sample["k"]]
    ]
    if world.sample["collisions"] == "once":
        best = {}
        for claim in sorted(claims, key=lambda c: (c[2], [-ord(letter) for letter in c[1]])):
            best[claim[0]] = claim
        claims = list(best.values())
    claimed = rows.claims.get("near", pd.DataFrame(columns=["image_id", "seed_image_id"]))
    pairs = list(zip(claimed["image_id"], claimed["seed_image_id"], strict=True))
    assert sorted(pairs) == sorted((image, seed) for image, seed, _ in claims)


def check_cluster(world: World, rows: Rows, pool: list[str]) -> None:
    """From each cluster with more than so many seed images, so many images or all."""
    level = world.cluster["level"]
    seeds = Counter(rows.at_level(seed, level) for seed in rows.eligible.get("t", ()))
    sizes = Counter(rows.at_level(image, level) for image in pool)
    most = world.cluster["per_cluster"] or len(pool)
    chosen = {c for c, count in seeds.items() if count > world.cluster["more_than"]}
    claimed = rows.claims.get("around", pd.DataFrame(columns=["image_id"]))["image_id"]
    assert claimed.is_unique and set(claimed) <= set(pool)
    from_clusters = Counter(rows.at_level(image, level) for image in claimed)
    assert from_clusters == Counter({c: min(sizes[c], most) for c in chosen if sizes[c]})


def check_balance(world: World, rows: Rows, pool: list[str]) -> None:
    """At each level clusters below one size give all, and others as much, or one more."""
    claimed = list(rows.claims.get("balanced", pd.DataFrame(columns=["image_id"]))["image_id"])
    assert len(claimed) == len(set(claimed)) == min(world.hierarchical["target"], len(pool))
    top = len(rows.parents)
    for level in range(top + 1):
        size = Counter(rows.at_level(image, level) for image in pool)
        share = Counter(rows.at_level(image, level) for image in claimed)
        siblings = defaultdict(list)
        for cluster in size:
            siblings[rows.parents[level][cluster] if level < top else 0].append(cluster)
        for group in siblings.values():
            cut = [share[c] for c in group if share[c] < size[c]]
            whole = [size[c] for c in group if share[c] == size[c]]
            assert not cut or max([*cut, *whole]) <= min(cut) + 1
    if world.hierarchical["leaf"] == "nearest":
        unit = rows.centroids[0] / np.linalg.norm(rows.centroids[0], axis=1, keepdims=True)
        cosine = {i: rows.vector[i] @ unit[rows.cluster[i]] for i in pool}
        for image in claimed:
            left = [o for o in pool if rows.cluster[o] == rows.cluster[image] and o not in claimed]
            assert all(cosine[image] >= cosine[other] - 1e-5 for other in left)


@pytest.mark.parametrize("seed", range(8))
def test_every_decision_is_that_of_the_papers(tmp_path: Path, seed: int) -> None:
    world = World(seed)
    helpers.run(tmp_path / "store", world.spec(tmp_path / "data"))
    rows = Rows(tmp_path / "store")
    assert rows.eligible.get("web", set()) == kept_of_the_pool(world, rows)
    pool = sorted(rows.eligible["web"])
    check_clusters(world, rows, pool)
    check_sample(world, rows, pool)
    check_cluster(world, rows, pool)
    check_balance(world, rows, pool)
