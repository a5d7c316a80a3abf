"""What the stage quantise gets."""

from __future__ import annotations

from curation.algorithms.knn.params import IndexParams
from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, Stage
from curation.media.encoders.params import EMBEDDINGS


class QuantiseStep(StrictModel):
    """What the stage gets; `k` is the most neighbours that any arm needs, 0 where none needs any."""

    encoder: str
    index: IndexParams
    k: int
    seed: int


STAGE = Stage(
    number=67,
    name="quantise",
    kind="global",
    params=QuantiseStep,
    writes="codebooks",
    reads=(Read("eligible"), Read(EMBEDDINGS)),
    needs_seeds=True,
    members=lambda params: (params.encoder,),
)
