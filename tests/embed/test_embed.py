"""Vectors equal those of timm, and do not depend on the other rows of their batch."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from curation.errors import RecipeError
from curation.media.encoders import check_model_name, vit_micro
from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EncoderSpec
from curation.media.pictures.decode import decode
from curation.stages.score.heads import HEADS
from curation.stages.score.heads.base import EncoderInfo
from curation.stages.score.heads.spec import HeadSpec


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        side = int(rng.integers(60, 260))
        images.append(Image.fromarray(coarse).resize((side, 120), Image.Resampling.BICUBIC))
    return images


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """A small ViT of timm with random but fixed weights and a classifier."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=7).eval()
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    return str(path), model


def test_vectors_equal_those_of_timm(weights: tuple[str, Any]) -> None:
    path, model = weights
    encoder = load_encoder(EncoderSpec(model="timm/test_vit", weights=path), "cpu")
    images = pictures(5)
    found, valid = encode(encoder, list(images), 4, "cpu")
    data: Any = timm.data
    config = data.resolve_model_data_config(model)
    transform = data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        inputs = torch.stack([transform(i.convert("RGB")) for i in images])
        features = model.forward_head(model.forward_features(inputs), pre_logits=True)
    expected = torch.nn.functional.normalize(features.double()).numpy()
    assert valid.all()
    assert encoder.dim == expected.shape[1]
    np.testing.assert_allclose(found.astype(np.float64), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_convolutional_networks_use_channels_last(tmp_path: Path, name: str) -> None:
    """Their vectors equal those of timm, and do not depend on the other rows of their batch."""
    torch.manual_seed(0)
    model: Any = timm.create_model(name, num_classes=7).eval()
    path = tmp_path / "model.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    model.reset_classifier(0)
    encoder = load_encoder(EncoderSpec(model=f"timm/{name}", weights=str(path)), "cpu")
    kernels = [
        p for p in encoder.model.parameters() if p.ndim == 4 and p.shape[-1] > 1 < p.shape[1]
    ]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    images = pictures(5)
    found, valid = encode(encoder, list(images), 4, "cpu")
    data: Any = timm.data
    config = data.resolve_model_data_config(model)
    transform = data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        features = model(torch.stack([transform(image) for image in images]))
    expected = torch.nn.functional.normalize(features.double()).numpy()
    assert valid.all()
    np.testing.assert_allclose(found.astype(np.float64), expected, atol=1e-3)
    alone = np.concatenate([encode(encoder, [image], 4, "cpu")[0] for image in images])
    np.testing.assert_array_equal(found.view(np.uint16), alone.view(np.uint16))


def test_recipe_overrides_preprocessing(weights: tuple[str, Any]) -> None:
    path, _ = weights
    plain = load_encoder(EncoderSpec(model="timm/test_vit", weights=path), "cpu")
    other = EncoderSpec(model="timm/test_vit", weights=path, mean=(0, 0, 0), std=(1, 1, 1))
    images = pictures(2)
    a, b = (encode(e, images, 2, "cpu")[0] for e in (plain, load_encoder(other, "cpu")))
    assert np.abs(a.astype(float) - b.astype(float)).max() > 1e-2
    assert plain.identity != load_encoder(other, "cpu").identity


def test_vectors_do_not_depend_on_batches_and_threads() -> None:
    encoder = load_encoder(EncoderSpec(model="vit_micro"), "cpu")
    images = pictures(21)
    together, _ = encode(encoder, list(images), 8, "cpu")
    alone = np.concatenate([encode(encoder, [image], 8, "cpu")[0] for image in images])
    np.testing.assert_array_equal(together.view(np.uint16), alone.view(np.uint16))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        other, _ = encode(encoder, list(images[::-1]), 8, "cpu")
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(together.view(np.uint16), other[::-1].view(np.uint16))


def test_missing_images_and_not_finite_features_have_no_vector(weights: tuple[str, Any]) -> None:
    path, _ = weights
    encoder = load_encoder(EncoderSpec(model="timm/test_vit", weights=path), "cpu")
    images = [None, *pictures(2), None]
    vectors, valid = encode(encoder, images, 4, "cpu")
    assert valid.tolist() == [False, True, True, False]
    np.testing.assert_allclose(np.linalg.norm(vectors[1:3].astype(float), axis=1), 1, atol=1e-3)
    broken = EncoderSpec(model="timm/test_vit", weights=path, std=(1e-45, 1e-45, 1e-45))
    vectors, valid = encode(load_encoder(broken, "cpu"), images, 4, "cpu")
    assert not valid.any()
    assert not vectors.any()


class Scaled(torch.nn.Module):
    """The mean colours of a 3 × 3 grid, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pixels, 3).flatten(1) * self.factor


# The square of 1e30 overflows float32, 1e39 is infinite, and 0 · ∞ is not a number.
@pytest.mark.parametrize("factor", [1.0, 1e30, 1e39, float("nan")])
def test_features_without_a_direction_give_no_vector(factor: float) -> None:
    def preprocess(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1) / 255)

    encoder = Encoder(Scaled(factor), preprocess, torch.zeros(3, 32, 32), dim=27, identity={})
    black = Image.new("RGB", (32, 32))
    grey = Image.new("RGB", (32, 32), (128, 128, 128))
    vectors, valid = encode(encoder, [grey, black, grey], 2, "cpu")
    assert valid.tolist() == [factor == 1, False, factor == 1]
    assert not vectors[~valid].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[valid].astype(float), axis=1), 1, atol=1e-3)


def test_damaged_images_are_not_decoded() -> None:
    stream = io.BytesIO()
    pictures(1)[0].save(stream, "JPEG")
    whole = decode(stream.getvalue())
    with Image.open(stream) as picture:
        np.testing.assert_array_equal(whole, np.asarray(picture.convert("RGB")))
    for cut in (200, len(stream.getvalue()) // 2, -100):
        assert decode(stream.getvalue()[:cut]) is None
    for mode, kind in (("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "WEBP")):
        other = io.BytesIO()
        pictures(1)[0].convert(mode).save(other, kind)
        with Image.open(other) as picture:
            np.testing.assert_array_equal(
                decode(other.getvalue()), np.asarray(picture.convert("RGB"))
            )
    assert decode(b"") is None


def test_gifs_decode_to_their_first_frame() -> None:
    first, second = Image.new("P", (9, 9), 1), Image.new("P", (9, 9), 2)
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(stream.getvalue()), np.asarray(first.convert("RGB")))
    header = b"GIF89a\x09\x00\x09\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    assert decode(header + b";") is None
    assert decode(header) is None


@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
def test_images_of_one_pixel_or_line_have_vectors(
    weights: tuple[str, Any], crop_mode: str, interpolation: str
) -> None:
    sizes = [(1, 1), (1, 2000), (2000, 1), (3, 2)]
    grey = [Image.new("RGB", size, (90, 90, 90)) for size in sizes]
    own: dict[str, Any] = {"crop_mode": crop_mode, "interpolation": interpolation}
    encoder = load_encoder(EncoderSpec(model="timm/test_vit", weights=weights[0], **own), "cpu")
    found, valid = encode(encoder, grey, 4, "cpu")
    assert valid.all()
    # All of them have the same grey, so the model gets the same input.
    np.testing.assert_allclose(found.astype(float), found[:1].astype(float).repeat(4, 0), atol=1e-3)


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
    other = tmp_path / "other.pt"
    for value, kind in (([1], "list"), (torch.zeros(3), "Tensor")):
        torch.save(value, other)
        load_encoder.cache_clear()
        with pytest.raises(RecipeError, match=f"contains a {kind} instead of a state dict"):
            loading(model="timm/test_vit", weights=str(other))


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
    assert "set `weights` to its folder" in (check_model_name(model) or "")


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
    found, _ = encode(load_encoder(spec, "cpu"), images, 4, "cpu")
    expected, _ = encode(plain, images, 4, "cpu")
    np.testing.assert_array_equal(found.view(np.uint16), expected.view(np.uint16))


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


@pytest.mark.gpu
def test_gpu_agrees_with_cpu() -> None:
    spec = EncoderSpec(model="vit_micro")
    images = pictures(64)
    cpu, _ = encode(load_encoder(spec, "cpu"), list(images), 32, "cpu")
    gpu, _ = encode(load_encoder(spec, "cuda"), list(images), 32, "cuda")
    cosine = (cpu.astype(np.float64) * gpu.astype(np.float64)).sum(1)
    assert cosine.min() > 0.999
