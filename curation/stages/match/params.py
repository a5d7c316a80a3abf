"""The block `match` of a recipe."""

from __future__ import annotations

from curation.algorithms.knn.params import IndexParams, SearchParams
from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, Stage
from curation.media.encoders.params import EMBEDDINGS


class MatchParams(IndexParams, SearchParams):
    """How the pool is searched for the neighbours of seed images."""

    encoder: str | None = None
    """Name of the encoder under `embed.encoders` whose vectors are searched; null takes the one of
    `cluster`."""


class MatchStep(StrictModel):
    """What the stage gets."""

    encoder: str
    """Name of the encoder whose vectors are searched."""
    search: SearchParams
    """How the index is searched."""
    k: int
    """Largest number of neighbours per seed image that an arm needs; 0 if no arm needs any."""
    seed: int
    """Seed of the recipe."""


STAGE = Stage(
    number=70,
    name="match",
    kind="global",
    params=MatchStep,
    writes="matches",
    reads=(Read("eligible"), Read(EMBEDDINGS), Read("codebooks"), Read("lists")),
    version=4,
    gpu=True,
    members=lambda params: (params.encoder,),
)
