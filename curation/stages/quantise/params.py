"""What the stage quantise gets."""

from __future__ import annotations

from curation.algorithms.knn.params import IndexParams
from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, Stage
from curation.media.encoders.params import EMBEDDINGS


class QuantiseStep(StrictModel):
    """What the stage gets."""

    encoder: str
    """Name of the encoder whose vectors are indexed."""
    index: IndexParams
    """Which index the pool gets."""
    seed_sets: list[str]
    """Seed sets of whose images an arm needs neighbours."""
    seed: int
    """Seed of the recipe."""


STAGE = Stage(
    number=67,
    name="quantise",
    kind="global",
    params=QuantiseStep,
    writes="codebooks",
    version=4,
    reads=(Read("eligible"), Read(EMBEDDINGS)),
    members=lambda params: (params.encoder,),
)
