"""TorchScript archives: `torchscript`, with model and weights in one file, as SSCD is released.

Such a file is a program, so the recipe must give its SHA-256. It does not define its preprocessing, so
the recipe must give `input_size`. All other values are by default those of SSCD (Pizzi et al. 2022, and
the notes of its release): mean and standard deviation of ImageNet, bilinear interpolation, no cropping
(crop_pct 1). SSCD resizes images to 320 x 320 (`crop_mode: squash`), or their shorter side to 288 px.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from curation.errors import RecipeError
from curation.media.encoders.encoder import (
    Encoder,
    Normalised,
    blank_image,
    encoder_identity,
    image_transform,
    override_config,
)
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.private_copy import PrivateCopy
from curation.media.encoders.probe import measure_dim
from curation.media.encoders.state import check_expansion

CONFIG = {
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "crop_pct": 1.0,
    "interpolation": "bilinear",
}


class Scripted(torch.nn.Module):
    """A TorchScript module whose first forward passes give the same bits as later ones.

    By default, torch compiles a module again after a few batches, and may then fuse operations. A
    vector must not depend on the number of vectors that its process has computed before.
    """

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, pixels: torch.Tensor) -> Any:
        """Return the output of the script for normalised images (n, 3, side, side)."""
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self.script(pixels)


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load the archive.

    Raises:
        RecipeError: the file is missing, has no or another SHA-256 in the recipe, is not a TorchScript
            archive, or does not return floats (n, dim).
    """
    config = override_config(CONFIG, spec)
    side = int(config["input_size"][1])
    model, sha256 = _open(spec)
    dim = measure_dim(model, side, str(spec.weights))
    return Encoder(
        model=Normalised(model, config),
        preprocess=image_transform(config),
        blank=blank_image(config),
        dim=dim,
        identity=encoder_identity("torchscript", sha256, dim, config),
    )


def skeleton(name: str, spec: EncoderSpec) -> tuple[Scripted, torch.Tensor, int]:
    """Return the model, one blank input, and the dimension of its vectors.

    The model has its weights, since only the archive defines it. Raises the errors of `load`.
    """
    blank = blank_image(override_config(CONFIG, spec))
    model, _ = _open(spec)
    return model, blank, measure_dim(model, blank.shape[1], str(spec.weights))


def _open(spec: EncoderSpec) -> tuple[Scripted, str]:
    """Return the module on the CPU, and the SHA-256 of its file, which is checked first."""
    path = str(spec.weights)
    with PrivateCopy(path) as copy:
        sha256 = copy.check(spec.sha256, program=True)
        return _load_archive(str(copy.path), path), sha256


def _load_archive(file: str, path: str) -> Scripted:
    check_expansion(Path(file), path)
    if not _is_archive(file):
        raise RecipeError(
            f"The weights {path!r} are not a TorchScript archive, but a pickle, a state dict "
            "or another file",
            fix=(
                "Use a file written by torch.jit.save (those of SSCD are named .torchscript.pt). "
                "For a state dict of a timm model, use model: timm/<name>"
            ),
        )
    try:
        with warnings.catch_warnings():
            # torch advises to export the program again, which users of a released file cannot do.
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            script = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise RecipeError(
            f"torch cannot load the TorchScript archive {path!r}: {error}",
            fix="Download the file again, or save the model with torch.jit.save",
        ) from error
    return Scripted(script).eval()


def _is_archive(path: str) -> bool:
    """Whether a file has the layout of torch.jit.save: a zip with constants and code."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name.partition("/")[2] for name in archive.namelist()]
    except zipfile.BadZipFile:
        return False
    return "constants.pkl" in members and any(name.startswith("code/") for name in members)
