"""A model exported to ONNX, run by onnxruntime: for architectures that no library here holds.

An ONNX file is a graph of known operators, not a program. It does not tell how pictures are prepared:
`mean` and `std` are ImageNet's where the recipe does not give them, and `input_size` must be given
where the file leaves it open.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnxruntime
import torch

from curation.errors import RecipeError
from curation.media.encoders.checksum import checked_sha256
from curation.media.encoders.encoder import (
    Encoder,
    Normalised,
    build_transform,
    identity_of,
    no_picture,
    preprocessing,
)
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.probe import probed_dim

logger = logging.getLogger(__name__)

CONFIG = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 1.0,
    "crop_mode": "center",
    "interpolation": "bicubic",
}


class Graph(torch.nn.Module):
    """A graph, opened on the device of its first pictures."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.sessions: dict[str, onnxruntime.InferenceSession] = {}

    def session(self, device: torch.device) -> onnxruntime.InferenceSession:
        """Return the graph on a device.

        Raises:
            RecipeError: onnxruntime cannot load the file.
        """
        if str(device) not in self.sessions:
            self.sessions[str(device)] = _opened(self.path, _providers(device))
        return self.sessions[str(device)]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features (n, dim) of normalised pictures (n, 3, side, side)."""
        session = self.session(pixels.device)
        (entry,) = session.get_inputs()
        kind = np.float16 if entry.type == "tensor(float16)" else np.float32
        rows = pixels.cpu().numpy().astype(kind)
        # A graph for one picture takes them one after the other.
        step = entry.shape[0] if isinstance(entry.shape[0], int) else len(rows)
        found = [
            session.run(None, {entry.name: rows[i : i + step]})[0]
            for i in range(0, len(rows), step)
        ]
        return torch.from_numpy(np.concatenate(found))


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load the file.

    Raises:
        RecipeError: no such file or another sha256, no ONNX graph that takes pictures and gives a row
            of numbers each, or a size that it does not take.
    """
    path = str(spec.weights)
    sha256 = checked_sha256(path, spec.sha256)
    model = Graph(path)
    config = preprocessing(CONFIG | {"input_size": _size(model, spec)}, spec)
    blank = no_picture(config)
    dim = probed_dim(model, blank.shape[1], path)
    return Encoder(
        model=Normalised(model, config),
        preprocess=build_transform(config),
        blank=blank,
        dim=dim,
        identity=identity_of("onnx", sha256, dim, config),
    )


def skeleton(name: str, spec: EncoderSpec) -> tuple[Graph, torch.Tensor, int]:
    """Refuse: nobody here counts the operations of a graph.

    Raises:
        RecipeError: always.
    """
    raise RecipeError(
        f"The operations of the ONNX graph {spec.weights!r} cannot be counted, so its cost cannot be "
        "foretold. Name a timm model of about its size while you plan."
    )


def _providers(device: torch.device) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        logger.warning(
            "onnx: this onnxruntime has no CUDA, so the model runs on the CPU. Install "
            "onnxruntime-gpu in its place."
        )
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _opened(path: str, providers: list[Any]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Spark runs a task a core.
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:
        raise RecipeError(f"onnxruntime cannot load {path!r}: {error}") from error


def _size(model: Graph, spec: EncoderSpec) -> tuple[int, int, int]:
    entries = model.session(torch.device("cpu")).get_inputs()
    shape = list(entries[0].shape) if len(entries) == 1 else []
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        told = [[entry.name, entry.type, entry.shape] for entry in entries]
        raise RecipeError(f"{spec.weights!r} takes {told}; wanted are pictures (n, 3, side, side).")
    sides = {side for side in shape[2:] if isinstance(side, int)}
    if spec.input_size is not None:
        sides.add(spec.input_size)
    if len(sides) != 1:
        raise RecipeError(
            f"{spec.weights!r} takes pictures of {shape}; give the side in pixels under `input_size`"
            + (", which must be the one of the file." if sides else ".")
        )
    side = sides.pop()
    return 3, side, side
