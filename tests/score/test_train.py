"""A filter trained on labels ranks images that it has not seen, and works in a recipe."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from curation.cli import app
from curation.errors import CurationError, RecipeError, StoreError
from curation.inspect.train_filter import Labels, read_labels, train_filter, vectors_of_recipe
from curation.recipe import Recipe, parse_recipe
from curation.store.store import Store

from ..fetch.helpers import encoded
from ..ingest.helpers import run, table

SIZE = 160
ENCODER = {"encoders": {"semantic": {"model": "vit_micro"}}}


def stripes(number: int) -> bytes:
    """Stripes across (even numbers) or upright (odd ones), of some width and colours."""
    rng = np.random.default_rng(number)
    ramp = np.sin(np.linspace(0, rng.uniform(20, 60), 64) + rng.uniform(0, 6))
    grey = np.repeat(ramp[:, None], 64, axis=1)
    grey = grey if number % 2 == 0 else grey.T
    values = 128 + 100 * grey[..., None] * rng.uniform(0.5, 1, 3)
    return encoded(Image.fromarray(values.astype(np.uint8)), "PNG")


def source_of(folder: Path) -> dict[str, Any]:
    rows = [{"image": stripes(n), "uid": str(n)} for n in range(SIZE)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
    columns = {"image": "image", "key": "uid"}
    path = str(folder / "pairs.parquet")
    return {"name": "web", "role": "pool", "format": "parquet", "path": path, "columns": columns}


def scored(
    store: Path, folder: Path, head: dict[str, Any], embed: dict[str, Any] = ENCODER
) -> None:
    """Run until the head has scored."""
    blocks = {"embed": embed, "dedup": {"near": None}, "score": {"heads": {"good": head}}}
    run(store, source_of(folder), until="score", **blocks)


@pytest.fixture(scope="module")
def finished_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A store with vectors, and the right label of each image."""
    folder = tmp_path_factory.mktemp("store")
    blocks = {"embed": ENCODER, "dedup": {"near": None}}
    run(folder / "store", source_of(folder), until="embed", **blocks)
    rows = table(folder / "store", "images").read(["image_id", "pair_id", "source_key"]).to_pandas()
    rows["label"] = rows["source_key"].astype(int) % 2
    return folder, rows


def labels_of(folder: Path, rows: pd.DataFrame) -> Path:
    path = folder / "labels.parquet"
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), path)
    return path


@pytest.mark.parametrize("hidden", [0, 16])
def test_a_filter_ranks_images_that_it_has_not_seen(
    finished_store: tuple[Path, pd.DataFrame], tmp_path: Path, hidden: int
) -> None:
    folder, rows = finished_store
    labels = read_labels(labels_of(tmp_path, rows[["image_id", "label"]].iloc[:120]))
    out = tmp_path / "head.safetensors"
    evaluation = train_filter(table(folder / "store", "embeddings.semantic"), labels, out, hidden)
    assert (evaluation.images, evaluation.test_images) == (120, 24)
    assert evaluation.roc_auc > 0.95
    repeated = tmp_path / "again.safetensors"
    train_filter(table(folder / "store", "embeddings.semantic"), labels, repeated, hidden)
    assert repeated.read_bytes() == out.read_bytes()
    # A run with the head in its recipe scores the forty images without a label.
    extra = {"activation": "relu", "output": "sigmoid"} if hidden else {}
    head = {
        "kind": "mlp" if hidden else "linear",
        "encoder": "semantic",
        "weights": str(out),
    } | extra
    scored(folder / "store", folder, head)
    scores = table(folder / "store", "head_scores").read().to_pandas().set_index("pair_id")["good"]
    unseen = rows.iloc[120:]
    predicted = scores[unseen["pair_id"]].to_numpy() > (0.5 if hidden else 0)
    assert (predicted == (unseen["label"].to_numpy() == 1)).mean() > 0.9


