"""The block `embed` of a recipe: encoders."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from curation.engine.params_base import Name, StrictModel
from curation.engine.stage import FunctionPath, Read, Stage
from curation.media.encoders import ENCODERS
from curation.media.encoders.params import EMBEDDINGS, EncoderSpec


class EmbedParams(StrictModel):
    """Which encoders embed images and captions."""

    encoders: dict[Name, EncoderSpec] = Field(
        default={
            "semantic": EncoderSpec(model="vit_micro"),
            "copy": EncoderSpec(model="copy_micro"),
        },
        min_length=1,
    )
    """Encoders by name; each writes its vectors to the table `embeddings.<name>`."""
    batch_size: int = Field(default=64, ge=1, le=4096)
    """Number of images or captions per forward pass."""

    @property
    def images(self) -> list[str]:
        """Names of the encoders that embed images."""
        return [name for name, spec in self.encoders.items() if spec.of == "image"]

    @property
    def computed(self) -> dict[str, EncoderSpec]:
        """The encoders that have a model."""
        return {name: spec for name, spec in self.encoders.items() if not spec.is_imported}

    @property
    def unnamed(self) -> str | None:
        """The encoder of a block that names none: the only one of images; None if there are several.

        Among the default encoders it is `semantic`.
        """
        if "encoders" not in self.model_fields_set:
            return "semantic"
        return self.images[0] if len(self.images) == 1 else None

    def only(self, names: Iterable[str]) -> EmbedParams:
        """Return the parameters with only some of the encoders."""
        return self.model_copy(update={"encoders": {n: self.encoders[n] for n in names}})


STAGE = Stage(
    number=30,
    name="embed",
    kind="map",
    params=EmbedParams,
    writes=EMBEDDINGS,
    reads=(Read("images"),),
    version=6,
    decodes=True,
    gpu=True,
    members=lambda params: tuple(params.encoders),
    only=EmbedParams.only,
    versions=lambda params: ENCODERS.versions(spec.family for spec in params.encoders.values()),
    units=FunctionPath("curation.stages.embed.imported:units"),
)
