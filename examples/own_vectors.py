"""From vectors of your own to a balanced set, without a picture: no encoder, no fetching, no Spark.

    python examples/own_vectors.py                 # writes data/examples/own_vectors

600 vectors of ten kinds stand for those that you have: 240 of the commonest kind, 6 of the rarest, and
30 near copies. The script writes them as a .npy file with their ids, a list of the same ids with
captions, and a recipe. The recipe removes copies by their vectors, clusters the rest and takes as many
of each cluster as there are. `curation run DIR/own_vectors/recipe.yaml --store DIR` does the same.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

import numpy as np

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import load_recipe
from curation.recipe.pixels import left_out
from curation.runner.step import run_step
from curation.store.store import DATASET, Store

DEFAULT_STORE = Path("data/examples/own_vectors")
SIZES = (240, 120, 70, 45, 32, 24, 16, 10, 7, 6)
COPIES = 30
DIM = 32
RECIPE = """\
name: own_vectors
sources:
  - name: mine
    role: pool
    format: csv
    path: {folder}/list.csv
    columns: {{key: id, caption: text}}
fetch: {{pixels: none}}                        # nothing is read or requested but the list
embed:
  encoders:
    semantic:
      import: {folder}/vectors.npy
      ids: {{join: key, file: {folder}/ids.npy}}  # id n is the key of the row that vector n belongs to
dedup:
  near: {{encoder: semantic, at_least: 0.98}}  # a threshold that fits these vectors
cluster: {{levels: [10]}}
retrieve:
  - {{name: balanced, strategy: hierarchical, target: 100}}
"""


def write_sources(folder: Path) -> None:
    """Write the list, the vectors with their ids in another order, and the recipe."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = np.repeat(np.arange(len(SIZES)), SIZES)
    vectors = rng.normal(size=(len(SIZES), DIM))[kinds] + 0.5 * rng.normal(size=(len(kinds), DIM))
    originals = rng.choice(len(kinds), COPIES, replace=False)
    kinds = np.concatenate([kinds, kinds[originals]])
    vectors = np.concatenate([vectors, vectors[originals] + 0.02 * rng.normal(size=(COPIES, DIM))])
    ids = np.array([f"image-{n}" for n in range(len(kinds))])
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "text"])
        rows.writerows(zip(ids, (f"an image of kind {kind}" for kind in kinds), strict=True))
    order = rng.permutation(len(ids))
    np.save(folder / "vectors.npy", vectors[order].astype(np.float32))
    np.save(folder / "ids.npy", ids[order])
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder), encoding="utf-8")


def kinds_of(captions: list[str]) -> str:
    """Return how many captions are of each kind."""
    counts = Counter(int(caption.rpartition(" ")[2]) for caption in captions)
    return ", ".join(str(counts[kind]) for kind in range(len(SIZES)))


def main() -> None:
    """Write the sources, run every step of the plan, and count the images of each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    folder = parser.parse_args().store
    write_sources(folder / "own_vectors")
    recipe, store = load_recipe(folder / "own_vectors" / "recipe.yaml"), Store(folder)
    for sentence in left_out(recipe):
        print(sentence)
    for step in plan(recipe):
        run_step(step, store, InProcess())
    methods = open_table(store, "copies").read(["method"]).column(0).to_pylist()
    print(f"{methods.count('near')} near copies removed")
    for name in ("images", DATASET):
        captions = open_table(store, name).read(["caption"]).column(0).to_pylist()
        print(f"{name}: {len(captions)} images, by kind {kinds_of(captions)}")


if __name__ == "__main__":
    main()
