"""The flow on a small real web with hidden truth, with exact search and with an IVF-PQ index.

    python -m benchmarks.web_mini --shared ../shared --store data/web-mini

Prints the precision of `sample` with k = 4, beside the figures that the README of the data states for
the same encoder, and the recall of the compressed index. `benchmarks.strategies` measures all other
strategies on the same store, and `benchmarks.copies` measures copies.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.command import folder_or_temporary, parse, parser_of, shared_folder
from curation.engine.cluster import load_cluster
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.launch import run_steps
from curation.recipe import Recipe, parse_recipe
from curation.runner.step import run_step
from curation.store.store import Store

# Domain and label precision of ViT-Tiny features, cosine, k = 4, as the README of the data states.
BASELINE = {
    "scenes": (0.91, 0.79),
    "flowers": (0.86, 0.76),
    "textures": (0.84, 0.67),
    "products": (0.99, 0.48),
    "objects10": (0.83, 0.80),
}
DOMAIN = {name: name for name in BASELINE} | {"objects10": "objects"}
K = 4
# Cosine from which two images are copies with this encoder; the default is that of `vit_micro`.
NEAR = 0.96
IVF_PQ = {"index": "ivf_pq", "nlist": 64, "nprobe": 16, "subquantizers": 24, "refine": 8}
EVERY_TINY = 20
"""A tiny run takes one of this many rows."""
TINY_IVF_PQ = IVF_PQ | {"nlist": 4, "nprobe": 2}


def _without_truth(table: pa.Table) -> pa.Table:
    hidden = ("gt_", "seed_set")
    return table.select([c for c in table.column_names if not c.startswith(hidden)])


def _every(table: pa.Table, distance: int) -> pa.Table:
    return table.take(pa.array(range(0, len(table), distance)))


def build_spec(shared: Path, folder: Path, every: int = 1) -> dict[str, Any]:
    """Write the sources without their truth, and return the recipe.

    Args:
        shared: the folder with the real images.
        folder: where the sources are written.
        every: one of this many rows is taken.
    """
    data = shared / "data" / "web_mini"
    folder.mkdir(parents=True, exist_ok=True)
    pool, seeds = (
        _every(pq.read_table(data / f"{name}.parquet"), every) for name in ("pool", "seeds")
    )
    pq.write_table(_without_truth(pool), folder / "pool.parquet")
    columns = {"image": "image", "caption": "caption", "key": "id"}
    parquet = {"format": "parquet", "columns": columns}
    sources = [{"name": "web", "role": "pool", "path": str(folder / "pool.parquet"), **parquet}]
    for name in BASELINE:
        path = folder / f"{name}.parquet"
        seed_set = seeds.filter(pc.equal(seeds.column("seed_set"), name))
        pq.write_table(_without_truth(seed_set), path)
        sources.append({"name": name, "role": "seed", "path": str(path), **parquet})
    weights = str(shared / "models" / "vit_tiny_patch16_224.safetensors")
    encoder = {"model": "timm/vit_tiny_patch16_224", "weights": weights}
    return {
        "name": "web-mini",
        "sources": sources,
        "ingest": {"rows_per_fragment": 1000},
        "embed": {"encoders": {"semantic": encoder}},
        "dedup": {
            "near": {"encoder": "semantic", "at_least": NEAR},
            "held_out": None,
            "verify": None,
        },
        "retrieve": [
            {"name": name, "seeds": name, "strategy": "sample", "k": K} for name in BASELINE
        ],
    }


def run_recipe(recipe: Recipe, store: Store, tiny: bool, until: str | None = None) -> None:
    """Run a recipe with Spark; a tiny one in this process, which starts sooner."""
    steps = plan(recipe, until)
    if tiny:
        for step in steps:
            run_step(step, store, InProcess())
    else:
        run_steps(steps, recipe, store, load_cluster("local"))


def read_truth(store: Store, shared: Path) -> pd.DataFrame:
    """Return domain, label and seed_set of every image of the store, indexed by role and image_id."""
    data = shared / "data" / "web_mini"
    columns = ["id", "gt_domain", "gt_label"]
    pool = pq.read_table(data / "pool.parquet", columns=columns).to_pandas()
    seeds = pq.read_table(data / "seeds.parquet", columns=[*columns, "seed_set"]).to_pandas()
    truth = pd.concat([pool.assign(role="pool"), seeds.assign(role="seed")])
    truth = truth.rename(columns=lambda name: name.removeprefix("gt_"))
    images = open_table(store, "images").read(["image_id", "role", "source_key"]).to_pandas()
    images = images.drop_duplicates(["role", "image_id"])
    joined = images.merge(truth, left_on=["role", "source_key"], right_on=["role", "id"])
    frame: pd.DataFrame = joined.set_index(["role", "image_id"])
    return frame[["domain", "label", "seed_set"]].sort_index()


def precision(store: Store, shared: Path) -> pd.DataFrame:
    """Return domain and label precision of each arm against the hidden truth."""
    truth = read_truth(store, shared)
    claims = open_table(store, "claims").read(["arm", "image_id", "seed_image_id"]).to_pandas()
    claimed = truth.loc["pool"].loc[claims["image_id"]]
    seeds = truth.loc["seed"].loc[claims["seed_image_id"]]
    claims["domain"] = claimed["domain"].to_numpy() == claims["arm"].map(DOMAIN).to_numpy()
    claims["label"] = claimed["label"].to_numpy() == seeds["label"].to_numpy()
    means: pd.DataFrame = claims.groupby("arm")[["domain", "label"]].mean()
    return means.loc[list(BASELINE)]


def main() -> None:
    """Run with both kinds of search and print the tables as Markdown."""
    parser = parser_of(__doc__)
    parser.add_argument("--shared", type=Path, help="folder with the images and their truth")
    parser.add_argument("--store", type=Path, help="default: a temporary folder")
    arguments = parse(parser)
    shared = shared_folder(arguments)
    with folder_or_temporary(arguments.store) as store:
        compare(shared, store, arguments.tiny)


def compare(shared: Path, folder: Path, tiny: bool) -> None:
    """Run with exact search and with the index, and print the tables."""
    store = Store(folder)
    spec = build_spec(shared, folder / "lists", EVERY_TINY if tiny else 1)
    tables = {}
    for index, match in (("exact", {}), ("ivf_pq", TINY_IVF_PQ if tiny else IVF_PQ)):
        recipe = parse_recipe(spec | {"match": match})
        started = time.monotonic()
        run_recipe(recipe, store, tiny)
        stats = open_table(store, "matches").manifest.stats
        seconds = time.monotonic() - started
        print(f"{index}: {seconds:.0f} s, recall@{K} {stats['recall']}, {stats['shards']} shards")
        tables[index] = precision(store, shared)
    print("\n| seed set | stated | exact | ivf_pq |\n|---|---|---|---|")
    for name, stated in BASELINE.items():
        rows = (tables[t].loc[name] for t in ("exact", "ivf_pq"))
        cells = (f"{r['domain']:.3f} / {r['label']:.3f}" for r in rows)
        print(f"| {name} | {stated[0]:.2f} / {stated[1]:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
