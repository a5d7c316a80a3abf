"""Vectors of images and captions equal those of open_clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from pydantic import ValidationError
from safetensors.torch import save_file

from curation.errors import RecipeError
from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EncoderSpec
from curation.store.digest import file_sha256

from .clip import DIM, PREPROCESS, SIDE, write_clip
from .pictures import pictures

CAPTIONS = [
    "a dog on the beach",
    "Zwei Hunde & eine Katze",
    "犬",
    "x" * 100_000,
    "\u202e\u0000 evil",
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, CLIP]:
    folder = tmp_path_factory.mktemp("clip") / "model"
    return str(folder), write_clip(folder)


def loaded(folder: str, **more: Any) -> Encoder:
    return load_encoder(EncoderSpec(model="open_clip", weights=folder, **more), "cpu")


def unit(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features.double()).numpy()


def test_vectors_of_images_equal_those_of_open_clip(clip: tuple[str, CLIP]) -> None:
    folder, model = clip
    encoder = loaded(folder)
    images = pictures(5)
    vectors, valid = encode(encoder, images, 4, "cpu")
    mean, std = tuple(PREPROCESS["mean"]), tuple(PREPROCESS["std"])
    transform = open_clip.image_transform(SIDE, False, mean=mean, std=std, interpolation="bilinear")
    with torch.inference_mode():
        expected = unit(model.encode_image(torch.stack([transform(image) for image in images])))
    assert valid.all()
    assert encoder.dim == DIM
    np.testing.assert_allclose(vectors.astype(float), expected, atol=1e-3)
    squashed, _ = encode(loaded(folder, crop_mode="squash"), images, 4, "cpu")
    assert np.abs(squashed.astype(float) - vectors.astype(float)).max() > 1e-2


def test_vectors_of_captions_equal_those_of_open_clip(clip: tuple[str, CLIP]) -> None:
    folder, model = clip
    vectors, valid = encode(loaded(folder, of="caption"), [*CAPTIONS, None], 4, "cpu")
    tokens = open_clip.SimpleTokenizer(context_length=20)(CAPTIONS)
    with torch.inference_mode():
        expected = unit(model.encode_text(tokens))
    assert valid.tolist() == [True] * len(CAPTIONS) + [False]
    np.testing.assert_allclose(vectors[:-1].astype(float), expected, atol=1e-3)


def test_company_changes_no_bit(clip: tuple[str, CLIP]) -> None:
    encoder = loaded(clip[0], of="caption")
    whole, _ = encode(encoder, CAPTIONS, 4, "cpu")
    alone = np.concatenate([encode(encoder, [caption], 4, "cpu")[0] for caption in CAPTIONS])
    np.testing.assert_array_equal(whole.view(np.uint16), alone.view(np.uint16))


def test_identities_of_encoders_differ(clip: tuple[str, CLIP], tmp_path: Path) -> None:
    folder, _ = clip
    images, captions = loaded(folder).identity, loaded(folder, of="caption").identity
    weights = file_sha256(f"{folder}/open_clip_model.safetensors")
    assert images["weights_sha256"] == captions["weights_sha256"] == weights
    assert images["architecture"] == captions["architecture"]
    assert images != captions
    assert captions["preprocessing"] == {"tokenizer": "SimpleTokenizer", "length": 20}
    write_clip(tmp_path / "other", seed=1)
    assert loaded(str(tmp_path / "other")).identity["weights_sha256"] != weights
    # A copy of the folder has the same identity and the same content.
    write_clip(tmp_path / "again")
    assert loaded(str(tmp_path / "again")).identity == images
    assert file_sha256(tmp_path / "again") == file_sha256(folder)
    (tmp_path / "again" / "merges.txt").write_text("")
    assert file_sha256(tmp_path / "again") != file_sha256(folder)


def test_a_weights_file_of_an_architecture(tmp_path: Path) -> None:
    """A small architecture of open_clip, with random weights."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32-alt", pretrained=None).eval()
    path = tmp_path / "weights.safetensors"
    save_file({k: v.clone() for k, v in model.state_dict().items()}, path)
    encoder = load_encoder(EncoderSpec(model="open_clip/ViT-S-32-alt", weights=str(path)), "cpu")
    images = pictures(2)
    vectors, _ = encode(encoder, images, 2, "cpu")
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    with torch.inference_mode():
        expected = unit(model.encode_image(torch.stack([transform(image) for image in images])))
    np.testing.assert_allclose(vectors.astype(float), expected, atol=1e-3)
    with pytest.raises(RecipeError, match="do not fit open_clip/ViT-S-32,"):
        load_encoder(EncoderSpec(model="open_clip/ViT-S-32", weights=str(path)), "cpu")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"model": "open_clip/ViT-B-23", "weights": "w"},
            "no model 'ViT-B-23'.*Similar names",
        ),
        ({"model": "open_clip/ViT-B-32"}, "needs weights.*laion2b_s34b_b79k"),
        (
            {"model": "open_clip/ViT-B-32/openia"},
            r"no weights 'openia' of ViT-B-32 \(did you mean 'openai'\?\)\. Valid: openai",
        ),
        (
            {"model": "open_clip/ViT-B-32/openai", "weights": "w"},
            "Remove either `weights` or the tag",
        ),
        ({"model": "open_clip/ViT-B-32", "weights": "no/such.pt"}, "No weights file"),
        (
            {"model": "open_clip", "weights": "no/such"},
            "not a configuration of open_clip .*downloaded from the hub",
        ),
    ],
)
def test_missing_models_and_weights_raise_an_error(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_encoder(EncoderSpec(**spec), "cpu")


def test_invalid_folders_raise_an_error(clip: tuple[str, CLIP], tmp_path: Path) -> None:
    write_clip(tmp_path)
    weights = tmp_path / "open_clip_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    with pytest.raises(RecipeError, match=r"open_clip_model\.safetensors' do not fit"):
        loaded(str(tmp_path))
    load_encoder.cache_clear()
    weights.unlink()
    with pytest.raises(RecipeError, match=r"has no weights. Put open_clip_model\.safetensors"):
        loaded(str(tmp_path))
    torch.save({"run": print}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(RecipeError, match="neither safetensors nor a state dict"):
        loaded(str(tmp_path))
    config = tmp_path / "open_clip_config.json"
    config.write_text(json.dumps({"vision": 1}))
    with pytest.raises(RecipeError, match="KeyError"):
        loaded(str(tmp_path))


def test_captions_need_a_text_tower() -> None:
    with pytest.raises(ValidationError, match="of: caption needs a text tower"):
        EncoderSpec(model="vit_micro", of="caption")
    with pytest.raises(ValidationError, match="open_clip without an architecture needs `weights`"):
        EncoderSpec(model="open_clip")


def test_an_error_without_the_hub_names_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match=r"Download its open_clip_model\.safetensors on another"):
        load_encoder(EncoderSpec(model="open_clip/ViT-B-32/laion2b_s34b_b79k"), "cpu")
