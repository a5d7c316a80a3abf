"""What a recipe says of an encoder."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from curation.engine.params_base import StrictModel, execution_only, input_file
from curation.engine.table_name import Family
from curation.media.encoders import ENCODERS, SPECIAL, EncoderEntry, with_text

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
    side is resized and the middle cut out, or `squash`, where both sides are resized. `options` are
    those that the family alone has.
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
    options: dict[str, Any] = {}

    @property
    def family(self) -> str:
        """The family of the model."""
        return self.model.partition("/")[0]

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
        if self.checkpoint and not self.weights:
            raise ValueError("`checkpoint` says how a file under `weights` fits the architecture")
        if self.family in ENCODERS:
            _check_family(self, ENCODERS[self.family])
        return self


def _check_family(spec: EncoderSpec, entry: EncoderEntry) -> None:
    """Refuse what the family of an encoder does not take, or needs and does not have."""
    for name in SPECIAL:
        default = type(spec).model_fields[name].default
        if getattr(spec, name) != default and name not in entry.takes:
            takes = [family for family, other in ENCODERS.items() if name in other.takes]
            raise ValueError(
                f"{spec.family} takes no `{name}`; leave it out. Families that take it: "
                f"{', '.join(takes)}"
            )
    if spec.of == "caption" and not entry.text:
        raise ValueError(f"of: caption needs a text tower; only {', '.join(with_text())} has one")
    if entry.name == "optional" and spec.model == spec.family and spec.weights is None:
        raise ValueError(
            f"{spec.family} without an architecture needs `weights`: a folder as the hub has it, "
            "with its configuration"
        )
    for name, why in entry.needs:
        if getattr(spec, name) is None:
            raise ValueError(f"{spec.family} needs `{name}`, {why}")
    unknown = sorted(set(spec.options) - set(entry.options))
    if unknown:
        raise ValueError(
            f"{spec.family} has no option {', '.join(unknown)}. Valid: "
            f"{', '.join(entry.options) or 'none'}"
        )
