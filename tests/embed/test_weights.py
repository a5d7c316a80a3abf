"""Weights are loaded from files, folders and checkpoints, or an error says why not."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curation.errors import RecipeError
from curation.media.encoders import check_model_name, vit_micro
from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EncoderSpec
from curation.stages.score.heads import HEADS
from curation.stages.score.heads.base import EncoderInfo
from curation.stages.score.heads.spec import HeadSpec
from curation.store.digest import file_sha256

from .pictures import pictures


def test_vit_micro_is_small_and_takes_no_other_weights() -> None:
    assert vit_micro.WEIGHTS.stat().st_size <= 8 * 10**6
    encoder = load_encoder(EncoderSpec(model="vit_micro"), "cpu")
    assert encoder.dim == vit_micro.DIM
    with pytest.raises(RecipeError, match="weights"):
        load_encoder(EncoderSpec(model="vit_micro", weights="x.pt"), "cpu")


def test_weights_that_do_not_fit_raise_an_error(weights: tuple[str, Any], tmp_path: Path) -> None:
    path, _ = weights

    def loading(**spec: Any) -> Encoder:
        return load_encoder(EncoderSpec(**spec), "cpu")

    with pytest.raises(RecipeError, match="Similar names"):
        loading(model="timm/vit_tinny_patch16_224", weights=path)
    with pytest.raises(RecipeError, match="do not fit"):
        loading(model="timm/vit_tiny_patch16_224", weights=path)
    with pytest.raises(RecipeError, match="No weights file"):
        loading(model="timm/test_vit", weights="no/such.safetensors")
    whole = Path(path).read_bytes()
    cut = tmp_path / "cut.safetensors"
    for content in (whole[:-9], whole[:100], b"", b"\xff" * 8 + whole):
        cut.write_bytes(content)
        load_encoder.cache_clear()
        with pytest.raises(RecipeError, match=r"cut\.safetensors' is neither safetensors nor"):
            loading(model="timm/test_vit", weights=str(cut))
    folder = str(tmp_path)
    for model, problem in (
        ("timm/test_vit", "has no model.safetensors. Set `weights` to that file"),
        ("open_clip/ViT-S-32-alt", "is a folder, and the weights .* are a file. Name the file"),
    ):
        with pytest.raises(RecipeError, match=problem):
            loading(model=model, weights=folder)
    other = tmp_path / "other.pt"
    for value, kind in (([1], "list"), (torch.zeros(3), "Tensor")):
        torch.save(value, other)
        load_encoder.cache_clear()
        with pytest.raises(RecipeError, match=f"contains a {kind} instead of a state dict"):
            loading(model="timm/test_vit", weights=str(other))


def test_where_weights_come_from_changes_no_vector_and_no_score(
    weights: tuple[str, Any], tmp_path: Path
) -> None:
    path, _ = weights
    head_path = str(tmp_path / "head.safetensors")
    save_file({"weight": torch.arange(64.0)[None], "bias": torch.zeros(1)}, head_path)
    results = []
    for address in ("https://a.example/file", "https://b.example/other"):
        load_encoder.cache_clear()
        encoder = load_encoder(
            EncoderSpec(
                model="timm/test_vit",
                weights=path,
                sha256=file_sha256(path),
                weights_from=address,
            ),
            "cpu",
        )
        head = HeadSpec(
            kind="linear",
            encoder="semantic",
            weights=head_path,
            sha256=file_sha256(head_path),
            weights_from=address,
        )
        vectors, _ = encode(encoder, pictures(3), 2, "cpu")
        scores = HEADS.load("linear").load(head, EncoderInfo({}, {"semantic": None}))(vectors)
        assert vectors.any(axis=1).all() and scores.any()
        results.append((encoder.identity, vectors.tolist(), scores.tolist()))
    assert results[0] == results[1]


class Evil:
    """Its pickle opens a file when it is loaded."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.ran), "w")


@pytest.mark.parametrize("name", ["evil.pt", "evil.pth", "evil.bin", "evil.safetensors"])
@pytest.mark.parametrize("how", [torch.save, lambda v, p: p.write_bytes(pickle.dumps(v))])
@pytest.mark.filterwarnings("ignore")
def test_no_pickle_is_executed(
    tmp_path: Path, name: str, how: Callable[[Any, Path], object]
) -> None:
    evil = tmp_path / name
    how({"weight": Evil(tmp_path / "ran"), "bias": torch.zeros(1)}, evil)
    for model in ("timm/test_vit", "open_clip/ViT-S-32-alt", "onnx"):
        with pytest.raises(RecipeError):
            load_encoder(EncoderSpec(model=model, weights=str(evil)), "cpu")
    for kind in ("linear", "mlp"):
        spec = HeadSpec(kind=kind, encoder="semantic", weights=str(evil))
        with pytest.raises(RecipeError, match="neither safetensors nor"):
            HEADS.load(kind).load(spec, EncoderInfo({}, {"semantic": None}))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "model",
    ["timm/hf-hub:a/b", "timm/a/b", "timm/../x", "open_clip/hf-hub:a", "open_clip/local-dir:x"],
)
def test_model_names_cannot_be_repositories_or_folders(model: str) -> None:
    assert "set `weights` to its folder" in str(check_model_name(model))


