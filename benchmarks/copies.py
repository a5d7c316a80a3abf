"""Copies in a small real web with hidden truth: what each level of dedup finds, and what it merges.

    python -m benchmarks.copies --shared ../shared --store data/copies

The default recipe runs over the pool until dedup. Then dedup runs again with single levels. *Recall* is
the share of planted copies that are in one component with their original, by strength of the edit.
*Look-alikes* are how many of the nearest pairs of different images in the pool are in one component.
*Other pairs* are all other pairs of one component; most of them are copies that were not planted.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.machine import conditions
from benchmarks.web_mini import build_spec
from curation.engine.parallel import InProcess
from curation.engine.spark import load_cluster
from curation.engine.store import Store
from curation.engine.table import open_table
from curation.flow import plan
from curation.launch import run_steps
from curation.recipe import parse_recipe
from curation.runner import run_step

STRENGTHS = ("exact", "easy", "medium", "hard")
MAX_LISTED_COMPONENT = 1_000
"""Images of a component above which its pairs are counted, but not listed."""
NO_LEVEL: dict[str, Any] = {"pixels": False, "perceptual": None, "near": None, "verify": None}
LEVELS: dict[str, dict[str, Any]] = {
    "exact": NO_LEVEL,
    "pixels": NO_LEVEL | {"pixels": True},
    "perceptual, unverified": NO_LEVEL | {"perceptual": {}},
    "perceptual": NO_LEVEL | {"perceptual": {}, "verify": {}},
    "near, unverified": NO_LEVEL | {"near": {}},
    "near": NO_LEVEL | {"near": {}, "verify": {}},
    "all, unverified": {"verify": None},
    "all (default)": {},
    "all, chains cut": {"chains": "cut"},
}


def spec_of(shared: Path, folder: Path, dedup: dict[str, Any]) -> dict[str, Any]:
    """Return the default recipe with the pool as its only source, and with some parameters of dedup."""
    spec = build_spec(shared, folder)
    names = ("name", "ingest")
    sources = [s for s in spec["sources"] if s["role"] == "pool"]
    return {name: spec[name] for name in names} | {"sources": sources, "dedup": dedup}


class Truth:
    """The planted copies and natural pairs of the pool, by the ids of the pool file.

    Attributes:
        planted: planted copies with their originals.
        lookalikes: pairs of different images that look alike.
        known_pairs: all pairs of images whose truth is known.
    """

    def __init__(self, shared: Path) -> None:
        data = shared / "data" / "web_mini"
        self.planted = pq.read_table(data / "planted_dups.parquet").to_pandas()
        pairs = pq.read_table(data / "natural_pairs.parquet").to_pandas()
        pairs = pairs[(pairs["set_a"] == "pool") & (pairs["set_b"] == "pool")]
        self.lookalikes = pairs[pairs["verdict"] == "lookalike"]
        groups = self.planted.groupby("group")[["dup_id", "orig_id"]]
        members = [set(group.to_numpy().ravel()) for _, group in groups]
        self.known_pairs = {frozenset(p) for m in members for p in combinations(sorted(m), 2)}
        self.known_pairs |= {frozenset(p) for p in pairs[["id_a", "id_b"]].to_numpy().tolist()}


def representatives(store: Store) -> pd.Series:
    """Return the representative of each image of the pool, by the id in the pool file."""
    images = open_table(store, "images").read(["pair_id", "source_key"]).to_pandas()
    copies = open_table(store, "copies").read(["pair_id", "representative_pair_id"]).to_pandas()
    return images.merge(copies, on="pair_id").set_index("source_key")["representative_pair_id"]


def measure(store: Store, truth: Truth) -> dict[str, Any]:
    """Return recall by strength and by edit, and the look-alikes and other pairs in one component."""
    representative = representatives(store)

    def in_one_component(a: pd.Series, b: pd.Series) -> np.ndarray:
        return np.asarray(representative.loc[a].to_numpy() == representative.loc[b].to_numpy())

    planted, lookalikes = truth.planted, truth.lookalikes
    found = pd.Series(in_one_component(planted["dup_id"], planted["orig_id"]))
    merged = lookalikes[in_one_component(lookalikes["id_a"], lookalikes["id_b"])]
    other_pairs = [
        pair
        for _, component in representative.groupby(representative)
        if 1 < len(component) <= MAX_LISTED_COMPONENT
        for pair in combinations(sorted(component.index), 2)
        if frozenset(pair) not in truth.known_pairs
    ]
    sizes = representative.value_counts()
    known = sum(
        representative.get(a, a) == representative.get(b, b)
        for a, b in map(tuple, truth.known_pairs)
    )
    return {
        "other_pair_count": int((sizes * (sizes - 1) // 2).sum()) - known,
        "recall": found.groupby(planted["strength"].to_numpy()).mean(),
        "by_edit": found.groupby(planted["transform"].to_numpy()).mean(),
        "lookalikes": merged,
        "other_pairs": other_pairs,
    }


def main() -> None:
    """Run all levels and print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    options = parser.parse_args()
    print(conditions())
    store, truth = Store(options.store), Truth(options.shared)
    folder = options.store / "lists"
    recipe = parse_recipe(spec_of(options.shared, folder, {}))
    begun = time.monotonic()
    run_steps(plan(recipe, until="dedup"), recipe, store, load_cluster("local"))
    print(f"default recipe until dedup: {time.monotonic() - begun:.0f} s")
    for table in ("neighbours", "verified"):
        opened = open_table(store, table)
        print(f"{table}: {opened.rows:,} rows, {opened.manifest.stats}")
    print(f"\n| level | {' | '.join(STRENGTHS)} | look-alikes | other pairs |\n|{'---|' * 7}")
    for name, dedup in LEVELS.items():
        level_recipe = parse_recipe(spec_of(options.shared, folder, dedup))
        for step in plan(level_recipe, until="dedup"):
            if step.name in ("neighbours", "verify", "dedup"):
                run_step(step, store, InProcess())
        measures = measure(store, truth)
        cells = " | ".join(f"{measures['recall'][s]:.3f}" for s in STRENGTHS)
        print(
            f"| {name} | {cells} | {len(measures['lookalikes'])} | {measures['other_pair_count']:,} |",
            flush=True,
        )
        if name == "all (default)":
            default = measures
    print("\nby edit:", ", ".join(f"{n} {v:.2f}" for n, v in default["by_edit"].items()))
    print("\nlook-alikes merged by the default recipe:")
    print(
        default["lookalikes"][["id_a", "id_b", "source_a", "cos_vit", "dhash256"]].to_string(
            index=False
        )
    )
    print("\nother pairs merged by the default recipe:", default["other_pairs"][:60])


if __name__ == "__main__":
    main()
