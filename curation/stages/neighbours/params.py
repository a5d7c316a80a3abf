"""Parameters of the stage neighbours."""

from __future__ import annotations

from curation.algorithms.knn.params import HammingParams, JoinParams
from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, Stage
from curation.media.encoders.params import EMBEDDINGS

ROLE_PAIRS = (("pool", "pool"), ("held_out", "pool"), ("held_out", "seed"), ("seed", "pool"))
"""(role of the queries, role of the base): where copies are searched for."""


class JoinSpec(JoinParams):
    """How the vectors of one encoder are joined."""

    encoder: str
    """Name of the encoder whose vectors are compared."""


class NeighboursStep(StrictModel):
    """Parameters of the stage neighbours: the levels of dedup that look for near pairs."""

    perceptual: HammingParams | None
    """How near perceptual hashes are found; null looks for none."""
    joins: dict[str, JoinSpec]
    """How near vectors are found, by level (`near`, `semantic`)."""


STAGE = Stage(
    number=40,
    name="neighbours",
    kind="global",
    params=NeighboursStep,
    writes="neighbours",
    reads=(Read("images"), Read("scores"), Read(EMBEDDINGS)),
    version=5,
    gpu=True,
    members=lambda params: sorted({join.encoder for join in params.joins.values()}),
)
