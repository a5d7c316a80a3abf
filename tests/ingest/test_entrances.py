"""The same pictures give the same dataset, whatever form they are brought in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.engine.table import open_table
from curation.media.encoders.params import EMBEDDINGS
from curation.store.store import DATASET, Store
from tests.audit.conftest import tiny_weights
from tests.ingest import helpers as ingest
from tests.ingest.entrances import (
    Picture,
    as_coco,
    as_folder,
    as_huggingface,
    as_img2dataset,
    as_list,
    as_parquet,
    as_webdataset,
)
from tests.report.conftest import picture, run

ENTRANCES: dict[str, Callable[[Path, list[Picture]], dict[str, Any]]] = {
    "webdataset": as_webdataset,
    "img2dataset tars": as_img2dataset,
    "img2dataset files": partial(as_img2dataset, output="files"),
    "img2dataset parquet": partial(as_img2dataset, output="parquet"),
    "huggingface": as_huggingface,
    "parquet": as_parquet,
    "coco": as_coco,
}
SEMANTIC = EMBEDDINGS.table("semantic")
QUICK = ("webdataset", "img2dataset tars", "huggingface")
"""Entrances whose datasets are compared each time; of the others, the images are."""
WITHOUT_PIXELS = {"width", "height", "original_width", "original_height", "format", "image"}
"""Columns that a list with vectors leaves empty beside those, or has not."""
NOT_CARRIED = {"pair_id", "source_key", "url", "metadata", "run"}
"""Columns in which entrances differ: identities and what else a form holds of a picture."""


def pictures() -> list[Picture]:
    """Pictures, one with the same bytes as another, and one that is another encoded again."""
    plain = [Picture(f"p{n:02d}", picture(n, n % 3, 64), f"blobs {n}") for n in range(10)]
    exact = Picture("p10", plain[1].content, "the same bytes again")
    return [*plain, exact, Picture("p11", picture(2, 2, 64, 60), "the same, a smaller file")]


def dataset(
    folder: Path,
    encoder: dict[str, Any],
    web: dict[str, Any],
    seeds: dict[str, Any],
    **blocks: dict[str, Any],
) -> Any:
    """The rows of the dataset by image."""
    spec: dict[str, Any] = {
        "name": "entrance",
        "sources": [
            {"name": "web", "role": "pool"} | web,
            {"name": "blobs", "role": "seed"} | seeds,
        ],
        "screen": {"filters": []},
        "embed": {"encoders": {"semantic": encoder}},
        "dedup": {"near": {"encoder": "semantic", "at_least": 0.9999}, "verify": None},
        "cluster": {"levels": [2], "iterations": 4},
        "retrieve": [
            {"name": "as-is", "seeds": "blobs", "strategy": "as_is"},
            {"name": "nearest", "seeds": "blobs", "strategy": "sample", "k": 4},
        ],
        "assemble": {"pixels": True},
    }
    store = run(folder, spec | blocks).store
    rows = open_table(store, DATASET).read().to_pylist()
    return {row["image_id"]: comparable(row) for row in rows}


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    copies = sorted((c["image_id"], c["caption"]) for c in row["copies"] or ())
    return {name: v for name, v in row.items() if name not in NOT_CARRIED} | {"copies": copies}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture(scope="module")
def of_folder(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Any]) -> Any:
    folder = tmp_path_factory.mktemp("folder")
    web = as_folder(folder / "web", pictures())
    return dataset(folder, weights, web, as_folder(folder / "seeds", seeds()))


BY_VECTORS = {
    "near": {"encoder": "semantic", "at_least": 0.9999},
    "verify": None,
    "perceptual": None,
    "pixels": False,
}
"""How copies are recognised where there are no pixels."""


@pytest.fixture(scope="module")
def by_vectors(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Any]) -> Any:
    """The dataset of the folder, with copies by vectors alone, and its vectors by checksum."""
    folder = tmp_path_factory.mktemp("vectors")
    web, birds = as_folder(folder / "web", pictures()), as_folder(folder / "seeds", seeds())
    expected = dataset(folder, weights, web, birds, dedup=BY_VECTORS)
    stored = {name: open_table(Store(folder / "store"), name) for name in ("images", SEMANTIC)}
    checksums = dict(zip(*columns(stored["images"], "pair_id", "sha256"), strict=True))
    vectors_by_pair = dict(zip(*columns(stored[SEMANTIC], "pair_id", "vector"), strict=True))
    # Pictures with the same bytes have the same vector.
    unique = {
        checksums[pair]: np.frombuffer(vector, "<f2") for pair, vector in vectors_by_pair.items()
    }
    np.save(folder / "vectors.npy", np.stack([*unique.values()]))
    np.save(folder / "ids.npy", np.array([*unique]))
    ids = {"join": "sha256", "file": str(folder / "ids.npy")}
    return expected, {"import": str(folder / "vectors.npy"), "ids": ids}


def columns(table: Any, *names: str) -> list[list[Any]]:
    read = table.read(list(names))
    return [read.column(name).to_pylist() for name in names]


def seeds() -> list[Picture]:
    return [Picture(f"s{n}", picture(500 + n, n, 64), f"seed {n}") for n in range(3)]


def images(folder: Path, web: dict[str, Any]) -> set[tuple[Any, ...]]:
    """The fetched images of a source: what all later stages work on."""
    ingest.run(folder / "store", {"name": "web", "role": "pool"} | web, until="fetch")
    rows = ingest.table(folder / "store", "images").read().to_pylist()
    return {tuple(row[n] for n in row if n not in NOT_CARRIED) for row in rows}


@pytest.mark.parametrize("name", ENTRANCES)
def test_every_entrance_gives_the_images_of_the_folder(tmp_path: Path, name: str) -> None:
    expected = images(tmp_path / "a", as_folder(tmp_path / "folder", pictures()))
    rows = images(tmp_path / "b", ENTRANCES[name](tmp_path / "web", pictures()))
    assert rows == expected
    assert len(rows) == len(pictures())


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.nightly)
        for name in ENTRANCES
    ],
)
def test_every_entrance_gives_the_dataset_of_the_folder(
    tmp_path: Path,
    name: str,
    of_folder: Any,
    weights: dict[str, Any],
) -> None:
    make = ENTRANCES[name]
    web = make(tmp_path / "web", pictures())
    rows = dataset(tmp_path, weights, web, make(tmp_path / "seeds", seeds()))
    assert rows == of_folder
    assert len(rows) > len(seeds()) + 2
    assert any(row["copies"] for row in rows.values())


def test_vectors_of_ones_own_give_the_dataset_of_the_folder(
    tmp_path: Path, by_vectors: Any
) -> None:
    expected, encoder = by_vectors
    web, birds = as_folder(tmp_path / "web", pictures()), as_folder(tmp_path / "seeds", seeds())
    assert dataset(tmp_path, encoder, web, birds, dedup=BY_VECTORS) == expected


def test_a_list_with_vectors_gives_the_dataset_without_what_only_pixels_have(
    tmp_path: Path, by_vectors: Any
) -> None:
    expected, encoder = by_vectors
    web, birds = as_list(tmp_path / "web", pictures()), as_list(tmp_path / "seeds", seeds())
    alone: dict[str, Any] = {
        "fetch": {"pixels": "none"},
        "assemble": {},
        "dedup": {"near": BY_VECTORS["near"]},
    }
    rows = dataset(tmp_path, encoder, web, birds, **alone)
    assert len(rows) > len(seeds()) + 2 and any(row["copies"] for row in rows.values())
    for image, row in rows.items():
        differing = {name for name, value in expected[image].items() if row.get(name) != value}
        assert differing == WITHOUT_PIXELS
        assert all(row.get(name) is None for name in WITHOUT_PIXELS)
    assert rows.keys() == expected.keys()


def test_a_row_without_a_key_that_repeats_picture_and_caption_is_a_duplicate(
    tmp_path: Path,
) -> None:
    twice = [Picture(name, ingest.jpeg(1), "one") for name in ("a", "b")]
    reasons = {}
    for name, make in {"huggingface": as_huggingface, "folder": as_folder}.items():
        spec = {"name": "web", "role": "pool"} | make(tmp_path / name, twice)
        rows = ingest.pairs(tmp_path / f"{name}-store", spec)
        reasons[name] = [row["reason"] for row in rows]
    assert reasons == {"huggingface": [None, "duplicate_pair"], "folder": [None, None]}
