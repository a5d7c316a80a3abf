"""Weights and graphs with any bytes changed are read, or refused as errors of the recipe."""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save

from curation.errors import RecipeError
from curation.media.encoders.onnx_files import external_files
from curation.media.encoders.state import tensors_of
from tests.ingest.test_fuzzed_files import mutated

STATE = {f"layer.{n}.weight": torch.arange(6.0).reshape(2, 3) for n in range(4)}


def saved(*, as_archive: bool) -> bytes:
    out = io.BytesIO()
    torch.save(STATE, out, _use_new_zipfile_serialization=as_archive)
    return out.getvalue()


def graph() -> bytes:
    weights = numpy_helper.from_array(STATE["layer.0.weight"].numpy(), "w")
    outside = numpy_helper.from_array(STATE["layer.1.weight"].numpy(), "x")
    onnx.external_data_helper.set_external_data(outside, "x.bin")
    outside.data_location = TensorProto.EXTERNAL
    value = helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 2])
    node = helper.make_node("MatMul", ["in", "w"], ["out"])
    made = helper.make_graph([node], "g", [value], [value], [weights, outside])
    return bytes(helper.make_model(made).SerializeToString())


WHOLE = {
    "archive.pt": saved(as_archive=True),
    "old.pt": saved(as_archive=False),
    "weights.safetensors": save(STATE),
    "graph.onnx": graph(),
}


def read(path: Path) -> None:
    if path.suffix == ".onnx":
        assert external_files(path.read_bytes(), "g") is not None
        return
    tensors = tensors_of(path, "w")
    assert sum(t.numel() * t.element_size() for t in tensors.values()) <= 4 * path.stat().st_size


def check(name: str, content: bytes, folder: Path) -> None:
    path = folder / name
    path.write_bytes(content)
    try:
        read(path)
    except RecipeError as error:
        assert len(str(error)) < 5_000


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    read(tmp_path / name)


@pytest.mark.parametrize("files", [40, pytest.param(3_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", WHOLE)
def test_files_with_changed_bytes_are_read_or_refused(
    tmp_path: Path, name: str, files: int
) -> None:
    draw = random.Random(files)
    for _ in range(files):
        check(name, mutated(WHOLE[name], draw), tmp_path)


def test_an_archive_behind_pickles_hides_none_of_them(tmp_path: Path) -> None:
    """torch tells an archive by its beginning, Python by its end."""
    lists = b"\x80\x02}" + b"X\x01\0\0\0a" + b"]" * 3_000_000 + b"s."
    first = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001)]
    path = tmp_path / "w.pt"
    for content in (lists, b"".join(first) + lists):
        path.write_bytes(content + WHOLE["archive.pt"])
        with pytest.raises(RecipeError, match="makes more than 2,000,000 values"):
            tensors_of(path, "w")
