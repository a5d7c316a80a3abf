"""What a recipe says of an encoder."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from curation.engine.params_base import StrictModel, execution_only, input_file
from curation.engine.table_name import Family
from curation.media.encoders import WITH_TEXT

EMBEDDINGS = Family("embeddings")
"""The tables of vectors, one an encoder."""


class Checkpoint(StrictModel):
    """How a training run's own file becomes the weights of an architecture.

    `entry` names the part of the file that is the model, as `teacher`. `drop` leaves out keys by how
    they begin, `rename` gives the rest other beginnings, the longest that fits. What then does not
    match the architecture to the last key is an error.
    """

    entry: str | None = None
    drop: tuple[str, ...] = ()
    rename: dict[str, str] = {}


class EncoderSpec(StrictModel):
    """One encoder. What is not given comes from the model's own config.

    `of: caption` embeds captions with the model's text tower, into the space of its pictures.
    `sha256` is the sum that the file `weights` must have. `crop_mode` is `center`, where the shorter
    side is resized and the middle cut out, or `squash`, where both sides are resized.
    """

    model: str
    of: Literal["image", "caption"] = "image"
    weights: str | None = input_file(None)
    sha256: str | None = execution_only(None)
    checkpoint: Checkpoint | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    input_size: int | None = Field(default=None, ge=16, le=2048)
    crop_pct: float | None = Field(default=None, gt=0, le=1)
    crop_mode: Literal["center", "squash"] | None = None
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @field_validator("sha256")
    @classmethod
    def _is_a_sum(cls, sha256: str | None) -> str | None:
        if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise ValueError("a SHA-256 has 64 hex digits, as `sha256sum FILE` prints them")
        return sha256 and sha256.lower()

    @model_validator(mode="after")
    def _says_enough(self) -> EncoderSpec:
        if self.sha256 and not self.weights:
            raise ValueError(
                "`sha256` is the sum of a weights file; name the file under `weights`, or leave the "
                "sum out"
            )
        family, _, name = self.model.partition("/")
        if self.precision != "fp32" and family in ("torchscript", "onnx"):
            raise ValueError(f"{family} computes as its file says; leave out `precision`")
        if self.checkpoint and (family != "timm" or not self.weights):
            raise ValueError("`checkpoint` says how a file under `weights` fits a timm model")
        if self.of == "caption" and family not in WITH_TEXT:
            raise ValueError(f"of: caption needs a text tower; only {', '.join(WITH_TEXT)} has one")
        if family == "open_clip" and not name and self.weights is None:
            raise ValueError(
                "open_clip without an architecture needs `weights`: a folder as the hub has it, with "
                "open_clip_config.json"
            )
        if self.model == "torchscript" and self.weights is None:
            raise ValueError("torchscript needs `weights`, the path of the archive")
        if self.model == "onnx" and self.weights is None:
            raise ValueError("onnx needs `weights`, the path of the file")
        if self.model == "torchscript" and self.input_size is None:
            raise ValueError(
                "torchscript needs `input_size`, the side in pixels that the archive was made for: "
                "it does not tell"
            )
        return self
