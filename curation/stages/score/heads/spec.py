"""What a recipe says of a head."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from curation.engine.params_base import StrictModel, input_file
from curation.stages.score.heads import HEADS


class HeadSpec(StrictModel):
    """A head on the vectors of one encoder; `HEADS` says which kind needs what.

    `weights` is a file, `captions` the encoder of captions, `prompts` and `against` are texts.
    `options` are those that the kind alone has.
    """

    kind: str = "linear"
    encoder: str
    weights: str | None = input_file(None)
    activation: Literal["none", "relu"] = "none"
    output: Literal["none", "sigmoid"] = "none"
    captions: str | None = None
    prompts: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    scale: float = Field(default=100.0, gt=0)
    options: dict[str, Any] = {}

    def reads(self) -> tuple[str, ...]:
        """Return the encoders whose vectors the head reads."""
        return (self.encoder,) if self.captions is None else (self.encoder, self.captions)

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> HeadSpec:
        kind = HEADS[self.kind]
        missing = [name for name in kind.needs if not getattr(self, name)]
        given = self.model_fields_set - {"kind", "encoder", "options", *kind.needs, *kind.takes}
        given |= set(self.options) - set(kind.options)
        if missing or given:
            optional = [*kind.takes, *(f"options.{name}" for name in kind.options)]
            fields = ", ".join([*kind.needs, *(f"{name} (optional)" for name in optional)])
            raise ValueError(
                f"a head of kind {self.kind} has encoder, {fields}; "
                + (
                    f"missing: {', '.join(missing)}"
                    if missing
                    else f"not {', '.join(sorted(given))}"
                )
            )
        texts = (*self.prompts, *self.against)
        if not all(text.strip() for text in texts):
            raise ValueError("a prompt is blank")
        if any("\ud800" <= letter <= "\udfff" for text in texts for letter in text):
            raise ValueError("a prompt has half of a surrogate pair, which is no character")
        return self

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        return HEADS.check(kind)
