"""Vectors that an encoder of ours made, taken out and brought back, give the same dataset."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.small import FAMILIES, encoded, picture, write_rows
from tests.vectors.helpers import rows, run, table, write_vectors

FROM_VECTORS = ("neighbours", "copies", "eligible", "assignments", "matches", "claims", "dataset")


def write_pictures(folder: Path) -> dict[str, Any]:
    """Write pool, seeds and held-out files with copies among them; return the recipe."""
    rng = np.random.default_rng(3)
    plain = [picture(n % FAMILIES, rng, side=64) for n in range(12)]
    files = [encoded(image) for image in plain]
    files += [*files[:3], *(encoded(image, 70) for image in plain[3:6])]
    seeds = [encoded(picture(n, rng, side=64)) for n in range(2)]
    sources = {"web": ("pool", files), "birds": ("seed", seeds), "bench": ("held_out", files[6:8])}
    for name, (_, pictures) in sources.items():
        listed = [
            {"key": f"{name}{n}", "image": file, "caption": f"picture {n}"}
            for n, file in enumerate(pictures)
        ]
        write_rows(folder / f"{name}.parquet", listed)
    columns = {"image": "image", "caption": "caption", "key": "key"}
    return {
        "name": "same",
        "sources": [
            {"name": name, "role": role, "format": "parquet", "columns": columns}
            | {"path": str(folder / f"{name}.parquet")}
            for name, (role, _) in sources.items()
        ],
        "ingest": {"rows_per_fragment": 8},
        "embed": {"batch_size": 4, "encoders": {"semantic": {"model": "vit_micro"}}},
        "dedup": {
            "perceptual": None,
            "verify": None,
            "near": {"encoder": "semantic", "at_least": 0.93},
            "held_out": {"at_least": 0.93},
        },
        "cluster": {"levels": [4]},
        "retrieve": [
            {"name": "near", "seeds": "birds", "strategy": "sample", "k": 3},
            {"name": "cells", "seeds": "birds", "strategy": "cluster", "per_cluster": 4}
            | {"more_than": 0},
        ],
    }


class Embedded:
    """A run that embedded its pictures."""

    def __init__(self, folder: Path) -> None:
        self.spec, self.store = write_pictures(folder / "lists"), folder / "store"
        run(self.store, self.spec)
        images = {row["pair_id"]: row for row in rows(self.store, "images")}
        stored_rows = rows(self.store, "embeddings.semantic")
        self.images = [images[row["pair_id"]] for row in stored_rows]
        self.vectors = np.stack([np.frombuffer(row["vector"], "<f2") for row in stored_rows])

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table, in an order of their own, without the fingerprint of the run."""
        return without_run(rows(self.store, name))


def without_run(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(({**row, "run": None} for row in rows), key=repr)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    return Embedded(tmp_path_factory.mktemp("embedded"))


def brought(embedded: Embedded, folder: Path, form: str, join: str, dtype: Any) -> dict[str, Any]:
    """The recipe with the vectors of the run in place of the encoder, in another order."""
    columns = {"key": "source_key", "sha256": "sha256"}
    ids = [image[columns[join]] for image in embedded.images]
    # Of exact copies, one vector is enough.
    _, first = np.unique(ids, return_index=True)
    order = np.random.default_rng(0).permutation(first)
    spec = copy.deepcopy(embedded.spec)
    vectors = embedded.vectors[order].astype(dtype)
    encoder = write_vectors(folder / "v", form, vectors, [ids[n] for n in order])
    encoder["ids"]["join"] = join
    spec["embed"]["encoders"] = {"semantic": encoder}
    return spec


def test_a_whole_run_on_imported_vectors_gives_the_same_dataset(
    embedded: Embedded, tmp_path: Path
) -> None:
    run(tmp_path / "store", brought(embedded, tmp_path, "npy_shards", "key", np.float32))
    for name in FROM_VECTORS:
        assert without_run(rows(tmp_path / "store", name)) == embedded.rows(name), name
    assert len(embedded.rows("dataset")) > 5
    methods = {row["method"] for row in embedded.rows("copies")}
    assert {"representative", "exact", "near"} <= methods
    assert any(row["contaminated_by"] for row in embedded.rows("copies"))


@pytest.mark.parametrize(
    ("form", "join", "dtype"),
    [
        ("npy", "key", np.float16),
        ("parquet_shards", "sha256", np.float64),
    ],
)
def test_every_form_gives_the_same_bytes(
    embedded: Embedded, tmp_path: Path, form: str, join: str, dtype: Any
) -> None:
    run(tmp_path / "store", brought(embedded, tmp_path, form, join, dtype), until="embed")
    stored = table(tmp_path / "store", "embeddings.semantic")
    before = table(embedded.store, "embeddings.semantic")
    assert {n: f.content for n, f in stored.fragments.items()} == {
        n: f.content for n, f in before.fragments.items()
    }
