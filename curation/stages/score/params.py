"""The block `score` of a recipe: heads."""

from __future__ import annotations

from curation.engine.params_base import Name, StrictModel
from curation.engine.stage import Read, ScoreType, Stage
from curation.media.encoders import ENCODERS
from curation.media.encoders.params import EMBEDDINGS, EncoderSpec
from curation.stages.score.heads import HEADS
from curation.stages.score.heads.spec import HeadSpec


class ScoreParams(StrictModel):
    """Which scores are computed from vectors; their thresholds stand under `select`."""

    heads: dict[Name, HeadSpec] = {}
    """Heads by name; each gives the column of that name in the table `head_scores`."""

    def scores(self) -> dict[str, ScoreType]:
        """Return the type of every score that the table holds."""
        return dict.fromkeys(self.heads, "number")


class ScoreStep(ScoreParams):
    """What the stage score gets."""

    encoders: dict[str, EncoderSpec]
    """Encoders by name whose text towers embed the prompts of heads."""

    def reads(self) -> tuple[str, ...]:
        """Return the encoders whose vectors the heads read."""
        return tuple(sorted({name for head in self.heads.values() for name in head.reads()}))


STAGE = Stage(
    number=35,
    name="score",
    kind="map",
    params=ScoreStep,
    writes="head_scores",
    reads=(Read("images"), Read(EMBEDDINGS)),
    members=ScoreStep.reads,
    versions=lambda params: (
        HEADS.versions(head.kind for head in params.heads.values())
        | ENCODERS.versions(spec.family for spec in params.encoders.values())
    ),
)