def test_the_folder_of_a_model_of_the_hub(weights: tuple[str, Any], tmp_path: Path) -> None:
    path, _ = weights

    def loading(**spec: Any) -> Encoder:
        load_encoder.cache_clear()
        return load_encoder(
            EncoderSpec(model="timm/test_vit", weights=str(tmp_path), **spec), "cpu"
        )

    with pytest.raises(RecipeError, match=r"has no model\.safetensors.*this model"):
        loading()
    (tmp_path / "model.safetensors").write_bytes(Path(path).read_bytes())
    alone = load_encoder(EncoderSpec(model="timm/test_vit", weights=path), "cpu").identity
    assert loading().identity == alone
    with pytest.raises(RecipeError, match="expected sha256"):
        loading(sha256="0" * 64)
    # The configuration of the folder defines the preprocessing, unless the recipe overrides it.
    config = tmp_path / "config.json"
    mean = [0.1, 0.2, 0.3]
    content = {"architecture": "test_vit", "num_classes": 7, "pretrained_cfg": {"mean": mean}}
    config.write_text(json.dumps(content | {"model_args": {"class_token": True}}))
    other = loading().identity
    assert other["weights_sha256"] == alone["weights_sha256"]
    assert other["preprocessing"] == alone["preprocessing"] | {"mean": mean}
    assert loading(mean=(0, 0, 0)).identity["preprocessing"]["mean"] == [0, 0, 0]
    config.write_text(json.dumps(content | {"architecture": "vit_tiny_patch16_224"}))
    with pytest.raises(RecipeError, match=r"'vit_tiny_patch16_224', not of timm/test_vit"):
        loading()
    for options, problem in (
        ({"checkpoint_path": "/etc/passwd"}, r"sets checkpoint_path under model_args"),
        ({"no_such": 1}, r"timm/test_vit cannot be created with .*no_such"),
        ({"embed_dim": "x"}, r"timm/test_vit cannot be created with .*embed_dim"),
    ):
        config.write_text(json.dumps(content | {"model_args": options}))
        with pytest.raises(RecipeError, match=problem):
            loading()
    config.write_text("[1]")
    with pytest.raises(RecipeError, match="is not a configuration of timm"):
        loading()


def test_an_error_without_the_hub_names_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match=r"embed\.encoders\.<name>\.weights"):
        load_encoder(EncoderSpec(model="timm/vit_small_patch14_dinov2.lvd142m"), "cpu")


@pytest.fixture
def checkpoint(weights: tuple[str, Any], tmp_path: Path) -> str:
    """The same weights in the checkpoint of a self-supervised training run, with its own head."""
    _, model = weights
    backbone = {k: v for k, v in model.state_dict().items() if not k.startswith("head.")}
    state = {f"module.backbone.{k}": v for k, v in backbone.items()}
    state["module.head.mlp.0.weight"] = torch.zeros(4, 4)
    path = tmp_path / "checkpoint.pth"
    torch.save({"student": {}, "teacher": state, "epoch": 3, "args": {"lr": 0.1}}, path)
    return str(path)


RENAMED: Any = {"entry": "teacher", "drop": ["module.head."], "rename": {"module.backbone.": ""}}


def test_a_training_checkpoint_is_loaded_with_mapped_keys(
    weights: tuple[str, Any], checkpoint: str
) -> None:
    path, _ = weights
    images = pictures(3)
    plain = load_encoder(EncoderSpec(model="timm/test_vit", weights=path), "cpu")
    spec = EncoderSpec(model="timm/test_vit", weights=checkpoint, checkpoint=RENAMED)
    vectors, _ = encode(load_encoder(spec, "cpu"), images, 4, "cpu")
    expected, _ = encode(plain, images, 4, "cpu")
    np.testing.assert_array_equal(vectors.view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "'student', 'teacher', 'epoch', 'args' are not tensors.*checkpoint.entry"),
        ({"entry": "model"}, "has no entry 'model' with a model; it has 'student', 'teacher'"),
        ({"entry": "epoch"}, "has no entry 'epoch'"),
        ({"drop": []}, r"do not fit timm/test_vit.*module\.head\.mlp\.0\.weight"),
        ({"drop": ["module.head.", "queue"]}, "no key that begins with 'queue'; its keys are 'mod"),
        ({"rename": {"module.backbon.": ""}}, "no key that begins with 'module.backbon.'"),
        (
            {"rename": {"module.backbone.": "", "module.backbone.blocks.1.": "blocks.0."}},
            "gives two tensors the name 'blocks.0.",
        ),
    ],
)
def test_keys_that_do_not_match_raise_an_error(
    checkpoint: str, change: dict[str, Any] | None, message: str
) -> None:
    mapping = None if change is None else RENAMED | change
    spec = EncoderSpec(model="timm/test_vit", weights=checkpoint, checkpoint=mapping)
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        load_encoder(spec, "cpu")


def test_an_error_lists_names_similar_to_an_unknown_one(weights: tuple[str, Any]) -> None:
    path, _ = weights
    with pytest.raises(RecipeError, match=r"Similar names: .*vit_tiny_patch16_224"):
        load_encoder(EncoderSpec(model="timm/vit_tinny_patch16_224", weights=path), "cpu")
