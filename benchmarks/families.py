"""One model of each family with random but fixed weights: our vectors beside the library's vectors.

    python -m benchmarks.families [--only dino]

Random weights are saved, and loaded as for a recipe. The library preprocesses and encodes the same four
pictures or captions with its own code. The table has the largest difference between the components of
two unit vectors; it must be below 0.002. Rounding to float16 changes a component by up to about 0.0002.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.command import parse, parser_of
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
    "SigLIP, pictures": "vit_base_patch16_siglip_224.webli",
    "SigLIP 2, pictures": "vit_base_patch16_siglip_224.v2_webli",
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
PICTURES = 4
CAPTIONS = ["a dog on the beach", "two red flags", "", "a diagram of a machine"]


def pictures() -> list[Image.Image]:
    """Return smooth random pictures of several shapes."""
    rng = np.random.default_rng(0)
    images = []
    for number in range(PICTURES):
        coarse = rng.integers(0, 255, (7, 9, 3), dtype=np.uint8)
        size = (300 + 90 * number, 420)
        images.append(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return images


def unit(features: torch.Tensor) -> np.ndarray:
    """Return features as unit vectors in float64."""
    vectors: np.ndarray = torch.nn.functional.normalize(features.double()).numpy()
    return vectors


def timm_reference(name: str, path: Path) -> Callable[[list[Image.Image]], np.ndarray]:
    """Save random weights of a model; return a function that encodes pictures by timm alone."""
    import timm

    model = timm.create_model(name, pretrained=False, num_classes=0).eval()
    save_file({k: v.clone().contiguous() for k, v in model.state_dict().items()}, path)
    data: Any = timm.data
    transform = data.create_transform(**data.resolve_model_data_config(model), is_training=False)

    def vectors(images: list[Image.Image]) -> np.ndarray:
        with torch.inference_mode():
            return unit(model(torch.stack([transform(image) for image in images])))

    return vectors


def clip_reference(name: str, path: Path, of: str) -> Callable[[list[Any]], np.ndarray]:
    """Save random weights of a model; return a function that encodes pictures or captions by
    open_clip alone."""
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(name, pretrained=None)
    model.eval()
    tokenize = open_clip.get_tokenizer(name)
    save_file({k: v.clone().contiguous() for k, v in model.state_dict().items()}, path)

    def vectors(inputs: list[Any]) -> np.ndarray:
        with torch.inference_mode():
            if of == "caption":
                return unit(model.encode_text(tokenize(inputs)))
            return unit(model.encode_image(torch.stack([transform(image) for image in inputs])))

    return vectors


def compare(family: str, spec: dict[str, Any], reference: Callable[[Any], np.ndarray]) -> None:
    """Print a row of the table."""
    of = spec.get("of", "image")
    inputs: list[Any] = CAPTIONS if of == "caption" else list(pictures())
    load_encoder.cache_clear()
    encoder = load_encoder(EncoderSpec(**spec), "cpu")
    started = time.monotonic()
    vectors, valid = encode(encoder, inputs, PICTURES, "cpu")
    seconds = time.monotonic() - started
    difference = float(np.abs(vectors.astype(float) - reference(inputs)).max())
    parameters = sum(p.numel() for p in encoder.model.parameters()) / 1e6
    shape = "x".join(str(n) for n in encoder.blank.shape)
    print(
        f"| {family} | `{spec['model']}` | {of} | {shape} | {encoder.dim} | {parameters:.1f} "
        f"| {difference:.1e} | {PICTURES / seconds:.1f} |",
        flush=True,
    )
    assert valid.all() and difference < 2e-3, (family, difference)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", default="", help="a part of the family's or the model's name")
    options = parse(parser, {"only": "deit"})
    selected = options.only.lower()
    print("| family | model | of | input | dim | M parameters | largest difference | per second |")
    print("|" + "---|" * 8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        for family, name in TIMM.items():
            if selected in f"{family} {name}".lower():
                torch.manual_seed(0)
                reference = timm_reference(name, path)
                compare(family, {"model": f"timm/{name}", "weights": str(path)}, reference)
        for family, name in OPEN_CLIP.items():
            for of in ("image", "caption"):
                if selected in f"{family} {name}".lower():
                    torch.manual_seed(0)
                    reference = clip_reference(name, path, of)
                    spec = {"model": f"open_clip/{name}", "weights": str(path), "of": of}
                    compare(family, spec, reference)


if __name__ == "__main__":
    main()
