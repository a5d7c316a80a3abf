"""Heads with several layers or prompts equal torch and open_clip; and the stages around them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from open_clip.model import CLIP
from pydantic import ValidationError
from safetensors.torch import save_file

from curation.errors import RecipeError
from curation.media.encoders.params import EncoderSpec
from curation.recipe import parse_recipe
from curation.stages.score.heads import mlp, similarity, zero_shot
from curation.stages.score.heads.base import EncoderInfo
from curation.stages.score.heads.spec import HeadSpec

from ..embed.clip import DIM, write_clip
from ..ingest.helpers import jpeg, run, table
from .test_linear import vectors


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, CLIP]:
    folder = tmp_path_factory.mktemp("clip") / "model"
    return str(folder), write_clip(folder)


@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("output", ["none", "sigmoid"])
def test_a_multilayer_perceptron_equals_torch(
    tmp_path: Path, activation: Literal["none", "relu"], output: Literal["none", "sigmoid"]
) -> None:
    """The layers have the names of LAION's aesthetic predictor: layers.0, layers.2, … layers.10."""
    torch.manual_seed(0)
    between = torch.nn.ReLU if activation == "relu" else torch.nn.Identity
    sizes = [16, 12, 9, 5, 4, 3, 1]
    parts: list[torch.nn.Module] = []
    for width, next_width in itertools.pairwise(sizes):
        parts += [torch.nn.Linear(width, next_width), between()]
    parts[-1] = torch.nn.Sigmoid() if output == "sigmoid" else torch.nn.Identity()
    model = torch.nn.ModuleDict({"layers": torch.nn.Sequential(*parts)})
    assert "layers.10.weight" in model.state_dict()
    path = tmp_path / "head.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    spec = HeadSpec(
        kind="mlp", encoder="clip", weights=str(path), activation=activation, output=output
    )
    head = mlp.load(spec, EncoderInfo({}, {}))
    matrix = vectors(2000)
    with torch.inference_mode():
        expected = model["layers"](torch.from_numpy(matrix.astype(np.float32)))[:, 0].numpy()
    np.testing.assert_allclose(head(matrix), expected, atol=1e-5)
    alone = np.concatenate([head(matrix[i : i + 1]) for i in range(0, 2000, 97)])
    np.testing.assert_array_equal(head(matrix)[::97], alone)
    with pytest.raises(RecipeError, match="for vectors of dimension 16, but its encoder gives 8"):
        head(vectors(3, 8))


def test_layers_are_in_the_order_of_the_numbers_in_their_names() -> None:
    names = ["1", "01", "2", "9" * 4999, "1" + "0" * 4999]
    state = {
        f"{n}.{part}": torch.zeros(1, *more)
        for n in names
        for part, more in (("weight", (1,)), ("bias", ()))
    }
    for number, name in enumerate(names):
        state[f"{name}.bias"] += number
    biases = [float(bias[0]) for _, bias in mlp.read_layers(state, "head")]
    assert biases == [1, 0, 2, 3, 4]


@pytest.mark.parametrize(
    "shapes",
    [
        {"0.weight": (1, 16)},
        {"0.weight": (4, 16), "0.bias": (4,)},
        {"0.weight": (4, 16), "0.bias": (4,), "1.weight": (1, 5), "1.bias": (1,)},
        {"0.weight": (1, 16), "0.bias": (2,)},
        {"0.weight": (1, 16, 1), "0.bias": (1,)},
        {},
        {"layer².weight": (1, 16)},
        {f"{'9' * 5000}.weight": (1, 16)},
    ],
)
def test_tensors_that_are_no_network_raise_an_error(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]]
) -> None:
    path = tmp_path / "head.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    with pytest.raises(RecipeError, match="is not a network of linear layers"):
        mlp.load(HeadSpec(kind="mlp", encoder="clip", weights=str(path)), EncoderInfo({}, {}))


def test_zero_shot_equals_the_softmax_of_open_clip(clip: tuple[str, CLIP]) -> None:
    folder, model = clip
    prompts, others = ("a photo", "a picture of a dog"), ("a diagram", "a flag", "text")
    pictures = vectors(9, DIM)
    with torch.inference_mode():
        tokens = open_clip.SimpleTokenizer(context_length=20)([*prompts, *others])
        texts = torch.nn.functional.normalize(model.encode_text(tokens).double())
        cosines = torch.from_numpy(pictures.astype(float)) @ texts.T
    info = EncoderInfo({"clip": EncoderSpec(model="open_clip", weights=folder)}, {"clip": None})

    def scores(**more: Any) -> np.ndarray:
        return zero_shot.load(HeadSpec(kind="zero_shot", encoder="clip", **more), info)(pictures)

    expected = (100 * cosines).softmax(dim=1)[:, :2].sum(dim=1).numpy()
    np.testing.assert_allclose(scores(prompts=prompts, against=others), expected, atol=2e-3)
    near = cosines[:, :2].amax(dim=1).numpy()
    np.testing.assert_allclose(scores(prompts=prompts), near, atol=1e-3)
    flat = scores(prompts=prompts, against=others, scale=1e-6)
    np.testing.assert_allclose(flat, 0.4, atol=1e-3)


