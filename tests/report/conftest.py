"""A small real run: every stage in process, on images in Parquet files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.engine.parallel import InProcess
from curation.flow import plan
from curation.recipe import Recipe, parse_recipe
from curation.runner.step import run_step
from curation.store.store import Store

HOSTILE = '<script>alert("caption")</script><img src="http://evil.example/a.png">'
HOSTILE_KEY = '"><link rel=stylesheet href="https://evil.example/b.css">'


@dataclass(frozen=True)
class Run:
    """A finished run."""

    recipe: Recipe
    store: Store


def picture(seed: int, hue: int, side: int = 96, quality: int = 92) -> bytes:
    """Return a JPEG of coloured blobs; images of one hue resemble each other."""
    rng = np.random.default_rng(seed)
    colour = np.array([[230, 70, 60], [60, 200, 80], [70, 90, 230]])[hue]
    blobs = rng.integers(0, 256, (32, 32, 3)) * 0.5 + colour * 0.5
    small = Image.fromarray(blobs.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=quality)
    return out.getvalue()


def write_source(path: Path, rows: list[tuple[bytes, str, str]]) -> None:
    """Write (image, caption, key) rows."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(c, t) for c, t in zip(columns, (pa.binary(), pa.string(), pa.string()))]  # noqa: B905
    pq.write_table(pa.table(arrays, names=["jpg", "caption", "key"]), path)


def pool_rows() -> list[tuple[bytes, str, str]]:
    """48 images, copies of some, and rows that are dropped."""
    rows = [(picture(i, i % 3), f"blobs {i}", f"pool-{i}") for i in range(48)]
    rows += [
        (rows[1][0], "the same bytes again", "exact"),
        (picture(2, 2, quality=60), "the same, smaller file", "re-encoded"),
        (picture(5, 2, side=88), "the same, shrunk", "shrunk"),
        (picture(900, 0), "on the benchmark too", "leak"),
        (picture(901, 1, quality=55), "on the benchmark too, re-encoded", "leak-2"),
        (b"not a picture", HOSTILE, HOSTILE_KEY),
        (picture(77, 0, side=24), "too small", "tiny"),
        (picture(78, 1), HOSTILE, "hostile"),
    ]
    return rows


def encoder_weights(path: Path) -> dict[str, Any]:
    """Write the random weights of a very small encoder, and return its spec."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0)
    save_file(model.state_dict(), path)
    return {"model": "timm/vit_tiny_patch16_224", "weights": str(path), "input_size": 32}


def run(folder: Path, spec: dict[str, Any]) -> Run:
    """Run every stage of a recipe in this process."""
    return run_into(Store(folder / "store"), spec)


def run_into(store: Store, spec: dict[str, Any]) -> Run:
    """Run every stage of a recipe into a store."""
    recipe = parse_recipe(spec)
    for step in plan(recipe):
        run_step(step, store, InProcess())
    return Run(recipe, store)


def source(folder: Path, name: str, role: str) -> dict[str, Any]:
    """Return the recipe's block of a source that `write_source` wrote."""
    return {
        "name": name,
        "role": role,
        "format": "parquet",
        "path": str(folder / f"{name}.parquet"),
        "columns": {"image": "jpg", "caption": "caption", "key": "key"},
    }


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with every kind of arm, copies, contamination and dropped rows."""
    folder = tmp_path_factory.mktemp("report")
    write_source(folder / "web.parquet", pool_rows())
    seeds = [(picture(500 + i, i % 3), f"seed {i}", f"seed-{i}") for i in range(9)]
    write_source(folder / "blobs.parquet", seeds)
    held = [(picture(900 + i, i % 3), f"held {i}", f"held-{i}") for i in range(4)]
    write_source(folder / "bench.parquet", held)
    return run(
        folder,
        {
            "name": "small",
            "sources": [
                source(folder, "web", "pool"),
                source(folder, "blobs", "seed"),
                source(folder, "bench", "held_out"),
            ],
            "embed": {"encoders": {"semantic": encoder_weights(folder / "w.safetensors")}},
            "dedup": {
                "near": {"encoder": "semantic", "at_least": 0.9999},
                "held_out": {"at_least": 0.9999},
            },
            "select": {"min_side": {"at_least": 64}},
            "cluster": {"levels": [4], "iterations": 8},
            "retrieve": [
                {"name": "as-is", "seeds": "blobs", "strategy": "as_is"},
                {"name": "nearest", "seeds": "blobs", "strategy": "sample", "k": 3, "cap": 20},
                {
                    "name": "clusters",
                    "seeds": "blobs",
                    "strategy": "cluster",
                    "per_cluster": 1003,
                    "more_than": 0,
                },
            ],
        },
    )


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose arm claims nothing, without copies and without held-out images.

    A row was appended, and the centroids of the run before are kept.
    """
    folder = tmp_path_factory.mktemp("empty")
    write_source(folder / "web.parquet", [(picture(i, i % 3), "", "") for i in range(8)])
    write_source(folder / "blobs.parquet", [(picture(500, 0), "seed", "s")])
    spec = {
        "name": "nothing",
        "sources": [source(folder, "web", "pool"), source(folder, "blobs", "seed")],
        "embed": {"encoders": {"semantic": encoder_weights(folder / "w.safetensors")}},
        "dedup": {"near": None, "perceptual": None},
        "cluster": {"levels": [2], "iterations": 3, "retrain": "never"},
        "balance": {"target": 12},
        "expect": {"rows": {"at_least": 0}},
        "retrieve": [
            {
                "name": "clusters",
                "seeds": "blobs",
                "strategy": "cluster",
                "per_cluster": 5,
                "more_than": 99,
            }
        ],
    }
    run(folder, spec)
    write_source(folder / "web.parquet", [(picture(i, i % 3), "", "") for i in range(9)])
    return run(folder, spec)
