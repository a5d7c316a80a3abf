"""The parameters of a head in a recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from curation.engine.params_base import (
    StrictModel,
    execution_only,
    input_file,
    refuse_without_effect,
)
from curation.media.encoders.params import PinnedAddress, Sha256, check_origin
from curation.stages.score.heads import HEADS


class HeadSpec(StrictModel):
    """A head on the vectors of one encoder. The registries list the fields that each kind takes."""

    kind: str = "linear"
    """Kind of the head: `linear` and `mlp` apply a trained head, `similarity` compares image and
    caption, `zero_shot` compares the image with prompts."""
    encoder: str
    """Name of the encoder under `embed.encoders` whose vectors are scored."""
    weights: str | None = input_file(None)
    """For `linear` and `mlp`: path of the weights, a safetensors file or a state dict."""
    sha256: Sha256 | None = execution_only(None)
    """SHA-256 that the file `weights` must have, 64 hexadecimal digits."""
    weights_from: PinnedAddress | None = execution_only(None)
    """Address that `curation weights` downloads the file `weights` from, if it is not there; needs
    `sha256`."""
    activation: Literal["none", "relu"] = "none"
    """For `mlp`: activation between its layers."""
    output: Literal["none", "sigmoid"] = "none"
    """For `mlp`: function applied to the output of the last layer."""
    captions: str | None = None
    """For `similarity`: name of the encoder of captions, with the same model and weights."""
    prompts: tuple[str, ...] = ()
    """For `zero_shot`: texts of the class; the score is their share of the softmax over all texts."""
    against: tuple[str, ...] = ()
    """For `zero_shot`: texts of all other classes; without any, the score is the largest cosine
    similarity to one of `prompts`."""
    scale: float = Field(default=100.0, gt=0)
    """For `zero_shot`: factor on the cosine similarities before the softmax (the inverse of the
    temperature)."""
    options: dict[str, Any] = {}
    """Further options that only the kind has, by name."""

    def reads(self) -> tuple[str, ...]:
        """Return the encoders whose vectors the head reads."""
        return (self.encoder,) if self.captions is None else (self.encoder, self.captions)

    @model_validator(mode="after")
    def _fields_fit_kind(self) -> HeadSpec:
        kind = HEADS[self.kind]
        missing = [name for name in kind.needs if not getattr(self, name)]
        extra = self.model_fields_set - {"kind", "encoder", "options", *kind.needs, *kind.takes}
        extra |= set(self.options) - set(kind.options)
        if self.weights:
            extra.discard("weights_from")
        if missing or extra:
            optional = [*kind.takes, *(f"options.{name}" for name in kind.options)]
            fields = ", ".join([*kind.needs, *(f"{name} (optional)" for name in optional)])
            raise ValueError(
                f"a head of kind {self.kind} has encoder, {fields}; "
                + (
                    f"missing: {', '.join(missing)}"
                    if missing
                    else f"not {', '.join(sorted(extra))}"
                )
            )
        if not self.against:
            refuse_without_effect(
                self, ["scale"], "without `against`", "Set against, or leave it out"
            )
        check_origin(self.weights_from, self.weights, self.sha256)
        _check_prompts((*self.prompts, *self.against))
        return self

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        return HEADS.check(kind)


def _check_prompts(texts: tuple[str, ...]) -> None:
    if not all(text.strip() for text in texts):
        raise ValueError("a prompt is blank; write a text, or remove it")
    if any("\ud800" <= letter <= "\udfff" for text in texts for letter in text):
        raise ValueError("a prompt has a lone surrogate, which is not a character; remove it")
