"""Vectors equal those of timm, and do not depend on the other rows of their batch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EncoderSpec
from curation.media.pictures.decode import decode

from .pictures import pictures


def test_vectors_equal_those_of_timm(weights: tuple[str, Any]) -> None:
    path, model = weights
    encoder = load_encoder(EncoderSpec(model="timm/test_vit", weights=path), "cpu")
    images = pictures(5)
    vectors, valid = encode(encoder, list(images), 4, "cpu")
    data: Any = timm.data
    config = data.resolve_model_data_config(model)
    transform = data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        inputs = torch.stack([transform(i.convert("RGB")) for i in images])
        features = model.forward_head(model.forward_features(inputs), pre_logits=True)
    expected = torch.nn.functional.normalize(features.double()).numpy()
    assert valid.all()
    assert encoder.dim == expected.shape[1]
    np.testing.assert_allclose(vectors.astype(np.float64), expected, atol=1e-3)


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
    vectors, valid = encode(encoder, list(images), 4, "cpu")
    data: Any = timm.data
    config = data.resolve_model_data_config(model)
    transform = data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        features = model(torch.stack([transform(image) for image in images]))
    expected = torch.nn.functional.normalize(features.double()).numpy()
    assert valid.all()
    np.testing.assert_allclose(vectors.astype(np.float64), expected, atol=1e-3)
    alone = np.concatenate([encode(encoder, [image], 4, "cpu")[0] for image in images])
    np.testing.assert_array_equal(vectors.view(np.uint16), alone.view(np.uint16))


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
    options: dict[str, Any] = {"crop_mode": crop_mode, "interpolation": interpolation}
    encoder = load_encoder(EncoderSpec(model="timm/test_vit", weights=weights[0], **options), "cpu")
    vectors, valid = encode(encoder, grey, 4, "cpu")
    assert valid.all()
    # All of them have the same grey, so the model gets the same input.
    np.testing.assert_allclose(
        vectors.astype(float), vectors[:1].astype(float).repeat(4, 0), atol=1e-3
    )


@pytest.mark.gpu
def test_gpu_agrees_with_cpu() -> None:
    spec = EncoderSpec(model="vit_micro")
    images = pictures(64)
    cpu, _ = encode(load_encoder(spec, "cpu"), list(images), 32, "cpu")
    gpu, _ = encode(load_encoder(spec, "cuda"), list(images), 32, "cuda")
    cosine = (cpu.astype(np.float64) * gpu.astype(np.float64)).sum(1)
    assert cosine.min() > 0.999
