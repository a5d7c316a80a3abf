"""Models exported to ONNX, run by onnxruntime: for architectures that timm and open_clip do not have.

An ONNX file is a graph of known operators, not a program. It does not define the preprocessing: `mean`
and `std` are those of ImageNet unless the recipe gives others, and the recipe must give `input_size` if
the file accepts several sizes. A graph whose tensors are in other files is given as the folder of all
its files, so that checksums cover them.
"""

from __future__ import annotations

import logging
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from curation.errors import RecipeError
from curation.media.encoders.encoder import (
    Encoder,
    Normalised,
    blank_image,
    encoder_identity,
    image_transform,
    override_config,
)
from curation.media.encoders.onnx_files import WRITE_AGAIN, external_files
from curation.media.encoders.onnx_trial import check_graph, sides_of
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.private_copy import PrivateCopy
from curation.media.encoders.probe import measure_dim

logger = logging.getLogger(__name__)

CONFIG = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 1.0,
    "crop_mode": "center",
    "interpolation": "bicubic",
}


class Graph(torch.nn.Module):
    """An ONNX graph, loaded on a device when it first gets images there.

    Args:
        path: of the graph.
        copy: the files that it is read from, which stay as long as this object.
    """

    def __init__(self, path: Path, copy: PrivateCopy) -> None:
        super().__init__()
        self.path, self.copy = path, copy
        self.sessions: dict[str, onnxruntime.InferenceSession] = {}

    def session(self, device: torch.device) -> onnxruntime.InferenceSession:
        """Return the session of the graph on a device.

        Raises:
            RecipeError: onnxruntime cannot load the file.
        """
        if str(device) not in self.sessions:
            self.sessions[str(device)] = _open(self.path, self.copy.shown, _providers(device))
        return self.sessions[str(device)]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features (n, dim) of normalised images (n, 3, side, side)."""
        session = self.session(pixels.device)
        (graph_input,) = session.get_inputs()
        dtype = np.float16 if graph_input.type == "tensor(float16)" else np.float32
        rows = pixels.cpu().numpy().astype(dtype)
        # A graph with a fixed batch size gets batches of that size.
        fixed = graph_input.shape[0]
        step = fixed if isinstance(fixed, int) else len(rows)
        features = [
            session.run(None, {graph_input.name: rows[i : i + step]})[0]
            for i in range(0, len(rows), step)
        ]
        return torch.from_numpy(np.concatenate(features))


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load the file.

    Raises:
        RecipeError: the file is missing, has another SHA-256, is not an ONNX graph from images to
            vectors, or does not accept the input size.
    """
    path = str(spec.weights)
    model = _read_graph(path, spec.sha256)
    sha256 = model.copy.check(spec.sha256)
    check_graph(
        model.path, path, _bytes_of(model.copy.path), spec.input_size, torch.get_num_threads()
    )
    config = override_config(CONFIG | {"input_size": _size(model, spec)}, spec)
    blank = blank_image(config)
    dim = measure_dim(model, blank.shape[1], path)
    return Encoder(
        model=Normalised(model, config),
        preprocess=image_transform(config),
        blank=blank,
        dim=dim,
        identity=encoder_identity("onnx", sha256, dim, config),
    )


def _read_graph(path: str, sha256: str | None) -> Graph:
    """Copy a graph and the files that it names. A file with another checksum is not parsed."""
    name = _graph_in(Path(path)) if Path(path).is_dir() else Path(path).name
    copy = PrivateCopy(path, [name])
    copy.check(sha256)
    file = copy.path / name if Path(path).is_dir() else copy.path
    named = _named_files(file, path)
    if named and not Path(path).is_dir():
        raise RecipeError(
            f"The ONNX graph {path!r} has tensors in other files ({', '.join(named[:3])}), "
            "which no checksum of the graph covers",
            fix=(
                "Set `weights` to a folder with the graph and these files alone, or export the "
                "model into one file"
            ),
        )
    copy.add(named)
    missing = [each for each in named if not (copy.path / each).is_file()]
    if missing:
        raise RecipeError(
            f"The folder {path!r} lacks files with tensors of its graph: {', '.join(missing[:8])}",
            fix="Put them there",
        )
    return Graph(file, copy)


def _bytes_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _graph_in(folder: Path) -> str:
    graphs = sorted(file.name for file in folder.glob("*.onnx") if file.is_file())
    if len(graphs) != 1:
        raise RecipeError(
            f"The folder {str(folder)!r} has {len(graphs)} files .onnx",
            fix="It must have one, with the files that it names beside it",
        )
    return graphs[0]


def _named_files(file: Path, shown: str) -> list[str]:
    if not file.stat().st_size:
        raise RecipeError(f"{shown!r} is not an ONNX graph: it is empty", fix=WRITE_AGAIN)
    with file.open("rb") as stream:
        return external_files(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), shown)


def skeleton(name: str, spec: EncoderSpec) -> tuple[Graph, torch.Tensor, int]:
    """Raise an error: the operations of an ONNX graph cannot be counted.

    Raises:
        RecipeError: always.
    """
    raise RecipeError(
        f"The operations of the ONNX graph {spec.weights!r} cannot be counted, so its cost "
        "cannot be estimated",
        fix="Use a timm model of about the same size in the plan",
    )


def _providers(device: torch.device) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        logger.warning(
            "onnx: this onnxruntime does not support CUDA, so the model runs on the CPU. Install "
            "onnxruntime-gpu instead."
        )
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _open(path: Path, shown: str, providers: list[Any]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Spark runs one task per core.
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # The other format of onnxruntime (ORT) may name tensors in any file.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        message = f"onnxruntime cannot load {shown!r}: {error}"
        raise RecipeError(message, fix=WRITE_AGAIN) from error


def _size(model: Graph, spec: EncoderSpec) -> tuple[int, int, int]:
    inputs = model.session(torch.device("cpu")).get_inputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        described = [[each.name, each.type, each.shape] for each in inputs]
        raise RecipeError(
            f"{spec.weights!r} has the inputs {described}",
            fix="It must have one input: images of shape (n, 3, side, side)",
        )
    sides = sides_of(shape, spec.input_size)
    if len(sides) != 1:
        raise RecipeError(
            f"{spec.weights!r} takes images of shape {shape}",
            fix="Set `input_size` to the side in pixels" + (" that the file has" if sides else ""),
        )
    side = sides.pop()
    return 3, side, side
