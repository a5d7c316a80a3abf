"""Run the whole flow from Python, on drawings that this script makes.

    python examples/small_run.py                   # writes data/examples/store

36 drawings of circles, squares and triangles are the pool, with 3 exact and 3 re-encoded copies. Six
more drawings of circles are the seeds. Two arms ask for images: one takes the nearest of each seed, one
takes images of the clusters in which seeds lie. Everything runs in this process, without Spark.
"""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from curation.engine.parallel import InProcess
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.store.store import Store

DEFAULT_STORE = Path("data/examples/store")
SHAPES = ("circle", "square", "triangle")


def drawing(shape: str, rng: np.random.Generator) -> Image.Image:
    """Return an image of one shape on a soft background, of 96 to 160 pixels."""
    side = int(rng.choice([96, 128, 160]))
    corners = rng.integers(0, 255, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(corners).resize((side, side), Image.Resampling.BICUBIC)
    x, y = rng.integers(5, side // 2, 2).tolist()
    size = int(rng.integers(side // 4, side // 2))
    colour = tuple(rng.integers(0, 255, 3).tolist())
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse([x, y, x + size, y + size], fill=colour)
    elif shape == "square":
        draw.rectangle([x, y, x + size, y + size], fill=colour)
    else:
        draw.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=colour)
    return image


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """Return an image as the bytes of a JPEG file."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def write_sources(folder: Path) -> None:
    """Write the pool and the seeds as Parquet files with images inside."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    names = [SHAPES[n % 3] for n in range(36)]
    images = [drawing(name, rng) for name in names]
    files = [jpeg(image) for image in images]
    files += files[:3] + [jpeg(image, quality=60) for image in images[3:6]]
    names += names[:6]
    rows = [
        {"image": file, "caption": f"a {name}", "key": f"pool-{n}"}
        for n, (file, name) in enumerate(zip(files, names, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pool.parquet")
    seeds = [
        {"image": jpeg(drawing("circle", rng)), "caption": "a circle", "key": f"seed-{n}"}
        for n in range(6)
    ]
    pq.write_table(pa.Table.from_pylist(seeds), folder / "seeds.parquet")


def recipe_over(folder: Path) -> dict[str, Any]:
    """Return the recipe, as a YAML file would have it."""
    columns = {"image": "image", "caption": "caption", "key": "key"}
    place = {"format": "parquet", "columns": columns}
    return {
        "name": "shapes",
        "sources": [
            {"name": "web", "role": "pool", "path": str(folder / "pool.parquet"), **place},
            {"name": "circles", "role": "seed", "path": str(folder / "seeds.parquet"), **place},
        ],
        # Batches are padded to their full size: large ones would cost minutes on so few images.
        "embed": {"batch_size": 16},
        "select": {"min_side": {"at_least": 64}},
        "cluster": {"levels": [6]},
        "retrieve": [
            {"name": "near", "seeds": "circles", "strategy": "sample", "k": 3},
            {
                "name": "around",
                "seeds": "circles",
                "strategy": "cluster",
                "per_cluster": 3,
                "more_than": 0,
            },
        ],
        "assemble": {"pixels": True},
    }


def main() -> None:
    """Write the sources, and run every step of the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    folder = parser.parse_args().store
    write_sources(folder / "sources")
    store = Store(folder)
    for step in plan(parse_recipe(recipe_over(folder / "sources"))):
        outcome = run_step(step, store, InProcess())
        print(f"{step.name:<12}{outcome.rows:>6} rows {outcome.seconds:>6.1f} s")


if __name__ == "__main__":
    main()
