"""What a filter is trained on and tested on, where labelled images have copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.algorithms.arrays.ids import to_ids
from curation.engine.table import Table
from curation.errors import RecipeError
from curation.inspect.train_filter import Evaluation, Labels, train_filter

from ..vectors import helpers

IMAGES, COPIES, DIM = 60, 5, 64
"""A linear model can learn any labels of so few vectors of so many numbers by heart."""


def vectors_with_copies() -> np.ndarray:
    """Random vectors, each of which comes COPIES times in a row."""
    return np.repeat(np.random.default_rng(0).normal(size=(IMAGES, DIM)), COPIES, axis=0)


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Vectors of images of their own, of which runs of COPIES are equal."""
    folder = tmp_path_factory.mktemp("copies")
    vectors = vectors_with_copies().astype(np.float32)
    keys = [f"{number:04d}" for number in range(len(vectors))]
    helpers.write_list(folder / "web.parquet", keys)
    imported = helpers.write_vectors(folder / "vectors", "fixed", vectors, keys)
    encoder = {"import": imported["import"], "ids": {"join": "key", "column": "id"}}
    spec = helpers.without_pixels(encoder, helpers.source(folder / "web.parquet"))
    helpers.run(folder / "store", spec, until="embed")
    return helpers.table(folder / "store", "embeddings.semantic")


def trained(embeddings: Table, labels: Labels, folder: Path, seed: int = 0) -> Evaluation:
    return train_filter(embeddings, labels, folder / "head.safetensors", seed=seed)


def labels_of(embeddings: Table, column: str, wanted: np.ndarray) -> Labels:
    """A label for each row, in the order of the table."""
    ids = to_ids(embeddings.read().column(column))
    order = np.argsort(ids)
    return Labels(column, ids[order], wanted[order])


@pytest.mark.parametrize("column", ["image_id", "pair_id"])
def test_copies_are_all_in_the_test_set_or_none(
    embeddings: Table, tmp_path: Path, column: str
) -> None:
    """Labels drawn at random cannot be foretold, unless copies of tested images were trained on."""
    drawn = np.random.default_rng(1).random((10, IMAGES)) < 0.5
    rows = embeddings.read().column("vector").to_pylist()
    number = np.unique(rows, return_inverse=True)[1]
    areas = [
        trained(embeddings, labels_of(embeddings, column, wanted[number]), tmp_path, seed).roc_auc
        for seed, wanted in enumerate(drawn)
    ]
    assert 0.3 < np.mean(areas) < 0.7


def test_too_few_vectors_that_differ(embeddings: Table, tmp_path: Path) -> None:
    rows = embeddings.read().column("vector").to_pylist()
    number = np.unique(rows, return_inverse=True)[1]
    labels = labels_of(embeddings, "image_id", number < 9)
    with pytest.raises(RecipeError, match=r"45 are wanted.*differ are 9 and 51\. At least 10 diff"):
        trained(embeddings, labels, tmp_path)


def test_pairs_of_one_image_are_one_image(tmp_path: Path) -> None:
    """Pool and seeds name the same URLs, so their rows are pairs of the same images."""
    vectors = np.random.default_rng(0).normal(size=(IMAGES, DIM)).astype(np.float32)
    keys = [f"{number:04d}" for number in range(IMAGES)]
    urls = [f"https://example.com/{key}.jpg" for key in keys]
    sources, imported = [], {}
    for name, role in (("web", "pool"), ("birds", "seed")):
        helpers.write_list(tmp_path / f"{name}.parquet", keys, url=urls)
        source = helpers.source(tmp_path / f"{name}.parquet", name, role, key="key", url="url")
        sources.append(source)
        written = helpers.write_vectors(tmp_path / name, "fixed", vectors, keys)
        imported[name] = written["import"]
    encoder = {"import": imported, "ids": {"join": "key", "column": "id"}}
    helpers.run(tmp_path / "store", helpers.without_pixels(encoder, *sources), until="embed")
    embeddings = helpers.table(tmp_path / "store", "embeddings.semantic")
    images = np.unique(to_ids(embeddings.read().column("image_id")), return_inverse=True)[1]
    labels = labels_of(embeddings, "pair_id", images < 20)
    assert len(labels.ids) == 2 * IMAGES
    evaluation = trained(embeddings, labels, tmp_path)
    counts = (evaluation.images, evaluation.wanted, evaluation.without_vector)
    assert (*counts, evaluation.test_images) == (IMAGES, 20, 0, 12)
    labels.wanted[7] ^= True
    with pytest.raises(RecipeError, match=r"are rows of image \w{32}, and one is labelled 0"):
        trained(embeddings, labels, tmp_path)
