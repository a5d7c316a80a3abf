"""A TorchScript archive: `torchscript`, model and weights in one file, as SSCD's are released.

Such a file is a program, so the recipe must give its SHA-256. It says nothing of its preprocessing:
`input_size` must be given, and what else is not given is as SSCD has it (Pizzi et al. 2022, and the
release's notes): ImageNet's mean and deviation, bilinear interpolation, nothing cut off (crop_pct 1).
There pictures are squashed to 320 x 320, `crop_mode: squash`, or their shorter side is made 288 px.
"""

from __future__ import annotations

import warnings
import zipfile
from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

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

CONFIG = {
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "crop_pct": 1.0,
    "interpolation": "bilinear",
}


class Scripted(torch.nn.Module):
    """A TorchScript module that computes the same in its first passes as in later ones.

    torch would compile it anew after it has seen a few batches, and may then fuse operations: a vector
    must not depend on how many others its process has made before.
    """

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, pixels: torch.Tensor) -> Any:
        """Normalised pictures (n, 3, side, side) to whatever the script makes of them."""
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self.script(pixels)


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load the archive.

    Raises:
        RecipeError: no such file, no sha256 or another one, no TorchScript archive, or a module that
            does not give a row of floats a picture.
    """
    config = preprocessing(CONFIG, spec)
    side = int(config["input_size"][1])
    model, sha256 = _open(spec)
    dim = probed_dim(model, side, str(spec.weights))
    return Encoder(
        model=Normalised(model, config),
        preprocess=build_transform(config),
        blank=no_picture(config),
        dim=dim,
        identity=identity_of("torchscript", sha256, dim, config),
    )


def skeleton(name: str, spec: EncoderSpec) -> tuple[Scripted, torch.Tensor, int]:
    """Return the model, one blank input, and the length of its vectors.

    With its weights: only the archive knows what the model does. Raises what `load` raises.
    """
    blank = no_picture(preprocessing(CONFIG, spec))
    model, _ = _open(spec)
    return model, blank, probed_dim(model, blank.shape[1], str(spec.weights))


def _open(spec: EncoderSpec) -> tuple[Scripted, str]:
    """Return the module on the CPU, and the SHA-256 of its file, which is checked before."""
    path = str(spec.weights)
    sha256 = checked_sha256(path, spec.sha256, required=True)
    if not _is_archive(path):
        raise RecipeError(
            f"The weights {path!r} are no TorchScript archive, but a pickle, a state dict or another "
            "file. Take the file that torch.jit.save made (SSCD's are named .torchscript.pt); a state "
            "dict of a timm model goes under model: timm/<name>."
        )
    try:
        with warnings.catch_warnings():
            # torch would have programs exported anew, which whoever runs a released file cannot do.
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            script = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise RecipeError(f"torch cannot load the TorchScript archive {path!r}: {error}") from error
    return Scripted(script).eval(), sha256


def _is_archive(path: str) -> bool:
    """Whether a file is laid out as torch.jit.save does it: a zip with code beside its constants."""
    try:
        with zipfile.ZipFile(path) as archive:
            places = [name.partition("/")[2] for name in archive.namelist()]
    except zipfile.BadZipFile:
        return False
    return "constants.pkl" in places and any(place.startswith("code/") for place in places)
