"""Every retrieval strategy against hidden truth, on the store that `benchmarks.web_mini` filled.

    python -m benchmarks.strategies --shared ../shared --store data/web-mini

Prints Markdown tables: for each seed set, what each variant of a strategy claims of the pool, and what
two variants agree on; mixes of arms with and without `balance`; and how evenly `hierarchical` samples.
The relevant images of a seed set are the pool's images of its domain with one of its labels. Figures
are over claims, so an image that two seeds claim counts twice. `sample-once` claims the same images,
each once. In mixes an image counts once.

claims, images: the number of claims, and of different images in them.
domain: share of the claims on images of the seed set's domain.
label: share of the claims on relevant images.
own label: share of the claims on images with the label of the seed image that claimed them, if the
    strategy records one; this is what the data's README states for `sample`.
labels reached: share of the seed set's labels with at least one claim on a relevant image.
images reached: share of the eligible relevant images that are claimed.
balance: entropy of the labels of claims on relevant images, divided by the logarithm of the number of
    the seed set's labels: 1 if every label is claimed equally often.
lowest, highest: of `label`, over recipe seeds.

`whole pool` claims each eligible image of the pool. Figures are means over recipe seeds, which decide
clusters and samples. For `hierarchical`, which has no seed set, `over domains` and `over classes` are
the entropy of the sample over domains, or over the classes of labelled images, divided by the logarithm
of their number in the pool; lowest and highest are of `over domains`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.command import folder_or_temporary, parse, parser_of, shared_folder
from benchmarks.web_mini import (
    BASELINE,
    DOMAIN,
    EVERY_TINY,
    IVF_PQ,
    TINY_IVF_PQ,
    K,
    build_spec,
    read_truth,
    run_recipe,
)
from curation.engine.table import open_table
from curation.recipe import parse_recipe
from curation.store.store import Store

Run = Callable[..., None]
Scores = dict[tuple[str, str], dict[str, float]]
"""Figures by (seed set, variant)."""
Rows = dict[str, dict[str, float]]
"""Figures of the rows of a table: values by column, by the name of the row."""
Measure = Callable[[Run, Store, "Truth", "Scale", int], Scores]

ALL_SETS = "all"

LARGE = 10_000
"""More than the images of any cluster."""
Variants = dict[str, dict[str, Any]]
"""Parameters of arms, by the name of a variant of a strategy."""
SAMPLE: dict[str, Any] = {"strategy": "sample", "k": K}
CLUSTER: dict[str, Any] = {"strategy": "cluster", "per_cluster": LARGE, "more_than": 3, "cap": None}
SAMPLE_VARIANTS: Variants = {
    "sample-count": SAMPLE | {"collisions": "count"},
    "sample-once": SAMPLE | {"collisions": "once"},
    "sample-reassign": SAMPLE | {"collisions": "reassign"},
}
VARIANTS: Variants = {
    "as_is": {"strategy": "as_is"},
    **SAMPLE_VARIANTS,
    "cluster": CLUSTER,
    "cluster-cap-400": CLUSTER | {"cap": 400},
    "cluster-per-10": CLUSTER | {"per_cluster": 10},
    "cluster-more-0": CLUSTER | {"more_than": 0},
    "cluster-more-9": CLUSTER | {"more_than": 9},
    "cluster-level-1": CLUSTER | {"level": 1},
}
DRAWS = 20
MIXED = ("sample-once", "cluster")
BALANCE = {"per_seed_set": dict.fromkeys(BASELINE, 400), "per_cluster": 40, "target": 1650}
COLUMNS = (
    "claims",
    "images",
    "domain",
    "label",
    "own label",
    "labels reached",
    "images reached",
    "balance",
)


@dataclass(frozen=True)
class Scale:
    """One of `every` rows is taken; recipe seeds, numbers of clusters, sample size, and the index."""

    every: int = 1
    seeds: tuple[int, ...] = (0, 1, 2)
    levels: tuple[int, int, int] = (256, 64, 16)
    target: int = 2000
    index: dict[str, Any] = field(default_factory=lambda: IVF_PQ)

    def hierarchies(self) -> dict[str, list[int]]:
        """Return the numbers of clusters of each level, by the name of a hierarchy."""
        finest, middle, coarsest = self.levels
        return {
            f"one level, {finest}": [finest],
            f"two levels, {finest} and {coarsest}": [finest, coarsest],
            f"three levels, {finest}, {middle}, {coarsest}": [finest, middle, coarsest],
        }


TINY = Scale(every=EVERY_TINY, seeds=(0,), levels=(16, 8, 4), target=100, index=TINY_IVF_PQ)


def arms_of(variants: Variants) -> list[dict[str, Any]]:
    """Return an arm for each seed set and variant."""
    return [
        {"name": f"{seed_set}-{variant}", "seeds": seed_set, **params}
        for seed_set in BASELINE
        for variant, params in variants.items()
    ]


def evenness(values: pd.Series, kinds: int) -> float:
    """Return the entropy of the values over log(kinds): 1 if `kinds` of them are equally frequent."""
    share = values.value_counts(normalize=True)
    return float(-(share * np.log(share)).sum() / np.log(kinds))


@dataclass(frozen=True)
class Truth:
    """The hidden truth: frames indexed by image_id, with columns domain and label.

    `pool` holds the eligible images of the pool, `seeds` those of all seed sets, with a column
    seed_set.
    """

    pool: pd.DataFrame
    seeds: pd.DataFrame

    def domain_and_labels(self, seed_set: str) -> tuple[str, pd.Index]:
        """Return the domain of a seed set in the pool, and the labels of its images."""
        images = self.seeds[self.seeds["seed_set"] == seed_set]
        return DOMAIN[seed_set], pd.Index(images["label"].unique())

    def score(self, claims: pd.DataFrame, seed_set: str) -> dict[str, float]:
        """Return COLUMNS for the claims of a seed set: columns strategy, image_id, seed_image_id."""
        domain, labels = self.domain_and_labels(seed_set)
        as_is = (claims["strategy"] == "as_is").all()
        images = (self.seeds if as_is else self.pool).loc[claims["image_id"]]
        relevant = (images["domain"] == domain) & images["label"].isin(labels)
        in_pool = (self.pool["domain"] == domain) & self.pool["label"].isin(labels)
        reached = 0 if as_is else images.index[relevant].nunique()
        seeds = claims["seed_image_id"].dropna()
        own_label = np.nan
        if len(seeds) == len(claims):
            labels_of_seeds = self.seeds["label"].loc[seeds].to_numpy()
            own_label = (images["label"].to_numpy() == labels_of_seeds).mean()
        return {
            "claims": len(claims),
            "images": claims["image_id"].nunique(),
            "domain": (images["domain"] == domain).mean(),
            "label": relevant.mean(),
            "own label": own_label,
            "labels reached": images.loc[relevant, "label"].nunique() / len(labels),
            "images reached": reached / in_pool.sum(),
            "balance": evenness(images.loc[relevant, "label"], len(labels)),
        }

    def claim_all(self) -> pd.DataFrame:
        """Return a claim on each eligible pool image."""
        return pd.DataFrame(
            {"strategy": "whole pool", "image_id": self.pool.index, "seed_image_id": None}
        )


def open_truth(store: Store, shared: Path) -> Truth:
    """Return the hidden truth of what is eligible in a store."""
    truth = read_truth(store, shared)
    rows = open_table(store, "eligible").read(["image_id", "role", "status"]).to_pandas()
    eligible = rows.loc[(rows["role"] == "pool") & (rows["status"] == "eligible"), "image_id"]
    pool, seeds = (pd.DataFrame(truth.loc[role]) for role in ("pool", "seed"))
    return Truth(pool=pool.loc[eligible.unique()], seeds=seeds)


def read_claims(store: Store) -> pd.DataFrame:
    """Return the current claims, with the variant of each arm."""
    columns = ["arm", "seed_set", "strategy", "image_id", "seed_image_id"]
    claims: pd.DataFrame = open_table(store, "claims").read(columns).to_pandas()
    return claims.assign(variant=claims["arm"].str.partition("-")[2])


def score_variants(run: Run, store: Store, truth: Truth, scale: Scale, seed: int) -> Scores:
    """Return the scores of every variant of strategies that use seeds, by (seed set, variant)."""
    scores = {(name, "whole pool"): truth.score(truth.claim_all(), name) for name in BASELINE}
    for suffix, match, variants in (("", {}, VARIANTS), (", ivf_pq", scale.index, SAMPLE_VARIANTS)):
        run({"seed": seed, "match": match, "retrieve": arms_of(variants)})
        stats = open_table(store, "matches").manifest.stats
        recall = f"recall@{stats.get('recall_at', 4 * K)} {stats['recall']}"
        print(f"{stats['index']}: {stats['shards']} shards, {recall}, {stats['search_seconds']} s")
        for (name, variant), claims in read_claims(store).groupby(["seed_set", "variant"]):
            scores[str(name), f"{variant}{suffix}"] = truth.score(claims, str(name))
    return scores


def score_agreement(run: Run, store: Store, truth: Truth, scale: Scale, seed: int) -> Scores:
    """Return the scores of the images that both of MIXED claim, and of those that only one claims."""
    run({"seed": seed, "retrieve": arms_of({name: VARIANTS[name] for name in MIXED})})
    claims = read_claims(store).sort_values("variant")
    joined = claims.groupby(["seed_set", "image_id"])["variant"].agg(" and ".join).reset_index()
    joined = joined.assign(strategy="mix", seed_image_id=None)
    scores: Scores = {}
    for (name, variants), set_claims in joined.groupby(["seed_set", "variant"]):
        row = str(variants) if " and " in str(variants) else f"{variants} alone"
        scores[str(name), row] = truth.score(set_claims, str(name))
    return scores


def score_mixes(run: Run, store: Store, truth: Truth, scale: Scale, seed: int) -> Scores:
    """Return the scores of each mix by (seed set, mix), and its composition as (ALL_SETS, mix)."""
    scores: Scores = {}
    arms = arms_of({name: VARIANTS[name] for name in MIXED})
    even = {"name": "even", "strategy": "hierarchical", "target": scale.target // 2}
    for mix, balance in (("mix", {}), ("mix, balanced", BALANCE)):
        run({"seed": seed, "retrieve": [*arms, even], "balance": balance})
        claims = read_claims(store)
        per_set = claims.dropna(subset="seed_set").drop_duplicates(["seed_set", "image_id"])
        for name, set_claims in per_set.groupby("seed_set"):
            # Several arms may claim an image. It counts once, so no seed image is known for it.
            scores[str(name), mix] = truth.score(set_claims.assign(seed_image_id=None), str(name))
        images = truth.pool.loc[claims["image_id"].unique()]
        sizes = per_set["seed_set"].value_counts()
        scores[ALL_SETS, mix] = {
            "images": len(images),
            **{name: sizes[name] for name in BASELINE},
            "even": (claims["arm"] == "even").sum(),
            "over seed sets": evenness(per_set["seed_set"], len(BASELINE)),
            "over domains": evenness(images["domain"], truth.pool["domain"].nunique()),
        }
    return scores


def mean_over_seeds(measure: Measure, run: Run, store: Store, truth: Truth, scale: Scale) -> Scores:
    """Return the means of scores over recipe seeds."""
    per_seed = [measure(run, store, truth, scale, seed) for seed in scale.seeds]
    return {key: _mean([scores[key] for scores in per_seed], "label") for key in per_seed[0]}


def _mean(rows: list[dict[str, float]], column: str) -> dict[str, float]:
    """Return the mean of each column, and the lowest and highest value of one."""
    frame = pd.DataFrame(rows)
    values = frame.get(column, pd.Series(dtype=float))
    return frame.mean().to_dict() | {"lowest": values.min(), "highest": values.max()}


def spread(images: pd.DataFrame, pool: pd.DataFrame) -> dict[str, float]:
    """Return how evenly images of the pool (columns domain, label) cover domains and classes."""
    size = pool["domain"].value_counts()
    share = images["domain"].value_counts(normalize=True).reindex(size.index, fill_value=0)
    classes = images.loc[images["label"].notna(), ["domain", "label"]].agg("/".join, axis=1)
    labelled = pool.loc[pool["label"].notna(), ["domain", "label"]].drop_duplicates()
    return {
        "images": len(images),
        "over domains": evenness(images["domain"], len(size)),
        "over classes": evenness(classes, len(labelled)),
        "classes": classes.nunique(),
        **{str(domain): value for domain, value in share.items()},
    }


def measure_hierarchical(run: Run, store: Store, truth: Truth, scale: Scale) -> Rows:
    """Return how evenly `hierarchical` samples images, beside the pool and a uniform sample."""
    pool = truth.pool
    uniform = [spread(pool.sample(scale.target, random_state=n), pool) for n in range(DRAWS)]
    result = {"whole pool": spread(pool, pool), "uniform draw": _mean(uniform, "over domains")}
    arms = [
        {"name": f"even-{leaf}", "strategy": "hierarchical", "target": scale.target, "leaf": leaf}
        for leaf in ("random", "nearest")
    ]
    for name, levels in scale.hierarchies().items():
        by_leaf: dict[str, list[dict[str, float]]] = {"random": [], "nearest": []}
        for seed in scale.seeds:
            run({"seed": seed, "cluster": {"levels": levels}, "retrieve": arms})
            for leaf, claims in read_claims(store).groupby("variant"):
                by_leaf[str(leaf)].append(spread(pool.loc[claims["image_id"]], pool))
        result |= {f"{name}, {leaf}": _mean(rows, "over domains") for leaf, rows in by_leaf.items()}
    return result


def _cell(value: float) -> str:
    if value != value:
        return "–"
    return f"{value:,.0f}" if round(value, 3) > 1 else f"{value:.3f}"


def print_table(title: str, rows: Rows, columns: Iterable[str]) -> None:
    """Print some columns as a Markdown table."""
    names = list(columns)
    print(f"\n| {title} | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(_cell(row.get(c, np.nan)) for c in names)} |", flush=True)


def print_scores(scores: Scores) -> None:
    """Print the mean over seed sets, a table for each seed set, and the composition of the mixes.

    A variant that claims nothing for a seed set has no figures there.
    """
    variants = list(dict.fromkeys(variant for _, variant in scores))
    mean: Rows = {}
    for variant in variants:
        frame = pd.DataFrame([scores.get((name, variant), {}) for name in BASELINE])
        mean[variant] = {str(column): value for column, value in frame.mean().items()}
    print_table("mean of the five", mean, COLUMNS)
    for name, (domain, label) in BASELINE.items():
        rows = {f"stated for sample, k = {K}": {"domain": domain, "own label": label}}
        rows |= {variant: scores.get((name, variant), {}) for variant in variants}
        print_table(name, rows, [*COLUMNS, "lowest", "highest"])
    mixes = {mix: scores.get((ALL_SETS, mix), {}) for mix in ("mix", "mix, balanced")}
    print_table("mix", mixes, ["images", *BASELINE, "even", "over seed sets", "over domains"])


def print_hierarchical(rows: Rows) -> None:
    """Print how even the samples are, and the share of each domain in them."""
    columns = ["images", "over domains", "lowest", "highest", "over classes", "classes"]
    print_table("hierarchical", rows, columns)
    print_table("share of", rows, [c for c in rows["whole pool"] if c not in columns])


def main() -> None:
    """Run every strategy and print the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--shared", type=Path, help="folder with the images and their truth")
    parser.add_argument("--store", type=Path, help="default: a temporary folder")
    options = parse(parser)
    shared = shared_folder(options)
    with folder_or_temporary(options.store) as folder:
        compare(shared, folder, TINY if options.tiny else Scale())


def compare(shared: Path, folder: Path, scale: Scale) -> None:
    """Run every strategy on the store in a folder, and print the tables."""
    store = Store(folder)
    spec = build_spec(shared, folder / "lists", scale.every)
    spec["cluster"] = {"levels": list(scale.levels)}

    def run(change: dict[str, Any], until: str = "retrieve") -> None:
        recipe = parse_recipe(spec | change)
        started = time.monotonic()
        run_recipe(recipe, store, scale is TINY, until)
        print(
            f"{', '.join(change) or 'until select'}: {time.monotonic() - started:.0f} s", flush=True
        )

    run({}, until="select")
    truth = open_truth(store, shared)
    scores: Scores = {}
    for measure in (score_variants, score_agreement, score_mixes):
        scores |= mean_over_seeds(measure, run, store, truth, scale)
    print_scores(scores)
    print_hierarchical(measure_hierarchical(run, store, truth, scale))


if __name__ == "__main__":
    main()
