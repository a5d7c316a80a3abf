"""Copies on a small real web with hidden truth: what each level of dedup finds and what it merges.

    python -m benchmarks.copies --shared ../shared --store data/copies

The default recipe runs on the pool until dedup; then dedup runs again with single levels. Recall is the
share of the planted copies that are in one component with their original, by strength of the edit.
Look-alikes are the nearest pairs of different pictures in the pool; the table counts those in one
component. Other pairs are all other pairs in one component; most of them are copies, but not planted.
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
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.store.store import Store

STRENGTHS = ("exact", "easy", "medium", "hard")
EVERY_TINY = 8
"""A tiny run takes one of this many planted copies and pairs."""
MAX_LISTED_SIZE = 1_000
"""The pairs of a component with more pictures are counted, but not listed."""
EXACT: dict[str, Any] = {"pixels": False, "perceptual": None, "near": None, "verify": None}
LEVELS: dict[str, dict[str, Any]] = {
    "exact": EXACT,
    "pixels": EXACT | {"pixels": True},
    "perceptual, unverified": EXACT | {"perceptual": {}},
    "perceptual": EXACT | {"perceptual": {}, "verify": {}},
    "near, unverified": EXACT | {"near": {}},
    "near": EXACT | {"near": {}, "verify": {}},
    "all, unverified": {"verify": None},
    "all (default)": {},
    "all, chains cut": {"chains": "cut"},
}


def spec_of(shared: Path, folder: Path, dedup: dict[str, Any]) -> dict[str, Any]:
    """Return the default recipe for the pool alone, with these parameters of dedup."""
    spec = build_spec(shared, folder)
    sources = [source for source in spec["sources"] if source["role"] == "pool"]
    return {"name": spec["name"], "ingest": spec["ingest"], "sources": sources, "dedup": dedup}


class Truth:
    """The planted copies and natural pairs of the pool. They have the ids of the source file.

    Args:
        shared: the folder with the real images.
        every: one of this many copies and pairs is taken.
    """

    def __init__(self, shared: Path, every: int = 1) -> None:
        data = shared / "data" / "web_mini"
        self.planted = pq.read_table(data / "planted_dups.parquet").to_pandas()[::every]
        pairs = pq.read_table(data / "natural_pairs.parquet").to_pandas()
        pairs = pairs[(pairs["set_a"] == "pool") & (pairs["set_b"] == "pool")]
        self.alike = pairs[pairs["verdict"] == "lookalike"][::every]
        groups = self.planted.groupby("group")[["dup_id", "orig_id"]]
        members = [sorted(set(group.to_numpy().ravel())) for _, group in groups]
        self.known = {frozenset(pair) for ids in members for pair in combinations(ids, 2)}
        self.known |= {frozenset(pair) for pair in pairs[["id_a", "id_b"]].to_numpy().tolist()}


def filter_pool(truth: Truth, path: Path) -> None:
    """Remove from the pool's file the images that are not in the truth."""
    planted, look_alikes = truth.planted, truth.alike
    ids = {*planted["dup_id"], *planted["orig_id"], *look_alikes["id_a"], *look_alikes["id_b"]}
    pool = pq.read_table(path)
    pq.write_table(pool.filter(pc.is_in(pool.column("id"), pa.array(sorted(ids)))), path)


def read_components(store: Store) -> pd.Series:
    """Return the component of each picture of the pool, indexed by its id in the source file."""
    images = open_table(store, "images").read(["pair_id", "source_key"]).to_pandas()
    copies = open_table(store, "copies").read(["pair_id", "representative_pair_id"]).to_pandas()
    merged: pd.DataFrame = images.merge(copies, on="pair_id").set_index("source_key")
    return merged["representative_pair_id"]


def measured(store: Store, truth: Truth) -> dict[str, Any]:
    """Return recall by strength and by edit, and the merged look-alikes and other pairs."""
    component = read_components(store)

    def in_one_component(a: pd.Series, b: pd.Series) -> np.ndarray:
        return np.asarray(component.loc[a].to_numpy() == component.loc[b].to_numpy())

    planted, look_alikes = truth.planted, truth.alike
    is_found = pd.Series(in_one_component(planted["dup_id"], planted["orig_id"]))
    merged = look_alikes[in_one_component(look_alikes["id_a"], look_alikes["id_b"])]
    other_pairs = [
        pair
        for _, members in component.groupby(component)
        if 1 < len(members) <= MAX_LISTED_SIZE
        for pair in combinations(sorted(members.index), 2)
        if frozenset(pair) not in truth.known
    ]
    sizes = component.value_counts()
    known = sum(component.get(a, a) == component.get(b, b) for a, b in map(tuple, truth.known))
    return {
        "other_pairs": int((sizes * (sizes - 1) // 2).sum()) - known,
        "recall": is_found.groupby(planted["strength"].to_numpy()).mean(),
        "by_edit": is_found.groupby(planted["transform"].to_numpy()).mean(),
        "alike": merged,
        "others": other_pairs,
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
    """Print a row for each level, and the pairs that the default recipe merges."""
    store, truth = Store(folder), Truth(shared, EVERY_TINY if tiny else 1)
    lists = folder / "lists"
    recipe_spec = spec_of(shared, lists, {})
    recipe = parse_recipe(recipe_spec)
    if tiny:
        filter_pool(truth, lists / "pool.parquet")
    started = time.monotonic()
    run_recipe(recipe, store, tiny, until="dedup")
    print(f"default recipe until dedup: {time.monotonic() - started:.0f} s")
    for name in ("neighbours", "verified"):
        table = open_table(store, name)
        print(f"{name}: {table.rows:,} rows, {table.manifest.stats}")
    print(f"\n| level | {' | '.join(STRENGTHS)} | look-alikes | other pairs |\n|{'---|' * 7}")
    for level, dedup in LEVELS.items():
        for step in plan(parse_recipe(recipe_spec | {"dedup": dedup}), until="dedup"):
            if step.name in ("neighbours", "verify", "dedup"):
                run_step(step, store, InProcess())
        result = measured(store, truth)
        recall = " | ".join(f"{result['recall'][strength]:.3f}" for strength in STRENGTHS)
        counts = f"{len(result['alike'])} | {result['other_pairs']:,}"
        print(f"| {level} | {recall} | {counts} |", flush=True)
        if level == "all (default)":
            default = result
    print("\nrecall by edit:", ", ".join(f"{n} {v:.2f}" for n, v in default["by_edit"].items()))
    print("\nlook-alikes merged by the default recipe:")
    columns = ["id_a", "id_b", "source_a", "cos_vit", "dhash256"]
    print(default["alike"][columns].to_string(index=False))
    print("\nother pairs merged by the default recipe:", default["others"][:60])


if __name__ == "__main__":
    main()
