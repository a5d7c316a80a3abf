"""The linear head equals a linear layer of torch, and invalid files raise errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curation.errors import RecipeError
from curation.stages.score.heads import linear
from curation.stages.score.heads.base import EncoderInfo, Head, apply_head
from curation.stages.score.heads.spec import HeadSpec


def load(path: str) -> Head:
    spec = HeadSpec(kind="linear", encoder="clip", weights=path)
    return linear.load(spec, EncoderInfo({}, {"clip": None}))


@pytest.fixture
def layer() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(16, 1)


def vectors(rows: int = 9, dim: int = 16) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(rows, dim))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float16)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_linear_head_scores_as_torch_does(
    layer: torch.nn.Linear, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"head.{suffix}"
    state = {k: v.detach().contiguous() for k, v in layer.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    scores = load(str(path))(vectors())
    with torch.inference_mode():
        expected = layer(torch.from_numpy(vectors().astype(np.float32)))[:, 0].numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    alone = [load(str(path))(vectors()[i : i + 1])[0] for i in range(9)]
    np.testing.assert_array_equal(scores, alone)


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"weight": (1, 16)},
        {"weight": (16,), "bias": (1,)},
        {"weight": (2, 16), "bias": (2,)},
        {"weight": (1, 16), "bias": ()},
        {"weight": (1, 16), "bias": (0,)},
        {"weight": (1, 16), "bias": (2,)},
    ],
)
def test_tensors_that_are_no_linear_head_raise_an_error(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]]
) -> None:
    path = tmp_path / "head.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    with pytest.raises(RecipeError, match="not a linear head"):
        load(str(path))


def test_vectors_of_another_dimension_raise_an_error(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_file({"weight": torch.zeros(1, 8), "bias": torch.zeros(1)}, path)
    with pytest.raises(RecipeError, match="dimension 8"):
        load(str(path))(vectors())


@pytest.mark.parametrize("entry", ["{", "[]", "{}", "null"])
def test_metadata_without_the_training_encoder_raises_an_error(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "head.safetensors"
    state = {"weight": torch.zeros(1, 16), "bias": torch.zeros(1)}
    save_file(state, path, metadata={"curation": entry})
    with pytest.raises(RecipeError, match=r"does not contain the encoder"):
        load(str(path))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16])
def test_weights_of_few_bits_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "head.safetensors"
    save_file({"weight": torch.ones(1, 16, dtype=dtype), "bias": torch.zeros(1)}, path)
    expected = vectors().astype(np.float64).sum(axis=1)
    np.testing.assert_allclose(load(str(path))(vectors()), expected, atol=1e-6)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_raise_an_error(tmp_path: Path, number: float) -> None:
    path = tmp_path / "head.safetensors"
    save_file({"weight": torch.full((1, 16), number), "bias": torch.zeros(1)}, path)
    with pytest.raises(RecipeError, match="are not finite, in weight"):
        load(str(path))


def test_laions_aesthetic_head_loads(shared: Path) -> None:
    heads = shared / "models" / "heads"
    head = load(str(heads / "aesthetic-predictor__sa_0_4_vit_b_32_linear.pth"))
    scores = head(vectors(100, 512))
    assert np.isfinite(scores).all()
    assert scores.std() > 0


@pytest.mark.parametrize("returned", [0.5, np.zeros((3, 1)), np.zeros(2), np.array(["a"] * 3)])
def test_a_head_gives_one_number_per_vector(returned: Any) -> None:
    """numpy would repeat a single number for all images."""
    spec = HeadSpec(kind="linear", encoder="semantic", weights="head.safetensors")
    with pytest.raises(RecipeError, match="one number per vector"):
        apply_head(lambda _: returned, spec, [np.zeros((3, 8), np.float16)])
