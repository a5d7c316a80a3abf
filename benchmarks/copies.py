"""Copies on a small real web with hidden truth: what each level of dedup finds, and what it merges.

    python -m benchmarks.copies --shared ../shared --store data/copies

The default recipe runs over the pool until dedup, then dedup again with single levels. Recall: part of
the planted copies that share a component with their original, by strength. Look-alikes: how many of the
nearest pairs of different pictures in the pool do too. Other pairs: all others of one component, most
of them copies that nobody planted.
"""

from __future__ import annotations

import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.command import folder_or_temporary, parse, parser_of, shared_folder
from benchmarks.machine import conditions
from benchmarks.web_mini import build_spec, run_recipe
from curation.engine.parallel import InProcess
from curation.engine.store import Store
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner import run_step

STRENGTHS = ("exact", "easy", "medium", "hard")
EVERY_TINY = 8
"""Of how many planted copies and pairs a tiny run takes one."""
LARGEST = 1_000
"""Pictures of a component from which its pairs are counted, but not listed."""
NONE: dict[str, Any] = {"pixels": False, "perceptual": None, "near": None, "verify": None}
LEVELS: dict[str, dict[str, Any]] = {
    "exact": NONE,
    "pixels": NONE | {"pixels": True},
    "perceptual, unverified": NONE | {"perceptual": {}},
    "perceptual": NONE | {"perceptual": {}, "verify": {}},
    "near, unverified": NONE | {"near": {}},
    "near": NONE | {"near": {}, "verify": {}},
    "all, unverified": {"verify": None},
    "all (default)": {},
    "all, chains cut": {"chains": "cut"},
}


def spec_of(shared: Path, folder: Path, dedup: dict[str, Any]) -> dict[str, Any]:
    """Return the default recipe over the pool alone, with some parameters of dedup."""
    spec = build_spec(shared, folder)
    names = ("name", "ingest")
    sources = [s for s in spec["sources"] if s["role"] == "pool"]
    return {n: spec[n] for n in names} | {"sources": sources, "dedup": dedup}


class Truth:
    """The planted copies and natural pairs of the pool, by the pool's own ids.

    Args:
        shared: the folder with the real images.
        every: the distance of the copies and pairs that are taken; 1 takes all.
    """

    def __init__(self, shared: Path, every: int = 1) -> None:
        data = shared / "data" / "web_mini"
        self.planted = pq.read_table(data / "planted_dups.parquet").to_pandas()[::every]
        pairs = pq.read_table(data / "natural_pairs.parquet").to_pandas()
        pairs = pairs[(pairs["set_a"] == "pool") & (pairs["set_b"] == "pool")]
        self.alike = pairs[pairs["verdict"] == "lookalike"][::every]
        groups = self.planted.groupby("group")[["dup_id", "orig_id"]]
        members = [set(own.to_numpy().ravel()) for _, own in groups]
        self.known = {frozenset(p) for own in members for p in combinations(sorted(own), 2)}
        self.known |= {frozenset(p) for p in pairs[["id_a", "id_b"]].to_numpy().tolist()}


def keep_only(truth: Truth, path: Path) -> None:
    """Leave of the pool's file only the images of which the truth speaks."""
    planted, pairs = truth.planted, truth.alike
    wanted = {*planted["dup_id"], *planted["orig_id"], *pairs["id_a"], *pairs["id_b"]}
    pool = pq.read_table(path)
    pq.write_table(pool.filter(pc.is_in(pool.column("id"), pa.array(sorted(wanted)))), path)


def components(store: Store) -> pd.Series:
    """Return the component of each picture of the pool, by the pool's own id."""
    images = open_table(store, "images").read(["pair_id", "source_key"]).to_pandas()
    copies = open_table(store, "copies").read(["pair_id", "representative_pair_id"]).to_pandas()
    merged: pd.DataFrame = images.merge(copies, on="pair_id").set_index("source_key")
    return merged["representative_pair_id"]


def measured(store: Store, truth: Truth) -> dict[str, Any]:
    """Return recall by strength, look-alikes and other pairs in one component."""
    stands = components(store)

    def together(a: pd.Series, b: pd.Series) -> np.ndarray:
        return np.asarray(stands.loc[a].to_numpy() == stands.loc[b].to_numpy())

    planted, alike = truth.planted, truth.alike
    found = pd.Series(together(planted["dup_id"], planted["orig_id"]))
    merged = alike[together(alike["id_a"], alike["id_b"])]
    others = [
        pair
        for _, own in stands.groupby(stands)
        if 1 < len(own) <= LARGEST
        for pair in combinations(sorted(own.index), 2)
        if frozenset(pair) not in truth.known
    ]
    sizes = stands.value_counts()
    known = sum(stands.get(a, a) == stands.get(b, b) for a, b in map(tuple, truth.known))
    return {
        "other_pairs": int((sizes * (sizes - 1) // 2).sum()) - known,
        "recall": found.groupby(planted["strength"].to_numpy()).mean(),
        "by_edit": found.groupby(planted["transform"].to_numpy()).mean(),
        "alike": merged,
        "others": others,
    }


def main() -> None:
    """Run all levels and print the table as Markdown."""
    parser = parser_of(__doc__)
    parser.add_argument("--shared", type=Path, help="folder with the images and their truth")
    parser.add_argument("--store", type=Path, help="default: a temporary folder")
    options = parse(parser)
    shared = shared_folder(options)
    print(conditions())
    with folder_or_temporary(options.store) as folder:
        compare(shared, folder, options.tiny)


def compare(shared: Path, folder: Path, tiny: bool) -> None:
    """Print a row for each level, and what the default recipe merges."""
    store, truth = Store(folder), Truth(shared, EVERY_TINY if tiny else 1)
    lists = folder / "lists"
    recipe_spec = spec_of(shared, lists, {})
    recipe = parse_recipe(recipe_spec)
    if tiny:
        keep_only(truth, lists / "pool.parquet")
    begun = time.monotonic()
    run_recipe(recipe, store, tiny, until="dedup")
    print(f"default recipe until dedup: {time.monotonic() - begun:.0f} s")
    for table in ("neighbours", "verified"):
        found = open_table(store, table)
        print(f"{table}: {found.rows:,} rows, {found.manifest.stats}")
    print(f"\n| level | {' | '.join(STRENGTHS)} | look-alikes | other pairs |\n|{'---|' * 7}")
    for name, dedup in LEVELS.items():
        own = parse_recipe(recipe_spec | {"dedup": dedup})
        for step in plan(own, until="dedup"):
            if step.name in ("neighbours", "verify", "dedup"):
                run_step(step, store, InProcess())
        said = measured(store, truth)
        cells = " | ".join(f"{said['recall'][s]:.3f}" for s in STRENGTHS)
        print(f"| {name} | {cells} | {len(said['alike'])} | {said['other_pairs']:,} |", flush=True)
        if name == "all (default)":
            best = said
    print("\nby edit:", ", ".join(f"{n} {v:.2f}" for n, v in best["by_edit"].items()))
    print("\nlook-alikes merged by the default recipe:")
    print(best["alike"][["id_a", "id_b", "source_a", "cos_vit", "dhash256"]].to_string(index=False))
    print("\nothers merged by the default recipe:", best["others"][:60])


if __name__ == "__main__":
    main()
