"""The block `match` of a recipe."""

from __future__ import annotations

from curation.algorithms.knn.params import IndexParams, SearchParams
from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, Stage
from curation.media.encoders.params import EMBEDDINGS


class MatchParams(IndexParams, SearchParams):
    """The block `match`: how the pool is searched for the neighbours of seed images."""

    encoder: str | None = None


class MatchStep(StrictModel):
    """What the stage gets; `k` is the most neighbours that any arm needs, 0 where none needs any."""

    encoder: str
    search: SearchParams
    k: int
    seed: int


STAGE = Stage(
    number=70,
    name="match",
    kind="global",
    params=MatchStep,
    writes="matches",
    reads=(Read("eligible"), Read(EMBEDDINGS), Read("codebooks"), Read("lists")),
    version=3,
    gpu=True,
    needs_seeds=True,
    members=lambda params: (params.encoder,),
)
