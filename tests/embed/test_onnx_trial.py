"""Graphs that take far more than their files are refused before this process loads them."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from curation.errors import RecipeError
from curation.media.encoders import onnx_trial
from curation.media.encoders.encoder import load_encoder
from curation.media.encoders.params import EncoderSpec

SIDE = 8
ENORMOUS = 2**30
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA is Linux's")


def save(path: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> EncoderSpec:
    """Write a graph of the mean of a picture and some nodes, which give `more`: a number."""
    images = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])
    nodes = [
        *nodes,
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Add", ["mean", "more"], ["features"]),
    ]
    graph = helper.make_graph(nodes, "g", [images], [features], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return EncoderSpec(model="onnx", weights=str(path))


def constant(name: str, value: object, kind: type = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, kind), name)


def expanding(*, by_picture: bool) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A number that is repeated 2³⁰ times, and summed: a constant, or the sum of the picture."""
    nodes = [helper.make_node("ReduceSum", ["pixels"], ["sum"], keepdims=0)] if by_picture else []
    nodes += [
        helper.make_node("Expand", ["sum" if by_picture else "one", "size"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["more"], keepdims=0),
    ]
    return nodes, [constant("size", [ENORMOUS]), constant("one", [1], np.float32)]


def endless() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A loop with nothing in it, of 2⁶² rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["x", "x"], ["y"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, []),
        ],
    )
    nodes = [
        helper.make_node("ReduceSum", ["pixels"], ["sum"], keepdims=0),
        helper.make_node("Loop", ["rounds", "yes", "sum"], ["more"], body=body),
    ]
    return nodes, [constant("rounds", 2**62), constant("yes", True, bool)]


@LINUX
@pytest.mark.parametrize("by_picture", [False, True])
def test_what_expands_beyond_its_file_is_refused(tmp_path: Path, by_picture: bool) -> None:
    spec = save(tmp_path / "m.onnx", *expanding(by_picture=by_picture))
    with pytest.raises(RecipeError, match=r"it takes more memory.*without constants that expand"):
        load_encoder(spec, "cpu")


@LINUX
@pytest.mark.parametrize(("size", "is_refused"), [(2**20, True), (2**27, False)])
def test_a_graph_may_take_a_multiple_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, is_refused: bool
) -> None:
    """It takes 256 MiB."""
    monkeypatch.setattr(onnx_trial, "MEMORY_MORE", 2**27)
    nodes, constants = expanding(by_picture=True)
    constants[0] = constant("size", [2**26])
    save(tmp_path / "m.onnx", nodes, constants)
    with pytest.raises(RecipeError, match="more memory") if is_refused else nullcontext():
        onnx_trial.check_graph(tmp_path / "m.onnx", "m.onnx", size, None, 1)


def test_a_loop_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_trial, "WALL_S", 3.0)
    with pytest.raises(RecipeError, match="it takes more time"):
        load_encoder(save(tmp_path / "m.onnx", *endless()), "cpu")


def test_a_graph_that_expands_little_is_loaded(tmp_path: Path) -> None:
    nodes, constants = expanding(by_picture=True)
    constants[0] = constant("size", [2**20])
    assert load_encoder(save(tmp_path / "m.onnx", nodes, constants), "cpu").dim == 3
