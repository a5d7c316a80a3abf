"""A small pool with everything in it, inline in Parquet, so that whole runs take seconds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

FAMILIES = 6


def picture(family: int, rng: np.random.Generator, side: int = 128) -> Image.Image:
    """A soft field of a family's colours with a few shapes of its own."""
    base = np.random.default_rng(family).integers(0, 255, (3, 3, 3))
    field = np.clip(base + rng.normal(0, 45, base.shape), 0, 255).astype(np.uint8)
    image = Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.integers(0, side, 2)
        size = int(rng.integers(8, 40))
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        shape = draw.ellipse if family % 2 else draw.rectangle
        shape([x, y, x + size, y + size], fill=colour)
    return image


def encoded(image: Image.Image, quality: int = 92) -> bytes:
    """The picture as JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def pool_rows(rng: np.random.Generator, held_out: list[bytes]) -> list[dict[str, Any]]:
    """120 pictures, 10 exact copies, 10 re-encoded, 3 leaks, 4 corrupt and 3 tiny files."""
    plain = [picture(n % FAMILIES, rng) for n in range(120)]
    files = [encoded(image) for image in plain]
    files += files[:10]
    files += [encoded(image, 60) for image in plain[20:30]]
    files += held_out[:3]
    files += [b"\xff\xd8\xff not a picture", b"", b"<html>", files[5][:400]]
    files += [encoded(picture(0, rng, side=24)) for _ in range(3)]
    order = rng.permutation(len(files))
    return [
        {"key": f"p{n:03d}", "image": files[n], "caption": f"picture number {n} of a family"}
        for n in order
    ]


def build_small(folder: Path) -> dict[str, Any]:
    """Write pool, seeds and held-out files; return the recipe."""
    rng = np.random.default_rng(7)
    held_out = [encoded(picture(n, rng)) for n in range(FAMILIES)]
    write_rows(folder / "pool" / "a.parquet", pool_rows(rng, held_out))
    for name, families in (("round", (1, 3)), ("square", (0, 2))):
        files = [encoded(picture(families[n % 2], rng)) for n in range(12)]
        rows = [{"key": f"{name}{n}", "image": f, "caption": name} for n, f in enumerate(files)]
        write_rows(folder / f"{name}.parquet", rows)
    rows = [{"key": f"h{n}", "image": f, "caption": "held out"} for n, f in enumerate(held_out)]
    write_rows(folder / "held.parquet", rows)
    columns = {"image": "image", "caption": "caption", "key": "key"}

    def source(name: str, role: str, path: str) -> dict[str, Any]:
        place = {"format": "parquet", "path": str(folder / path), "columns": columns}
        return {"name": name, "role": role, **place}

    return {
        "name": "small",
        "sources": [
            source("web", "pool", "pool"),
            source("round", "seed", "round.parquet"),
            source("square", "seed", "square.parquet"),
            source("bench", "held_out", "held.parquet"),
        ],
        "ingest": {"rows_per_fragment": 25},
        "embed": {"batch_size": 16, "encoders": {"semantic": {"model": "vit_micro"}}},
        "dedup": {
            "near": {"encoder": "semantic", "at_least": 0.999},
            "held_out": {"at_least": 0.999},
            # Fewer pairs are compared than by default, where vectors of one family are all near.
            "verify": {"floor": 0.99, "k": 4},
        },
        "select": {"min_side": {"at_least": 64}},
        "cluster": {"levels": [8]},
        "retrieve": [
            {"name": "round", "seeds": "round", "strategy": "as_is"},
            {"name": "round-near", "seeds": "round", "strategy": "sample", "k": 3},
            {
                "name": "square-near",
                "seeds": "square",
                "strategy": "sample",
                "k": 2,
                "collisions": "reassign",
            },
            {
                "name": "square-cells",
                "seeds": "square",
                "strategy": "cluster",
                "per_cluster": 6,
                "more_than": 1,
                "cap": 10,
            },
        ],
        "assemble": {"pixels": True},
    }
