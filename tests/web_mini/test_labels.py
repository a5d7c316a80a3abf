"""A real ViT on pictures whose class is known: its own classifier on our features and on timm's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.config import resolve_model_data_config
from timm.data.imagenet_info import ImageNetInfo
from timm.data.transforms_factory import create_transform

from curation.media.encoders.encoder import load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EncoderSpec
from curation.media.pictures.decode import decode

NAME = "vit_tiny_patch16_224"
EACH = 100
"""Pictures of a thousand classes, and as many of ten."""
BATCH = 50
COLUMNS = ["id", "image", "gt_source", "gt_path"]


@pytest.fixture(scope="module")
def weights(shared: Path) -> Path:
    path = shared / "models" / f"{NAME}.safetensors"
    if not path.is_file():
        pytest.skip(f"no pretrained weights at {path}")
    return path


def labelled(shared: Path, each: int) -> tuple[list[bytes], np.ndarray]:
    """Return stored pictures of ImageNet and the numbers of their classes.

    The sources' paths begin with the WordNet id of the class.
    """
    folder = shared / "data" / "web_mini"
    info: Any = ImageNetInfo("imagenet-1k")  # timm has few annotations
    number = {info.index_to_label_name(n): n for n in range(info.num_classes())}
    pictures: list[bytes] = []
    classes: list[int] = []
    for file, source in (("pool", "imagenet_sample"), ("seeds", "imagenette")):
        table = pq.read_table(folder / f"{file}.parquet", columns=[*COLUMNS, "gt_planted"])
        rows = [r for r in table.to_pylist() if r["gt_source"] == source and not r["gt_planted"]]
        for row in sorted(rows, key=lambda r: r["id"])[:each]:
            name = next(part for part in row["gt_path"].split("/") if part[:1] == "n" and part[1:2])
            classes.append(number[name.split("_")[0]])
            pictures.append(row["image"])
    return pictures, np.array(classes)


def top1(features: np.ndarray, weights: Path, classes: np.ndarray) -> float:
    """Return the share of pictures whose class the file's own classifier finds among a thousand."""
    head = load_file(weights)
    logits = features @ head["head.weight"].numpy().T + head["head.bias"].numpy()
    return float((logits.argmax(axis=1) == classes).mean())


def ours(weights: Path, pictures: list[bytes], **spec: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, 192) by our decoding, preprocessing and model, and our unit vectors."""
    encoder = load_encoder(EncoderSpec(model=f"timm/{NAME}", weights=str(weights), **spec), "cpu")
    decoded = [decode(picture) for picture in pictures]
    inputs = torch.stack([encoder.preprocess(picture) for picture in decoded])
    with torch.inference_mode():
        parts = [encoder.model(part).float() for part in torch.split(inputs, BATCH)]
    vectors, valid = encode(encoder, decoded[:BATCH], BATCH, "cpu")
    assert valid.all()
    return torch.cat(parts).numpy(), vectors


def theirs(weights: Path, pictures: list[bytes]) -> np.ndarray:
    """Return features by timm's own transform, on Pillow, and forward pass."""
    model: Any = timm.create_model(NAME, pretrained=False)
    model.load_state_dict(load_file(weights))
    config_of: Any = resolve_model_data_config
    transform = create_transform(**config_of(model.eval()), is_training=False)
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    inputs = torch.stack([transform(picture) for picture in opened])
    with torch.inference_mode():
        parts = [
            model.forward_head(model.forward_features(part), pre_logits=True)
            for part in torch.split(inputs, BATCH)
        ]
    return torch.cat(parts).numpy()


def unit(features: np.ndarray) -> np.ndarray:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True))


def test_top1_equals_that_of_timms_own_way(shared: Path, weights: Path) -> None:
    pictures, classes = labelled(shared, EACH)
    assert len(pictures) == 2 * EACH
    assert len(set(classes.tolist())) > 90
    features, vectors = ours(weights, pictures)
    reference = theirs(weights, pictures)
    share, expected = (top1(of_side, weights, classes) for of_side in (features, reference))
    # Resized in bytes by torch, not by Pillow: one picture in a hundred may fall to the other side.
    assert share >= expected - 0.01, (share, expected)
    assert share > 0.5
    cosines = (unit(features) * unit(reference)).sum(axis=1)
    assert cosines.min() > 0.998
    np.testing.assert_allclose(vectors.astype(float), unit(features[:BATCH]), atol=1e-3)

    mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    wrong = top1(ours(weights, pictures, mean=mean, std=std)[0], weights, classes)
    assert share > wrong + 0.05, (share, wrong)
