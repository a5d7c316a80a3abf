"""Vectors of a small graph equal those of torch, and invalid graphs raise errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from curation.errors import RecipeError
from curation.media.encoders import onnx as family
from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EncoderSpec
from curation.store.digest import file_sha256

from .pictures import pictures

SIDE, DIM = 32, 7


def write(
    path: Path,
    shape: tuple[int | str, ...] = ("n", 3, SIDE, SIDE),
    pooled: bool = True,
    kernel: int = 8,
) -> torch.nn.Conv2d:
    """Write a graph of a convolution, ReLU and mean pooling; return the layer of torch."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, DIM, kernel, stride=kernel)
    weights = [
        numpy_helper.from_array(value.detach().numpy(), {"weight": "w", "bias": "b"}[name])
        for name, value in layer.named_parameters()
    ]
    nodes = [
        helper.make_node("Conv", ["pixels", "w", "b"], ["c"], strides=[kernel, kernel]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"] if pooled else ["r"], ["features"])
        if pooled
        else helper.make_node("Identity", ["r"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return layer


def spec(path: Path, **more: Any) -> EncoderSpec:
    return EncoderSpec(model="onnx", weights=str(path), **more)


@pytest.mark.parametrize(
    ("shape", "more"),
    [
        (("n", 3, SIDE, SIDE), {}),
        (("n", 3, "h", "w"), {"input_size": SIDE}),
        ((1, 3, SIDE, SIDE), {}),
        ((2, 3, SIDE, SIDE), {"input_size": SIDE}),
    ],
)
def test_a_graph_gives_the_vectors_of_its_torch_model(
    tmp_path: Path, shape: tuple[int | str, ...], more: dict[str, Any]
) -> None:
    path = tmp_path / "model.onnx"
    layer = write(path, shape)
    encoder = load_encoder(spec(path, mean=(0.5, 0.5, 0.5), **more), "cpu")
    images = pictures(5)
    vectors, valid = encode(encoder, images, 4, "cpu")
    with torch.inference_mode():
        mean, std = (
            torch.tensor(v).reshape(3, 1, 1) for v in ((0.5, 0.5, 0.5), family.CONFIG["std"])
        )
        pixels = torch.stack([(encoder.preprocess(i).float() / 255 - mean) / std for i in images])
        expected = torch.nn.functional.normalize(layer(pixels).relu().mean(dim=(2, 3))).numpy()
    assert valid.all()
    np.testing.assert_allclose(vectors.astype(float), expected, atol=1e-3)
    assert encoder.identity["weights_sha256"] == file_sha256(path)
    assert encoder.identity["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    alone = np.concatenate([encode(encoder, [image], 4, "cpu")[0] for image in images])
    np.testing.assert_array_equal(vectors.view(np.uint16), alone.view(np.uint16))


def test_invalid_graphs_raise_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"

    def loading(**more: Any) -> Encoder:
        return load_encoder(spec(path, **more), "cpu")

    write(path, ("n", 3, "h", "w"))
    with pytest.raises(RecipeError, match="Set `input_size` to the side in pixels"):
        loading()
    write(path)
    with pytest.raises(RecipeError, match="to the side in pixels that the file has"):
        loading(input_size=64)
    with pytest.raises(RecipeError, match="not the file that the recipe trusts"):
        loading(sha256="0" * 64)
    write(path, pooled=False)
    with pytest.raises(RecipeError, match=r"shape \(2, 7, 4, 4\).*with its pooling"):
        loading()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RecipeError, match="is not an ONNX graph: a field is longer"):
        loading()
    path.unlink()
    with pytest.raises(RecipeError, match="No weights file"):
        loading()
    with pytest.raises(RecipeError, match="cost cannot be estimated"):
        family.skeleton("", spec(path))
    with pytest.raises(ValidationError, match="onnx needs `weights`"):
        EncoderSpec(model="onnx")
