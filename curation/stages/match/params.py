"""The block `match` of a recipe."""

from __future__ import annotations

from curation.algorithms.knn.params import IndexParams, SearchParams
from curation.engine.params_base import StrictModel, execution_only
from curation.engine.stage import Read, Stage
from curation.media.encoders.params import EMBEDDINGS


class BlockParams(StrictModel):
    """How many seed images a worker searches for at once."""

    block_gib: float = execution_only(0.5, gt=0)
    """Memory for a block of seed images on a worker, in GiB. Vectors of the pool are read once for each
    block. A GPU can hold a larger one."""


class MatchParams(IndexParams, SearchParams, BlockParams):
    """How the pool is searched for the neighbours of seed images."""

    encoder: str | None = None
    """Name of the encoder under `embed.encoders` whose vectors are searched; null takes the one of
    `cluster`."""


class MatchStep(BlockParams):
    """What the stage gets."""

    encoder: str
    """Name of the encoder whose vectors are searched."""
    search: SearchParams
    """How the index is searched."""
    k: dict[str, int]
    """Number of neighbours per seed image by seed set: the largest that an arm needs; 0 for none."""
    seed: int
    """Seed of the recipe."""


STAGE = Stage(
    number=70,
    name="match",
    kind="global",
    params=MatchStep,
    writes="matches",
    reads=(Read("eligible"), Read(EMBEDDINGS), Read("codebooks"), Read("lists")),
    version=5,
    gpu=True,
    members=lambda params: (params.encoder,),
)
