"""What is loaded of a model is what was hashed, all of it, and nothing else is reached."""

from __future__ import annotations

import json
import os
import shutil
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from curation.errors import RecipeError
from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.folder_config import check_numbers, check_size
from curation.media.encoders.onnx_files import external_files
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.private_copy import PrivateCopy
from curation.media.encoders.state import tensors_of
from curation.stages.score.heads import HEADS
from curation.stages.score.heads.base import EncoderInfo
from curation.stages.score.heads.spec import HeadSpec
from curation.store.digest import file_sha256

from .clip import write_clip
from .test_onnx import write as write_graph
from .texts import write_text

Write = Callable[[Path, int], dict[str, Any]]


def _timm(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = timm.create_model("test_vit", num_classes=0).state_dict()
    return state


def _timm_file(place: Path, seed: int) -> dict[str, Any]:
    save_file(_timm(seed), place.with_suffix(".safetensors"))
    return {"model": "timm/test_vit", "weights": str(place.with_suffix(".safetensors"))}


def _timm_state(place: Path, seed: int) -> dict[str, Any]:
    torch.save(_timm(seed), place.with_suffix(".pth"))
    return {"model": "timm/test_vit", "weights": str(place.with_suffix(".pth"))}


def _timm_folder(place: Path, seed: int) -> dict[str, Any]:
    place.mkdir(exist_ok=True)
    save_file(_timm(seed), place / "model.safetensors")
    config = {"architecture": "test_vit", "pretrained_cfg": {"mean": [0.1 * (1 + seed)] * 3}}
    (place / "config.json").write_text(json.dumps(config))
    return {"model": "timm/test_vit", "weights": str(place)}


def _script(place: Path, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    layers = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    layers.append(torch.nn.Linear(12, 5))
    path = place.with_suffix(".pt")
    torch.jit.save(torch.jit.script(layers), path)
    return {
        "model": "torchscript",
        "weights": str(path),
        "input_size": 32,
        "sha256": file_sha256(path),
    }


def _graph(place: Path, seed: int) -> dict[str, Any]:
    write_graph(place.with_suffix(".onnx"), kernel=8 if seed == 0 else 16)
    return {"model": "onnx", "weights": str(place.with_suffix(".onnx"))}


def _graph_folder(place: Path, seed: int) -> dict[str, Any]:
    place.mkdir(exist_ok=True)
    write_graph(place / "m.onnx")
    model = onnx.load(place / "m.onnx")
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor) * (1 + seed)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    (place / "data").mkdir(exist_ok=True)
    (place / "data" / "w.bin").unlink(missing_ok=True)
    onnx.save(
        model, place / "m.onnx", save_as_external_data=True, location="data/w.bin", size_threshold=0
    )
    return {"model": "onnx", "weights": str(place)}


def _clip_folder(place: Path, seed: int) -> dict[str, Any]:
    write_clip(place, seed)
    return {"model": "open_clip", "weights": str(place)}


def _text_folder(place: Path, seed: int) -> dict[str, Any]:
    write_text(place, "roberta", seed)
    return {"model": "open_clip", "weights": str(place), "of": "caption"}


FAMILIES: dict[str, Write] = {
    "timm": _timm_file,
    "timm_state": _timm_state,
    "timm_folder": _timm_folder,
    "torchscript": _script,
    "onnx": _graph,
    "onnx_folder": _graph_folder,
    "open_clip": _clip_folder,
    "texts": _text_folder,
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Note every attempt to reach another machine."""
    reached: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        reached.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield reached
    assert not reached


def features(encoder: Encoder) -> np.ndarray:
    with torch.inference_mode():
        values: np.ndarray = encoder.model(encoder.blank[None])[0].numpy()
    return values


def load(spec: dict[str, Any]) -> Encoder:
    load_encoder.cache_clear()
    return load_encoder(EncoderSpec(**spec), "cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_files_that_change_after_the_checksum_are_not_loaded(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = FAMILIES[family]
    spec = write(tmp_path / "model", 0)
    trusted = spec | {"sha256": file_sha256(spec["weights"])}
    before = load(spec)
    checked = PrivateCopy.check

    # That of a graph is checked before it is parsed, and again with the files that it names.
    checks = 2 if family == "onnx_folder" else 1

    def check(self: PrivateCopy, *arguments: Any, **options: Any) -> str:
        nonlocal checks
        sha256 = checked(self, *arguments, **options)
        checks -= 1
        if not checks:
            write(tmp_path / "model", 1)
        return sha256

    monkeypatch.setattr(PrivateCopy, "check", check)
    swapped = load(trusted)
    assert np.array_equal(features(swapped), features(before))
    assert swapped.identity == before.identity
    monkeypatch.setattr(PrivateCopy, "check", checked)
    assert (
        load(
            spec | {"sha256": None} if family != "torchscript" else write(tmp_path / "model", 1)
        ).identity
        != before.identity
    )
    with pytest.raises(RecipeError, match="not the file that the recipe trusts"):
        load(trusted)


@pytest.mark.parametrize(
    "family", [name for name in FAMILIES if "folder" in name or name == "texts"]
)
def test_the_checksum_of_a_folder_covers_each_of_its_files(family: str, tmp_path: Path) -> None:
    spec = FAMILIES[family](tmp_path / "model", 0)
    trusted = spec | {"sha256": file_sha256(spec["weights"])}
    load(trusted)
    files = [file for file in Path(spec["weights"]).rglob("*") if file.is_file()]
    assert len(files) > 1
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        with pytest.raises(RecipeError, match="expected sha256"):
            load(trusted)
        file.write_bytes(content)
    (tmp_path / "model" / "more.txt").write_text("new")
    with pytest.raises(RecipeError, match=r"found [0-9a-f]{64} \(of a folder"):
        load(trusted)


def test_the_head_that_is_loaded_is_the_one_that_was_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "head.safetensors"
    save_file({"weight": torch.ones(1, 4), "bias": torch.zeros(1)}, path)
    spec = HeadSpec(encoder="a", weights=str(path), sha256=file_sha256(path).upper())
    checked = PrivateCopy.check

    def check(self: PrivateCopy, *arguments: Any) -> str:
        sha256 = checked(self, *arguments)
        path.write_bytes(b"another")
        return sha256

    monkeypatch.setattr(PrivateCopy, "check", check)
    head = HEADS.load("linear").load(spec, EncoderInfo({}, {}))
    assert head(np.ones((1, 4), np.float16))[0] == 4
    with pytest.raises(RecipeError, match="expected sha256"):
        HEADS.load("linear").load(spec, EncoderInfo({}, {}))


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


def test_only_regular_files_of_some_size_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(RecipeError, match="No weights file"):
            PrivateCopy(str(place))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    monkeypatch.setattr("curation.media.encoders.private_copy.MAX_BYTES", 99)
    with pytest.raises(RecipeError, match=r"has 100 bytes.*at most 99"):
        PrivateCopy(str(tmp_path / "model.safetensors"))
    (tmp_path / "config.json").write_bytes(b" " * (2**24 + 1))
    with pytest.raises(RecipeError, match="at most 16,777,216"):
        PrivateCopy(str(tmp_path), ["config.json"])


def test_copies_are_removed_and_made_where_files_cannot_share_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(os.urandom(2_500_000))
    for share in (True, False):
        if not share:
            monkeypatch.delattr(os, "copy_file_range")
        with PrivateCopy(str(file)) as copy:
            assert copy.path.read_bytes() == file.read_bytes()
            assert copy.check(None) == file_sha256(file)
            assert copy.path.parent.stat().st_mode & 0o77 == 0
        assert not copy.path.exists()


def test_archives_and_tensors_that_expand_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", b"\0" * (2**28 + 2**20))
    with pytest.raises(RecipeError, match="expands to"):
        tensors_of(bomb, "bomb.pth")
    view = tmp_path / "view.pth"
    torch.save({"weight": torch.zeros(1).expand(1, 10**12)}, view)
    with pytest.raises(RecipeError, match="larger than the file: 'weight'"):
        tensors_of(view, "view.pth")


class _Program:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/tmp/curation-was-run",)


@pytest.mark.parametrize("family", ["timm_state", "open_clip", "texts"])
@pytest.mark.parametrize("legacy", [False, True])
def test_no_pickle_is_run(family: str, legacy: bool, tmp_path: Path) -> None:
    spec = FAMILIES[family](tmp_path / "model", 0)
    weights = Path(spec["weights"])
    if weights.is_dir():
        (weights / "open_clip_model.safetensors").unlink()
        weights /= "open_clip_pytorch_model.bin"
    torch.save({"a": _Program()}, weights, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(RecipeError, match="neither safetensors nor"):
        load(spec)
    assert not Path("/tmp/curation-was-run").exists()


def _changed(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


CONFIGS: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "image tower of the hub": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(timm_model_name="hf-hub:evil/model"),
        "names the image tower",
    ),
    "image tower of another folder": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(timm_model_name="local-dir:/etc"),
        "names the image tower",
    ),
    "words of another file": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["text_cfg"].update(tokenizer_kwargs={"bpe_path": "/etc/passwd"}),
        "not accepted from a folder",
    ),
    "many layers": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(layers=10**9),
        "largest number there",
    ),
    "large image": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(image_size=10**12),
        "largest number there",
    ),
    "wide model": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(width=2**20),
        "are of another model",
    ),
    "another text tower": (
        "config.json",
        lambda c: c.update(model_type="detr", backbone="evil/model", use_pretrained_backbone=True),
        "is no text tower of open_clip",
    ),
    "large vocabulary": (
        "config.json",
        lambda c: c.update(vocab_size=10**10),
        "largest number there",
    ),
    "code": ("config.json", lambda c: c.update(auto_map={"AutoModel": "evil--x.Y"}), "auto_map"),
    "code of a tokenizer": (
        "tokenizer_config.json",
        lambda c: c.update(auto_map={"AutoTokenizer": ["evil--x.Y", None]}),
        "auto_map",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_reaches_nothing(case: str, tmp_path: Path) -> None:
    file, change, message = CONFIGS[case]
    spec = _text_folder(tmp_path / "model", 0)
    _changed(tmp_path / "model" / file, change)
    with pytest.raises(RecipeError, match=message) as raised:
        load(spec)
    assert "curation-model-" not in str(raised.value)


NAMES = ["hf_model_name", "hf_tokenizer_name"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_hub_mean_the_folder(name: str, tmp_path: Path) -> None:
    spec = _text_folder(tmp_path / "model", 0)
    before = features(load(spec))
    _changed(
        tmp_path / "model" / "open_clip_config.json",
        lambda c: c["model_cfg"]["text_cfg"].update(
            {name: "evil/other", "hf_model_pretrained": True}
        ),
    )
    assert np.array_equal(features(load(spec)), before)


def test_a_tokenizer_of_another_file_is_not_read(tmp_path: Path) -> None:
    spec = _text_folder(tmp_path / "model", 0)
    before = load(spec).identity
    write_text(tmp_path / "other", "xlm-roberta")
    other = str(tmp_path / "other" / "tokenizer.json")
    _changed(
        tmp_path / "model" / "tokenizer_config.json",
        lambda c: c.update(tokenizer_file=other, vocab_file=other, merges_file="/etc/passwd"),
    )
    assert load(spec).identity == before


TIMM_CONFIGS: dict[str, dict[str, Any]] = {
    "hub": {"pretrained_cfg": {"hf_hub_id": "evil/model", "url": "http://127.0.0.1:1/x"}},
    "file": {"pretrained_cfg": {"file": "/etc/passwd", "source": "file", "state_dict": {}}},
    "cache": {"model_args": {"cache_dir": "/etc"}},
    "checkpoint": {"model_args": {"checkpoint_path": "/etc/passwd"}},
    "pretrained": {"model_args": {"pretrained": True}},
    "wide": {"model_args": {"embed_dim": 2**18}},
    "deep": {"model_args": {"depth": 10**9}},
}


@pytest.mark.parametrize("case", TIMM_CONFIGS)
def test_a_configuration_of_timm_reaches_nothing(case: str, tmp_path: Path) -> None:
    spec = _timm_folder(tmp_path / "model", 0)
    before = load(spec)
    _changed(tmp_path / "model" / "config.json", lambda c: c.update(TIMM_CONFIGS[case]))
    if case in ("hub", "file"):
        # Only the preprocessing is taken.
        after = load(spec)
        assert after.identity["weights_sha256"] == before.identity["weights_sha256"]
    else:
        with pytest.raises(RecipeError):
            load(spec)


def test_numbers_and_sizes_of_usual_models_pass() -> None:
    check_numbers({"layers": 96, "vocab_size": 256_000, "eps": 1e-30, "a": [None, True, "x"]}, "c")
    check_size(lambda: torch.nn.Linear(1000, 1000), 2_000_000, "c")
    with pytest.raises(RecipeError, match="of another model"):
        check_size(lambda: torch.nn.Linear(10_000, 10_000), 30_000_000, "c")


def test_a_folder_without_the_named_files_is_an_error(tmp_path: Path) -> None:
    spec = _graph_folder(tmp_path / "model", 0)
    shutil.copy(tmp_path / "model" / "m.onnx", tmp_path / "model" / "n.onnx")
    with pytest.raises(RecipeError, match=r"has 2 files .onnx"):
        load(spec)
