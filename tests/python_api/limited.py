"""A recipe of imported vectors without pixels, with every kind of arm and limit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ARMS: list[dict[str, Any]] = [
    {"name": "as-is", "seeds": "birds", "strategy": "as_is"},
    {"name": "near", "seeds": "birds", "strategy": "sample", "k": 4, "cap": 12},
    {"name": "once", "seeds": "birds", "strategy": "sample", "k": 4, "collisions": "once"},
    {"name": "reassign", "seeds": "cats", "strategy": "sample", "k": 3, "collisions": "reassign"},
    {"name": "cells", "seeds": "birds", "strategy": "cluster", "per_cluster": 4, "more_than": 0},
    {
        "name": "coarse",
        "seeds": "birds",
        "strategy": "cluster",
        "per_cluster": 9,
        "more_than": 0,
        "level": 1,
        "cap": 7,
    },
    {
        "name": "skip",
        "seeds": "cats",
        "strategy": "cluster",
        "per_cluster": 6,
        "more_than": 0,
        "small_clusters": "skip",
    },
    {"name": "all-twice", "strategy": "hierarchical", "target": 500, "multiplier": 2},
    {"name": "everything", "strategy": "everything"},
]
BALANCE = {"target": 30, "per_cluster": 9, "per_seed_set": {"birds": 12}}
AT_THE_BOUND = "abcdefg123"
"""A caption with a share of letters of 0.7, which no float32 holds."""


def limited_recipe(folder: Path) -> dict[str, Any]:
    """Write rows with vectors and without pixels; some images are in the pool and in the sets."""
    rng = np.random.default_rng(5)
    shared = [hashlib.sha256(name).hexdigest() for name in (b"in both sets", b"held out too")]
    rows: dict[str, list[dict[str, Any]]] = {
        "web": [
            {"key": f"p{n}", "caption": AT_THE_BOUND if n % 7 else "12345a"} for n in range(60)
        ],
        "birds": [{"key": f"b{n}", "caption": "bird"} for n in range(8)],
        "cats": [{"key": f"c{n}", "caption": "cat"} for n in range(5)],
        "bench": [{"key": f"h{n}", "caption": "held out"} for n in range(3)],
    }
    vectors: dict[str, Any] = {}
    for role, listed in rows.items():
        for row in listed:
            row |= {"url": f"https://a.example/{row['key']}", "sha256": None}
            vectors[row["key"]] = rng.normal(size=8) + 3 * np.eye(8)[rng.integers(4)]
        if role != "bench":
            # One image in the pool, where it is listed twice, and in both seed sets.
            names = ["shared", "shared again"] if role == "web" else ["shared"]
            listed += [
                {"key": f"{role} {name}", "caption": AT_THE_BOUND, "sha256": shared[0]}
                for name in names
            ]
    # A chain of copies, in which the best pair of each image is with the one beside it: 0–1 and 2–3.
    for number, angle in enumerate((0.0, 0.14, 0.29, 0.43)):
        key = f"chain {number}"
        # The first fails the threshold on captions.
        caption = AT_THE_BOUND + "abcdefg123" * number if number else "12345a"
        rows["web"].append({"key": key, "caption": caption})
        rows["web"][-1] |= {"url": f"https://c.example/{number}", "sha256": None}
        vectors[key] = np.cos(angle) * np.eye(8)[5] + np.sin(angle) * np.eye(8)[6]
    rows["web"].append({**rows["web"][3], "key": "listed again"})
    for role, key in (("bench", "shared"), ("bench", "again"), ("birds", "leak")):
        rows[role].append({"key": f"{role} {key}", "caption": "", "sha256": shared[1]})
    by_digest = {digest: rng.normal(size=8) for digest in shared}
    for listed in rows.values():
        for row in listed:
            row.setdefault("url", f"https://b.example/{row['key']}")
            vectors.setdefault(row["key"], by_digest.get(row["sha256"]))
    for role, listed in rows.items():
        pq.write_table(pa.Table.from_pylist(listed), folder / f"{role}.parquet")
    kept = {key: vector for key, vector in vectors.items() if vector is not None}
    np.save(folder / "vectors.npy", np.array(list(kept.values()), np.float32))
    np.save(folder / "ids.npy", np.array(list(kept)))
    columns = {name: name for name in ("key", "caption", "url", "sha256")}
    roles = {"web": "pool", "birds": "seed", "cats": "seed", "bench": "held_out"}
    return {
        "name": "limited",
        "sources": [
            {
                "name": name,
                "role": role,
                "format": "parquet",
                "path": str(folder / f"{name}.parquet"),
                "columns": columns,
            }
            for name, role in roles.items()
        ],
        "ingest": {"rows_per_fragment": 20},
        "fetch": {"pixels": "none"},
        "screen": {"filters": ["caption_letters"]},
        "embed": {
            "encoders": {
                "semantic": {
                    "import": str(folder / "vectors.npy"),
                    "ids": {"join": "key", "file": str(folder / "ids.npy")},
                }
            }
        },
        "dedup": {"near": {"encoder": "semantic", "at_least": 0.985}, "perceptual": None},
        "select": {"caption_letters": {"at_least": 0.7}},
        "cluster": {"encoder": "semantic", "levels": [5, 2], "iterations": 5},
        "retrieve": ARMS,
    }