def test_vectors_of_two_models_raise_an_error() -> None:
    one, other = ({"architecture": "a", "weights_sha256": w, "dim": 4} for w in "xy")
    spec = HeadSpec(kind="similarity", encoder="clip", captions="texts")
    with pytest.raises(RecipeError, match="weights_sha256 x, that of captions y"):
        similarity.load(spec, EncoderInfo({}, {"clip": one, "texts": other}))


def write_pairs(folder: Path, captions: Iterable[str | None]) -> dict[str, Any]:
    """Write Parquet with images and captions."""
    rows = [{"image": jpeg(n), "uid": str(n), "text": c} for n, c in enumerate(captions)]
    path = folder / "pairs.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    columns = {"image": "image", "caption": "text", "key": "uid"}
    return {
        "name": "web",
        "role": "pool",
        "format": "parquet",
        "path": str(path),
        "columns": columns,
    }


def blocks_of(folder: str) -> dict[str, Any]:
    return {
        "embed": {
            "encoders": {
                "clip": {"model": "open_clip", "weights": folder},
                "texts": {"model": "open_clip", "weights": folder, "of": "caption"},
            }
        },
        "score": {
            "heads": {
                "clip_score": {"kind": "similarity", "encoder": "clip", "captions": "texts"},
                "photo": {
                    "kind": "zero_shot",
                    "encoder": "clip",
                    "prompts": ["a photo"],
                    "against": ["a diagram"],
                },
            }
        },
        "dedup": {"near": None},
        "select": {"clip_score": {"at_least": 0.0}},
        "cluster": {"levels": [2], "encoder": "clip"},
    }


def test_images_and_captions_are_scored_together(clip: tuple[str, CLIP], tmp_path: Path) -> None:
    folder, _ = clip
    captions = ["red", "a dog", None, "  ", "blue"]
    run(tmp_path / "store", write_pairs(tmp_path, captions), until="score", **blocks_of(folder))
    store = tmp_path / "store"
    texts = table(store, "embeddings.texts").read().to_pandas()
    pictures = table(store, "embeddings.clip").read().to_pandas()
    scores = table(store, "head_scores").read().to_pandas()
    listed = table(store, "images").read().to_pandas()["caption"].tolist()
    assert texts["reason"].tolist() == [None if c and c.strip() else "no_caption" for c in listed]
    assert pictures["reason"].isna().all()
    cosines = [
        np.nan
        if t is None
        else np.frombuffer(p, "<f2").astype(float) @ np.frombuffer(t, "<f2").astype(float)
        for p, t in zip(pictures["vector"], texts["vector"], strict=True)
    ]
    np.testing.assert_allclose(scores["clip_score"], cosines, atol=1e-6)
    assert scores["clip_score"].isna().sum() == 2
    assert scores["photo"].between(0, 1).all()
    identity = table(store, "embeddings.texts").manifest.stats["encoder"]
    assert identity["tower"] == "caption"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"kind": "similarity", "encoder": "clip"}, "missing: captions"),
        ({"kind": "linear", "encoder": "clip", "weights": "w", "prompts": ["a"]}, "not prompts"),
        ({"kind": "zero_shot", "encoder": "clip", "prompts": ["a", " "]}, "a prompt is blank"),
        ({"kind": "zero_shot", "encoder": "clip", "prompts": ["a\ud800"]}, "a lone surrogate"),
        ({"kind": "zero_shot", "encoder": "clip", "prompts": []}, "missing: prompts"),
        ({"kind": "linaer", "encoder": "clip"}, "did you mean 'linear'"),
    ],
)
def test_fields_that_do_not_fit_the_kind_raise_an_error(head: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HeadSpec(**head)


@pytest.mark.parametrize(
    ("encoders", "head", "message"),
    [
        ({}, {"kind": "similarity", "encoder": "clip", "captions": "x"}, "no encoder 'x'"),
        (
            {},
            {"kind": "similarity", "encoder": "clip", "captions": "clip"},
            "embeds images. Give",
        ),
        (
            {"other": {"model": "open_clip", "weights": "elsewhere", "of": "caption"}},
            {"kind": "similarity", "encoder": "clip", "captions": "other"},
            "are not of one model",
        ),
        (
            {},
            {"kind": "similarity", "encoder": "texts", "captions": "texts"},
            "embeds captions; name",
        ),
        (
            {"vit": {"model": "vit_micro"}},
            {"kind": "zero_shot", "encoder": "vit", "prompts": ["a"]},
            "has no text tower for the prompts",
        ),
    ],
)
def test_recipes_whose_heads_do_not_fit_their_encoders_raise_an_error(
    tmp_path: Path, encoders: dict[str, Any], head: dict[str, Any], message: str
) -> None:
    blocks = blocks_of("folder")
    blocks["embed"]["encoders"] |= encoders
    blocks["score"]["heads"]["mine"] = head
    with pytest.raises(RecipeError, match=message):
        parse_recipe({"name": "t", "sources": [write_pairs(tmp_path, ["a"])], **blocks})
