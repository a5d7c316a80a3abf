"""A graph names its other files, all within its folder, and any bytes of it are read to an end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from curation.errors import RecipeError
from curation.media.encoders.onnx_files import external_files

from .models_on_disk import graph_folder, load

pytestmark = pytest.mark.usefixtures("no_network")


def _external(name: str, tensor: str = "w") -> onnx.TensorProto:
    made = TensorProto(name=tensor, data_type=TensorProto.FLOAT, dims=[1])
    made.data_location = TensorProto.EXTERNAL
    made.external_data.add(key="offset", value="0")
    made.external_data.add(key="location", value=name)
    return made


def _in_initializer(tensor: onnx.TensorProto) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([], "g", [], [], [tensor]))


def _in_constant(tensor: onnx.TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    return helper.make_model(helper.make_graph([node], "g", [], []))


def _in_branch(tensor: onnx.TensorProto) -> onnx.ModelProto:
    branch = _in_constant(tensor).graph
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    return helper.make_model(helper.make_graph([node], "g", [], []))


def _in_function(tensor: onnx.TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    function = helper.make_function("d", "f", [], ["c"], [node], [helper.make_opsetid("", 17)])
    return helper.make_model(helper.make_graph([], "g", [], []), functions=[function])


def _in_sparse(tensor: onnx.TensorProto) -> onnx.ModelProto:
    model = helper.make_model(helper.make_graph([], "g", [], []))
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    return model


def _in_training(tensor: onnx.TensorProto) -> onnx.ModelProto:
    model = helper.make_model(helper.make_graph([], "g", [], []))
    model.training_info.add().algorithm.initializer.append(tensor)
    return model


PLACES = [_in_initializer, _in_constant, _in_branch, _in_function, _in_sparse, _in_training]


@pytest.mark.parametrize("place", PLACES)
def test_every_file_that_a_graph_names_is_known(
    place: Callable[[onnx.TensorProto], onnx.ModelProto], tmp_path: Path
) -> None:
    content = place(_external("sub/w.bin")).SerializeToString()
    assert external_files(content, "m.onnx") == ["sub/w.bin"]
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(RecipeError, match=r"tensors in other files \(sub/w.bin\).*a folder"):
        load({"model": "onnx", "weights": str(tmp_path / "m.onnx"), "input_size": 32})
    with pytest.raises(RecipeError, match=r"lacks files with tensors of its graph: sub/w.bin"):
        load({"model": "onnx", "weights": str(tmp_path), "input_size": 32})
    for outside in ("/etc/passwd", "../w.bin", "a/../../w.bin", "..", "a\\..\\w", "", ".", "a\0b"):
        hostile = place(_external(outside)).SerializeToString()
        with pytest.raises(RecipeError, match="outside its folder"):
            external_files(hostile, "m.onnx")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_break_the_walk_through_a_graph(data: st.DataObject) -> None:
    content = bytearray(_in_branch(_external("w.bin")).SerializeToString())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    with suppress(RecipeError):
        external_files(bytes(content), "m.onnx")


def _length(content: bytes) -> bytes:
    length, made = len(content), b""
    while length > 0x7F:
        made += bytes([length & 0x7F | 0x80])
        length >>= 7
    return made + bytes([length])


def test_deep_and_long_graphs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b""
    for _ in range(300):
        # A graph in an attribute of a node of a graph.
        for field in (6, 5, 1):
            content = bytes([field << 3 | 2]) + _length(content) + content
    with pytest.raises(RecipeError, match="nested more than"):
        external_files(b"\x3a" + _length(content) + content, "m.onnx")
    monkeypatch.setattr("curation.media.encoders.onnx_files.MAX_FIELDS", 100)
    with pytest.raises(RecipeError, match="more than 100 fields"):
        external_files(b"\x08\x01" * 101, "m.onnx")


def test_a_folder_without_the_named_files_is_an_error(tmp_path: Path) -> None:
    spec = graph_folder(tmp_path / "model", 0)
    shutil.copy(tmp_path / "model" / "m.onnx", tmp_path / "model" / "n.onnx")
    with pytest.raises(RecipeError, match=r"has 2 files .onnx"):
        load(spec)


@pytest.mark.parametrize("name", ["a" * 300, "é" * 200, "a/" * 600 + "b", "x" * 10**6])
def test_a_path_that_no_file_system_has_is_refused_in_a_short_message(name: str) -> None:
    with pytest.raises(RecipeError, match="which is not read") as error:
        external_files(_in_initializer(_external(name)).SerializeToString(), "m.onnx")
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("names", [["w.bin", "./w.bin"], ["m.onnx"]])
def test_a_graph_may_name_a_file_twice_or_itself(names: list[str], tmp_path: Path) -> None:
    tensors = [_external(name, name) for name in names]
    model = helper.make_model(helper.make_graph([], "g", [], [], tensors))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "w.bin").write_bytes(bytes(8))
    with pytest.raises(RecipeError, match=r"onnxruntime cannot load|inputs"):
        load({"model": "onnx", "weights": str(tmp_path), "input_size": 32})
