"""Vectors of one model per family, with random but fixed weights, compared with the library's own.

    python -m benchmarks.families [--only dino]

Random weights are saved, and loaded as for a recipe. The forward pass and preprocessing of the library
get the same four images. It prints the largest difference between two components of the unit vectors
(float16 rounds them to about 0.0002), and asserts that it is below 0.002.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from curation.media.encoders.encoder import load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EncoderSpec

TIMM = {
    "DINOv2": "vit_small_patch14_dinov2.lvd142m",
    "DINOv2 with registers": "vit_small_patch14_reg4_dinov2.lvd142m",
    "DINOv3": "vit_small_patch16_dinov3.lvd1689m",
    "DINO": "vit_small_patch16_224.dino",
    "MAE": "vit_base_patch16_224.mae",
    "BEiT": "beit_base_patch16_224.in22k_ft_in22k",
    "BEiT v2": "beitv2_base_patch16_224.in1k_ft_in22k",
    "DeiT": "deit_tiny_patch16_224.fb_in1k",
    "Swin": "swin_tiny_patch4_window7_224.ms_in1k",
    "Swin v2": "swinv2_tiny_window8_256.ms_in1k",
    "SAM": "samvit_base_patch16.sa1b",
    "EVA-02": "eva02_tiny_patch14_224.mim_in22k",
    "SigLIP, images": "vit_base_patch16_siglip_224.webli",
    "SigLIP 2, images": "vit_base_patch16_siglip_224.v2_webli",
    "ConvNeXt": "convnext_tiny.fb_in22k",
}
OPEN_CLIP = {
    "OpenAI CLIP": "ViT-B-32-quickgelu",
    "OpenCLIP, DataComp": "ViT-B-32",
    "OpenCLIP B/16": "ViT-B-16",
    "OpenCLIP B/16-plus-240": "ViT-B-16-plus-240",
    "EVA-CLIP": "EVA02-B-16",
    "CoCa": "coca_ViT-B-32",
    "ConvNeXt CLIP": "convnext_base",
}
IMAGES = 4
CAPTIONS = ["a dog on the beach", "two red flags", "", "a diagram of a machine"]


def random_images() -> list[Image.Image]:
    """Return smooth random images of several aspect ratios."""
    rng = np.random.default_rng(0)
    images = []
    for number in range(IMAGES):
        coarse = rng.integers(0, 255, (7, 9, 3), dtype=np.uint8)
        size = (300 + 90 * number, 420)
        images.append(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return images


def unit(features: torch.Tensor) -> np.ndarray:
    """Return unit vectors in float64."""
    vectors: np.ndarray = torch.nn.functional.normalize(features.double()).numpy()
    return vectors


def timm_reference(name: str, path: Path) -> Callable[[list[Image.Image]], np.ndarray]:
    """Save random weights; return timm's own function from images to vectors."""
    import timm

    model = timm.create_model(name, pretrained=False, num_classes=0).eval()
    save_file({k: v.clone().contiguous() for k, v in model.state_dict().items()}, path)
    transform: Any = timm.data.create_transform(
        **timm.data.resolve_model_data_config(model), is_training=False
    )

    def vectors(images: list[Image.Image]) -> np.ndarray:
        with torch.inference_mode():
            return unit(model(torch.stack([transform(image) for image in images])))

    return vectors


def clip_reference(name: str, path: Path, of: str) -> Callable[[list[Any]], np.ndarray]:
    """Save random weights; return open_clip's own function from images or captions to vectors."""
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(name, pretrained=None)
    model.eval()
    tokenize = open_clip.get_tokenizer(name)
    save_file({k: v.clone().contiguous() for k, v in model.state_dict().items()}, path)

    def vectors(items: list[Any]) -> np.ndarray:
        with torch.inference_mode():
            if of == "caption":
                return unit(model.encode_text(tokenize(items)))
            return unit(model.encode_image(torch.stack([transform(image) for image in items])))

    return vectors


def compare(family: str, spec: dict[str, Any], reference: Callable[[Any], np.ndarray]) -> None:
    """Print one row of the table."""
    of = spec.get("of", "image")
    items: list[Any] = CAPTIONS if of == "caption" else list(random_images())
    load_encoder.cache_clear()
    encoder = load_encoder(EncoderSpec(**spec), "cpu")
    started = time.monotonic()
    vectors, valid = encode(encoder, items, IMAGES, "cpu")
    seconds = time.monotonic() - started
    difference = float(np.abs(vectors.astype(float) - reference(items)).max())
    count = sum(p.numel() for p in encoder.model.parameters()) / 1e6
    size = "x".join(str(n) for n in encoder.blank.shape)
    print(
        f"| {family} | `{spec['model']}` | {of} | {size} | {encoder.dim} | {count:.1f} "
        f"| {difference:.1e} | {IMAGES / seconds:.1f} |",
        flush=True,
    )
    assert valid.all() and difference < 2e-3, (family, difference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", help="run only families or models whose name contains this"
    )
    options = parser.parse_args()
    only = options.only.lower()
    print("| family | model | of | input | dim | M parameters | largest difference | per second |")
    print("|" + "---|" * 8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        for family, name in TIMM.items():
            if only in f"{family} {name}".lower():
                torch.manual_seed(0)
                reference = timm_reference(name, path)
                compare(family, {"model": f"timm/{name}", "weights": str(path)}, reference)
        for family, name in OPEN_CLIP.items():
            for of in ("image", "caption"):
                if only in f"{family} {name}".lower():
                    torch.manual_seed(0)
                    reference = clip_reference(name, path, of)
                    spec = {"model": f"open_clip/{name}", "weights": str(path), "of": of}
                    compare(family, spec, reference)


if __name__ == "__main__":
    main()
