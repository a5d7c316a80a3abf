"""Small models of every family, written to a path with weights that depend on a seed, and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import timm
import torch
from onnx import numpy_helper
from safetensors.torch import save_file

from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.params import EncoderSpec
from curation.store.digest import file_sha256

from .clip import write_clip
from .test_onnx import write as write_graph
from .texts import write_text

Write = Callable[[Path, int], dict[str, Any]]


def _timm(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = timm.create_model("test_vit", num_classes=0).state_dict()
    return state


def timm_file(place: Path, seed: int) -> dict[str, Any]:
    save_file(_timm(seed), place.with_suffix(".safetensors"))
    return {"model": "timm/test_vit", "weights": str(place.with_suffix(".safetensors"))}


def timm_state(place: Path, seed: int) -> dict[str, Any]:
    torch.save(_timm(seed), place.with_suffix(".pth"))
    return {"model": "timm/test_vit", "weights": str(place.with_suffix(".pth"))}


def timm_folder(place: Path, seed: int) -> dict[str, Any]:
    place.mkdir(exist_ok=True)
    save_file(_timm(seed), place / "model.safetensors")
    config = {"architecture": "test_vit", "pretrained_cfg": {"mean": [0.1 * (1 + seed)] * 3}}
    (place / "config.json").write_text(json.dumps(config))
    return {"model": "timm/test_vit", "weights": str(place)}


def torchscript_file(place: Path, seed: int) -> dict[str, Any]:
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


def graph_file(place: Path, seed: int) -> dict[str, Any]:
    write_graph(place.with_suffix(".onnx"), kernel=8 if seed == 0 else 16)
    return {"model": "onnx", "weights": str(place.with_suffix(".onnx"))}


def graph_folder(place: Path, seed: int) -> dict[str, Any]:
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


def clip_folder(place: Path, seed: int) -> dict[str, Any]:
    write_clip(place, seed)
    return {"model": "open_clip", "weights": str(place)}


def text_folder(place: Path, seed: int) -> dict[str, Any]:
    write_text(place, "roberta", seed)
    return {"model": "open_clip", "weights": str(place), "of": "caption"}


FAMILIES: dict[str, Write] = {
    "timm": timm_file,
    "timm_state": timm_state,
    "timm_folder": timm_folder,
    "torchscript": torchscript_file,
    "onnx": graph_file,
    "onnx_folder": graph_folder,
    "open_clip": clip_folder,
    "texts": text_folder,
}


def features(encoder: Encoder) -> np.ndarray:
    with torch.inference_mode():
        values: np.ndarray = encoder.model(encoder.blank[None])[0].numpy()
    return values


def load(spec: dict[str, Any]) -> Encoder:
    load_encoder.cache_clear()
    return load_encoder(EncoderSpec(**spec), "cpu")
