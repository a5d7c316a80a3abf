"""What is loaded of a model is what was hashed, all of it, and nothing else is reached."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curation.errors import RecipeError
from curation.media.encoders.encoder import load_encoder
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.private_copy import PrivateCopy
from curation.media.encoders.state import tensors_of
from curation.stages.score.heads import HEADS
from curation.stages.score.heads.base import EncoderInfo
from curation.stages.score.heads.spec import HeadSpec
from curation.store.digest import file_sha256

from .models_on_disk import FAMILIES, features, load

pytestmark = pytest.mark.usefixtures("no_network")


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


def test_a_tokenizer_may_be_larger_than_other_json(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.touch()
    os.truncate(file, 2**24 + 1)
    PrivateCopy(str(tmp_path), [file.name]).close()
    os.truncate(file, 2**28 + 1)
    with pytest.raises(RecipeError, match="at most 268,435,456"):
        PrivateCopy(str(tmp_path), [file.name])


def test_all_files_of_a_model_are_bounded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph may name thousands of files."""
    monkeypatch.setattr("curation.media.encoders.private_copy.MAX_BYTES", 100)
    names = [f"{n}.bin" for n in range(3)]
    for name, size in zip(names, (60, 40, 1), strict=True):
        (tmp_path / name).write_bytes(b"x" * size)
    with PrivateCopy(str(tmp_path), names[:2]) as copy:
        assert len(list(copy.path.iterdir())) == 2
        with pytest.raises(RecipeError, match="have more than 100 bytes together"):
            copy.add(names[2:])


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


@pytest.mark.parametrize("name", ["w.npz", "w.npy"])
def test_archives_of_numpy_that_expand_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("params/t.npy", b"\0" * (2**28 + 2**20))
    spec = EncoderSpec(model="open_clip/ViT-B-16-SigLIP", weights=str(tmp_path / name))
    with pytest.raises(RecipeError, match="expands to"):
        load_encoder(spec, "cpu")


@dataclass(frozen=True)
class _Program:
    """Makes a folder when it is unpickled."""

    folder: str

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("family", ["timm_state", "open_clip", "texts"])
@pytest.mark.parametrize("legacy", [False, True])
def test_no_pickle_is_run(family: str, legacy: bool, tmp_path: Path) -> None:
    spec = FAMILIES[family](tmp_path / "model", 0)
    weights = Path(spec["weights"])
    if weights.is_dir():
        (weights / "open_clip_model.safetensors").unlink()
        weights /= "open_clip_pytorch_model.bin"
    made = tmp_path / "made"
    torch.save({"a": _Program(str(made))}, weights, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(RecipeError, match="neither safetensors nor"):
        load(spec)
    assert not made.exists()