def test_a_head_refuses_vectors_of_another_encoder(
    finished_store: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    folder, rows = finished_store
    labels = read_labels(labels_of(tmp_path, rows[["pair_id", "label"]]))
    out = tmp_path / "head.safetensors"
    train_filter(table(folder / "store", "embeddings.semantic"), labels, out)
    other = {"encoders": {"semantic": {"model": "copy_micro"}}}
    head = {"kind": "linear", "encoder": "semantic", "weights": str(out)}
    with pytest.raises(CurationError, match=r"was trained on vectors of .*train it again"):
        scored(tmp_path / "store", folder, head, embed=other)


def test_labels_that_cannot_be_used(
    finished_store: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    folder, rows = finished_store
    embeddings = table(folder / "store", "embeddings.semantic")

    def read(frame: pd.DataFrame) -> Labels:
        return read_labels(labels_of(tmp_path, frame))

    with pytest.raises(RecipeError, match="must have image_id or pair_id, and label"):
        read(rows[["source_key", "label"]])
    with pytest.raises(RecipeError, match="1 labels are neither 0 nor 1, for example 2"):
        read(rows[["image_id", "label"]].assign(label=[2, *[0] * (SIZE - 1)]))
    contradicting = rows[["image_id", "label"]].iloc[[0, 0]].assign(label=[0, 1])
    with pytest.raises(RecipeError, match="both 0 and 1"):
        read(contradicting)
    (tmp_path / "labels.parquet").write_bytes(b"no")
    with pytest.raises(RecipeError, match="cannot be read as Parquet"):
        read_labels(tmp_path / "labels.parquet")
    with pytest.raises(RecipeError, match="holds no label"):
        read(rows[["image_id", "label"]].iloc[:0])
    too_few = read(rows[["image_id", "label"]].iloc[:12])
    with pytest.raises(RecipeError, match=r"6 are wanted and 6 are not\. At least 10"):
        train_filter(embeddings, too_few, tmp_path / "h.safetensors")
    unknown = read(rows[["image_id", "label"]].assign(image_id=lambda f: f["image_id"].str[::-1]))
    with pytest.raises(CurationError, match="No labelled image has a vector"):
        train_filter(embeddings, unknown, tmp_path / "h.safetensors")


def test_the_command_prints_how_to_use_the_head(
    finished_store: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    import yaml

    folder, rows = finished_store
    labels = labels_of(tmp_path, rows[["image_id", "label"]])
    spec = {"name": "t", "sources": [source_of(folder)], "embed": ENCODER, "dedup": {"near": None}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(spec))
    # Whatever a path holds, the line can be pasted into a recipe.
    out = tmp_path / "a, b: {c} #d" / "good.safetensors"
    out.parent.mkdir()
    options = ["--store", str(folder / "store"), "--labels", str(labels), "--out", str(out)]
    result = CliRunner().invoke(app, ["train-filter", str(tmp_path / "recipe.yaml"), *options])
    assert result.exit_code == 0, result.output
    assert "160 labelled images, 80 of them wanted" in result.output
    assert "area under the ROC curve" in result.output
    head = yaml.safe_load(result.output.partition("good: ")[2])
    assert head == {"kind": "linear", "encoder": "semantic", "weights": str(out)}


def test_the_vectors_are_those_of_the_recipe(
    finished_store: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    """Two recipes on one store give encoders the same name."""
    folder, _ = finished_store
    store = Store(shutil.copytree(folder / "store", tmp_path / "store"))
    mine = table(Path(store.uri), "embeddings.semantic").manifest
    other = {"encoders": {"semantic": {"model": "vit_micro", "crop_mode": "squash"}}}
    unmade = recipe_with(folder, other)
    with pytest.raises(
        StoreError, match=r"encoder 'semantic' differs in crop_mode.*Run the recipe"
    ):
        vectors_of_recipe(unmade, store, "semantic")
    blocks = {"embed": other, "dedup": {"near": None}}
    run(Path(store.uri), source_of(folder), until="embed", **blocks)
    theirs = table(Path(store.uri), "embeddings.semantic").manifest
    assert theirs.version != mine.version
    for embed, version in ((ENCODER, mine.version), (other, theirs.version)):
        recipe = recipe_with(folder, embed)
        assert vectors_of_recipe(recipe, store, "semantic").manifest.version == version


def recipe_with(folder: Path, embed: dict[str, Any]) -> Recipe:
    """The recipe of the store with other encoders."""
    spec = {"name": "test", "sources": [source_of(folder)], "dedup": {"near": None}}
    return parse_recipe(copy.deepcopy(spec | {"embed": embed}))
